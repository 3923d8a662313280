//! The settings of a context.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Graph, Inner, Lifecycle, Settings, StreamingContext};
use crate::batch::{Backpressure, ListenerBus};
use crate::commit::{Delivery, OffsetsFrom};
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::source::ReceiverSettings;
use crate::state::{DEFAULT_MEMORY_LIMIT, StateDb};
use crate::time::{Clock, Duration, SystemClock};

const DEFAULT_STATE_PARTITIONS: usize = 16;
const DEFAULT_MAX_ATTEMPTS: u32 = 4;
const DEFAULT_STORAGE_MEMORY: u64 = 256 << 20;
const DEFAULT_LISTENER_QUEUE: usize = 10_000;

/// Settings of a [`StreamingContext`]; see [`StreamingContext::builder`].
pub struct StreamingContextBuilder {
    app_name: String,
    batch_interval: Duration,
    checkpoint: Option<PathBuf>,
    worker_threads: Option<usize>,
    state_partitions: usize,
    state_memory_limit: usize,
    max_attempts: u32,
    storage_memory: u64,
    pub(super) receivers: ReceiverSettings,
    backpressure: Backpressure,
    listener_queue: usize,
    clock: Arc<dyn Clock>,
    delivery: Option<Delivery>,
    offsets: Option<OffsetsFrom>,
    removed_state: BTreeSet<String>,
}

impl StreamingContextBuilder {
    pub(super) fn new(app_name: String) -> Self {
        Self {
            app_name,
            batch_interval: Duration::seconds(1),
            checkpoint: None,
            worker_threads: None,
            state_partitions: DEFAULT_STATE_PARTITIONS,
            state_memory_limit: DEFAULT_MEMORY_LIMIT,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            storage_memory: DEFAULT_STORAGE_MEMORY,
            receivers: ReceiverSettings::default(),
            backpressure: Backpressure::default(),
            listener_queue: DEFAULT_LISTENER_QUEUE,
            clock: Arc::new(SystemClock::default()),
            delivery: None,
            offsets: None,
            removed_state: BTreeSet::new(),
        }
    }

    /// How far apart batch times are; one second unless set, at least a millisecond.
    pub fn batch_interval(mut self, interval: impl Into<Duration>) -> Self {
        self.batch_interval = interval.into();
        self
    }

    /// The folder for state and offsets. Without one they are kept in memory, and lost at the end.
    pub fn checkpoint(mut self, folder: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(folder.into());
        self
    }

