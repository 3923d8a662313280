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

    /// How many batches it takes to read what is there, at the most that a batch may take.
    pub(super) fn batches_of_backlog(&self) -> u64 {
        if self.cuts.is_some() {
            return 0;
        }
        let ends = self.config.end.as_ref().map(|_| self.bounds.lock().at.clone()).unwrap_or_default();
        let progress = self.progress.lock();
        let lag = progress.next.iter().map(|(place, next)| {
            let end = ends.get(place).or(progress.latest.get(place)).unwrap_or(next);
            (place.clone(), (end - next).max(0))
        });
        let lag: Offsets = lag.collect();
        let limits = self.taken(&progress, &lag);
        let batches = lag.iter().map(|(place, lag)| {
            let limit = limits.get(place).copied().unwrap_or(*lag).max(1);
            (lag + limit - 1) / limit
        });
        batches.max().unwrap_or(0) as u64
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
        let found = self.ends_now(&connection).and_then(|ends| Ok((self.within_end(ends.clone())?, ends)));
        let (latest, ends) = match found {
            Ok(found) => found,
            // The lag stays what it was: nobody knows better now.
            Err(error) if error.is_retryable() => {
                if self.away.is_to_be_said(now) {
                    tracing::warn!("{error}; this batch reads nothing");
                }
                Default::default()
            }
            Err(error) => return Err(error),
        };
        self.placed(self.take_in(ends, time))?;
        let mut progress = self.progress.lock();
        let lag = progress.next.iter().map(|(place, from)| {
            let end = latest.get(place).copied().unwrap_or(*from);
            (place.clone(), (end - from).max(0))
        });
        let lag = lag.collect();
        let taken = self.taken(&progress, &lag);
        progress.taken_all = (taken == lag).then_some(now);
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
