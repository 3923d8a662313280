//! `map_values`, `flat_map_values` and `partition_by`

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::rdd::{Data, Partitioner};

impl<K: Data, V: Data> DStream<(K, V)> {
    /// Each pair with its value changed by `f`. An empty batch stays empty.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![("a", 1)], vec![]], |pairs| pairs.map_values(|n| n + 1));
    /// assert_eq!(out.unwrap(), [vec![("a", 2)], vec![]]);
    /// ```
    #[track_caller]
    pub fn map_values<U: Data>(&self, f: impl Fn(V) -> U + Send + Sync + 'static) -> DStream<(K, U)> {
        let f = Arc::new(f);
        self.each_rdd("map_values", move |rdd| {
            let f = f.clone();
            rdd.map_values(move |value| f(value))
        })
    }

    /// For each pair, its key with every value that `f` gives for its value, in order. An empty batch stays empty.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![("a", 2), ("b", 0)], vec![]], |pairs| pairs.flat_map_values(|n| 0..n));
    /// assert_eq!(out.unwrap(), [vec![("a", 0), ("a", 1)], vec![]]);
    /// ```
    pub fn flat_map_values<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> DStream<(K, U)> {
        let f = Arc::new(f);
        self.each_rdd("flat_map_values", move |rdd| {
            let f = f.clone();
            rdd.flat_map_values(move |value| f(value))
        })
    }
}

impl<K: Key, V: Data> DStream<(K, V)> {
    /// The same pairs, each in the partition of its key (`partitioner` may be just a number of partitions); pairs of a
    /// partition keep their order. An empty batch gives empty partitions.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![('a', 1), ('b', 2), ('a', 3)], vec![]], |pairs| {
    ///     pairs.repartition(3).partition_by(1).glom()
    /// });
    /// assert_eq!(out.unwrap(), [[vec![('a', 1), ('b', 2), ('a', 3)]], [vec![]]]);
    /// ```
    pub fn partition_by(&self, partitioner: impl Partitioner<K>) -> DStream<(K, V)> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.each_rdd("partition_by", move |rdd| rdd.partition_by(by.clone()))
    }
}
