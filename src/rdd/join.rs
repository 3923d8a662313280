//! Operators on two RDDs of pairs with the same keys.
#![allow(clippy::type_complexity, reason = "a pair says more than a name for it")]

use std::sync::Arc;

use ahash::AHashSet;
use indexmap::IndexMap;

use super::partitioner::AnyPartitioner;
use super::{Data, Flow, Partitioner, Rdd, RddNode, Runner, TaskContext};
use crate::codec::Key;
use crate::error::Result;

/// Partition *i* of two RDDs with as many partitions, through `apply`.
struct Zipped<T, U, A> {
    left: Arc<dyn RddNode<T>>,
    right: Arc<dyn RddNode<U>>,
    apply: A,
}

impl<T, U, X, A> RddNode<X> for Zipped<T, U, A>
where
    T: Data,
    U: Data,
    A: Fn(&dyn RddNode<T>, &dyn RddNode<U>, usize, &TaskContext, &mut dyn FnMut(X) -> Flow) -> Flow
        + Send
        + Sync,
{
    fn num_partitions(&self) -> usize {
        self.left.num_partitions()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        self.left.prepare(runner)?;
        self.right.prepare(runner)
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(X) -> Flow) -> Flow {
        (self.apply)(&*self.left, &*self.right, partition, task, emit)
    }
}

impl<T: Data> Rdd<T> {
    /// The elements for which it is `found` that `other` has their key; both RDDs are partitioned alike.
    pub(super) fn filter_by_presence<K: Key>(
        &self,
        operator: &'static str,
        other: &Rdd<K>,
        key: impl Fn(&T) -> &K + Send + Sync + 'static,
        found: bool,
    ) -> Rdd<T> {
        let (left, right) = (self.node.clone(), other.node.clone());
        let apply = move |left: &dyn RddNode<T>,
                          right: &dyn RddNode<K>,
                          p: usize,
                          task: &TaskContext,
                          emit: &mut dyn FnMut(T) -> Flow| {
            let mut keys = AHashSet::new();
            right.compute(p, task, &mut |key| {
                keys.insert(key);
                Ok(())
            })?;
            left.compute(p, task, &mut |element| {
                if keys.contains(key(&element)) == found { emit(element) } else { Ok(()) }
            })
        };
        self.derive_from_both(operator, other, Zipped { left, right, apply })
    }
}

/// The values, or one that says that there is none.
fn or_none<V>(values: Vec<V>) -> Vec<Option<V>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

impl<K: Key, V: Data> Rdd<(K, V)> {
    fn cogrouped<W: Data>(
        &self,
        operator: &'static str,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        let by: AnyPartitioner<K> = Arc::new(partitioner);
        let (left, right) = (self.partition_by(by.clone()).node, other.partition_by(by).node);
        let apply = |left: &dyn RddNode<(K, V)>,
                     right: &dyn RddNode<(K, W)>,
                     p: usize,
                     task: &TaskContext,
                     emit: &mut dyn FnMut((K, (Vec<V>, Vec<W>))) -> Flow| {
            let mut groups: IndexMap<K, (Vec<V>, Vec<W>), ahash::RandomState> = IndexMap::default();
            left.compute(p, task, &mut |(key, value)| {
                groups.entry(key).or_default().0.push(value);
                Ok(())
            })?;
            right.compute(p, task, &mut |(key, value)| {
                groups.entry(key).or_default().1.push(value);
                Ok(())
            })?;
            groups.into_iter().try_for_each(emit)
        };
        self.derive_from_both(operator, other, Zipped { left, right, apply })
    }

