//! Operators that bring the values of a key together.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;

use super::partitioner::checked_partition;
use super::shuffle::{CombineByKey, Exchange, Parent};
use super::{Data, Operator, Partitioner, Rdd};
use crate::codec::Key;

impl<K: Key, V: Data> Rdd<(K, V)> {
    /// One pair per key, its values put together by `f`, which must be associative; they are put together in their order.
    /// Combines on the map side first. An empty RDD gives nothing.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// assert_eq!(pairs.reduce_by_key(|a, b| a + b).top(9)?, [('b', 2), ('a', 4)]);
    /// # Ok(()) }
    /// ```
    pub fn reduce_by_key(&self, f: impl Fn(V, V) -> V + Send + Sync + 'static) -> Rdd<(K, V)> {
        self.reduce_by_key_with(f, self.num_partitions())
    }

    /// As [`reduce_by_key`](Rdd::reduce_by_key), into the partitions of `partitioner`.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// use tidemill::HashPartitioner;
    ///
    /// let pairs = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// assert_eq!(pairs.reduce_by_key_with(|a, b| a + b, 4).num_partitions(), 4);
    /// assert_eq!(pairs.reduce_by_key_with(|a, b| a + b, HashPartitioner::new(1)).collect()?, [('a', 4), ('b', 2)]);
    /// # Ok(()) }
    /// ```
    pub fn reduce_by_key_with(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, V)> {
        let f = Arc::new(f);
        let merge = f.clone();
        self.combine_by_key_with(|v| v, move |a, b| f(a, b), move |a, b| merge(a, b), partitioner)
    }

    /// One pair per key: `create` makes a combined value of a partition's first one, `merge_value` adds a further one,
    /// `merge` puts two combined values together, that of the earlier partition first (Spark's `combineByKey`). An empty
    /// RDD gives nothing.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// let sums_and_counts = pairs.combine_by_key(|n| (n, 1), |(s, c), n| (s + n, c + 1), |a, b| (a.0 + b.0, a.1 + b.1));
    /// assert_eq!(sums_and_counts.take_ordered(9)?, [('a', (4, 2)), ('b', (2, 1))]);
    /// # Ok(()) }
    /// ```
    pub fn combine_by_key<C: Data>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> Rdd<(K, C)> {
        self.combine_by_key_with(create, merge_value, merge, self.num_partitions())
    }

    /// As [`combine_by_key`](Rdd::combine_by_key), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let most = |a: i64, b: i64| a.max(b);
    /// let pairs = ssc.parallelize([('a', 3), ('b', 2), ('a', 1)], 2);
    /// assert_eq!(pairs.combine_by_key_with(|n| n, most, most, 1).glom().collect()?, [[('a', 3), ('b', 2)]]);
    /// # Ok(()) }
    /// ```
    pub fn combine_by_key_with<C: Data>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, C)> {
        self.derive(CombineByKey {
            operator: Operator::current(),
            parent: Parent::of(self),
            partitioner: Arc::new(partitioner),
            create,
            merge_value,
            merge,
            output: Mutex::default(),
            keys: AtomicUsize::default(),
        })
    }

    /// One pair per key, with all its values in their order. An empty RDD gives nothing.
    ///
    /// All values of a key are in memory at once; where they are only put together, `reduce_by_key` needs less.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 3), ('b', 2), ('a', 1)], 2);
    /// assert_eq!(pairs.group_by_key().take_ordered(9)?, [('a', vec![3, 1]), ('b', vec![2])]);
    /// # Ok(()) }
    /// ```
    pub fn group_by_key(&self) -> Rdd<(K, Vec<V>)> {
        self.group_by_key_with(self.num_partitions())
    }

    /// As [`group_by_key`](Rdd::group_by_key), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 3), ('b', 2), ('a', 1)], 2);
    /// assert_eq!(pairs.group_by_key_with(1).glom().collect()?, [[('a', vec![3, 1]), ('b', vec![2])]]);
    /// # Ok(()) }
    /// ```
    pub fn group_by_key_with(&self, partitioner: impl Partitioner<K>) -> Rdd<(K, Vec<V>)> {
        let add = |mut values: Vec<V>, value| {
            values.push(value);
            values
        };
        let append = |mut values: Vec<V>, mut more: Vec<V>| {
            values.append(&mut more);
            values
        };
        self.combine_by_key_with(|value| vec![value], add, append, partitioner)
    }

    /// The same pairs, each in the partition of its key; pairs of a partition keep their order. An empty RDD gives empty
    /// partitions.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 3);
    /// let partitions = pairs.partition_by(2).glom().collect()?;
    /// assert_eq!(partitions.len(), 2);
    /// assert!(partitions.iter().any(|part| part.contains(&('a', 1)) && part.contains(&('a', 3))));
    /// # Ok(()) }
    /// ```
    pub fn partition_by(&self, partitioner: impl Partitioner<K>) -> Rdd<(K, V)> {
        self.derive(Exchange {
            operator: Operator::current(),
            parent: Parent::of(self),
            partitions: partitioner.num_partitions(),
            place: move |_, _, pair: &(K, V)| checked_partition(&partitioner, &pair.0),
            output: Mutex::default(),
        })
    }
}

impl<T: Data> Rdd<T> {
    /// One pair per key that `key` gives, with all elements that have it, in their order. An empty RDD gives nothing.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let odd_even = ssc.parallelize([1, 2, 3, 4, 5], 2).group_by(|n| n % 2);
    /// assert_eq!(odd_even.take_ordered(9)?, [(0, vec![2, 4]), (1, vec![1, 3, 5])]);
    /// # Ok(()) }
    /// ```
    pub fn group_by<K: Key>(&self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Rdd<(K, Vec<T>)> {
        self.group_by_with(key, self.num_partitions())
    }

    /// As [`group_by`](Rdd::group_by), into the partitions of `partitioner`.
    pub fn group_by_with<K: Key>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
        partitioner: impl Partitioner<K>,
    ) -> Rdd<(K, Vec<T>)> {
        self.key_by(key).group_by_key_with(partitioner)
    }

    /// One element, all of them put together by `f`; none for an empty RDD.
    pub(crate) fn reduced(&self, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> Rdd<T> {
        let f = Arc::new(f);
        let add = f.clone();
        let partial = self.map_partitions_folded(
            || None,
            move |folded: &mut Option<T>, element| {
                *folded = Some(match folded.take() {
                    None => element,
                    Some(before) => add(before, element),
                });
            },
        );
        partial
            .flat_map(|folded| folded.map(|value| ((), value)))
            .reduce_by_key_with(move |a, b| f(a, b), 1)
            .values()
    }
}
