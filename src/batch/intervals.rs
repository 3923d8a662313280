//! Batches of sources that are sliced by timestamp: which interval is the next to run, and when all of it is there.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::{Input, Interval, SlicedByTime};
use crate::time::{Clock, Duration, Time};

/// An interval is run each day, whatever is in it, so that what must be done from time to time is done: the group's offsets
/// expire otherwise.
const DAY: Duration = Duration::minutes(24 * 60);

/// Finds the next interval to run.
pub(crate) struct Intervals {
    pub clock: Arc<dyn Clock>,
    pub interval: Duration,
    pub inputs: Vec<Arc<dyn Input>>,
}

impl Intervals {
    /// The intervals of `inputs`, if their records' timestamps say what belongs to a batch.
    ///
    /// # Errors
    /// If that is so for some of them only.
    pub fn of(
        inputs: Vec<Arc<dyn Input>>,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> Result<Option<Self>> {
        let (by_time, others): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.by_time().is_some());
        match (by_time.first(), others.first()) {
            (None, _) => Ok(None),
            (Some(_), None) => Ok(Some(Self { clock, interval, inputs })),
            (Some(by_time), Some(other)) => Err(Error::config(format!(
                "input `{}` is sliced by timestamp, but `{}` by arrival: slice all sources in the same way",
                by_time.uid(),
                other.uid()
            ))),
        }
    }

    fn by_time(&self) -> impl Iterator<Item = &dyn SlicedByTime> {
        self.inputs.iter().filter_map(|input| input.by_time())
    }

    /// The batch with which a fresh start begins: that of the first record that waits, or else of now.
    pub fn first(&self) -> Result<Time> {
        let now = self.clock.now();
        let mut first = now;
        for input in self.by_time() {
            first = input.first(now)?.map_or(first, |at| at.min(first));
        }
        Ok(self.of_record(first))
    }

    /// The batch to which a record of time `at` belongs.
    fn of_record(&self, at: Time) -> Time {
        at.floor(self.interval) + self.interval
    }

    /// The next batch to run, `from` or a later one, once all of it is there; none if `stopping` says so before, or if all
    /// inputs have ended. Without records there is something to do at `due`, and once a day. `skipped` is told the batches
    /// that are not run.
    ///
    /// Which ones these are depends on the records and the state alone, and so on the log alone.
    pub fn next(
        &self,
        from: Time,
        due: Option<Time>,
        stopping: &dyn Fn() -> bool,
        skipped: &dyn Fn(Time),
    ) -> Result<Option<Time>> {
        // The first batch time that is not before `time`.
        let at_or_after = |time: Time| self.of_record(time - Duration::millis(1));
        let day = at_or_after((from - Duration::millis(1)).floor(DAY) + DAY);
        let due = due.map_or(day, |due| at_or_after(due).min(day));
        let pause = (self.interval.to_std() / 10)
            .clamp(std::time::Duration::from_millis(5), std::time::Duration::from_millis(100));
        let mut time = from;
        loop {
            if self.by_time().all(|input| input.ends_before(time)) {
                return Ok(None);
            }
            self.clock.wait_until(time, stopping);
            if stopping() {
                return Ok(None);
            }
            let now = self.clock.now();
            let seen = match self.look(time, now) {
                // What does not answer is not waited for: no batch has begun.
                Err(error) if error.is_retryable() && stopping() => return Ok(None),
                seen => seen?,
            };
            match seen {
                // What is waited for is outside, and so is its time.
                Interval::Open => crate::time::pause(pause),
                Interval::Closed { has_records, .. } if has_records || time >= due => return Ok(Some(time)),
                Interval::Closed { quiet_until, .. } => {
                    skipped(time);
                    let next = self.of_record(quiet_until).min(due);
                    time = next.max(time + self.interval);
                }
            }
        }
    }

    /// The interval `from`, if all of it is there and has records: then it is the next to run, whatever the state is. What cannot be
    /// told now is left to [`next`](Self::next).
    ///
    /// # Errors
    /// As there.
    pub fn next_with_records(&self, from: Time, stopping: &dyn Fn() -> bool) -> Result<Option<Time>> {
        let now = self.clock.now();
        if from > now || stopping() || self.by_time().all(|input| input.ends_before(from)) {
            return Ok(None);
        }
        let seen = self.look(from, now)?;
        Ok(matches!(seen, Interval::Closed { has_records: true, .. }).then_some(from))
    }

