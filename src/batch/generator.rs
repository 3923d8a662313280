//! The job generator: a batch is due at every whole multiple of the batch interval.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::time::{Clock, Duration, Time};

/// A batch whose turn it is.
pub(crate) struct DueBatch {
    pub time: Time,
    pub submitted: Time,
    /// How many wait behind it.
    pub waiting: usize,
}

/// Where the scheduler gets its batches from.
pub(crate) trait Due {
    /// The next batch, once it is due; none at the end.
    fn next(&mut self) -> Result<Option<DueBatch>>;

    /// The next batch, if it is due already.
    fn next_now(&mut self) -> Option<DueBatch> {
        None
    }
}

impl<F: FnMut() -> Result<Option<DueBatch>>> Due for F {
    fn next(&mut self) -> Result<Option<DueBatch>> {
        self()
    }
}

/// Batches that are due, oldest first.
#[derive(Default)]
pub(crate) struct BatchQueue {
    due: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<(Time, Time)>,
    closed: bool,
}

impl Waiting {
    fn pop(&mut self) -> Option<DueBatch> {
        let (time, submitted) = self.batches.pop_front()?;
        Some(DueBatch { time, submitted, waiting: self.batches.len() })
    }
}

impl BatchQueue {
    /// Adds the batch `time`, submitted `now`, unless the queue is closed.
    pub fn push(&self, time: Time, now: Time) {
        let mut due = self.due.lock();
        if !due.closed {
            due.batches.push_back((time, now));
            self.changed.notify_all();
        }
    }

    /// The next batch; waits for one, and gives none once closed and empty.
    pub fn pop(&self) -> Option<DueBatch> {
        let mut due = self.due.lock();
        while due.batches.is_empty() && !due.closed {
            self.changed.wait(&mut due);
        }
        due.pop()
    }

    /// The next batch, if one is due.
    pub fn pop_now(&self) -> Option<DueBatch> {
        self.due.lock().pop()
    }

    pub fn waiting(&self) -> usize {
        self.due.lock().batches.len()
    }

    /// No more batches will come; those that wait are dropped if `drop_waiting`.
    pub fn close(&self, drop_waiting: bool) {
        let mut due = self.due.lock();
        due.closed = true;
        if drop_waiting {
            due.batches.clear();
        }
        self.changed.notify_all();
    }
}

/// How far the clock may be behind the last batch before that is an error.
pub(crate) const CLOCK_PATIENCE: Duration = Duration::minutes(1);

/// Calls `submit` with each batch time when it comes, from `first` on, until `stopping`.
///
/// # Errors
/// If the clock is set back by more than can be waited for: no batch would come until it is where it was.
pub(crate) fn generate(
    clock: &dyn Clock,
    first: Time,
    interval: Duration,
    stopping: &dyn Fn() -> bool,
    mut submit: impl FnMut(Time),
) -> Result<()> {
    let mut next = first;
    let mut last: Option<Time> = None;
    loop {
        if let Some(last) = last
            && last - clock.now() > CLOCK_PATIENCE
        {
            return Err(Error::checkpoint(format!(
                "the clock was set back: it is {} behind the last batch ({last}), and batch times only grow; set the clock \
                 right",
                last - clock.now()
            )));
        }
        clock.wait_until(next, stopping);
        // Ticks that were due before the stop are let happen; the scheduler decides what becomes of them.
        if clock.now() < next {
            if stopping() {
                return Ok(());
            }
            // It was set back meanwhile.
            continue;
        }
        submit(next);
        last = Some(next);
        next = next + interval;
        if stopping() && clock.now() < next {
            return Ok(());
        }
    }
}
