//! For tests of streaming programs: batches in, the clock moved by hand, batches out; no broker, no sleeping.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::batch::{BatchInfo, StreamingListener};
use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::error::Result;
use crate::rdd::Data;
use crate::source::RddQueue;
use crate::time::{Duration, ManualClock, Time};

/// Runs `program` over `batches`, one second each, from time zero on, and gives the elements of each
/// of its batches; batches for which it has no RDD are left out.
///
/// # Errors
/// If a batch fails.
pub fn run_batches<T: Data, U: Data>(
    batches: Vec<Vec<T>>,
    program: impl FnOnce(&DStream<T>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    let test = TestContext::new("test")?;
    let queue = RddQueue::new();
    let count = batches.len();
    batches.into_iter().for_each(|batch| queue.push(batch));
    let output = test.collect(&program(&test.ssc.queue_stream(&queue)));
    test.run(count)?;
    Ok(output.take().into_iter().map(|(_, elements)| elements).collect())
}

/// As [`run_batches`], each batch's elements sorted: for what a shuffle leaves in no order worth naming.
///
/// # Errors
/// If a batch fails.
pub fn run_batches_sorted<T: Data, U: Data + Ord>(
    batches: Vec<Vec<T>>,
    program: impl FnOnce(&DStream<T>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    let mut output = run_batches(batches, program)?;
    output.iter_mut().for_each(|batch| batch.sort());
    Ok(output)
}

/// A context on a clock that stands still, with what it takes to run its batches one by one.
pub struct TestContext {
    /// The context.
    pub ssc: StreamingContext,
    /// Its clock.
    pub clock: ManualClock,
    completed: Arc<Completed>,
}

impl TestContext {
    /// A context with batches of one second, in memory, on two threads, at time zero.
    ///
    /// # Errors
    /// If `app_name` is no name for a consumer group.
    pub fn new(app_name: &str) -> Result<Self> {
        let builder =
            StreamingContext::builder(app_name).batch_interval(Duration::seconds(1)).worker_threads(2);
        Self::from_builder(builder, Time::ZERO)
    }

    /// A context with settings of one's own; its clock shows `now`.
    ///
    /// # Errors
    /// As [`build`](crate::StreamingContextBuilder::build).
    pub fn from_builder(builder: crate::StreamingContextBuilder, now: Time) -> Result<Self> {
        let clock = ManualClock::new(now);
        let ssc = builder.clock(clock.clone()).build()?;
        let completed = Arc::new(Completed::default());
        ssc.add_streaming_listener(completed.clone());
        Ok(Self { ssc, clock, completed })
    }

    /// Collects what `stream` gives, with the batch times.
    pub fn collect<T: Data>(&self, stream: &DStream<T>) -> Collected<T> {
        let collected = Collected(Arc::default());
        let batches = collected.0.clone();
        stream.foreach_rdd_with_time(move |rdd, time| -> Result<()> {
            let elements = rdd.collect()?;
            batches.lock().push((time, elements));
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

    /// Moves the clock on by one batch interval, and waits until the batch that is due then has completed.
    ///
    /// # Errors
    /// If the batch fails.
    pub fn step(&self) -> Result<()> {
        let interval = self.ssc.batch_interval();
        let due = self.clock_now().floor(interval) + interval;
        self.clock.set(due);
        if self.completed.wait_for(due) { Ok(()) } else { self.ssc.await_termination() }
    }

    fn clock_now(&self) -> Time {
        use crate::time::Clock as _;
        self.clock.now()
    }

    /// What was announced of the batches so far.
    pub fn completed_batches(&self) -> Vec<BatchInfo> {
        self.completed.batches.lock().clone()
    }
}

/// The batches that a stream gave.
pub struct Collected<T>(Arc<Mutex<Batches<T>>>);

type Batches<T> = Vec<(Time, Vec<T>)>;

impl<T> Collected<T> {
    /// Takes the batches collected so far.
    pub fn take(&self) -> Vec<(Time, Vec<T>)> {
        std::mem::take(&mut self.0.lock())
    }
}

#[derive(Default)]
struct Completed {
    batches: Mutex<Vec<BatchInfo>>,
    changed: Condvar,
}

impl Completed {
    /// Waits for the batch `time`; false if a batch failed.
    fn wait_for(&self, time: Time) -> bool {
        let mut batches = self.batches.lock();
        loop {
            if batches.iter().any(|b| b.failure.is_some()) {
                return false;
            }
            if batches.iter().any(|b| b.batch_time >= time) {
                return true;
            }
            self.changed.wait(&mut batches);
        }
    }
}

impl StreamingListener for Completed {
    fn batch_completed(&self, batch: &BatchInfo) {
        self.batches.lock().push(batch.clone());
        self.changed.notify_all();
    }
}