    /// How many threads run tasks; the number of cores unless set.
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.worker_threads = Some(threads);
        self
    }

    /// Into how many partitions keyed state is cut; 16 unless set, at most 65,536. An existing checkpoint keeps its own,
    /// which `tidemill state repartition` changes.
    pub fn state_partitions(mut self, partitions: usize) -> Self {
        self.state_partitions = partitions;
        self
    }

    /// How many bytes of memory the state of all operators may take; 256 MiB unless set. Five eighths are for the
    /// operators' caches, which share them evenly, the rest for the store below them (RocksDB), which takes at least 16 MiB. Only
    /// how fast the state is depends on it. A running batch's changes and the panes of windows come on top.
    ///
    /// Without a [checkpoint](StreamingContextBuilder::checkpoint), the store itself is in memory too, compressed.
    pub fn state_memory_limit(mut self, bytes: usize) -> Self {
        self.state_memory_limit = bytes;
        self
    }

    /// How often a failing task is tried in all before its batch fails; 4 unless set (Spark's `task.maxFailures`).
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// What output to Kafka promises; [`Delivery::ExactlyOnce`] with a checkpoint folder unless set,
    /// [`Delivery::AtLeastOnce`] without one.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// Which side to follow if the checkpoint and the consumer group contradict each other at start, because somebody moved
    /// one of them; an error that tells both positions unless set. Without a contradiction this does nothing.
    pub fn offsets(mut self, side: OffsetsFrom) -> Self {
        self.offsets = Some(side);
        self
    }

    /// How batches are kept from growing faster than they are processed; on, with Spark's numbers, unless set.
    pub fn backpressure(mut self, backpressure: Backpressure) -> Self {
        self.backpressure = backpressure;
        self
    }

    /// How many bytes of partitions that are persisted with
    /// [`StorageLevel::MemoryAndDisk`](crate::StorageLevel::MemoryAndDisk) stay in memory, in all of the context; 256 MiB
    /// unless set. Counted is what they would take on disk, which is often less than what they take in memory.
    pub fn storage_memory(mut self, bytes: u64) -> Self {
        self.storage_memory = bytes;
        self
    }

    /// How many events may wait for [listeners](crate::StreamingListener) that are slow; further ones are dropped. 10,000 unless
    /// set (Spark's `scheduler.listenerbus.eventqueue.capacity`), at least 1.
    pub fn listener_queue_capacity(mut self, events: usize) -> Self {
        self.listener_queue = events;
        self
    }

    /// The clock that batch times come from; the system's unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Allows the state of an operator that the program does not have any more to be dropped: a start that finds state
    /// under `uid` deletes it. May be called for several uids, and stay in the program: where there is none, this does
    /// nothing. State that has lost its operator and is not allowed to be dropped is an error at start; an operator that
    /// was renamed finds its state by [`DStream::was`](crate::DStream::was).
    ///
    /// To name an operator that the program has is an error at start.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("totals").remove_state("hourly-totals").build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove_state(mut self, uid: impl Into<String>) -> Self {
        self.removed_state.insert(uid.into());
        self
    }

    /// The context, in the state *initialized*.
    ///
    /// # Errors
    /// If a setting makes no sense, or the checkpoint cannot be opened.
    pub fn build(self) -> Result<StreamingContext> {
        let fits_a_group = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.app_name.is_empty() || !self.app_name.chars().all(fits_a_group) {
            return Err(Error::config(format!(
                "app name `{}` must be one or more of letters, digits, `.`, `_` and `-`: it is the consumer group's name",
                self.app_name
            )));
        }
        if self.batch_interval < Duration::millis(1) {
            return Err(Error::config(format!(
                "batch interval {} is below one millisecond",
                self.batch_interval
            )));
        }
        if !(1..=1 << 16).contains(&self.state_partitions) {
            return Err(Error::config(format!(
                "{} state partitions: expected 1 to 65,536",
                self.state_partitions
            )));
        }
        if self.worker_threads == Some(0) || self.max_attempts == 0 {
            return Err(Error::config("worker threads and attempts must be at least 1"));
        }
        let delivery = match (self.delivery, &self.checkpoint) {
            (Some(Delivery::ExactlyOnce), None) => {
                return Err(Error::config(
                    "exactly-once delivery needs a checkpoint folder: set `checkpoint`, or choose at-least-once",
                ));
            }
            (Some(delivery), _) => delivery,
            (None, Some(_)) => Delivery::ExactlyOnce,
            (None, None) => Delivery::AtLeastOnce,
        };
        self.receivers.check()?;
        self.backpressure.check()?;
        if self.listener_queue == 0 {
            return Err(Error::config("the listeners' queue must hold at least 1 event"));
        }
        let threads = self
            .worker_threads
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        let db = match &self.checkpoint {
            None => None,
            Some(folder) => Some(Arc::new(StateDb::open(
                folder,
                &self.app_name,
                self.state_partitions,
                self.state_memory_limit,
            )?)),
        };
        let folder = self.checkpoint.clone();
        let runner = Arc::new(Runner::new(threads, self.max_attempts, self.storage_memory, folder)?);
        let settings = Settings {
            app_name: self.app_name,
            batch_interval: self.batch_interval,
            checkpoint: self.checkpoint,
            delivery,
            offsets: self.offsets,
            state_partitions: db.as_ref().map_or(self.state_partitions, |db| db.state_partitions()),
            state_memory_limit: self.state_memory_limit,
            receivers: self.receivers,
            backpressure: self.backpressure,
            removed_state: self.removed_state,
        };
        Ok(StreamingContext {
            inner: Arc::new(Inner {
                settings,
                graph: Arc::new(Graph::default()),
                runner,
                clock: self.clock,
                listeners: Arc::new(ListenerBus::new(self.listener_queue)),
                db,
                lifecycle: Lifecycle::default(),
                #[cfg(feature = "sql")]
                sql_session: std::sync::OnceLock::new(),
            }),
        })
    }
}
