//! `state export` and `state import`: lines of JSON, an operator's heading before its records.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::service::target::{Out, Place};
use crate::state::{Draft, Registered, StateDb, StateEntry, kind, place as place_of, split_key};
use crate::time::Time;

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Operator(Heading),
    Record(Box<Record>),
}

/// An operator, whose records follow.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    tidemill_state: u32,
    uid: String,
    operator: String,
    key_type: String,
    value_types: Vec<String>,
    partitions: usize,
    /// Of the checkpoint.
    state_partitions: usize,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Where the key belongs; found out if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<usize>,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    key: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    value: Value,
    /// Key and value as they are stored, in hexadecimal digits, where JSON cannot say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Entry,
    Total,
    InitialTaken,
    Emitted,
    Partitions,
}

pub(super) fn export(place: &Place, uid: Option<&str>, to: Option<&Path>) -> anyhow::Result<ExitCode> {
    let store = place.read()?;
    let uids = match uid {
        Some(uid) => {
            store.known(uid)?;
            vec![uid.to_owned()]
        }
        None => store.uids(),
    };
    match to {
        None => {
            let mut out = Out::new();
            uids.iter().try_for_each(|uid| export_operator(&store, uid, &mut |line| out.line(line)))?;
            out.finish()?;
        }
        Some(path) => {
            let failed = |e: std::io::Error| {
                Error::output(format!("cannot write {}: {e}", path.display())).with_source(e)
            };
            let mut file = BufWriter::new(File::create_new(path).map_err(failed)?);
            for uid in &uids {
                export_operator(&store, uid, &mut |line| writeln!(file, "{line}").map_err(failed))?;
            }
            file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn export_operator(store: &StateDb, uid: &str, write: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Registered { operator, key_type, value_types, partitions, .. } = store.known(uid)?;
    let heading = Heading {
        tidemill_state: FORMAT,
        uid: uid.to_owned(),
        operator,
        key_type,
        value_types,
        partitions,
        state_partitions: store.state_partitions(),
    };
    write(&text(&heading)?)?;
    store.scan(uid, |stored, value| match record(&heading.operator, stored, value)? {
        Some(record) => write(&text(&record)?),
        None => Ok(()),
    })
}

/// A record as a line; nothing for what is made anew when it is taken in.
fn record(operator: &str, stored: &[u8], value: &[u8]) -> Result<Option<Record>> {
    let raw = || Some((hexadecimal(stored), hexadecimal(value)));
    if let Some(entry) = StateEntry::decode(operator, stored, value)? {
        let mut record = plain(entry);
        // As whoever reads the line will understand it.
        let back: Record = parse(&text(&record)?)?;
        let again = back.entry().and_then(|entry| entry.encode(operator));
        if !again.is_ok_and(|(key, body)| key == stored && body == value) {
            record.raw = raw();
        }
        return Ok(Some(record));
    }
    let (partition, found, _) = split_key(stored)?;
    let kind = match found {
        kind::INITIAL_TAKEN => Kind::InitialTaken,
        kind::EMITTED => Kind::Emitted,
        kind::PARTITIONS => Kind::Partitions,
        _ => return Ok(None),
    };
    let (key, value, time) = (Value::Null, Value::Null, None);
    Ok(Some(Record { partition: Some(partition), kind, time, key, value, raw: raw() }))
}

fn plain(entry: StateEntry) -> Record {
    let StateEntry { partition, kind, time, key, value } = entry;
    let kind = if kind == kind::TOTAL { Kind::Total } else { Kind::Entry };
    Record { partition: Some(partition), kind, time: time.map(Time::as_millis), key, value, raw: None }
}

impl Record {
    fn entry(&self) -> Result<StateEntry> {
        let kind = match self.kind {
            Kind::Entry => kind::ENTRY,
            Kind::Total => kind::TOTAL,
            Kind::InitialTaken | Kind::Emitted | Kind::Partitions => {
                return Err(Error::data("a record of an operator's own needs its `raw`"));
            }
        };
        let time = self.time.map(Time::from_millis);
        let partition = self.partition.unwrap_or_default();
        Ok(StateEntry { partition, kind, time, key: self.key.clone(), value: self.value.clone() })
    }
}

pub(super) fn import(place: &Place, path: &Path) -> anyhow::Result<ExitCode> {
    let failed =
        |e: std::io::Error| Error::unavailable(format!("cannot read {}: {e}", path.display())).with_source(e);
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let store = place.write()?;
    store.drop_unknown_families()?;
    let mut open: Option<(Heading, Draft<'_>, u64)> = None;
    let mut done: Vec<(Heading, Registered, u64)> = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line.map_err(failed)?;
        let at = |e: Error| e.within(format!("{}, line {}", path.display(), number + 1));
        if line.trim().is_empty() {
            continue;
        }
        match parse::<Line>(&line).map_err(at)? {
            Line::Operator(heading) => {
                if let Some((heading, draft, records)) = open.take() {
                    done.push((heading, draft.finish()?, records));
                }
                check_heading(&store, &heading, &done).map_err(at)?;
                let draft = store.draft(&heading.uid, &heading.schema())?;
                open = Some((heading, draft, 0));
            }
            Line::Record(record) => {
                let Some((heading, draft, records)) = &mut open else {
                    return Err(at(Error::data("a record stands before the first operator's line")).into());
                };
                let (stored, value) = bytes(heading, &record).map_err(at)?;
                draft.put(&stored, &value).map_err(at)?;
                *records += 1;
            }
        }
    }
    if let Some((heading, draft, records)) = open {
        done.push((heading, draft.finish()?, records));
    }
    store.add_operators(done.iter().map(|(heading, schema, _)| (heading.uid.clone(), schema.clone())))?;
    let mut out = Out::new();
    for (heading, _, records) in done {
        out.line(format_args!("imported `{}`: {records} records", heading.uid))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

impl Heading {
    fn schema(&self) -> Registered {
        Registered {
            operator: self.operator.clone(),
            key_type: self.key_type.clone(),
            value_types: self.value_types.clone(),
            partitions: self.partitions,
            family: String::new(),
        }
    }
}

fn check_heading(store: &StateDb, heading: &Heading, done: &[(Heading, Registered, u64)]) -> Result<()> {
    let uid = &heading.uid;
    if heading.tidemill_state != FORMAT {
        return Err(Error::data(format!(
            "the export has format {}, this program reads format {FORMAT}",
            heading.tidemill_state
        )));
    }
    if store.registered(uid).is_some() || done.iter().any(|(other, ..)| other.uid == *uid) {
        return Err(Error::usage(format!(
            "{} has an operator `{uid}` already: drop or rename that one first",
            store.path().display()
        )));
    }
    let spread = heading.partitions == heading.state_partitions && heading.schema().is_keyed();
    if spread && heading.partitions != store.state_partitions() {
        return Err(Error::usage(format!(
            "operator `{uid}` was exported from a checkpoint of {} state partitions, but {} has {}: repartition one of them",
            heading.state_partitions,
            store.path().display(),
            store.state_partitions()
        )));
    }
    if heading.partitions == 0 || heading.value_types.is_empty() {
        return Err(Error::data(format!("the line of operator `{uid}` lacks its partitions or types")));
    }
    Ok(())
}

/// Key and value as they are stored.
fn bytes(heading: &Heading, record: &Record) -> Result<(Vec<u8>, Vec<u8>)> {
    let Some((key, value)) = &record.raw else {
        let mut entry = record.entry()?;
        if record.partition.is_none() {
            entry.partition = place_of(&entry.key, heading.partitions)?;
        }
        return entry.encode(&heading.operator);
    };
    let raw = (binary(key)?, binary(value)?);
    if let Some(entry) = StateEntry::decode(&heading.operator, &raw.0, &raw.1)? {
        let told: Record = parse(&text(&plain(entry))?)?;
        let told = Record { raw: record.raw.clone(), ..told };
        if told != *record {
            return Err(Error::data(
                "`raw` says something else than the rest of the line: delete `raw` to take the rest",
            ));
        }
    }
    Ok(raw)
}

fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("cannot write JSON").with_source(e))
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line)
        .map_err(|e| Error::data(format!("this is no line of an export: {e}")).with_source(e))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn binary(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Err(Error::data("`raw` is not made of pairs of hexadecimal digits")),
    }
}
