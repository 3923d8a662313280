//! For tests of streaming programs: batches in, the clock moved by hand, batches out; no broker, no sleeping.
//!
//! # One operator, one line
//!
//! [`run_batches`] runs a program over a table of batches, one second each, and gives what comes out. Put the operators
//! of your program in a function from stream to stream, and test that.
//!
//! ```
//! use tidemill::testing::{assert_batches, run_batches};
//! use tidemill::{DStream, Duration, Result};
//!
//! fn last_two_seconds(words: &DStream<&'static str>) -> Result<DStream<usize>> {
//!     Ok(words.map(str::len).window(Duration::seconds(2), Duration::seconds(1))?)
//! }
//!
//! let out = run_batches(vec![vec!["tide"], vec![], vec!["a", "mill"]], |words| last_two_seconds(words).unwrap());
//! assert_batches(&out.unwrap(), [vec![4], vec![4], vec![1, 4]]);
//! ```
//!
//! [`run_batches_sorted`] is for what leaves a shuffle, [`run_batches2`] for programs of two inputs. [`assert_batches`] shows which
//! batches differ.
//!
//! # A whole program
//!
//! A [`TestContext`] has a [`StreamingContext`] on a clock that stands still. It takes any number of
//! [inputs](TestContext::input), whose batches may have several [partitions](TestContext::input_partitions), batch intervals other than
//! a second, and settings of your own. Run it [to the end](TestContext::run), or [batch by batch](TestContext::step), and look
//! at what was [collected](TestContext::collect) and [announced](TestContext::completed_batches).
//!
//! ```
//! use tidemill::testing::TestContext;
//! use tidemill::{Duration, StateSpec};
//!
//! # fn main() -> tidemill::Result<()> {
//! let test = TestContext::with_interval("totals", Duration::millis(500))?;
//! let clicks = test.input_partitions([vec![vec![("ann", 1)], vec![("bob", 2), ("ann", 3)]], vec![]]);
//! let corrections = test.input([vec![], vec![("bob", -1)]]);
//! let totals = clicks.union(&corrections)?.map(|(name, n)| (name.to_owned(), n)).map_with_state(StateSpec::function(
//!     |name: &String, n: Option<i64>, total: &mut tidemill::State<i64>| {
//!         total.update(total.get_option().unwrap_or(&0) + n.unwrap_or(0));
//!         Some(format!("{name}: {}", total.get()))
//!     },
//! ));
//! let output = test.collect(&totals);
//! test.ssc.start()?;
//! test.step()?;
//! output.sorted().assert_batches([vec!["ann: 1", "ann: 4", "bob: 2"]]);
//! test.step()?;
//! output.sorted().assert_batches([vec!["ann: 1", "ann: 4", "bob: 2"], vec!["bob: 1"]]);
//! test.ssc.stop(true)?;
//! assert_eq!(test.completed_batches()[1].batch_time.as_millis(), 1_000);
//! assert_eq!(test.completed_batches()[0].num_records, 3);
//! # Ok(()) }
//! ```
//!
//! # Stops and crashes
//!
//! In a table of [`Row`]s, the program may be restarted, or killed, between batches. [`run_with_restarts`] starts it again from
//! its checkpoint each time. Whatever the rows, the output should be the same as without them.
//!
//! ```
//! use tidemill::testing::{Row, assert_batches, run_with_restarts};
//!
//! let rows = vec![Row::Batch(vec![1, 2]), Row::Restart, Row::Batch(vec![3]), Row::Crash, Row::Batch(vec![4])];
//! let out = run_with_restarts(rows, |numbers| {
//!     numbers.map(|n| ((), n)).update_state_by_key(|new, sum| Some(sum.unwrap_or(0) + new.iter().sum::<i32>()))
//! });
//! assert_batches(&out.unwrap(), [vec![((), 3)], vec![((), 6)], vec![((), 10)]]);
//! ```
//!
//! For programs with several inputs or settings, do the same by hand: [`step_and_crash`](TestContext::step_and_crash) or
//! [`crash`](TestContext::crash), then another [`TestContext::from_builder`] with the same checkpoint and the same inputs.

mod collected;
mod restarts;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

