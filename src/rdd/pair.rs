//! Operators on RDDs of pairs.

use std::sync::Arc;

use parking_lot::Mutex;

use super::shuffle::{CombineByKey, PartitionBy};
use super::{Data, Partitioner, Rdd};
use crate::codec::Key;

impl<K: Key, V: Data> Rdd<(K, V)> {
    /// Each pair with its value changed by `f`; keys and partitions stay.
    pub fn map_values<U: Data>(&self, f: impl Fn(V) -> U + Send + Sync + 'static) -> Rdd<(K, U)> {
        self.map(move |(key, value)| (key, f(value)))
    }

    /// One pair per key, its values put together by `f`, which must be associative and commutative.
    /// Combines on the map side first; an empty RDD gives nothing.
    pub fn reduce_by_key(
        &self,
        partitioner: impl Partitioner<K>,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> Rdd<(K, V)> {
        let f = Arc::new(f);
        let merge = f.clone();
        self.combine_by_key(partitioner, |v| v, move |a, b| f(a, b), move |a, b| merge(a, b))
    }

    /// One pair per key: `create` makes a combined value of a first one, `merge_value` adds a further
    /// one, `merge` puts two combined values together (Spark's `combineByKey`).
    pub fn combine_by_key<C: Data>(
        &self,
        partitioner: impl Partitioner<K>,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> Rdd<(K, C)> {
        let parent = self.node.clone();
        self.derive(CombineByKey {
            parent,
            partitioner: Arc::new(partitioner),
            create,
            merge_value,
            merge,
            output: Mutex::default(),
        })
    }

    /// The same pairs, each in the partition of its key; pairs of a partition keep their order.
    pub fn partition_by(&self, partitioner: impl Partitioner<K>) -> Rdd<(K, V)> {
        self.derive(PartitionBy {
            parent: self.node.clone(),
            partitioner: Arc::new(partitioner),
            output: Mutex::default(),
        })
    }
}
