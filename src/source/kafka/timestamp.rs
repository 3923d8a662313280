//! Slicing by timestamp: where batches end is read off the records.
//!
//! A batch ends, in each partition, before the first record whose *effective* timestamp is at or past the batch time. The
//! effective timestamp of a record that has none, or one from too far in the future, is its predecessor's. So such a record
//! never ends a batch, and what has to be looked for is the first record *with* a believable timestamp at or past the time.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use super::End;
use super::source::{KafkaInput, Offsets, Place};
use crate::error::{Error, Result};
use crate::rdd::Stop;
use crate::source::{InputPlan, Interval, OffsetRange, SlicedByTime};
use crate::time::{Duration, Time};

/// After all batches, and early enough for there to be times after it.
const FOR_EVER: Time = Time::from_millis(i64::MAX / 4);

/// Shows the offsets and timestamps of a range's records, in order, until it is told that it is enough: of the first one, and of all that
/// are not from before a time.
type Peek<'a> = &'a dyn Fn(&OffsetRange, Time, &mut dyn FnMut(i64, Option<i64>) -> bool) -> Result<()>;

/// Where batches end.
pub(super) struct Cuts {
    max_future: Duration,
    grace: Duration,
    /// The stream ends before records of this time.
    last: Option<Time>,
    seen: BTreeMap<Place, Seen>,
    /// The last batch that was found to be closed.
    closed: Option<(Time, Vec<OffsetRange>)>,
}

/// What was seen of a partition beyond what was planned.
#[derive(Default)]
struct Seen {
    /// The next offset to look at.
    next: i64,
    /// The first record beyond what was planned.
    first: Option<i64>,
    /// The last record that was looked at, if it may be the first of a batch.
    mark: Option<(i64, Time)>,
}

impl Seen {
    /// The first record of `range` whose timestamp is believable and at or past `time`. What was passed over before is
    /// not looked at again: it was from before an earlier time, or not believable.
    fn mark(
        &mut self,
        range: &OffsetRange,
        time: Time,
        horizon: Time,
        peek: Peek<'_>,
    ) -> Result<Option<(i64, Time)>> {
        let (mark, first) = (self.mark.filter(|(o, _)| *o >= range.from), self.first);
        self.first = first.filter(|o| *o >= range.from).or(mark.map(|(offset, _)| offset));
        self.mark = mark.filter(|(_, at)| *at >= time);
        self.next = self.next.max(range.from);
        if self.mark.is_none() && self.next < range.until {
            peek(&OffsetRange { from: self.next, ..range.clone() }, time, &mut |offset, at| {
                self.next = offset + 1;
                self.first.get_or_insert(offset);
                let at = at.map(Time::from_millis).filter(|at| (time..=horizon).contains(at));
                self.mark = at.map(|at| (offset, at));
                at.is_some()
            })?;
            if self.mark.is_none() {
                self.next = range.until;
            }
        }
        Ok(self.mark)
    }
}

impl Cuts {
    pub fn new(max_future: Duration, grace: Duration, last: Option<Time>) -> Self {
        Self { max_future, grace, last, seen: BTreeMap::new(), closed: None }
    }

    /// What was planned to be read at `before` is to be read at `next` now.
    pub fn moved(&mut self, before: &Offsets, next: &Offsets) {
        self.seen.retain(|place, _| before.get(place) == next.get(place));
    }

    /// Looks whether the batch `time`, which begins at `next`, is closed, in partitions that end at `ends`: for good, if it is
    /// one of `bounds`.
    fn look(
        &mut self,
        next: &Offsets,
        (ends, bounds): (&Offsets, &Offsets),
        time: Time,
        now: Time,
        peek: Peek<'_>,
    ) -> Result<Interval> {
        let (mut ranges, mut has_records, mut quiet_until) = (Vec::new(), false, None);
        let cut = self.last.map_or(time, |last| last.min(time));
        for (place, from) in next {
            let Some(end) = ends.get(place) else { return Ok(Interval::Open) };
            let bound = bounds.get(place).copied().unwrap_or(i64::MAX);
            let mut range = whole(place, *from, bound.min(*end));
            let seen = self.seen.entry(place.clone()).or_default();
            let (until, quiet) = match seen.mark(&range, cut, now + self.max_future, peek)? {
                Some(mark) => mark,
                None if range.until >= bound => (range.until, FOR_EVER),
                // What comes from here on is late for it.
                None if now >= cut + self.grace => (range.until, now - self.grace),
                None => return Ok(Interval::Open),
            };
            range.until = until;
            // A gap before the end is to be read, too, or the end would not be reached.
            has_records |= seen.first.is_some_and(|first| first < until) || (until > *from && until >= bound);
            quiet_until = Some(quiet_until.map_or(quiet, |before: Time| before.min(quiet)));
            ranges.push(range);
        }
        self.closed = Some((time, ranges));
        Ok(Interval::Closed { has_records, quiet_until: quiet_until.unwrap_or(now - self.grace) })
    }

    /// The earliest of the partitions' first believable timestamps.
    fn first(&self, next: &Offsets, ends: &Offsets, now: Time, peek: Peek<'_>) -> Result<Option<Time>> {
        let horizon = now + self.max_future;
        let mut first: Option<Time> = None;
        for (place, from) in next {
            let range = whole(place, *from, ends.get(place).copied().unwrap_or(*from));
            peek(&range, Time::from_millis(i64::MIN), &mut |_, at| {
                let at = at.map(Time::from_millis).filter(|at| *at <= horizon);
                first = first.min(at).or(first).or(at);
                at.is_some()
            })?;
        }
        Ok(first)
    }

