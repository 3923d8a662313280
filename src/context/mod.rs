//! [`StreamingContext`]: its settings, its life cycle, and the graph of operators.

mod backlog;
mod builder;
mod due;
mod graph;
mod inputs;
mod lifecycle;
mod rdds;
mod recoverable;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

pub use builder::StreamingContextBuilder;
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "the streaming page asks for it"))]
pub(crate) use graph::OperatorInfo;
pub(crate) use graph::{BatchTimes, Graph, OutputOperation, Retained, Stateful};
pub use lifecycle::ContextState;
use lifecycle::Lifecycle;

use crate::batch::{Backpressure, ListenerBus, StreamingListener};
use crate::commit::{Delivery, OffsetsFrom};
use crate::dstream::DStream;
use crate::error::Result;
use crate::rdd::{Data, HashPartitioner, Runner};
use crate::source::{QueueInput, RddQueue, ReceiverSettings};
use crate::state::StateDb;
use crate::time::{Clock, Duration};

/// The entry point (Spark's `StreamingContext`): makes input streams, starts and stops the batches.
///
/// A handle: clones are the same context. It goes from *initialized* to *active* by
/// [`start`](StreamingContext::start) and to *stopped* by [`stop`](StreamingContext::stop) or a failed
/// batch, and never back. Several contexts may be active in one process.
///
/// ```
/// use tidemill::{Duration, ManualClock, RddQueue, StreamingContext, Time};
///
/// # fn main() -> tidemill::Result<()> {
/// let clock = ManualClock::new(Time::ZERO);
/// let ssc = StreamingContext::builder("squares").batch_interval(Duration::seconds(1)).clock(clock.clone()).build()?;
/// let numbers = RddQueue::new();
/// numbers.push([1, 2, 3]);
/// ssc.queue_stream(&numbers).map(|n| n * n).print();
/// ssc.start()?;
/// clock.advance(Duration::seconds(1));
/// ssc.stop(true)
/// # }
/// ```
#[derive(Clone)]
pub struct StreamingContext {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub settings: Settings,
    pub graph: Arc<Graph>,
    pub runner: Arc<Runner>,
    pub clock: Arc<dyn Clock>,
    pub listeners: Arc<ListenerBus>,
    pub db: Option<Arc<StateDb>>,
    pub lifecycle: Lifecycle,
    #[cfg(feature = "sql")]
    pub sql_session: std::sync::OnceLock<crate::sql::SqlSession>,
}

pub(crate) struct Settings {
    pub app_name: String,
    pub batch_interval: Duration,
    pub checkpoint: Option<PathBuf>,
    pub delivery: Delivery,
    pub offsets: Option<OffsetsFrom>,
    pub state_partitions: usize,
    pub state_memory_limit: usize,
    pub receivers: ReceiverSettings,
    pub backpressure: Backpressure,
    /// Uids whose state may be dropped.
    pub removed_state: BTreeSet<String>,
}

impl StreamingContext {
    /// Settings for a context of the application `app_name`, which is the consumer group and the
    /// prefix of all ids. Changing it means a new application.
    pub fn builder(app_name: impl Into<String>) -> StreamingContextBuilder {
        StreamingContextBuilder::new(app_name.into())
    }

    /// The application's name.
    pub fn app_name(&self) -> &str {
        &self.inner.settings.app_name
    }

    /// How far apart batch times are.
    pub fn batch_interval(&self) -> Duration {
        self.inner.settings.batch_interval
    }

    /// Where the context is in its life.
    pub fn state(&self) -> ContextState {
        self.inner.lifecycle.state()
    }

    /// The clock that batch times come from.
    pub fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// Has `listener` told what happens from now on, after those that were added before it.
    pub fn add_streaming_listener(&self, listener: Arc<dyn StreamingListener>) {
        self.inner.listeners.add(listener);
    }

    /// Has `listener` told nothing more, not even what happened already and has not reached it yet. It may still be in
    /// the middle of an event. Gives false if it was not there; one that was added twice must be removed twice.
    pub fn remove_streaming_listener<L: StreamingListener + ?Sized>(&self, listener: &Arc<L>) -> bool {
        self.inner.listeners.remove(Arc::as_ptr(listener).cast())
    }

    /// How many events were dropped so far because listeners were too slow for them.
    pub fn dropped_listener_events(&self) -> u64 {
        self.inner.listeners.dropped()
    }

