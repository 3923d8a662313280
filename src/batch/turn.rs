//! The turn: a batch may change state and hand over output once the one before it is committed.
//!
//! A batch that runs ahead reads and works meanwhile, up to the first thing that is not its to do yet. Whoever does such a
//! thing waits for the turn first: the tasks of stateful operators before they look at the state, sinks before they take
//! anything.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::time::Stopwatch;

#[derive(Default)]
pub(crate) struct Turn {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    holder: Holder,
    /// Since when somebody waits.
    waiting: Option<Stopwatch>,
    /// How long somebody has waited, since that was asked last.
    waited: Duration,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Holder {
    /// The running batch.
    #[default]
    Running,
    /// The batch before it, which is being committed.
    Before,
    /// Nobody: the batch before was not committed, and the running one is to be given up.
    Lost,
}

impl Turn {
    /// From now on the turn is that of a batch which is being committed, until what this returns tells how that ended. If it
    /// is dropped, it was not committed.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.pass_to(Holder::Before);
        Held(self.clone(), Holder::Lost)
    }

    /// The running batch has the turn, whatever became of the one before.
    pub fn reset(&self) {
        self.pass_to(Holder::Running);
    }

    fn pass_to(&self, holder: Holder) {
        let mut now = self.now.lock();
        now.holder = holder;
        if holder != Holder::Before
            && let Some(waiting) = now.waiting.take()
        {
            now.waited += waiting.elapsed();
        }
        self.changed.notify_all();
    }

    /// Waits until the running batch has the turn.
    ///
    /// # Errors
    /// `Unavailable` if the batch before was not committed: the running one has to begin again.
    pub fn wait(&self) -> Result<()> {
        let mut now = self.now.lock();
        while now.holder == Holder::Before {
            now.waiting.get_or_insert_with(Stopwatch::start);
            self.changed.wait(&mut now);
        }
        match now.holder {
            Holder::Lost => Err(Error::unavailable("the batch before this one was not committed")),
            _ => Ok(()),
        }
    }

    /// Whether the running batch has to be given up.
    pub fn is_lost(&self) -> bool {
        self.now.lock().holder == Holder::Lost
    }

    /// How long the running batch could do nothing but wait.
    pub fn take_waited(&self) -> Duration {
        std::mem::take(&mut self.now.lock().waited)
    }
}

/// The turn of a batch that is being committed.
pub(crate) struct Held(Arc<Turn>, Holder);

impl Held {
    /// It is committed: the turn is the next batch's.
    pub fn committed(mut self) {
        self.1 = Holder::Running;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.pass_to(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Until somebody waits for it.
    fn wait_for_waiter(turn: &Turn) {
        while turn.now.lock().waiting.is_none() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_running_batch_goes_on_once_the_one_before_is_committed() {
        let turn = Arc::new(Turn::default());
        turn.wait().unwrap();
        let held = turn.hold();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turn.wait());
            wait_for_waiter(&turn);
            assert!(!waiting.is_finished());
            held.committed();
            waiting.join().unwrap().unwrap();
        });
        turn.wait().unwrap();
        assert!(!turn.is_lost());
    }

    #[test]
    fn the_running_batch_is_given_up_if_the_one_before_was_not_committed() {
        let turn = Arc::new(Turn::default());
        let held = turn.hold();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turn.wait());
            wait_for_waiter(&turn);
            drop(held);
            assert!(waiting.join().unwrap().is_err());
        });
        // Whoever comes later is told the same, until all begins again.
        assert!(turn.is_lost() && turn.wait().is_err());
        turn.reset();
        turn.wait().unwrap();
    }
}
