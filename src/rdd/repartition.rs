//! `repartition` and `coalesce`

use std::sync::Arc;

use parking_lot::Mutex;

use super::shuffle::{Exchange, Parent};
use super::{Data, Flow, Operator, Rdd, RddNode, Runner, TaskContext};
use crate::error::Result;

/// Runs of a parent's partitions.
struct Coalesced<T> {
    parent: Arc<dyn RddNode<T>>,
    partitions: usize,
}

impl<T: Data> RddNode<T> for Coalesced<T> {
    fn num_partitions(&self) -> usize {
        self.partitions
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        self.parent.prepare(runner)
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let cut = |i| i * self.parent.num_partitions() / self.partitions;
        (cut(partition)..cut(partition + 1)).try_for_each(|p| self.parent.compute(p, task, emit))
    }
}

impl<T: Data> Rdd<T> {
    /// The same elements in `partitions` partitions (at least one) of about the same length: each partition deals its
    /// elements out in turn, the *i*-th one beginning with the *i*-th. The same elements always go the same way. An empty
    /// RDD gives empty partitions.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([1, 2, 3, 4, 5], 1).repartition(2);
    /// assert_eq!(numbers.glom().collect()?, [vec![1, 3, 5], vec![2, 4]]);
    /// # Ok(()) }
    /// ```
    pub fn repartition(&self, partitions: usize) -> Rdd<T> {
        let partitions = partitions.max(1);
        self.derive(Exchange {
            operator: Operator::current(),
            parent: Parent::of(self),
            partitions,
            place: move |task, number, _: &T| Ok((task + number) % partitions),
            output: Mutex::default(),
        })
    }

    /// The same elements in the same order in at most `partitions` partitions (at least one), without a shuffle: each takes
    /// a run of this RDD's. It never makes more partitions; [`repartition`](Rdd::repartition) does.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([1, 2, 3], 3);
    /// assert_eq!(numbers.coalesce(2).glom().collect()?, [vec![1], vec![2, 3]]);
    /// assert_eq!(numbers.coalesce(9).num_partitions(), 3);
    /// # Ok(()) }
    /// ```
    pub fn coalesce(&self, partitions: usize) -> Rdd<T> {
        let partitions = partitions.max(1).min(self.num_partitions());
        self.derive(Coalesced { parent: self.node.clone(), partitions })
    }
}
