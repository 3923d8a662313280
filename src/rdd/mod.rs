//! Slices: [`Rdd`], a lazily evaluated collection in partitions, and the worker pool that runs its tasks.
//!
//! A task computes one partition: it pulls the records of its slice and pushes each through all
//! narrow operators up to the next shuffle or action, without materialising anything in between.

mod actions;
mod blame;
mod by_key;
mod cache;
mod cartesian;
mod combined;
mod counted;
mod files;
mod join;
mod letters;
mod memory;
mod narrow;
mod objects;
mod ordered;
mod pair;
mod partitioner;
mod repartition;
mod runner;
mod save;
mod sets;
mod shuffle;
mod sort;
mod spill;
mod storage;
mod tally;
mod zip_with_index;

use std::sync::Arc;

pub(crate) use blame::{AtRecord, Operator, caught, hand_on, numbered, panic_message, push_all_of};
pub(crate) use cache::CachedRdd;
pub(crate) use files::{lines, objects, read_files};
pub(crate) use memory::MemoryRdd;
pub(crate) use partitioner::AnyPartitioner;
pub use partitioner::{HashPartitioner, Partitioner};
pub(crate) use runner::{Effects, Runner, SliceStats, TaskContext, finished};
pub(crate) use spill::{Disk, Runs, RunsWriter, SharedFile};
#[cfg(feature = "sql")]
pub(crate) use storage::Kept;
pub use storage::StorageLevel;
pub(crate) use storage::{Reservation, StorageMemory};

use crate::error::{Error, Result};
use crate::source::OffsetRange;

/// What an element of a stream must be: cheap enough to copy, and safe to hand to another thread.
pub trait Data: Clone + Send + Sync + 'static {}
impl<T: Clone + Send + Sync + 'static> Data for T {}

/// Why a task's stream of elements ends before its partition does.
pub enum Stop {
    /// The consumer has what it asked for (`take`).
    Enough,
    /// Something failed; the attempt is worth nothing.
    Failed(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(Box::new(error))
    }
}

/// What pushing an element gives: go on, or [`Stop`].
pub type Flow = std::result::Result<(), Stop>;

/// The operator behind an [`Rdd`]: the recipe for its partitions.
pub(crate) trait RddNode<T>: Send + Sync {
    fn num_partitions(&self) -> usize;

    /// Runs what must be complete before any task of this stage: the shuffles below it.
    fn prepare(&self, runner: &Runner) -> Result<()>;

    /// Pushes the elements of `partition`, in order, into `emit`.
    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow;

    /// The Kafka offset range behind each partition; none after a shuffle.
    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        None
    }

    /// Whether its elements are in memory anyway, so that keeping them once more would only double them.
    fn is_in_memory(&self) -> bool {
        false
    }

    /// Whether it is known, once it is prepared, that no partition has an element.
    fn has_nothing(&self) -> bool {
        false
    }

    /// Drops what it keeps of its elements, if it was asked to keep them.
    fn unpersist(&self) {}
}

/// What several contexts' RDDs were put together to: no action can run it.
struct OfTwoContexts {
    operator: &'static str,
}

impl OfTwoContexts {
    fn error(&self) -> Error {
        Error::usage(format!("`{}` of RDDs of two contexts: make both from the same one", self.operator))
    }
}

impl<T> RddNode<T> for OfTwoContexts {
    fn num_partitions(&self) -> usize {
        1
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Err(self.error())
    }

    fn compute(&self, _: usize, _: &TaskContext, _: &mut dyn FnMut(T) -> Flow) -> Flow {
        Err(self.error().into())
    }
}

/// A collection of elements in partitions, evaluated when an action asks for them (Spark's `RDD`).
///
/// Used twice it is computed twice, unless it is [cached](Rdd::cache); what a shuffle gave is kept with its RDD. The
/// output of a stateful operator is always kept for its batch. All actions run on the context's worker threads; a
/// function that panics there fails its task, which is tried again as often as the context's
/// [`max_attempts`](crate::StreamingContextBuilder::max_attempts) say, and then the action gives an error.
///
/// RDDs come from a stream's [`foreach_rdd`](crate::DStream::foreach_rdd) and
/// [`transform`](crate::DStream::transform), or from a context's
/// [`parallelize`](crate::StreamingContext::parallelize) and [`text_file`](crate::StreamingContext::text_file).
/// Operators on two RDDs need both from the same context; else their first action gives an error of the kind
/// [`Usage`](crate::ErrorKind::Usage).
///
/// Operators that shuffle have two forms. `reduce_by_key(f)` gives as many partitions as its (larger) parent has;
/// `reduce_by_key_with(f, partitioner)` takes a [`Partitioner`], or just a number of partitions. What a shuffle gives
/// is in the order of partitions, and within one in the order in which keys occur first.
///
/// ```
/// # fn main() -> tidemill::Result<()> {
/// # let ssc = tidemill::StreamingContext::builder("example").build()?;
/// let words = ssc.parallelize(["to", "be", "or", "not", "to", "be"], 2);
/// let counts = words.map(|word| (word.to_owned(), 1)).reduce_by_key(|a, b| a + b);
/// assert_eq!(counts.sort_by_key(true, 1).take(2)?, [("be".to_owned(), 2), ("not".to_owned(), 1)]);
/// # Ok(()) }
/// ```
pub struct Rdd<T> {
    pub(crate) node: Arc<dyn RddNode<T>>,
    pub(crate) runner: Arc<Runner>,
}

impl<T> Clone for Rdd<T> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), runner: self.runner.clone() }
    }
}

impl<T: Data> Rdd<T> {
    pub(crate) fn new(runner: &Arc<Runner>, node: impl RddNode<T> + 'static) -> Self {
        Self { node: Arc::new(node), runner: runner.clone() }
    }

    pub(crate) fn derive<U: Data>(&self, node: impl RddNode<U> + 'static) -> Rdd<U> {
        Rdd::new(&self.runner, node)
    }

    /// An RDD made of this one and `other`, which must be of the same context.
    fn derive_from_both<U, V: Data>(
        &self,
        operator: &'static str,
        other: &Rdd<U>,
        node: impl RddNode<V> + 'static,
    ) -> Rdd<V> {
        if Arc::ptr_eq(&self.runner, &other.runner) {
            self.derive(node)
        } else {
            self.derive(OfTwoContexts { operator })
        }
    }

    /// Over how many partitions a shuffle of this RDD and `other` goes unless told: as many as the larger one has.
    fn partitions_of_both<U: Data>(&self, other: &Rdd<U>) -> usize {
        self.num_partitions().max(other.num_partitions())
    }

    /// How many partitions (and so, tasks) this RDD has.
    pub fn num_partitions(&self) -> usize {
        self.node.num_partitions()
    }

    /// The offset range that each partition was read from, if this is still the RDD of a Kafka slice
    /// (narrow operators keep them; after a shuffle there are none). Partition *i* is `offset_ranges()[i]`.
    pub fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.node.offset_ranges()
    }

    /// What `node` gives, which must be the same elements.
    pub(crate) fn with_node(&self, node: Arc<dyn RddNode<T>>) -> Rdd<T> {
        Rdd { node, runner: self.runner.clone() }
    }
}
