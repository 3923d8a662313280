//! Slices: [`Rdd`], a lazily evaluated collection in partitions, and the worker pool that runs its tasks.
//!
//! A task computes one partition: it pulls the records of its slice and pushes each through all
//! narrow operators up to the next shuffle or action, without materialising anything in between.

mod actions;
mod cache;
mod memory;
mod narrow;
mod pair;
mod partitioner;
mod runner;
mod shuffle;

use std::sync::Arc;

pub(crate) use cache::CachedRdd;
pub(crate) use memory::MemoryRdd;
pub use partitioner::{HashPartitioner, Partitioner};
pub(crate) use runner::{Runner, SliceStats, TaskContext, caught};

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
}

/// A collection of elements in partitions, evaluated when an action asks for them (Spark's `RDD`).
///
/// Used twice it is computed twice, unless it is [cached](Rdd::cache). The output of a stateful
/// operator is always kept for its batch. All actions run on the context's worker threads.
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

    /// How many partitions (and so, tasks) this RDD has.
    pub fn num_partitions(&self) -> usize {
        self.node.num_partitions()
    }

    /// The offset range that each partition was read from, if this is still the RDD of a Kafka slice
    /// (narrow operators keep them; after a shuffle there are none). Partition *i* is `offset_ranges()[i]`.
    pub fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.node.offset_ranges()
    }

    /// This RDD, each partition of which is computed at most once and then kept in memory.
    pub fn cache(&self) -> Rdd<T> {
        self.derive(CachedRdd::new(self.node.clone()))
    }
}
