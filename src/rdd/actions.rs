//! Actions: what makes an RDD's tasks run.

use super::narrow::gathered;
use super::runner::finished;
use super::{Data, Rdd, Stop, TaskContext};
use crate::error::Result;

impl<T: Data> Rdd<T> {
    /// Runs `task` on the elements of each partition; a failed attempt's result is thrown away.
    pub(crate) fn run_partitions<R: Send>(
        &self,
        task: impl Fn(Vec<T>, &TaskContext) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.runner.run(self, |p, context| {
            let elements = gathered(&*self.node, p, context)?;
            task(elements, context)
        })
    }

    /// Folds each partition's elements in order, without keeping them.
    pub(crate) fn fold_partitions<A: Send>(
        &self,
        zero: impl Fn() -> A + Sync,
        step: impl Fn(&mut A, T) -> Result<()> + Sync,
    ) -> Result<Vec<A>> {
        self.runner.run(self, |p, context| {
            let mut folded = zero();
            finished(self.node.compute(p, context, &mut |element| Ok(step(&mut folded, element)?)))?;
            Ok(folded)
        })
    }

    /// All elements, in partition order; nothing for an empty RDD.
    ///
    /// # Errors
    /// If a task fails at its last attempt, as for every action.
    pub fn collect(&self) -> Result<Vec<T>> {
        Ok(self.run_partitions(|elements, _| Ok(elements))?.into_iter().flatten().collect())
    }

    /// The first `n` elements in partition order; partitions are computed one by one until there are enough.
    pub fn take(&self, n: usize) -> Result<Vec<T>> {
        self.node.prepare(&self.runner)?;
        let mut taken = Vec::new();
        for partition in 0..self.num_partitions() {
            if taken.len() >= n {
                break;
            }
            let wanted = n - taken.len();
            let more = self.runner.run_tasks(1, |_, context| {
                let mut elements = Vec::new();
                finished(self.node.compute(partition, context, &mut |element| {
                    elements.push(element);
                    if elements.len() < wanted { Ok(()) } else { Err(Stop::Enough) }
                }))?;
                Ok(elements)
            })?;
            taken.extend(more.into_iter().flatten());
        }
        Ok(taken)
    }

    /// The number of elements; 0 for an empty RDD.
    pub fn count(&self) -> Result<u64> {
        let counts = self.fold_partitions(
            || 0u64,
            |n, _| {
                *n += 1;
                Ok(())
            },
        )?;
        Ok(counts.into_iter().sum())
    }

    /// Whether there is no element; computes no more than it must to know.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.take(1)?.is_empty())
    }

    /// All elements put together by `f`, which must be associative; none for an empty RDD.
    pub fn reduce(&self, f: impl Fn(T, T) -> T + Sync) -> Result<Option<T>> {
        let parts = self.fold_partitions(
            || None,
            |folded: &mut Option<T>, element| {
                *folded = Some(match folded.take() {
                    None => element,
                    Some(before) => f(before, element),
                });
                Ok(())
            },
        )?;
        Ok(parts.into_iter().flatten().reduce(f))
    }

    /// Calls `f` with the elements of each partition, for its side effects, empty partitions included.
    pub fn for_each_partition(&self, f: impl Fn(Vec<T>) + Sync) -> Result<()> {
        self.run_partitions(|elements, _| {
            f(elements);
            Ok(())
        })?;
        Ok(())
    }

    /// Calls `f` with each element, for its side effects.
    pub fn for_each(&self, f: impl Fn(T) + Sync) -> Result<()> {
        self.fold_partitions(
            || (),
            |(), element| {
                f(element);
                Ok(())
            },
        )?;
        Ok(())
    }
}
