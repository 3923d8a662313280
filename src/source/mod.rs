//! Where elements come from: inputs that say, per batch, what belongs to it.

mod bad_record;
mod files;
mod followed;
pub mod kafka;
mod lines;
mod offsets;
mod queue;
mod receiver;
mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use bad_record::OnBadRecord;
pub(crate) use bad_record::{DeadLetter, Stage, short};
pub use files::FileOptions;
pub(crate) use files::{FileInput, FilesPosition, read_lines, read_records, read_whole};
pub(crate) use followed::FollowedLog;
pub(crate) use lines::lines;
pub use offsets::OffsetRange;
pub(crate) use queue::QueueInput;
pub use queue::RddQueue;
pub use receiver::{Receiver, ReceiverHandle};
pub(crate) use receiver::{ReceiverInput, ReceiverParts, ReceiverSettings};
pub(crate) use socket::SocketReceiver;

use crate::batch::{RateLimit, StreamInputInfo};
use crate::error::Result;
use crate::time::Time;

/// What one input contributes to one batch. Written before the batch runs, so that an unfinished
/// batch is rerun with the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InputPlan {
    /// The offset ranges of every partition, the empty ones included.
    Offsets(Vec<OffsetRange>),
    /// The RDDs `from..until` of a queue.
    Queue { from: u64, until: u64 },
    /// The blocks `from..until` of a receiver, with so many records.
    Blocks { from: u64, until: u64, records: u64 },
    /// Files, and where the input stands after them.
    Files { files: Vec<String>, end: FilesPosition },
}

impl InputPlan {
    /// Whether the batch has nothing to read from this input.
    pub fn is_empty(&self) -> bool {
        match self {
            InputPlan::Offsets(ranges) => ranges.iter().all(OffsetRange::is_empty),
            InputPlan::Queue { from, until } | InputPlan::Blocks { from, until, .. } => from == until,
            InputPlan::Files { files, .. } => files.is_empty(),
        }
    }

    /// Where the batch begins, if the plan tells.
    pub fn begin(&self) -> Option<InputPosition> {
        Some(match self {
            InputPlan::Offsets(ranges) => InputPosition::Offsets(
                ranges.iter().map(|r| ((r.topic.to_string(), r.partition), r.from)).collect(),
            ),
            InputPlan::Queue { from, .. } => InputPosition::Queue(*from),
            InputPlan::Blocks { from, .. } => InputPosition::Blocks(*from),
            InputPlan::Files { .. } => return None,
        })
    }

    /// Where the next batch goes on.
    pub fn end(&self) -> InputPosition {
        match self {
            InputPlan::Offsets(ranges) => InputPosition::Offsets(
                ranges.iter().map(|r| ((r.topic.to_string(), r.partition), r.until)).collect(),
            ),
            InputPlan::Queue { until, .. } => InputPosition::Queue(*until),
            InputPlan::Blocks { until, .. } => InputPosition::Blocks(*until),
            InputPlan::Files { end, .. } => InputPosition::Files(end.clone()),
        }
    }
}

/// Where an input stands after a batch: the next thing to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InputPosition {
    /// The next offset by topic and partition.
    Offsets(#[serde(with = "as_pairs")] BTreeMap<(String, i32), i64>),
    /// The number of RDDs taken from a queue.
    Queue(u64),
    /// A receiver's first block that is in no batch yet.
    Blocks(u64),
    /// The files that were taken lately.
    Files(FilesPosition),
}

/// Maps whose keys are no strings are written as sequences of pairs.
mod as_pairs {
    use super::*;

    type Offsets = BTreeMap<(String, i32), i64>;

