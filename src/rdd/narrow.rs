//! Narrow operators: each output partition depends on one input partition, so they fuse into one task.

use std::sync::Arc;

use super::{Data, Flow, Operator, Rdd, RddNode, Runner, Stop, TaskContext, hand_on};
use crate::error::{Error, Result};
use crate::source::OffsetRange;

/// One partition in, one partition out, through `apply`.
struct Narrow<T, A> {
    parent: Arc<dyn RddNode<T>>,
    apply: A,
}

impl<T, U, A> RddNode<U> for Narrow<T, A>
where
    T: Data,
    A: Fn(&dyn RddNode<T>, usize, &TaskContext, &mut dyn FnMut(U) -> Flow) -> Flow + Send + Sync,
{
    fn num_partitions(&self) -> usize {
        self.parent.num_partitions()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        self.parent.prepare(runner)
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(U) -> Flow) -> Flow {
        (self.apply)(&*self.parent, partition, task, emit)
    }

    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.parent.offset_ranges()
    }

    fn has_nothing(&self) -> bool {
        self.parent.has_nothing()
    }
}

/// The partitions of several RDDs, one after the other.
struct Union<T> {
    parents: Vec<Arc<dyn RddNode<T>>>,
}

impl<T: Data> RddNode<T> for Union<T> {
    fn num_partitions(&self) -> usize {
        self.parents.iter().map(|p| p.num_partitions()).sum()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        self.parents.iter().try_for_each(|p| p.prepare(runner))
    }

    fn compute(&self, mut partition: usize, task: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        for parent in &self.parents {
            if partition < parent.num_partitions() {
                return parent.compute(partition, task, emit);
            }
            partition -= parent.num_partitions();
        }
        Err(Error::internal(format!("a union has no partition {partition}")).into())
    }

    fn has_nothing(&self) -> bool {
        self.parents.iter().all(|parent| parent.has_nothing())
    }
}

/// Pushes a partition's elements into a visitor.
pub(crate) type ReadPartition<'a, T> = &'a mut dyn FnMut(&mut dyn FnMut(T) -> Flow) -> Flow;

impl<T: Data> Rdd<T> {
    pub(super) fn narrow<U: Data>(
        &self,
        apply: impl Fn(&dyn RddNode<T>, usize, &TaskContext, &mut dyn FnMut(U) -> Flow) -> Flow
        + Send
        + Sync
        + 'static,
    ) -> Rdd<U> {
        self.derive(Narrow { parent: self.node.clone(), apply })
    }

