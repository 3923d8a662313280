//! Slicing by arrival: a batch takes what the partitions hold when it begins, within the limits.

use super::limits::Limits;
use super::source::{KafkaInput, Offsets, Place, Progress};
use crate::error::Result;
use crate::source::{InputPlan, OffsetRange};

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

    /// What belongs to the batch that begins now.
    pub(super) fn plan_by_arrival(&self) -> Result<InputPlan> {
        let connection = self.connection()?;
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
        let taken = self.taken(&progress, &lag.collect());
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
