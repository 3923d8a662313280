//! The batch log: what belonged to the batches that were committed, so that they can be looked up, and run again as they were.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::records::Plan;
use crate::batch::SliceInfo;
use crate::codec::{decode_value, encode_value};
use crate::error::{Error, Result};
use crate::source::{InputPlan, OffsetRange};
use crate::state::StateDb;
use crate::time::{Duration, Time};

const PREFIX: &[u8] = b"log/";
/// The byte after `/`.
const END: &[u8] = b"log0";

/// How many batches are kept, and none for longer than [`KEPT_FOR`] before the last one.
const KEPT: usize = 100_000;
const KEPT_FOR: Duration = Duration::minutes(7 * 24 * 60);
/// After how many batches those that are too many go, all at once.
const PRUNE_EVERY: usize = 1_000;

/// A batch that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedBatch {
    /// By input, the ranges that were not empty. An input that had none is not there.
    pub inputs: BTreeMap<String, Vec<LoggedRange>>,
}

/// What a batch read of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedRange {
    #[serde(flatten)]
    pub range: OffsetRange,
    /// Records from before the batch's interval; 0 unless the source is sliced by timestamp.
    pub late: u64,
    /// Records with a timestamp too far ahead to be believed; likewise.
    pub future: u64,
}

/// A batch as a record of a topic tells it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoggedRecord {
    pub app_id: String,
    pub batch_time: Time,
    #[serde(flatten)]
    pub batch: LoggedBatch,
}

impl LoggedBatch {
    /// What `plan` read, with what was seen of its records. RDDs of a queue have no offsets.
    pub(super) fn of(plan: &Plan, slices: &[SliceInfo]) -> Self {
        let seen: HashMap<_, _> = slices.iter().rev().map(|s| ((&*s.topic, s.partition), s)).collect();
        let logged = |range: &OffsetRange| {
            let seen = seen.get(&(&*range.topic, range.partition));
            let (late, future) = seen.map_or((0, 0), |s| (s.late, s.future));
            LoggedRange { range: range.clone(), late, future }
        };
        let inputs = plan.inputs.iter().filter_map(|(uid, plan)| match plan {
            InputPlan::Offsets(ranges) if !plan.is_empty() => {
                let ranges = ranges.iter().filter(|range| !range.is_empty()).map(logged);
                Some((uid.clone(), ranges.collect()))
            }
            _ => None,
        });
        Self { inputs: inputs.collect() }
    }
}

/// The log of a checkpoint, for whoever shows it or runs batches again by it.
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
pub(crate) struct BatchLog<'a> {
    db: &'a StateDb,
}

#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
impl<'a> BatchLog<'a> {
    pub fn of(db: &'a StateDb) -> Self {
        Self { db }
    }

    /// The batches that were committed of the times `from..until`, in their order. Those that did nothing are not there.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub fn range(&self, from: Time, until: Time) -> Result<Vec<(Time, LoggedBatch)>> {
        let mut batches = Vec::new();
        self.visit(from, until, |time, batch| {
            batches.push((time, batch));
            Ok(())
        })?;
        Ok(batches)
    }

    /// Hands these batches to `each`, one by one.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, or `each` fails.
    pub fn visit(
        &self,
        from: Time,
        until: Time,
        mut each: impl FnMut(Time, LoggedBatch) -> Result<()>,
    ) -> Result<()> {
        self.db.scan_between(&key(from), &key(until), |key, value| {
            each(time_of(key)?, decode_value(value)?)?;
            Ok(true)
        })
    }
}

/// Writes the log: its records are part of the write that commits their batch.
pub(super) struct LogWriter {
    kept: usize,
    /// How many batches have been there, if that was counted.
    count: Option<usize>,
}

impl Default for LogWriter {
    fn default() -> Self {
        Self { kept: KEPT, count: None }
    }
}

impl LogWriter {
    /// The record of a batch: its name, and what it says.
    pub fn record(&self, plan: &Plan, slices: &[SliceInfo]) -> Result<(Vec<u8>, Vec<u8>)> {
        Ok((key(plan.time), encode_value(&LoggedBatch::of(plan, slices))?))
    }

    /// The record of the batch `last` was written: lets those go that are too old or too many, from time to time.
    pub fn written(&mut self, db: &StateDb, last: Time) -> Result<()> {
        let count = match self.count {
            Some(count) => count + 1,
            None => {
                let mut count = 0;
                db.scan_between(PREFIX, END, |_, _| {
                    count += 1;
                    Ok(true)
                })?;
                count
            }
        };
        self.count = Some(count);
        if !count.is_multiple_of(PRUNE_EVERY) {
            return Ok(());
        }
        let (too_many, too_old) = (count.saturating_sub(self.kept), key(last - KEPT_FOR));
        let (mut gone, mut first) = (0, None);
        db.scan_between(PREFIX, END, |key, _| {
            if gone < too_many || *key < *too_old {
                gone += 1;
                return Ok(true);
            }
            first = Some(key.to_vec());
            Ok(false)
        })?;
        if gone > 0 {
            db.delete_between(PREFIX, first.as_deref().unwrap_or(END))?;
            self.count = Some(count - gone);
        }
        Ok(())
    }
}

