//! Slicing by arrival: a batch takes what the partitions hold when it begins, within the limits.

use super::source::{KafkaInput, Offsets, Place};
use crate::error::Result;
use crate::source::{InputPlan, OffsetRange};

impl KafkaInput {
    /// How many records of each partition this batch may take.
    fn limits(&self, lag: &Offsets) -> Offsets {
        let total: i64 = lag.values().sum();
        let cap = i64::try_from(self.config.max_records_per_batch).unwrap_or(i64::MAX);
        let per_partition = self
            .config
            .max_rate_per_partition
            .map_or(i64::MAX, |rate| ((rate as f64 * self.interval.as_secs_f64()) as i64).max(1));
        lag.iter()
            .map(|(place, lag)| {
                let share =
                    if total <= cap { *lag } else { (*lag as f64 / total as f64 * cap as f64) as i64 };
                // A partition that has anything gets on, however small its share.
                (place.clone(), share.max(1).min(per_partition).min(*lag))
            })
            .collect()
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
        let limits = self.limits(&lag.collect());
        progress.found(latest)?;
        let range = |((topic, partition), from): (&Place, &i64)| OffsetRange {
            topic: topic.clone(),
            partition: *partition,
            from: *from,
            until: from + limits.get(&(topic.clone(), *partition)).copied().unwrap_or(0),
        };
        Ok(InputPlan::Offsets(progress.next.iter().map(range).collect()))
    }
}
