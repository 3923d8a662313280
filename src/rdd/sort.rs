//! `sort_by` and `sort_by_key`

use std::cmp::Ordering;
use std::sync::Arc;

use parking_lot::Mutex;

use super::runner::finished;
use super::shuffle::{Output, Parent, read, transpose};
use super::{Data, Flow, Operator, Rdd, RddNode, Runner, TaskContext};
use crate::error::Result;

/// How many keys are looked at for each bound between two partitions.
const SAMPLES_PER_PARTITION: usize = 32;

/// Elements with their keys, in order.
type Run<S, T> = Vec<(S, T)>;

/// Each task sorts its partition; bounds are taken from all of these runs, at which every run is cut; the pieces between
/// two bounds make a partition.
struct Sorted<T, Key> {
    parent: Parent<T>,
    key: Key,
    ascending: bool,
    partitions: usize,
    operator: Operator,
    output: Output<T>,
}

impl<T, Key> Sorted<T, Key> {
    fn compare<S: Ord>(&self, a: &S, b: &S) -> Ordering {
        if self.ascending { a.cmp(b) } else { b.cmp(a) }
    }

    /// Keys that cut `runs` into pieces of about the same length; at most one less than there are partitions.
    fn bounds<S: Ord + Clone>(&self, runs: &[Run<S, T>]) -> Vec<S> {
        let total: usize = runs.iter().map(Vec::len).sum();
        let step = (total / (SAMPLES_PER_PARTITION * self.partitions)).max(1);
        let mut samples: Vec<&S> =
            runs.iter().flat_map(|run| run.iter().step_by(step).map(|(key, _)| key)).collect();
        samples.sort_by(|a, b| self.compare(a, b));
        let bound = |i: usize| samples.get((i * samples.len() / self.partitions).checked_sub(1)?);
        (1..self.partitions).filter_map(|i| bound(i).map(|key| (*key).clone())).collect()
    }

    /// The pieces of `run` up to each bound, equal keys included, and after the last.
    fn cut<S: Ord>(&self, mut run: Run<S, T>, bounds: &[S]) -> Vec<Run<S, T>> {
        let mut pieces: Vec<_> = (bounds.len() + 1..self.partitions).map(|_| Vec::new()).collect();
        for bound in bounds.iter().rev() {
            let up_to_bound = run.partition_point(|(key, _)| self.compare(key, bound).is_le());
            pieces.push(run.split_off(up_to_bound));
        }
        pieces.push(run);
        pieces.reverse();
        pieces
    }
}

impl<T, S, Key> RddNode<T> for Sorted<T, Key>
where
    T: Data,
    S: Data + Ord,
    Key: Fn(&T) -> S + Send + Sync,
{
    fn num_partitions(&self) -> usize {
        self.partitions
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        let mut output = self.output.lock();
        if output.is_some() {
            return Ok(());
        }
        let parent = self.parent.prepared(runner)?;
        let by_key = |a: &(S, T), b: &(S, T)| self.compare(&a.0, &b.0);
        let sort = || {
            let runs = runner.run_tasks(parent.num_partitions(), |p, task| {
                let mut run = Vec::new();
                finished(parent.compute(p, task, &mut |element| {
                    run.push((self.operator.run(|| (self.key)(&element)), element));
                    Ok(())
                }))?;
                self.operator.run(|| run.sort_by(by_key));
                Ok(run)
            })?;
            self.operator.caught(|| {
                let bounds = self.bounds(&runs);
                let pieces = runs.into_iter().map(|run| self.cut(run, &bounds)).collect();
                transpose(pieces, self.partitions)
            })
        };
        let merged = runner.run_two_stages(self.partitions, sort, |columns, p| {
            let pieces = std::mem::take(&mut *columns[p].lock());
            let mut part: Run<S, T> = pieces.into_iter().flatten().collect();
            // Stable, and quick on a few runs one after the other: equal keys stay in the order of partitions.
            self.operator.run(|| part.sort_by(by_key));
            Arc::new(part.into_iter().map(|(_, element)| element).collect())
        })?;
        *output = Some(merged.into());
        self.parent.forget();
        Ok(())
    }

    fn is_in_memory(&self) -> bool {
        true
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        read(&self.output, partition, emit)
    }
}

impl<T: Data> Rdd<T> {
    /// The elements in the order of the keys that `key` gives, ascending or descending; the first partition has the least
    /// (or greatest). Equal keys stay in the order of the RDD, both ways, and are in one partition. The order is the same
    /// at any number of partitions.
    ///
    /// There are `partitions` partitions (at least one) of about the same length, unless many keys are equal. An empty RDD
    /// gives empty partitions. A key that is a floating-point number has no `Ord`; compare with
    /// [`take_ordered_by`](Rdd::take_ordered_by), or make the key an ordered one.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let words = ssc.parallelize(["tide", "mill", "wheel", "gate"], 2);
    /// assert_eq!(words.sort_by(|word| word.len(), false, 2).collect()?, ["wheel", "tide", "mill", "gate"]);
    /// # Ok(()) }
    /// ```
    pub fn sort_by<S: Data + Ord>(
        &self,
        key: impl Fn(&T) -> S + Send + Sync + 'static,
        ascending: bool,
        partitions: usize,
    ) -> Rdd<T> {
        self.derive(Sorted {
            parent: Parent::of(self),
            key,
            ascending,
            partitions: partitions.max(1),
            operator: Operator::current(),
            output: Mutex::default(),
        })
    }
}

impl<K: Data + Ord, V: Data> Rdd<(K, V)> {
    /// The pairs in the order of their keys; see [`sort_by`](Rdd::sort_by).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('b', 1), ('a', 2), ('b', 0)], 2);
    /// assert_eq!(pairs.sort_by_key(true, 2).collect()?, [('a', 2), ('b', 1), ('b', 0)]);
    /// # Ok(()) }
    /// ```
    pub fn sort_by_key(&self, ascending: bool, partitions: usize) -> Rdd<(K, V)> {
        self.sort_by(|(key, _)| key.clone(), ascending, partitions)
    }
}
