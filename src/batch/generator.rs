//! The job generator: a batch is due at every whole multiple of the batch interval.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

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

/// Calls `submit` with each batch time when it comes, from `first` on, until `stopping`.
pub(crate) fn generate(
    clock: &dyn Clock,
    first: Time,
    interval: Duration,
    stopping: &dyn Fn() -> bool,
    mut submit: impl FnMut(Time),
) {
    let mut next = first;
    loop {
        clock.wait_until(next, stopping);
        // Ticks that were due before the stop are let happen; the scheduler decides what becomes of them.
        if clock.now() < next {
            if stopping() {
                return;
            }
            // It was set back meanwhile.
            continue;
        }
        submit(next);
        next = next + interval;
        if stopping() && clock.now() < next {
            return;
        }
    }
}