    /// What stands behind the batch that was closed last, in partitions that end at `ends`.
    fn rest(&self, ends: &Offsets) -> Vec<OffsetRange> {
        let closed = self.closed.iter().flat_map(|(_, ranges)| ranges);
        let rest = closed.map(|range| {
            let place = (range.topic.clone(), range.partition);
            whole(&place, range.until, ends.get(&place).copied().unwrap_or(range.until))
        });
        rest.filter(|range| !range.is_empty()).collect()
    }

    /// The ranges of the batch `time`.
    pub fn plan(&self, time: Time) -> Result<InputPlan> {
        match &self.closed {
            Some((closed, ranges)) if *closed == time => Ok(InputPlan::Offsets(ranges.clone())),
            _ => Err(Error::internal(format!("batch {time} was planned before it was closed"))),
        }
    }
}

/// All that a partition holds beyond `from`.
fn whole((topic, partition): &Place, from: i64, end: i64) -> OffsetRange {
    OffsetRange { topic: topic.clone(), partition: *partition, from, until: end.max(from) }
}

impl KafkaInput {
    /// Waits until nothing is fetched ahead any more.
    ///
    /// # Errors
    /// If that has panicked.
    pub(super) fn end_looking_ahead(&self) -> Result<()> {
        let ahead = self.ahead.lock().take();
        match ahead.map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::internal("the thread that fetches ahead panicked")),
            _ => Ok(()),
        }
    }

    /// Calls `look` with what it needs to know of the partitions, if that is known.
    fn with_log<R>(
        &self,
        now: Time,
        look: impl FnOnce(&mut Cuts, &Offsets, &Offsets, Peek<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(cuts) = &self.cuts else {
            return Err(Error::internal(format!("input `{}` is not cut by timestamp", self.uid)));
        };
        let connection = self.connection()?;
        // Or both would fetch the same.
        self.end_looking_ahead()?;
        let mut cuts = cuts.lock();
        let ends = match self.ends_now(&connection) {
            Ok(ends) => ends,
            // No batch ends unseen.
            Err(error) if error.is_retryable() => {
                if self.away.is_to_be_said(now) {
                    tracing::warn!("{error}; no batch begins before that is known");
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let next = self.progress.lock().next.clone();
        let peek = |range: &OffsetRange, since: Time, visit: &mut dyn FnMut(i64, Option<i64>) -> bool| {
            let mut visit = |offset, at| if visit(offset, at) { Err(Stop::Enough) } else { Ok(()) };
            match connection.reader.peek(range, since.as_millis(), &mut visit) {
                Ok(()) | Err(Stop::Enough) => Ok(()),
                Err(Stop::Failed(error)) => Err(*error),
            }
        };
        let seen = look(&mut cuts, &next, &ends, &peek)?;
        drop(cuts);
        self.progress.lock().latest.extend(ends);
        Ok(Some(seen))
    }
}

impl SlicedByTime for KafkaInput {
    fn first(&self, now: Time) -> Result<Option<Time>> {
        let first = self.with_log(now, |cuts, next, ends, peek| cuts.first(next, ends, now, peek));
        self.placed(first).map(Option::flatten)
    }

    fn look(&self, time: Time, now: Time) -> Result<Interval> {
        self.placed(self.adopt_changes(time))?;
        let bounds = self.settled_end().unwrap_or_default();
        let mut found = None;
        let seen = self.with_log(now, |cuts, next, ends, peek| {
            let interval = cuts.look(next, (ends, &bounds), time, now, peek)?;
            found = (interval != Interval::Open).then(|| ends.clone());
            Ok(interval)
        });
        let seen = self.placed(seen)?.unwrap_or(Interval::Open);
        match found {
            // Where it goes on may have changed, and then the interval has, too.
            Some(ends) if self.placed(self.take_in(ends.clone(), time))? => Ok(Interval::Open),
            _ => Ok(seen),
        }
    }

    /// In threads of their own, since the workers are to be free whatever a broker does.
    fn look_ahead(&self, time: Time, now: Time) {
        let (Some(cuts), Ok(connection)) = (&self.cuts, self.connection()) else { return };
        let mut ahead = self.ahead.lock();
        let is_under_way = ahead.as_ref().is_some_and(|thread| !thread.is_finished());
        if is_under_way || time > now || self.ends_before(time) || self.runner.is_stopping() {
            return;
        }
        // What was begun while slices were read may have ended early, for want of room or of a connection.
        if ahead.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that fetches ahead panicked");
            return;
        }
        let mut ends = self.progress.lock().latest.clone();
        for (place, bound) in self.settled_end().unwrap_or_default() {
            ends.entry(place).and_modify(|end| *end = bound.min(*end));
        }
        let Some(cuts) = cuts.try_lock() else { return };
        let (rest, horizon) = (cuts.rest(&ends), now + cuts.max_future);
        // As many at the same time as tasks, most of which do not run now.
        let at_a_time = rest.len().div_ceil(self.runner.worker_threads()).max(1);
        let fetch = move || {
            let is_end =
                |at: Option<i64>| at.map(Time::from_millis).is_some_and(|at| (time..=horizon).contains(&at));
            let reader = &connection.reader;
            std::thread::scope(|scope| {
                for ranges in rest.chunks(at_a_time) {
                    scope.spawn(move || {
                        ranges.iter().for_each(|range| reader.fetch_ahead(range, time.as_millis(), &is_end));
                    });
                }
            });
        };
        // Without it a batch begins a little later.
        *ahead = std::thread::Builder::new().name("tidemill-ahead".to_owned()).spawn(fetch).ok();
    }

    fn ends_before(&self, time: Time) -> bool {
        match self.config.end {
            Some(End::Timestamp(last)) => time - self.interval >= last,
            _ => self.is_at_end(),
        }
    }
}

#[cfg(test)]
#[path = "timestamp_tests.rs"]
mod tests;