pub use collected::{Batches, Collected, assert_batches};
pub use restarts::{Row, run_with_restarts};
pub use run::{run_batches, run_batches_sorted, run_batches2, run_batches2_sorted};

use crate::batch::{BatchInfo, OutputOperationInfo, StreamingListener};
use crate::context::{ContextState, StreamingContext};
use crate::dstream::DStream;
use crate::error::{Error, Result};
use crate::rdd::Data;
use crate::source::RddQueue;
use crate::time::{Clock as _, Duration, ManualClock, Time};

/// A context on a clock that stands still, with what it takes to run its batches one by one.
pub struct TestContext {
    /// The context.
    pub ssc: StreamingContext,
    /// Its clock.
    pub clock: ManualClock,
    told: Arc<Told>,
    crash: Arc<Crash>,
}

/// Whether the next batch crashes.
#[derive(Default)]
struct Crash {
    armed: AtomicBool,
    happened: AtomicBool,
}

impl TestContext {
    /// A context with batches of one second, in memory, on two threads, at time zero.
    ///
    /// # Errors
    /// If `app_name` is no name for a consumer group.
    pub fn new(app_name: &str) -> Result<Self> {
        Self::with_interval(app_name, Duration::seconds(1))
    }

    /// As [`new`](TestContext::new), with batches of `interval`.
    ///
    /// # Errors
    /// If `app_name` is no name for a consumer group, or `interval` is below a millisecond.
    pub fn with_interval(app_name: &str, interval: impl Into<Duration>) -> Result<Self> {
        let builder = StreamingContext::builder(app_name).batch_interval(interval).worker_threads(2);
        Self::from_builder(builder, Time::ZERO)
    }

    /// A context with settings of one's own, a checkpoint for example; its clock shows `now`.
    ///
    /// # Errors
    /// As [`build`](crate::StreamingContextBuilder::build).
    pub fn from_builder(builder: crate::StreamingContextBuilder, now: Time) -> Result<Self> {
        let clock = ManualClock::new(now);
        let ssc = builder.clock(clock.clone()).build()?;
        let told = Arc::new(Told::default());
        ssc.inner.listeners.add_own(told.clone());
        Ok(Self { ssc, clock, told, crash: Arc::default() })
    }

    /// A stream of `batches`, each in one partition, and of empty batches after them. A context that goes on from a checkpoint
    /// skips those that the one before has committed, so give it all of them.
    pub fn input<T: Data>(&self, batches: impl IntoIterator<Item = Vec<T>>) -> DStream<T> {
        self.input_partitions(batches.into_iter().map(|batch| vec![batch]))
    }

    /// As [`input`](TestContext::input), each batch in the partitions that are given.
    pub fn input_partitions<T: Data>(&self, batches: impl IntoIterator<Item = Vec<Vec<T>>>) -> DStream<T> {
        let queue = RddQueue::new();
        batches.into_iter().for_each(|partitions| queue.push_partitions(partitions));
        self.ssc.queue_stream(&queue)
    }

    /// Collects what `stream` gives, with the batch times. A batch that is run again replaces what it gave before, as in
    /// an output that is written by batch time.
    pub fn collect<T: Data>(&self, stream: &DStream<T>) -> Collected<T> {
        let collected = Collected::default();
        let (batches, crash) = (collected.shared(), self.crash.clone());
        stream.foreach_rdd_with_time(move |rdd, time| {
            let elements = rdd.collect()?;
            collected::put(&batches, time, elements);
            if crash.armed.load(Ordering::Relaxed) {
                crash.happened.store(true, Ordering::Relaxed);
                return Err(Error::internal("the test crashed the program"));
            }
            Ok(())
        });
        collected
    }

    /// Starts the context if it is not active, lets `batches` batches pass, and stops it.
    ///
    /// # Errors
    /// If it cannot be started, or a batch fails.
    pub fn run(&self, batches: usize) -> Result<()> {
        self.ssc.start()?;
        for _ in 0..batches {
            self.step()?;
        }
        self.ssc.stop(true)
    }

    /// Moves the clock on by one batch interval, and waits until the batch that is due then has completed, and listeners have
    /// heard of it.
    ///
    /// # Errors
    /// If the batch fails, or the context is not active.
    pub fn step(&self) -> Result<()> {
        let interval = self.ssc.batch_interval();
        let due = self.clock.now().floor(interval) + interval;
        self.clock.set(due);
        self.wait_for(due)
    }

