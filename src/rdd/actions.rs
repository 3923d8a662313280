//! Actions: what makes an RDD's tasks run.

use super::narrow::gathered;
use super::runner::finished;
use super::{Data, Operator, Rdd, Stop, TaskContext};
use crate::dstream::Outcome;
use crate::error::Result;

impl<T: Data> Rdd<T> {
    /// Runs `task` on the elements of each partition; a failed attempt's result is thrown away.
    pub(crate) fn run_partitions<R: Send>(
        &self,
        task: impl Fn(Vec<T>, &TaskContext) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.runner.run(self, self.on_elements(task))
    }

    /// As [`run_partitions`](Rdd::run_partitions), for a task that has work to do without elements, too.
    pub(crate) fn run_with_state<R: Send>(
        &self,
        task: impl Fn(Vec<T>, &TaskContext) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.node.prepare(&self.runner)?;
        self.runner.run_tasks(self.node.num_partitions(), self.on_elements(task))
    }

    /// `task` with the elements of the partition that it is to run for.
    fn on_elements<R>(
        &self,
        task: impl Fn(Vec<T>, &TaskContext) -> Result<R> + Sync,
    ) -> impl Fn(usize, &TaskContext) -> Result<R> + Sync {
        let operator = Operator::current();
        move |p, context| {
            let elements = gathered(&*self.node, p, context)?;
            operator.run(|| task(elements, context))
        }
    }

    /// Folds each partition's elements in order, without keeping them.
    pub(crate) fn fold_partitions<A: Send>(
        &self,
        zero: impl Fn() -> A + Sync,
        step: impl Fn(&mut A, T) -> Result<()> + Sync,
    ) -> Result<Vec<A>> {
        self.fold_partitions_into(zero, step, Ok)
    }

    /// As [`fold_partitions`](Rdd::fold_partitions), with what `last` makes of each result before its task ends.
    pub(crate) fn fold_partitions_into<A, R: Send>(
        &self,
        zero: impl Fn() -> A + Sync,
        step: impl Fn(&mut A, T) -> Result<()> + Sync,
        last: impl Fn(A) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let operator = Operator::current();
        self.runner.run(self, |p, context| {
            let mut folded = operator.run(&zero);
            let mut step = |element| operator.run(|| step(&mut folded, element));
            finished(self.node.compute(p, context, &mut |element| Ok(step(element)?)))?;
            operator.run(|| last(folded))
        })
    }

