//! One case: a context of its own, whose sources are given their records.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::error::{Error, Result};
use crate::service::check::Config;
use crate::service::file::{At, Batch, Case, Entry, Json, Named};
use crate::service::pipeline::Streams;
use crate::service::report::Report;
use crate::sql::{RecordBatch, encode};
use crate::testing::{Collected, TestContext};
use crate::time::{Clock as _, Duration, Time};
use crate::{RddQueue, StreamingContext};

/// How a case ended.
pub(super) struct Outcome {
    /// What differs, or what went wrong.
    pub(super) failure: Option<String>,
}

/// Batches that one step may move the clock by: more is a slip of the unit.
const MOST_BATCHES: i64 = 100_000;

type Rows = Option<At<Named<Vec<At<Json>>>>>;

/// Reports what a case names that the pipeline does not have.
pub(super) fn check(case: &Case, config: &Config, report: &mut Report) {
    if let Some(start) = &case.start
        && time(&start.value).is_none()
    {
        report
            .error(start.at.clone(), format!("`{}` is no time", start.value))
            .label("such as 2026-01-31T12:00:00Z");
    }
    let sources: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    let streams = config.streams.iter().map(|stream| stream.name.as_str());
    let all: Vec<&str> = sources.iter().copied().chain(streams).collect();
    for batch in case.batches.iter().flat_map(|batches| &batches.value) {
        for (rows, names, what) in
            [(&batch.value.r#in, &sources, "source"), (&batch.value.out, &all, "stream")]
        {
            for entry in entries(rows) {
                if !names.contains(&entry.name.as_str()) {
                    report
                        .error(entry.at.clone(), format!("the pipeline has no {what} `{}`", entry.name))
                        .nearest(&entry.name, names.iter().copied())
                        .help(format!("there are {}", crate::service::report::list(names.iter().copied())));
                }
            }
        }
        if let Some(after) = &batch.value.after {
            let interval = config.batch_interval;
            if !after.value.is_multiple_of(interval) {
                report.error(
                    after.at.clone(),
                    format!("{} is no multiple of {interval}, the batch interval", after.value),
                );
            } else if after.value.as_millis() / interval.as_millis() > MOST_BATCHES {
                report
                    .error(after.at.clone(), format!("{} are more than {MOST_BATCHES} batches", after.value));
            }
        }
    }
}

fn entries(rows: &Rows) -> &[Entry<Vec<At<Json>>>] {
    rows.as_ref().map_or(&[], |rows| &rows.value.0)
}

fn time(text: &str) -> Option<Time> {
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Time::ZERO + Duration::from(since))
}

/// Runs a checked case.
pub(super) fn run_case(case: &Case, config: &Config, report: &Report) -> Outcome {
    let failure = match Running::start(case, config).and_then(|running| running.batches(case, config, report))
    {
        Ok(differences) => (!differences.is_empty()).then_some(differences),
        Err(error) => Some(error.whole_text()),
    };
    Outcome { failure }
}

/// A case under way.
struct Running {
    test: TestContext,
    sources: BTreeMap<String, RddQueue<String>>,
    streams: BTreeMap<String, Collected<RecordBatch>>,
}

impl Running {
    fn start(case: &Case, config: &Config) -> Result<Self> {
        let start = case.start.as_ref().and_then(|start| time(&start.value)).unwrap_or(Time::ZERO);
        let builder = StreamingContext::builder(&*config.app_id)
            .batch_interval(config.batch_interval)
            .worker_threads(config.worker_threads.min(4));
        // In the interval that begins with the start, so that the first batch is the next one.
        let test = TestContext::from_builder(builder, start.floor(config.batch_interval))?;
        let mut streams = Streams::new(&test.ssc, &config.tables, config.batch_memory_limit);
        let mut sources = BTreeMap::new();
        for source in &config.sources {
            let queue = RddQueue::new();
            streams.add_given(source, &test.ssc.queue_stream(&queue))?;
            sources.insert(source.name.clone(), queue);
        }
        for stream in &config.streams {
            streams.add(stream)?;
        }
        let names = config.sources.iter().map(|s| &s.name).chain(config.streams.iter().map(|s| &s.name));
        let collected = |name: &String| Ok((name.clone(), test.collect(streams.get(name)?)));
        let collected = names.map(collected).collect::<Result<_>>()?;
        test.ssc.start()?;
        Ok(Self { test, sources, streams: collected })
    }

    /// What differs, over all batches.
    fn batches(&self, case: &Case, config: &Config, report: &Report) -> Result<String> {
        let mut differences = String::new();
        for (n, batch) in case.batches.iter().flat_map(|batches| &batches.value).enumerate() {
            let time = self.run(&batch.value, config)?;
            let ordered = At::get(&case.ordered).unwrap_or(false);
            for entry in entries(&batch.value.out) {
                let Some(expected) = &entry.value else { continue };
                let found = self.rows(&entry.name, time)?;
                let expected: Vec<Value> = expected.value.iter().map(|row| row.value.0.clone()).collect();
                if let Some(difference) = difference(&expected, &found, ordered) {
                    // Writing to a string does not fail.
                    let _ = writeln!(
                        differences,
                        "{}: batch {} ({time}) of `{}` (- expected, + found):\n{difference}",
                        report.place(&entry.at),
                        n + 1,
                        entry.name,
                    );
                }
            }
        }
        self.test.ssc.stop(true)?;
        Ok(differences)
    }

    /// Runs the batches up to this one, and gives its time.
    fn run(&self, batch: &Batch, config: &Config) -> Result<Time> {
        let interval = config.batch_interval;
        let steps = At::get(&batch.after).map_or(1, |after| after.as_millis() / interval.as_millis());
        for step in 1..=steps {
            for collected in self.streams.values() {
                collected.take();
            }
            for source in &config.sources {
                let given = entries(&batch.r#in).iter().find(|entry| entry.name == source.name);
                let records = given.filter(|_| step == steps).and_then(|entry| entry.value.as_ref());
                let records = records.map_or(&[][..], |records| &records.value);
                let values = records.iter().map(|record| match &record.value.0 {
                    Value::String(value) => value.clone(),
                    other => other.to_string(),
                });
                self.sources[&source.name].push(values.collect::<Vec<_>>());
            }
            self.test.step()?;
        }
        Ok(self.test.clock.now())
    }

    /// The rows that a stream gave in the batch `time`, as JSON.
    fn rows(&self, name: &str, time: Time) -> Result<Vec<Value>> {
        let collected = self.streams[name].take();
        let mut rows = Vec::new();
        for batch in collected.iter().filter(|(at, _)| *at == time).flat_map(|(_, batches)| batches) {
            for row in encode::rows_as_json(batch)? {
                let row = serde_json::from_slice(&row)
                    .map_err(|e| Error::internal("a row's JSON cannot be read").with_source(e))?;
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

/// What differs between rows, a line each; nothing if they are the same.
fn difference(expected: &[Value], found: &[Value], ordered: bool) -> Option<String> {
    // The columns in the order in which they come out, so that a line can be compared with a line.
    let columns: Vec<&String> = match found.first() {
        Some(Value::Object(row)) => row.keys().collect(),
        _ => Vec::new(),
    };
    let lines = |rows: &[Value]| {
        let mut lines: Vec<String> = rows.iter().map(|row| line(row, &columns)).collect();
        if !ordered {
            lines.sort_unstable();
        }
        lines
    };
    let (expected, found) = (lines(expected), lines(found));
    if expected == found {
        return None;
    }
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.iter().map(String::as_str).collect(), found.iter().map(String::as_str).collect());
    let diff = TextDiff::from_slices(&expected, &found);
    let shown = diff.iter_all_changes().map(|change| {
        let mark = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        format!("{mark} {}", change.value())
    });
    Some(shown.collect::<Vec<_>>().join("\n"))
}

/// A row in one line: the columns in this order, then others; whole numbers in one form.
fn line(row: &Value, columns: &[&String]) -> String {
    let Value::Object(members) = row else { return plain(row).to_string() };
    let known = columns.iter().filter_map(|name| Some((*name, members.get(*name)?)));
    let others = members.iter().filter(|(name, _)| !columns.contains(name));
    let member =
        |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), plain(value));
    format!("{{{}}}", known.chain(others).map(member).collect::<Vec<_>>().join(", "))
}

/// `2.0` as `2`.
fn plain(value: &Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => {
                Value::from(float as i64)
            }
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}
