//! Batches of an earlier run, which are run again as they were.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::source::OffsetRange;
use crate::time::Time;

/// What one input had in each batch of a batch log.
#[derive(Debug, Clone, Default)]
pub(crate) struct FollowedLog {
    batches: BTreeMap<Time, Vec<OffsetRange>>,
}

impl FollowedLog {
    /// `batches` has all batches of the log, also those in which this input had nothing.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "replays are a service"))]
    pub fn new(batches: BTreeMap<Time, Vec<OffsetRange>>) -> Self {
        Self { batches }
    }

    /// The times of its batches.
    pub fn times(&self) -> impl Iterator<Item = Time> {
        self.batches.keys().copied()
    }

    /// What batch `time` had.
    pub fn ranges(&self, time: Time) -> &[OffsetRange] {
        self.batches.get(&time).map_or(&[], Vec::as_slice)
    }

    /// Where its partitions begin.
    pub fn beginnings(&self) -> BTreeMap<(Arc<str>, i32), i64> {
        let mut beginnings = BTreeMap::new();
        for range in self.batches.values().flatten() {
            beginnings.entry((range.topic.clone(), range.partition)).or_insert(range.from);
        }
        beginnings
    }

    /// How many offsets of it come after batch `time`.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn after(&self, time: Option<Time>) -> u64 {
        let rest = self.batches.iter().filter(|(at, _)| time.is_none_or(|time| **at > time));
        rest.flat_map(|(_, ranges)| ranges).map(OffsetRange::count).sum()
    }
}
