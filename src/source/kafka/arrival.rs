//! Slicing by arrival: a batch takes what the partitions hold when it begins, within the limits.

use super::limits::Limits;
use super::source::{KafkaInput, Offsets, Place, Progress};
use crate::error::Result;
use crate::source::{InputPlan, OffsetRange};
use crate::time::Time;

impl KafkaInput {
    /// How many records of each partition this batch takes of what `lag` says is there.
    fn taken(&self, progress: &Progress, lag: &Offsets) -> Offsets {
        let limits = Limits {
            interval: self.interval,
            rate: progress.rate,
            max_rate_per_partition: self.config.max_rate_per_partition,
            min_per_partition: self.config.min_rate_per_partition,
            max_records: self.config.max_records_per_batch,
            max_bytes: self.config.max_bytes_per_batch,
            record_bytes: &|place| progress.record_bytes.get(place).copied(),
        };
        limits.share(lag)
    }

    /// What belongs to the batch `time`, which begins now.
    ///
    /// A batch that is late takes what came until now. If others have become due meanwhile, there is nothing left that came
    /// before their time: they are empty, and cost next to nothing. So batches whose commits take longer than the
    /// interval fall behind by the length of one, and not ever further.
    pub(super) fn plan_by_arrival(&self, time: Time) -> Result<InputPlan> {
        let (connection, now) = (self.connection()?, self.clock.now());
        {
            let progress = self.progress.lock();
            if progress.taken_all.is_some_and(|at| time <= at) {
                return Ok(InputPlan::Offsets(progress.next.iter().map(nothing).collect()));
            }
        }
        let latest = match self.ends_now(&connection) {
            Ok(latest) => latest,
            // The lag stays what it was: nobody knows better now.
            Err(error) if error.is_retryable() => {
                tracing::warn!("{error}; this batch reads nothing");
                Offsets::new()
            }
            Err(error) => return Err(error),
        };
        let mut progress = self.progress.lock();
        let lag = progress.next.iter().map(|(place, from)| {
            let end = latest.get(place).copied().unwrap_or(*from);
            (place.clone(), (end - from).max(0))
        });
        let lag = lag.collect();
        let taken = self.taken(&progress, &lag);
        progress.taken_all = (taken == lag).then_some(now);
        progress.found(latest)?;
        let range = |((topic, partition), from): (&Place, &i64)| OffsetRange {
            topic: topic.clone(),
            partition: *partition,
            from: *from,
            until: from + taken.get(&(topic.clone(), *partition)).copied().unwrap_or(0),
        };
        Ok(InputPlan::Offsets(progress.next.iter().map(range).collect()))
    }
}

/// The empty range at the next offset of a partition.
fn nothing(((topic, partition), next): (&Place, &i64)) -> OffsetRange {
    OffsetRange { topic: topic.clone(), partition: *partition, from: *next, until: *next }
}