    /// Every pairing of what `sides` makes of a key's values on the left and on the right.
    fn joined<W: Data, A: Data, B: Data>(
        &self,
        operator: &'static str,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
        sides: impl Fn(Vec<V>, Vec<W>) -> (Vec<A>, Vec<B>) + Send + Sync + 'static,
    ) -> Rdd<(K, (A, B))> {
        self.cogrouped(operator, other, partitioner).narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |(key, (left, right))| {
                let (left, right) = sides(left, right);
                left.iter().try_for_each(|a| {
                    right.iter().try_for_each(|b| emit((key.clone(), (a.clone(), b.clone()))))
                })
            })
        })
    }

    /// One pair per key of this RDD or of `other`: its values here, and its values there, each in their order. If both
    /// are empty, so is the result.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let left = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// let right = ssc.parallelize([('a', "x"), ('c', "y")], 1);
    /// let groups = left.cogroup(&right).sort_by_key(true, 1);
    /// assert_eq!(
    ///     groups.collect()?,
    ///     [('a', (vec![1, 3], vec!["x"])), ('b', (vec![2], vec![])), ('c', (vec![], vec!["y"]))]
    /// );
    /// # Ok(()) }
    /// ```
    pub fn cogroup<W: Data>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        self.cogroup_with(other, self.partitions_of_both(other))
    }

    /// As [`cogroup`](Rdd::cogroup), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (left, right) = (ssc.parallelize([('a', 1), ('b', 2)], 2), ssc.parallelize([('a', 10)], 2));
    /// let both = left.cogroup_with(&right, 1);
    /// assert_eq!(both.glom().collect()?, [[('a', (vec![1], vec![10])), ('b', (vec![2], vec![]))]]);
    /// # Ok(()) }
    /// ```
    pub fn cogroup_with<W: Data>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        self.cogrouped("cogroup", other, partitioner)
    }

    /// Every pairing of a value of this RDD with a value of `other` under the same key; keys that only one of them has
    /// are left out, so an empty RDD on either side gives nothing.
    ///
    /// Keys come in the order of their first occurrence, here before there; of a key, the values here come in their order,
    /// and for each of them the values there in theirs.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let left = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// let right = ssc.parallelize([('a', "x"), ('c', "y")], 1);
    /// assert_eq!(left.join(&right).collect()?, [('a', (1, "x")), ('a', (3, "x"))]);
    /// # Ok(()) }
    /// ```
    pub fn join<W: Data>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (V, W))> {
        self.join_with(other, self.partitions_of_both(other))
    }

    /// As [`join`](Rdd::join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](Rdd::cogroup_with) for an example.
    pub fn join_with<W: Data>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, (V, W))> {
        self.joined("join", other, partitioner, |left, right| (left, right))
    }

    /// As [`join`](Rdd::join), with the pairs whose key `other` does not have, once and with `None`.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let left = ssc.parallelize([('a', 1), ('b', 2)], 2);
    /// let right = ssc.parallelize([('a', "x"), ('c', "y")], 1);
    /// let joined = left.left_outer_join(&right).sort_by_key(true, 1);
    /// assert_eq!(joined.collect()?, [('a', (1, Some("x"))), ('b', (2, None))]);
    /// # Ok(()) }
    /// ```
    pub fn left_outer_join<W: Data>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (V, Option<W>))> {
        self.left_outer_join_with(other, self.partitions_of_both(other))
    }

    /// As [`left_outer_join`](Rdd::left_outer_join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](Rdd::cogroup_with) for an example.
    pub fn left_outer_join_with<W: Data>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, (V, Option<W>))> {
        self.joined("left_outer_join", other, partitioner, |left, right| (left, or_none(right)))
    }

    /// As [`join`](Rdd::join), with the pairs of `other` whose key this RDD does not have, once and with `None`.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let left = ssc.parallelize([('a', 1), ('b', 2)], 2);
    /// let right = ssc.parallelize([('a', "x"), ('c', "y")], 1);
    /// let joined = left.right_outer_join(&right).sort_by_key(true, 1);
    /// assert_eq!(joined.collect()?, [('a', (Some(1), "x")), ('c', (None, "y"))]);
    /// # Ok(()) }
    /// ```
    pub fn right_outer_join<W: Data>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Option<V>, W))> {
        self.right_outer_join_with(other, self.partitions_of_both(other))
    }

    /// As [`right_outer_join`](Rdd::right_outer_join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](Rdd::cogroup_with) for an example.
    pub fn right_outer_join_with<W: Data>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, (Option<V>, W))> {
        self.joined("right_outer_join", other, partitioner, |left, right| (or_none(left), right))
    }

    /// As [`join`](Rdd::join), with the pairs of both sides whose key the other does not have, once and with `None`.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let left = ssc.parallelize([('a', 1), ('b', 2)], 2);
    /// let right = ssc.parallelize([('a', "x"), ('c', "y")], 1);
    /// let joined = left.full_outer_join(&right).sort_by_key(true, 1);
    /// assert_eq!(
    ///     joined.collect()?,
    ///     [('a', (Some(1), Some("x"))), ('b', (Some(2), None)), ('c', (None, Some("y")))]
    /// );
    /// # Ok(()) }
    /// ```
    pub fn full_outer_join<W: Data>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Option<V>, Option<W>))> {
        self.full_outer_join_with(other, self.partitions_of_both(other))
    }

    /// As [`full_outer_join`](Rdd::full_outer_join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](Rdd::cogroup_with) for an example.
    pub fn full_outer_join_with<W: Data>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, (Option<V>, Option<W>))> {
        self.joined("full_outer_join", other, partitioner, |left, right| (or_none(left), or_none(right)))
    }

    /// The pairs whose key `other` does not have, doublets included; all of them if `other` is empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let left = ssc.parallelize([('a', 1), ('b', 2), ('b', 2)], 2);
    /// let right = ssc.parallelize([('a', "x"), ('c', "y")], 1);
    /// assert_eq!(left.subtract_by_key(&right).collect()?, [('b', 2), ('b', 2)]);
    /// # Ok(()) }
    /// ```
    pub fn subtract_by_key<W: Data>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, V)> {
        self.subtract_by_key_with(other, self.num_partitions())
    }

    /// As [`subtract_by_key`](Rdd::subtract_by_key), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](Rdd::cogroup_with) for an example.
    pub fn subtract_by_key_with<W: Data>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, V)> {
        let by: AnyPartitioner<K> = Arc::new(partitioner);
        let gone = other.keys().distinct_with(by.clone());
        self.partition_by(by).filter_by_presence("subtract_by_key", &gone, |(key, _)| key, false)
    }
}