    /// Waits until the batch `time` has completed.
    fn wait_for(&self, time: Time) -> Result<()> {
        let is_active = || self.ssc.state() == ContextState::Active;
        match self.told.wait_for(time, is_active) {
            Waited::Completed => {
                self.ssc.inner.listeners.flush();
                Ok(())
            }
            Waited::Failed => self.ssc.await_termination(),
            Waited::Inactive => {
                // A context that ended by a failure tells that.
                self.ssc.inner.lifecycle.failure()?;
                Err(Error::usage(format!(
                    "batch {time} will not come: the context is not active; call `start` before a step, and none after `stop`"
                )))
            }
        }
    }

    /// As [`step`](TestContext::step), but the program is killed in that batch, after its output operations, before anything is
    /// committed. The next context with the same checkpoint runs the batch again as soon as it starts.
    ///
    /// # Errors
    /// If the batch fails by itself, or nothing is [collected](TestContext::collect), which is where a crash comes in.
    pub fn step_and_crash(&self) -> Result<()> {
        self.crash.armed.store(true, Ordering::Relaxed);
        self.ssc.inner.lifecycle.abandon();
        let outcome = self.step();
        if self.crash.happened.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.crash()?;
        outcome.and(Err(Error::usage("no stream of this batch is collected, and only that can crash")))
    }

    /// Ends the program as a kill between two batches does: batches that are due are not run, and the outside is told nothing
    /// more. What was committed is in the checkpoint, which another context may open once all handles to this one are dropped.
    ///
    /// # Errors
    /// If a batch had failed.
    pub fn crash(&self) -> Result<()> {
        self.ssc.inner.lifecycle.abandon();
        self.ssc.stop(false)
    }

    /// What was announced of the batches that have started so far, at their start.
    pub fn started_batches(&self) -> Vec<BatchInfo> {
        self.told.0.lock().started.clone()
    }

    /// What was announced of the batches that have completed so far.
    pub fn completed_batches(&self) -> Vec<BatchInfo> {
        self.told.0.lock().completed.clone()
    }

    /// What was announced of the output operations that have completed so far, those of a running batch included.
    pub fn completed_output_operations(&self) -> Vec<OutputOperationInfo> {
        self.told.0.lock().operations.clone()
    }
}

/// What has been announced.
#[derive(Default)]
struct Told(Mutex<Announced>, Condvar);

#[derive(Default)]
struct Announced {
    started: Vec<BatchInfo>,
    completed: Vec<BatchInfo>,
    /// The last batch time at which there was nothing to do.
    skipped: Option<Time>,
    operations: Vec<OutputOperationInfo>,
}

/// What became of a batch that was waited for.
enum Waited {
    Completed,
    Failed,
    /// It will not come.
    Inactive,
}

impl Told {
    fn wait_for(&self, time: Time, is_active: impl Fn() -> bool) -> Waited {
        /// How often to look whether the context has ended meanwhile, which nobody announces.
        const LOOK: std::time::Duration = std::time::Duration::from_millis(50);
        let mut announced = self.0.lock();
        loop {
            if announced.completed.iter().any(|b| b.failure.is_some()) {
                return Waited::Failed;
            }
            let completed = announced.completed.iter().any(|b| b.batch_time >= time);
            if completed || announced.skipped.is_some_and(|skipped| skipped >= time) {
                return Waited::Completed;
            }
            if !is_active() {
                return Waited::Inactive;
            }
            self.1.wait_for(&mut announced, LOOK);
        }
    }
}

impl StreamingListener for Told {
    fn batch_skipped(&self, time: Time) {
        self.0.lock().skipped = Some(time);
        self.1.notify_all();
    }

    fn batch_started(&self, batch: &BatchInfo, _: usize) {
        self.0.lock().started.push(batch.clone());
    }

    fn output_operation_completed(&self, operation: &OutputOperationInfo) {
        self.0.lock().operations.push(operation.clone());
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        self.0.lock().completed.push(batch.clone());
        self.1.notify_all();
    }
}
