//! Another number of state partitions: every key is put where the program will look for it.
//!
//! The new state is written beside the old one, into column families that nobody knows of, and one synced write makes it
//! the state. A kill before that write changes nothing, and one after it leaves the old families, which go at the next
//! repartitioning or import.

use std::collections::BTreeMap;

use serde_json::Value;

use super::delta::{kind, single_key, split_key};
use super::entry::{StateEntry, place};
use super::schema::{MOST_PARTITIONS, Registered};
use super::{Draft, StateDb};
use crate::codec::decode_value;
use crate::error::{Error, Result};
use crate::time::Time;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Repartitioned {
    /// The operators whose keys were placed anew, and how many records.
    pub moved: BTreeMap<String, u64>,
    /// Operators with a number of partitions of their own, or none.
    pub kept: Vec<String>,
}

impl StateDb {
    /// Spreads the state of all operators that have as many partitions as the checkpoint over `partitions`.
    ///
    /// # Errors
    /// If an operator places its keys in a way that only the program knows. Nothing is changed then.
    pub fn repartition(&self, partitions: usize) -> Result<Repartitioned> {
        if !(1..=MOST_PARTITIONS).contains(&partitions) {
            return Err(Error::usage(format!("{partitions} state partitions: expected 1 to 65,536")));
        }
        self.drop_unknown_families()?;
        let mut schemas = BTreeMap::new();
        let mut done = Repartitioned::default();
        for (uid, schema) in self.operators() {
            if !schema.is_keyed() || schema.partitions != self.state_partitions() {
                done.kept.push(uid.clone());
                schemas.insert(uid, schema);
                continue;
            }
            let moved = self.spread(&uid, &schema, partitions);
            let (schema, records) = moved.map_err(|e| e.within(format!("operator `{uid}`")))?;
            done.moved.insert(uid.clone(), records);
            schemas.insert(uid, schema);
        }
        fail::fail_point!("state::spread", |_| std::process::abort());
        self.switch(partitions, schemas)?;
        fail::fail_point!("state::switched", |_| std::process::abort());
        self.drop_unknown_families()?;
        Ok(done)
    }

    /// The state of one operator over `partitions`, in a family of its own.
    fn spread(&self, uid: &str, schema: &Registered, partitions: usize) -> Result<(Registered, u64)> {
        let mut draft = self.draft(uid, &Registered { partitions, ..schema.clone() })?;
        let mut records = 0;
        let mut emitted: Option<(Time, Vec<u8>)> = None;
        self.scan(uid, |stored, value| {
            let (partition, kind, _) = split_key(stored)?;
            match StateEntry::decode(&schema.operator, stored, value)? {
                Some(entry) => {
                    records += 1;
                    self.move_to(&mut draft, &entry, schema, partitions, (stored, value))
                }
                None if kind == kind::EMITTED => {
                    // Panes that one partition has shown and another has not are of the window that is to come: the
                    // latest note is right for all.
                    let time: Time = decode_value(value)?;
                    if emitted.as_ref().is_none_or(|(last, _)| *last < time) {
                        emitted = Some((time, value.to_vec()));
                    }
                    Ok(())
                }
                None if partition == 0 => draft.put(stored, value),
                None => Ok(()),
            }
        })?;
        if let Some((_, value)) = emitted {
            for partition in 0..partitions {
                draft.put(&single_key(partition, kind::EMITTED), &value)?;
            }
        }
        Ok((draft.finish()?, records))
    }

    fn move_to(
        &self,
        draft: &mut Draft<'_>,
        entry: &StateEntry,
        schema: &Registered,
        partitions: usize,
        (stored, value): (&[u8], &[u8]),
    ) -> Result<()> {
        if place(&entry.key, schema.partitions)? != entry.partition {
            return Err(Error::usage(format!(
                "key {} is in partition {}, where a partitioner of the program has put it: only the program knows where it \
                 belongs",
                entry.key, entry.partition
            )));
        }
        if schema.partitions == 1 && has_fraction(&entry.key) {
            return Err(Error::usage(format!(
                "key {} is a number with a fraction, whose text in the program is not known",
                entry.key
            )));
        }
        let number = place(&entry.key, partitions)? as u16;
        let mut moved = stored.to_vec();
        moved[..2].copy_from_slice(&number.to_be_bytes());
        draft.put(&moved, value)
    }
}

/// Numbers of half the precision have other texts; in one partition nothing shows which they are.
fn has_fraction(key: &Value) -> bool {
    match key {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        _ => false,
    }
}