/// Byte order is the order of the times; those before 1970 come first.
fn key(time: Time) -> Vec<u8> {
    [PREFIX, &(time.as_millis() as u64 ^ 1 << 63).to_be_bytes()].concat()
}

#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
fn time_of(key: &[u8]) -> Result<Time> {
    match key.get(PREFIX.len()..).map(<[u8; 8]>::try_from) {
        Some(Ok(bytes)) => Ok(Time::from_millis((u64::from_be_bytes(bytes) ^ 1 << 63) as i64)),
        _ => Err(Error::checkpoint(format!("a key of {} bytes in the batch log", key.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Delta;

    fn open() -> (tempfile::TempDir, StateDb) {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(folder.path(), "test", 4, crate::state::DEFAULT_MEMORY_LIMIT).unwrap();
        (folder, db)
    }

    fn range(partition: i32, from: i64, until: i64) -> OffsetRange {
        OffsetRange { topic: "in".into(), partition, from, until }
    }

    fn plan(seconds: i64, ranges: Vec<OffsetRange>) -> Plan {
        let queue = ("queue".to_owned(), InputPlan::Queue { from: 0, until: 1 });
        let inputs = [("kafka".to_owned(), InputPlan::Offsets(ranges)), queue].into();
        Plan { time: t(seconds), inputs }
    }

    fn t(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn write(log: &mut LogWriter, db: &StateDb, plan: &Plan, slices: &[SliceInfo]) {
        let delta = Delta { records: vec![log.record(plan, slices).unwrap()], ..Delta::default() };
        db.apply(&delta, b"committed", &plan.time).unwrap();
        log.written(db, plan.time).unwrap();
    }

    #[test]
    fn batches_are_told_with_their_ranges_and_counts() {
        let (_folder, db) = open();
        let mut log = LogWriter::default();
        let slice = SliceInfo { topic: "in".into(), partition: 1, records: 3, late: 2, future: 1 };
        write(&mut log, &db, &plan(10, vec![range(0, 5, 5), range(1, 5, 9)]), &[slice]);
        write(&mut log, &db, &plan(-1, vec![range(0, 1, 2)]), &[]);
        write(&mut log, &db, &plan(20, vec![range(0, 5, 5)]), &[]);

        let told = |from, until| -> Vec<(i64, Vec<LoggedRange>)> {
            let batches = BatchLog::of(&db).range(t(from), t(until)).unwrap();
            let of_kafka = |(time, batch): (Time, LoggedBatch)| {
                (time.as_millis() / 1_000, batch.inputs.get("kafka").cloned().unwrap_or_default())
            };
            batches.into_iter().map(of_kafka).collect()
        };
        let counted = LoggedRange { range: range(1, 5, 9), late: 2, future: 1 };
        let plain = LoggedRange { range: range(0, 1, 2), late: 0, future: 0 };
        assert_eq!(told(-100, 100), [(-1, vec![plain.clone()]), (10, vec![counted.clone()]), (20, vec![])]);
        assert_eq!(told(-1, 10), [(-1, vec![plain])]);
        assert_eq!(told(10, 11), [(10, vec![counted])]);
        assert_eq!(told(11, 20), []);
    }

    #[test]
    fn only_the_last_batches_are_kept() {
        let (_folder, db) = open();
        let mut log = LogWriter { kept: 1_500, count: None };
        let times = |db: &StateDb| -> Vec<i64> {
            let all = BatchLog::of(db).range(t(-1), t(1 << 40)).unwrap();
            all.iter().map(|(time, _)| time.as_millis() / 1_000).collect()
        };
        for n in 1..=1_999 {
            write(&mut log, &db, &plan(n, vec![range(0, n, n + 1)]), &[]);
        }
        assert_eq!(times(&db).len(), 1_999);
        write(&mut log, &db, &plan(2_000, vec![range(0, 0, 1)]), &[]);
        assert_eq!(times(&db), (501..=2_000).collect::<Vec<_>>());

        // After a restart they are counted anew; a week later they are too old.
        let mut log = LogWriter { kept: 1_500, count: None };
        const WEEK: i64 = 7 * 24 * 3_600;
        for n in 1..=500 {
            write(&mut log, &db, &plan(WEEK + 1_500 + n, vec![range(0, n, n + 1)]), &[]);
        }
        assert_eq!(times(&db), (2_000..=2_000).chain(WEEK + 1_501..=WEEK + 2_000).collect::<Vec<_>>());
    }
}