    /// A stream that takes one RDD of `queue` per batch, and gives empty batches once the queue is exhausted.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// use tidemill::{RddQueue, testing::TestContext};
    /// let (test, queue) = (TestContext::new("queue")?, RddQueue::new());
    /// queue.push([1, 2]);
    /// queue.push_partitions([vec![3], vec![4]]);
    /// let numbers = test.collect(&test.ssc.queue_stream(&queue));
    /// test.run(3)?;
    /// assert_eq!(numbers.batches().into_vec(), [vec![1, 2], vec![3, 4], vec![]]);
    /// # Ok(()) }
    /// ```
    pub fn queue_stream<T: Data>(&self, queue: &RddQueue<T>) -> DStream<T> {
        self.queue_input(queue, true, Vec::new())
    }

    /// A stream that takes all RDDs that are in `queue` when a batch begins; if there are none, the batch is empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// use tidemill::{RddQueue, testing::TestContext};
    /// let (test, queue) = (TestContext::new("queue")?, RddQueue::new());
    /// queue.push([1, 2]);
    /// queue.push([3]);
    /// let numbers = test.collect(&test.ssc.queue_stream_all(&queue));
    /// test.run(2)?;
    /// assert_eq!(numbers.batches().into_vec(), [vec![1, 2, 3], vec![]]);
    /// # Ok(()) }
    /// ```
    pub fn queue_stream_all<T: Data>(&self, queue: &RddQueue<T>) -> DStream<T> {
        self.queue_input(queue, false, Vec::new())
    }

    fn queue_input<T: Data>(&self, queue: &RddQueue<T>, one_at_a_time: bool, default: Vec<T>) -> DStream<T> {
        let uid = self.inner.graph.next_uid("queue_stream");
        let input = Arc::new(QueueInput::new(
            uid,
            queue.clone(),
            one_at_a_time,
            default,
            self.batch_interval(),
            self.inner.runner.clone(),
        ));
        self.inner.lifecycle.admit("queue_stream", || self.inner.graph.add_input(input.clone()));
        DStream::from_input(self, "queue_stream", input)
    }

    /// Has every stream that an output operation reads remember its RDDs for `duration`, so that
    /// [`slice`](DStream::slice) can give them: as [`DStream::remember`] on each. Without it a stream forgets an RDD when
    /// its batch is over. The longest of all wishes counts.
    pub fn remember(&self, duration: impl Into<Duration>) {
        let duration = duration.into();
        self.inner.lifecycle.admit("remember", || self.inner.graph.remember(duration));
    }

    /// The partitioner of shuffles that name no other: over the context's state partitions.
    pub(crate) fn default_partitioner(&self) -> HashPartitioner {
        HashPartitioner::new(self.inner.settings.state_partitions)
    }

    /// Starts the batches. A second call while active does nothing.
    ///
    /// # Errors
    /// If the context was stopped before, has no output operation, an operator was made with wrong
    /// arguments, an input or output cannot be reached, or the checkpoint does not fit.
    pub fn start(&self) -> Result<()> {
        lifecycle::start(self)
    }

    /// Stops: the running batch is finished and committed. `gracefully` lets the batches that are due
    /// run too; otherwise they are dropped. Does nothing on a context that is stopped already.
    ///
    /// However long batches take to compute, something outside that does not answer (a broker that is away) is
    /// waited for no longer than 20 seconds from this call. The batch that waits fails then; the next start runs it
    /// again, or finds it committed.
    ///
    /// # Errors
    /// If a batch failed, or the last offsets could not be committed.
    pub fn stop(&self, gracefully: bool) -> Result<()> {
        let outcome = lifecycle::stop(self, gracefully);
        if self.state() == ContextState::Stopped {
            self.inner.listeners.close();
        }
        outcome
    }

    /// Gives up whatever waits for something outside: a broker, a topic, records. The context ends with an error.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "the service is its user"))]
    pub(crate) fn cancel(&self) {
        self.inner.runner.cancel();
    }

    /// Waits until the context has stopped.
    ///
    /// # Errors
    /// The failure that stopped it; and if a batch calls this, which would wait for itself.
    pub fn await_termination(&self) -> Result<()> {
        lifecycle::refuse_inside_a_batch(self, "await")?;
        let outcome = self.inner.lifecycle.wait(None);
        self.inner.listeners.close();
        outcome.map(|_| ())
    }

    /// Waits until the context has stopped, at most `timeout`; tells whether it has.
    ///
    /// # Errors
    /// The failure that stopped it; and if a batch calls this, which would wait for itself.
    pub fn await_termination_or_timeout(&self, timeout: impl Into<Duration>) -> Result<bool> {
        lifecycle::refuse_inside_a_batch(self, "await")?;
        let outcome = self.inner.lifecycle.wait(Some(timeout.into()));
        if !matches!(outcome, Ok(false)) {
            self.inner.listeners.close();
        }
        outcome
    }
}
