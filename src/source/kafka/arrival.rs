//! Slicing by arrival: a batch takes what the partitions hold when it begins, within the limits.

use super::limits::Limits;
use super::source::{KafkaInput, Offsets, Place, Progress};
use crate::error::Result;
use crate::source::{InputPlan, OffsetRange};
use crate::time::{Duration, Time};

/// For so long the ends of the partitions that were found count for a backlog; also if batches come less often.
const KNOWN_FOR: Duration = Duration::seconds(1);

impl KafkaInput {
    /// How many records of each partition this batch may take.
    fn limits<'a>(&self, progress: &'a Progress) -> Limits<'a> {
        Limits {
            interval: self.interval,
            rate: progress.rate,
            max_rate_per_partition: self.config.max_rate_per_partition,
            min_per_partition: self.config.min_rate_per_partition,
            max_records: self.config.max_records_per_batch,
            max_bytes: self.config.max_bytes_per_batch,
            record_bytes: &progress.record_bytes,
        }
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
        let limits = self.limits(&progress).share(&lag);
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
            let mut progress = self.progress.lock();
            if progress.taken_all.is_some_and(|at| time <= at) {
                return Ok(InputPlan::Offsets(progress.next.iter().map(nothing).collect()));
            }
            // The batches of a backlog follow each other at once, and need not wait for the cluster to say what is known. Who fetches
            // what comes as it comes knows it at once, and is to hear where the batches are.
            if let Some((asked, ends)) = &progress.ends
                && connection.prefetcher.is_none()
                && (Duration::ZERO..self.interval.min(KNOWN_FOR)).contains(&(now - *asked))
                && let Some(taken) = self.limits(&progress).share_of_plenty(&lag(&progress, ends))
            {
                progress.taken_all = None;
                return Ok(plan(&progress, &taken));
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
        let lag = lag(&progress, &latest);
        let taken = self.limits(&progress).share(&lag);
        progress.taken_all = (taken == lag).then_some(now);
        progress.ends = Some((now, latest));
        Ok(plan(&progress, &taken))
    }
}

/// How many offsets each partition has from the next one to its end, if that is known.
fn lag(progress: &Progress, ends: &Offsets) -> Offsets {
    let lag = progress.next.iter().map(|(place, from)| {
        let end = ends.get(place).copied().unwrap_or(*from);
        (place.clone(), (end - from).max(0))
    });
    lag.collect()
}

/// So many of each partition.
fn plan(progress: &Progress, taken: &Offsets) -> InputPlan {
    let range = |(place, from): (&Place, &i64)| OffsetRange {
        topic: place.0.clone(),
        partition: place.1,
        from: *from,
        until: from + taken.get(place).copied().unwrap_or(0),
    };
    InputPlan::Offsets(progress.next.iter().map(range).collect())
}

/// The empty range at the next offset of a partition.
fn nothing(((topic, partition), next): (&Place, &i64)) -> OffsetRange {
    OffsetRange { topic: topic.clone(), partition: *partition, from: *next, until: *next }
}
