//! `cartesian`

use std::sync::Arc;

use super::narrow::gather;
use super::{Data, Flow, Rdd, RddNode, Runner, TaskContext};
use crate::error::Result;

struct Cartesian<T, U> {
    left: Arc<dyn RddNode<T>>,
    right: Arc<dyn RddNode<U>>,
}

impl<T: Data, U: Data> RddNode<(T, U)> for Cartesian<T, U> {
    fn num_partitions(&self) -> usize {
        self.left.num_partitions() * self.right.num_partitions()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        self.left.prepare(runner)?;
        self.right.prepare(runner)
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut((T, U)) -> Flow) -> Flow {
        let columns = self.right.num_partitions();
        let right = gather(&*self.right, partition % columns, task)?;
        self.left.compute(partition / columns, task, &mut |a| {
            right.iter().try_for_each(|b| emit((a.clone(), b.clone())))
        })
    }
}

impl<T: Data> Rdd<T> {
    /// Every pairing of an element of this RDD with one of `other`; nothing if either is empty.
    ///
    /// There is a partition for every pairing of partitions: `other`'s within this RDD's. Each is computed as often as it
    /// is paired, unless it is cached.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (numbers, letters) = (ssc.parallelize([1, 2], 1), ssc.parallelize(['a', 'b'], 1));
    /// assert_eq!(numbers.cartesian(&letters).collect()?, [(1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')]);
    /// # Ok(()) }
    /// ```
    pub fn cartesian<U: Data>(&self, other: &Rdd<U>) -> Rdd<(T, U)> {
        let node = Cartesian { left: self.node.clone(), right: other.node.clone() };
        self.derive_from_both("cartesian", other, node)
    }
}
