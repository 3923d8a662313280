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

/// Batches that are due, oldest first.
#[derive(Default)]
pub(crate) struct BatchQueue {
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Default)]
struct Due {
    batches: VecDeque<(Time, Time)>,
    closed: bool,
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
        loop {
            match due.batches.pop_front() {
                Some((time, submitted)) => {
                    return Some(DueBatch { time, submitted, waiting: due.batches.len() });
                }
                None if due.closed => return None,
                None => self.changed.wait(&mut due),
            }
        }
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