    /// All elements, in partition order; nothing for an empty RDD.
    ///
    /// # Errors
    /// If a task fails at its last attempt, as for every action.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([3, 1, 2], 2).collect()?, [3, 1, 2]);
    /// assert!(ssc.empty_rdd::<i32>().collect()?.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn collect(&self) -> Result<Vec<T>> {
        Ok(self.run_partitions(|elements, _| Ok(elements))?.into_iter().flatten().collect())
    }

    /// The first `n` elements in partition order, or all if there are fewer; partitions are computed one by one until
    /// there are enough.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([3, 1, 2], 2).take(2)?, [3, 1]);
    /// # Ok(()) }
    /// ```
    pub fn take(&self, n: usize) -> Result<Vec<T>> {
        let mut taken = Vec::new();
        if n == 0 {
            return Ok(taken);
        }
        self.node.prepare(&self.runner)?;
        for partition in 0..self.num_partitions() {
            if taken.len() >= n {
                break;
            }
            let wanted = n - taken.len();
            let more = self.runner.run_some(partition..partition + 1, |partition, context| {
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

    /// The first element in partition order; none for an empty RDD. Computes no more than it must.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([3, 1, 2], 2).first()?, Some(3));
    /// assert_eq!(ssc.empty_rdd::<i32>().first()?, None);
    /// # Ok(()) }
    /// ```
    pub fn first(&self) -> Result<Option<T>> {
        Ok(self.take(1)?.pop())
    }

    /// Whether there is no element; computes no more than it must to know.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([3, 1, 2], 2);
    /// assert!(!numbers.is_empty()?);
    /// assert!(numbers.filter(|n| *n > 3).is_empty()?);
    /// # Ok(()) }
    /// ```
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.first()?.is_none())
    }

    /// The number of elements; 0 for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize(["a", "b", "a"], 2).count()?, 3);
    /// # Ok(()) }
    /// ```
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

    /// All elements put together by `f`, which must be associative, in partition order; none for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([1, 2, 3], 2).reduce(|a, b| a + b)?, Some(6));
    /// assert_eq!(ssc.empty_rdd::<i32>().reduce(|a, b| a + b)?, None);
    /// # Ok(()) }
    /// ```
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
        Operator::current().caught(|| parts.into_iter().flatten().reduce(&f))
    }

    /// All elements put together by `f`, which must be associative, from `zero` on; `zero` for an empty RDD.
    ///
    /// As in Spark, each partition starts from `zero`, and so does putting their results together: it should change
    /// nothing (0 for a sum), or the result depends on the number of partitions.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([1, 2, 3], 2).fold(0, |a, b| a + b)?, 6);
    /// assert_eq!(ssc.empty_rdd::<i32>().fold(0, |a, b| a + b)?, 0);
    /// # Ok(()) }
    /// ```
    pub fn fold(&self, zero: T, f: impl Fn(T, T) -> T + Sync) -> Result<T> {
        self.aggregate(zero, &f, &f)
    }

    /// A value of another type made of all elements: `add` takes an element in, starting from `zero` in each partition;
    /// `merge` puts the partitions' values together in their order, starting from `zero` too. `zero` for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([1.0, 2.0, 6.0], 2);
    /// let (sum, count) = numbers.aggregate((0.0, 0), |(s, n), x| (s + x, n + 1), |a, b| (a.0 + b.0, a.1 + b.1))?;
    /// assert_eq!((sum, count), (9.0, 3));
    /// # Ok(()) }
    /// ```
    pub fn aggregate<A: Clone + Send + Sync>(
        &self,
        zero: A,
        add: impl Fn(A, T) -> A + Sync,
        merge: impl Fn(A, A) -> A,
    ) -> Result<A> {
        let parts = self.fold_partitions(
            || Some(zero.clone()),
            |folded, element| {
                // Only a panic in `add` leaves nothing here, and that ends the attempt.
                *folded = folded.take().map(|before| add(before, element));
                Ok(())
            },
        )?;
        Operator::current().caught(|| parts.into_iter().flatten().fold(zero.clone(), merge))
    }

    /// Calls `f` with the elements of each partition, for its side effects, empty partitions included.
    ///
    /// `f` gives nothing or a [`Result`]. A panic, or an error of the kind [`Task`](crate::ErrorKind::Task), has the task
    /// tried again, which calls `f` again; an error of another kind fails the action at once.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// ssc.parallelize([1, 2, 3], 2).for_each_partition(|part| println!("{} at once", part.len()))?;
    ///
    /// let outcome = ssc.parallelize([1, 2, 3], 2).for_each_partition(|_| Err(tidemill::Error::output("no connection")));
    /// assert!(outcome.unwrap_err().to_string().ends_with("no connection"));
    /// # Ok(()) }
    /// ```
    pub fn for_each_partition<R: Outcome>(&self, f: impl Fn(Vec<T>) -> R + Sync) -> Result<()> {
        self.run_partitions(|elements, _| f(elements).into_result())?;
        Ok(())
    }

    /// Calls `f` with each element, for its side effects. What it may give, and what is tried again, is as for
    /// [`for_each_partition`](Rdd::for_each_partition); a task that is tried again begins with its first element.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// ssc.parallelize([1, 2, 3], 2).for_each(|n| println!("{n}"))?;
    /// # Ok(()) }
    /// ```
    pub fn for_each<R: Outcome>(&self, f: impl Fn(T) -> R + Sync) -> Result<()> {
        self.fold_partitions(|| (), |(), element| f(element).into_result())?;
        Ok(())
    }
}