    /// What all inputs together know of the interval.
    fn look(&self, time: Time, now: Time) -> Result<Interval> {
        let mut all: Option<(bool, Time)> = None;
        for input in self.by_time() {
            match input.look(time, now)? {
                Interval::Open => return Ok(Interval::Open),
                Interval::Closed { has_records, quiet_until } => {
                    let (records, quiet) = all.unwrap_or((false, quiet_until));
                    all = Some((records || has_records, quiet.min(quiet_until)));
                }
            }
        }
        let (has_records, quiet_until) = all.unwrap_or((false, now));
        Ok(Interval::Closed { has_records, quiet_until })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    use super::*;
    use crate::source::{InputPlan, InputPosition};

    /// The times of records in one partition, all of them there; batches wait for nothing.
    struct Records(Mutex<Vec<i64>>);

    impl Input for Records {
        fn uid(&self) -> &str {
            "records"
        }
        fn start(&self, _: Option<&InputPosition>, _: Option<Time>) -> Result<()> {
            Ok(())
        }
        fn plan(&self, _: Time) -> Result<InputPlan> {
            Err(Error::internal("not planned here"))
        }
        fn begin(&self, _: Time, _: &InputPlan) -> Result<()> {
            Ok(())
        }
        fn by_time(&self) -> Option<&dyn SlicedByTime> {
            Some(self)
        }
    }

    impl SlicedByTime for Records {
        fn first(&self, _: Time) -> Result<Option<Time>> {
            Ok(self.0.lock().first().copied().map(Time::from_millis))
        }

        /// A batch that has records is the next one to run: they are taken.
        fn look(&self, time: Time, now: Time) -> Result<Interval> {
            let mut records = self.0.lock();
            let before = records.len();
            records.retain(|at| *at >= time.as_millis());
            let quiet_until = records.first().map_or(now, |at| Time::from_millis(*at));
            Ok(Interval::Closed { has_records: records.len() < before, quiet_until })
        }
    }

    const HOUR: i64 = 3_600;

    /// A clock that stands still, and says when it is waited for.
    struct Standing {
        now: Time,
        waited_for: AtomicBool,
    }

    impl Clock for Standing {
        fn now(&self) -> Time {
            self.now
        }
        fn wait_until(&self, time: Time, _: &dyn Fn() -> bool) {
            self.waited_for.store(time > self.now, Ordering::Relaxed);
        }
        fn wake(&self) {}
    }

    fn intervals(now: i64, inputs: &[&[i64]]) -> (Intervals, Arc<Standing>) {
        let records =
            |at: &&[i64]| Arc::new(Records(Mutex::new(at.iter().map(|at| at * 1_000).collect()))) as _;
        let inputs = inputs.iter().map(records).collect();
        let clock = Arc::new(Standing { now: t(now), waited_for: AtomicBool::new(false) });
        (Intervals::of(inputs, clock.clone(), Duration::seconds(10)).unwrap().unwrap(), clock)
    }

    fn t(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    /// The batches that are run until the clock's time, and those that were skipped; `due` says what else there is to do.
    fn run(
        (intervals, clock): &(Intervals, Arc<Standing>),
        due: impl Fn(Time) -> Option<Time>,
    ) -> (Vec<i64>, Vec<i64>) {
        let (mut batches, skipped) = (Vec::new(), RefCell::new(Vec::new()));
        let mut from = intervals.first().unwrap();
        let seconds = |time: Time| time.as_millis() / 1_000;
        let stopping = || clock.waited_for.load(Ordering::Relaxed);
        let skip = |time| skipped.borrow_mut().push(seconds(time));
        while let Some(time) = intervals.next(from, due(from - intervals.interval), &stopping, &skip).unwrap()
        {
            batches.push(seconds(time));
            from = time + intervals.interval;
        }
        (batches, skipped.into_inner())
    }

    #[test]
    fn intervals_with_records_are_run_and_others_are_skipped() {
        let two = intervals(200, &[&[31, 39, 40, 105], &[33, 107, 120]]);
        let (batches, skipped) = run(&two, |_| None);
        assert_eq!(batches, [40, 50, 110, 130]);
        // What follows is looked for once, not interval by interval.
        assert_eq!(skipped, [60, 120, 140]);
    }

    #[test]
    fn only_an_interval_with_records_is_known_to_be_the_next_whatever_the_state_is() {
        let (one, _) = intervals(100, &[&[31, 39, 52]]);
        let next = |from: i64| one.next_with_records(t(from), &|| false).unwrap();
        assert_eq!(next(40), Some(t(40)));
        // Nothing is there: the state may have something to do.
        assert_eq!(next(50), None);
        // It has not come yet.
        assert_eq!(next(110), None);
        assert_eq!(one.next_with_records(t(60), &|| true).unwrap(), None);
        assert_eq!(next(60), Some(t(60)));
    }

    #[test]
    fn what_is_due_is_run_without_records() {
        let one = intervals(100, &[&[5, 71]]);
        // Something at 32 after the first batch, and no more.
        let (batches, _) = run(&one, |after| (after <= t(10)).then_some(t(32)));
        assert_eq!(batches, [10, 40, 80]);
        let one = intervals(60, &[&[5]]);
        assert_eq!(run(&one, Some).0, [10, 20, 30, 40, 50, 60]);
    }

    #[test]
    fn one_interval_a_day_is_run_whatever_is_in_it() {
        let day = 24 * HOUR;
        let one = intervals(2 * day + HOUR, &[&[HOUR, 2 * day + 5]]);
        assert_eq!(run(&one, |_| None).0, [HOUR + 10, day, 2 * day, 2 * day + 10]);
    }

    #[test]
    fn without_records_the_first_batch_is_that_of_now() {
        assert_eq!(intervals(55, &[&[], &[]]).0.first().unwrap(), t(60));
        assert_eq!(intervals(55, &[&[], &[20]]).0.first().unwrap(), t(30));
        // A first record that is ahead of the clock does not lead it.
        assert_eq!(intervals(55, &[&[62]]).0.first().unwrap(), t(60));
    }
}