    pub fn serialize<S: serde::Serializer>(map: &Offsets, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Offsets, D::Error> {
        Ok(Vec::<((String, i32), i64)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// What this application leaves beside the offsets that it commits: by which batch, and by which run of the program. Two
/// runs on copies of one checkpoint may commit the same batch time, and what one has prepared is not the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub time: Time,
    pub run: u64,
}

/// Where the consumer group stands at one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupOffset {
    /// The next offset to read.
    pub offset: i64,
    /// What this application left beside it; nothing if somebody else committed it.
    pub marker: Option<Marker>,
}

/// A topic and the number of one of its partitions.
pub(crate) type Place = (String, i32);

/// What a consumer group holds.
pub(crate) type GroupOffsets = BTreeMap<Place, GroupOffset>;

/// One thing that the context reads from.
pub(crate) trait Input: Send + Sync {
    /// The name under which its position is kept.
    fn uid(&self) -> &str;

    /// Reaches whatever it reads from, and changes nothing there.
    fn connect(&self) -> Result<()> {
        Ok(())
    }

    /// What the consumer group holds of it, for those that have one; with `wait`, it is asked until it answers.
    fn group(&self, _wait: bool) -> Result<Option<GroupOffsets>> {
        Ok(None)
    }

    /// The id of the Kafka cluster that it reads from: a transaction there can hold its offsets.
    fn cluster(&self) -> Option<String> {
        None
    }

    /// The Kafka topics that it reads.
    fn topics(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a program without a checkpoint goes on where the group stands.
    fn starts_at_group(&self) -> bool {
        false
    }

    /// Takes up where the checkpoint ended (nowhere yet on a fresh start), with the batch `last`, which may be unfinished.
    fn start(&self, restored: Option<&InputPosition>, last: Option<Time>) -> Result<()>;

    /// Decides what belongs to the batch that begins now.
    fn plan(&self, time: Time) -> Result<InputPlan>;

    /// This, if its records' timestamps say what belongs to a batch.
    fn by_time(&self) -> Option<&dyn SlicedByTime> {
        None
    }

    /// Makes `plan` what this input's stream gives for `time`. Called for a fresh plan and for one
    /// that is run again.
    fn begin(&self, time: Time, plan: &InputPlan) -> Result<()>;

    /// Tells the outside (Kafka's consumer group) where the input stands since the batch `marker`, after its commit.
    /// `wait` asks for the outcome; without it an error may be noticed later.
    fn publish(&self, _position: &InputPosition, _marker: Option<Marker>, _wait: bool) -> Result<()> {
        Ok(())
    }

    /// The outside was told otherwise (in a transaction) that the input stands at `position`.
    fn committed(&self, _position: &InputPosition) {}

    /// What is known of the batch of `plan`, which has begun, before it is read.
    fn info(&self, plan: &InputPlan) -> StreamInputInfo {
        StreamInputInfo::of(self.uid(), plan)
    }

    /// The batch of `plan` is committed: what was kept so that it could be run again may go.
    fn finished(&self, _plan: &InputPlan) -> Result<()> {
        Ok(())
    }

    /// No more batches will be planned; with `gracefully`, those that are due will still be, and shall find all that was
    /// received.
    fn stop(&self, _gracefully: bool) {}

    /// Whether it takes a limit on how many records per second it gives.
    fn obeys_rate(&self) -> bool {
        false
    }

    /// Gives no more than that from now on, the records of all its partitions counted together.
    fn limit_rate(&self, _limit: RateLimit) {}

    /// After a graceful stop: whether something was received that is in no batch yet.
    fn has_unplanned(&self) -> bool {
        false
    }

    /// Whether the batch that began last reads to where the input ended at start.
    fn is_caught_up(&self) -> bool {
        true
    }

    /// Whether the next batch may be planned and read while this one is being committed, and this one still be begun again: its
    /// records wait in a log, and nothing has become of the log that has to be taken in first.
    fn may_run_ahead(&self) -> bool {
        false
    }

    /// As long as it is `held`, the batch before the next may be begun again: what becomes of the log meanwhile is taken in later.
    fn hold(&self, _held: bool) {}

    /// Whether the batch that was planned last could not take all that was there.
    fn has_left_some(&self) -> bool {
        false
    }

    /// The log whose batches it has, if it follows one; it then has an end.
    fn followed(&self) -> Option<&FollowedLog> {
        None
    }

    /// Whether it ends some time.
    fn has_end(&self) -> bool {
        false
    }

    /// Whether all up to its end is planned.
    fn is_at_end(&self) -> bool {
        false
    }

    /// About how many records are still to be planned up to its end, if it has one.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    fn up_to_end(&self) -> Option<u64> {
        None
    }

    /// How many batches it takes to read what waited at start.
    fn batches_of_backlog(&self) -> u64 {
        0
    }

    /// What was found to be gone before it was read, since the last call.
    fn take_lost(&self) -> Vec<OffsetRange> {
        Vec::new()
    }

    /// Since when what it reads from does not answer, and what is said of that.
    fn away(&self) -> Option<(Time, String)> {
        None
    }

    /// How far the input is behind, for those that can tell.
    fn lag(&self) -> Vec<PartitionLag> {
        Vec::new()
    }
}

/// An input whose records' timestamps say what belongs to a batch.
pub(crate) trait SlicedByTime: Send + Sync {
    /// When the first record that waits was written, if one waits.
    fn first(&self, now: Time) -> Result<Option<Time>>;

    /// Looks whether all of the batch `time`, which would follow the last one that began, is there. If so, it is what
    /// [`plan`](Input::plan) gives for `time`.
    fn look(&self, time: Time, now: Time) -> Result<Interval>;

    /// Begins to get ready what batch `time` would be of, which follows the last one that was closed, while that one leaves room for it:
    /// nothing happens if that is under way already.
    fn look_ahead(&self, _time: Time, _now: Time) {}

    /// Whether it has ended before batch `time`: nothing of it belongs to that one or a later one.
    fn ends_before(&self, _time: Time) -> bool {
        false
    }
}

/// What an input knows of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interval {
    /// More of it may come.
    Open,
    /// All of it is there.
    Closed {
        /// Whether it has a record.
        has_records: bool,
        /// If it has none: no record that is to come is from before this time, or it is late.
        quiet_until: Time,
    },
}

/// How far one partition is behind its end.
#[derive(Debug, Clone)]
pub struct PartitionLag {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The next offset to read, as committed.
    pub committed: i64,
    /// The end of the partition when the last batch was planned.
    pub latest: i64,
    /// When the last record that was read had been written, in milliseconds since the epoch.
    pub last_timestamp: Option<i64>,
}

impl PartitionLag {
    /// Records that are not processed yet.
    pub fn records(&self) -> i64 {
        (self.latest - self.committed).max(0)
    }

    /// How old the next record to read is at least, judged by the last one that was read; 0 without lag.
    pub fn seconds(&self, now: Time) -> f64 {
        match self.last_timestamp {
            Some(at) if self.records() > 0 => ((now.as_millis() - at).max(0)) as f64 / 1_000.0,
            _ => 0.0,
        }
    }
}