    /// Each element, changed by `f`. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([1, 2, 3], 2).map(|n| n * 10).collect()?, [10, 20, 30]);
    /// # Ok(()) }
    /// ```
    pub fn map<U: Data>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |element| emit(operator.run(|| f(element))))
        })
    }

    /// What `f`, which may fail, gives for each element; a failure fails the task.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL steps are its users"))]
    pub(crate) fn try_flat_map<U: Data>(
        &self,
        f: impl Fn(T) -> Result<Vec<U>> + Send + Sync + 'static,
    ) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |element| {
                operator.run(|| f(element))?.into_iter().try_for_each(&mut *emit)
            })
        })
    }

    /// As [`try_flat_map`](Rdd::try_flat_map), with the task's own context.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipelines are its users"))]
    pub(crate) fn try_flat_map_in_task<U: Data>(
        &self,
        f: impl Fn(T, &TaskContext) -> Result<Vec<U>> + Send + Sync + 'static,
    ) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |element| {
                operator.run(|| f(element, task))?.into_iter().try_for_each(&mut *emit)
            })
        })
    }

    /// What `f` gives for each element, in order. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([1, 2, 3], 2);
    /// assert_eq!(numbers.flat_map(|n| vec![n; n]).collect()?, [1, 2, 2, 3, 3, 3]);
    /// # Ok(()) }
    /// ```
    pub fn flat_map<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |element| {
                operator.run(|| f(element).into_iter().try_for_each(|made| hand_on(emit, made)))
            })
        })
    }

    /// The elements for which `keep` is true. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([1, 2, 3], 2).filter(|n| n % 2 == 1).collect()?, [1, 3]);
    /// # Ok(()) }
    /// ```
    pub fn filter(&self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> Rdd<T> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |element| {
                if operator.run(|| keep(&element)) { emit(element) } else { Ok(()) }
            })
        })
    }

    /// What `f` gives for the elements of each partition; it is called for empty partitions too.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([1, 2, 3, 4], 2);
    /// assert_eq!(numbers.map_partitions(|part| [part.iter().sum::<i32>()]).collect()?, [3, 7]);
    /// # Ok(()) }
    /// ```
    pub fn map_partitions<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(Vec<T>) -> I + Send + Sync + 'static,
    ) -> Rdd<U> {
        self.map_partitions_with_index(move |_, elements| f(elements))
    }

    /// As [`map_partitions`](Rdd::map_partitions), with the partition's number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let letters = ssc.parallelize(['a', 'b', 'c', 'd'], 2);
    /// let placed = letters.map_partitions_with_index(|i, part| part.into_iter().map(move |c| (i, c)));
    /// assert_eq!(placed.collect()?, [(0, 'a'), (0, 'b'), (1, 'c'), (1, 'd')]);
    /// # Ok(()) }
    /// ```
    pub fn map_partitions_with_index<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(usize, Vec<T>) -> I + Send + Sync + 'static,
    ) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            let elements = gather(parent, p, task)?;
            operator.run(|| f(p, elements).into_iter().try_for_each(|made| hand_on(emit, made)))
        })
    }

    /// As [`map_partitions`](Rdd::map_partitions), where `f` may fail.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL steps are its users"))]
    pub(crate) fn try_map_partitions<U: Data>(
        &self,
        f: impl Fn(Vec<T>) -> Result<Vec<U>> + Send + Sync + 'static,
    ) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            let elements = gather(parent, p, task)?;
            operator.run(|| f(elements))?.into_iter().try_for_each(&mut *emit)
        })
    }

    /// What `f` makes of each partition, which it reads through its first argument and may give on piece by piece.
    #[cfg_attr(
        not(feature = "service"),
        allow(dead_code, reason = "the service's sources of lines are its users")
    )]
    pub(crate) fn try_pieces<U: Data>(
        &self,
        f: impl Fn(ReadPartition<'_, T>, usize, &TaskContext, &mut dyn FnMut(U) -> Flow) -> Flow
        + Send
        + Sync
        + 'static,
    ) -> Rdd<U> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            operator.run(|| f(&mut |visit| parent.compute(p, task, visit), p, task, emit))
        })
    }

    /// One element per partition: what `step` makes of `zero()` over the partition's elements.
    pub(crate) fn map_partitions_folded<A: Data>(
        &self,
        zero: impl Fn() -> A + Send + Sync + 'static,
        step: impl Fn(&mut A, T) + Send + Sync + 'static,
    ) -> Rdd<A> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            let mut folded = operator.run(&zero);
            parent.compute(p, task, &mut |element| {
                operator.run(|| step(&mut folded, element));
                Ok(())
            })?;
            emit(folded)
        })
    }

    /// One vector per partition, an empty one for an empty partition.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([1, 2, 3], 2).glom().collect()?, [vec![1], vec![2, 3]]);
    /// # Ok(()) }
    /// ```
    pub fn glom(&self) -> Rdd<Vec<T>> {
        self.narrow(|parent, p, task, emit| emit(gather(parent, p, task)?))
    }

    /// The elements of this RDD, then those of `other`; doublets stay, and so do the partitions of both.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (left, right) = (ssc.parallelize([1, 2], 1), ssc.parallelize([2, 3], 1));
    /// assert_eq!(left.union(&right).collect()?, [1, 2, 2, 3]);
    /// # Ok(()) }
    /// ```
    pub fn union(&self, other: &Rdd<T>) -> Rdd<T> {
        let parents = vec![self.node.clone(), other.node.clone()];
        self.derive_from_both("union", other, Union { parents })
    }

    pub(crate) fn union_all(first: &Rdd<T>, others: impl IntoIterator<Item = Rdd<T>>) -> Rdd<T> {
        let parents = std::iter::once(first.node.clone()).chain(others.into_iter().map(|r| r.node)).collect();
        first.derive(Union { parents })
    }
}

/// All elements of a partition.
pub(super) fn gather<T>(
    parent: &dyn RddNode<T>,
    partition: usize,
    task: &TaskContext,
) -> std::result::Result<Vec<T>, Stop> {
    all(&mut |visit| parent.compute(partition, task, visit))
}

/// All elements that `read` gives.
pub(super) fn all<T>(read: ReadPartition<'_, T>) -> std::result::Result<Vec<T>, Stop> {
    let mut elements = Vec::new();
    read(&mut |element| {
        elements.push(element);
        Ok(())
    })?;
    Ok(elements)
}

/// All elements of a partition, for a task that ends with them.
pub(super) fn gathered<T>(parent: &dyn RddNode<T>, partition: usize, task: &TaskContext) -> Result<Vec<T>> {
    gather(parent, partition, task).map_err(|stop| match stop {
        Stop::Failed(error) => *error,
        // Only a consumer has enough, and this one takes all.
        Stop::Enough => Error::internal("a partition's elements ended early"),
    })
}
