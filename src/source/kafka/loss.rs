//! Records that are gone before they were read: the topic's retention has overtaken the application, or somebody deleted the
//! topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::cluster::Cluster;
use super::reader::Missing;
use super::source::Place;
use super::{Record, SliceReader};
use crate::error::{Error, Result};
use crate::rdd::{Flow, Stop};
use crate::source::OffsetRange;

/// What to do about records that are gone before they were read (Spark's `failOnDataLoss`).
///
/// They are gone if the topic's retention has deleted them, if the topic was deleted, or if it was deleted and made anew,
/// which is noticed by its id. Whatever is set, the message names the offsets that are lost; if the stream goes on, they
/// are in [`BatchInfo::lost_ranges`](crate::BatchInfo::lost_ranges) of the next batch that completes, and counted as
/// `tidemill_source_lost_records_total`. A topic that is deleted and does not come back is forgotten then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDataLoss {
    /// The context stops with an error.
    #[default]
    Fail,
    /// Goes on with the first record that the partition still has.
    Earliest,
    /// Goes on at the partition's end.
    Latest,
}

/// The ranges that were lost, each told once.
#[derive(Default)]
pub(super) struct Losses {
    lost: Mutex<Lost>,
}

#[derive(Default)]
struct Lost {
    /// Not told to a batch yet.
    new: Vec<OffsetRange>,
    /// What was told already: a slice is read again by whoever needs it again, and a start tells of what the batch that it runs again
    /// finds for itself.
    known: BTreeMap<Place, Vec<OffsetRange>>,
    /// Partitions that go on at their ends.
    to_latest: BTreeSet<Place>,
}

impl Losses {
    /// Says in the log that `range` is lost, and why, as far as that was not told before.
    pub fn note(&self, range: OffsetRange, why: &str) {
        let mut lost = self.lost.lock();
        let known = lost.known.entry((range.topic.clone(), range.partition)).or_default();
        let mut left = vec![range.clone()];
        for told in known.iter() {
            left = left.into_iter().flat_map(|range| without(&range, told)).collect();
        }
        known.extend(left.iter().filter(|range| !range.is_empty()).cloned());
        for range in left {
            tracing::warn!(
                topic = &*range.topic,
                partition = range.partition,
                from = range.from,
                until = range.until,
                "records of {range} are lost: {why}"
            );
            if !range.is_empty() {
                lost.new.push(range);
            }
        }
    }

    /// Says that the offsets of `topic` stand for other records from now on.
    pub fn forget(&self, topic: &str) {
        self.lost.lock().known.retain(|(own, _), _| **own != *topic);
    }

    /// The ranges that were noted since the last call.
    pub fn take(&self) -> Vec<OffsetRange> {
        std::mem::take(&mut self.lost.lock().new)
    }

    /// Whether there are partitions that are to go on at their ends.
    pub fn has_to_latest(&self) -> bool {
        !self.lost.lock().to_latest.is_empty()
    }

    /// The partitions that are to go on at their ends, since the last call.
    pub fn take_to_latest(&self) -> BTreeSet<Place> {
        std::mem::take(&mut self.lost.lock().to_latest)
    }
}

/// What of `range` is not in `told`.
fn without(range: &OffsetRange, told: &OffsetRange) -> Vec<OffsetRange> {
    if range.is_empty() || told.until <= range.from || range.until <= told.from {
        return vec![range.clone()];
    }
    let part = |from: i64, until: i64| OffsetRange { from, until, ..range.clone() };
    let parts = [part(range.from, told.from), part(told.until, range.until)];
    parts.into_iter().filter(|part| part.from < part.until).collect()
}

/// The error for what is lost and may not be.
pub(super) fn lost_error(range: &OffsetRange, why: &str) -> Error {
    Error::data(format!(
        "records of {range} are lost: {why}; set `on_data_loss` to `earliest` or `latest` to go on without them"
    ))
}

/// What retention does.
pub(super) const OVERTAKEN: &str = "the topic's retention has deleted them before they were read";

/// What somebody did.
pub(super) const DELETED: &str = "the topic was deleted";

/// A reader that goes on behind what is gone, if that is wanted.
pub(super) struct Surviving {
    pub reader: Arc<dyn SliceReader>,
    pub cluster: Cluster,
    pub on_data_loss: OnDataLoss,
    pub losses: Arc<Losses>,
}

impl Surviving {
    /// Where to go on in `range`, whose records before `next` were seen, and which could not be read on since something is
    /// `missing`.
    fn behind_the_loss(
        &self,
        range: &OffsetRange,
        next: i64,
        missing: Missing,
        failure: Error,
    ) -> Result<i64> {
        let place = (range.topic.clone(), range.partition);
        // A look need not see all that there was.
        let (Missing::Records(at) | Missing::Topic(at)) = missing;
        let next = next.max(at).min(range.until);
        if matches!(missing, Missing::Topic(_)) {
            // There is nobody to ask for more. What lies beyond the slice is told when the deletion is noticed by who plans.
            let lost = OffsetRange { from: next, ..range.clone() };
            if self.on_data_loss == OnDataLoss::Fail {
                return Err(lost_error(&lost, DELETED));
            }
            self.losses.note(lost, DELETED);
            return Ok(range.until);
        }
        let beginnings = self.cluster.beginnings(std::slice::from_ref(&place), self.cluster.config.wait)?;
        let first = beginnings.get(&place).copied().unwrap_or(next);
        if first <= next {
            return Err(failure);
        }
        let lost = |until| OffsetRange { from: next, until, ..range.clone() };
        match self.on_data_loss {
            OnDataLoss::Fail => Err(lost_error(&lost(first.min(range.until)), OVERTAKEN)),
            OnDataLoss::Earliest => {
                let on = first.min(range.until);
                self.losses.note(lost(on), OVERTAKEN);
                Ok(on)
            }
            OnDataLoss::Latest => {
                self.losses.note(lost(range.until), OVERTAKEN);
                self.losses.lost.lock().to_latest.insert(place);
                Ok(range.until)
            }
        }
    }

    fn surviving(&self, range: &OffsetRange, read: &mut dyn FnMut(&OffsetRange, &mut i64) -> Flow) -> Flow {
        let mut next = range.from;
        loop {
            let rest = OffsetRange { from: next, ..range.clone() };
            let error = match read(&rest, &mut next) {
                Err(Stop::Failed(error)) => error,
                outcome => return outcome,
            };
            // Any other is the visitor's, or nothing that could be gone on behind.
            let Some(missing) = Missing::of(&error) else { return Err(Stop::Failed(error)) };
            next = self.behind_the_loss(range, next, missing, *error)?;
        }
    }
}

impl SliceReader for Surviving {
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
        self.surviving(range, &mut |rest, next| {
            self.reader.read(rest, &mut |records| {
                *next = records.last().map_or(*next, |last| last.offset + 1);
                visit(records)
            })
        })
    }

    fn reads_in_parallel(&self) -> bool {
        self.reader.reads_in_parallel()
    }

    fn begins_with(&self, range: &OffsetRange) {
        self.reader.begins_with(range);
    }

    fn fetch_ahead(&self, range: &OffsetRange, since: i64, is_enough: &dyn Fn(Option<i64>) -> bool) {
        self.reader.fetch_ahead(range, since, is_enough);
    }

    fn peek(&self, range: &OffsetRange, since: i64, visit: &mut dyn FnMut(i64, Option<i64>) -> Flow) -> Flow {
        self.surviving(range, &mut |rest, next| {
            self.reader.peek(rest, since, &mut |offset, at| {
                *next = offset + 1;
                visit(offset, at)
            })
        })
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
