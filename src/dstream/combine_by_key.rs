//! `combine_by_key`

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::rdd::{Data, Partitioner};

impl<K: Key, V: Data> DStream<(K, V)> {
    /// One pair per key of the batch: `create` makes a combined value of a partition's first one, `merge_value` adds a
    /// further one, `merge` puts two combined values together, that of the earlier partition first. An empty batch gives
    /// nothing.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 1), ('b', 2), ('a', 3)], vec![]], |pairs| {
    ///     pairs.combine_by_key(|n| (n, 1), |(sum, count), n| (sum + n, count + 1), |a, b| (a.0 + b.0, a.1 + b.1))
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', (4, 2)), ('b', (2, 1))], vec![]]);
    /// ```
    pub fn combine_by_key<C: Data>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> DStream<(K, C)> {
        self.combine_by_key_with(create, merge_value, merge, self.ssc.default_partitioner())
    }

    /// As [`combine_by_key`](DStream::combine_by_key), into the partitions of `partitioner`, which may be just their number.
    /// An empty batch gives empty partitions.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![('a', 3), ('b', 2), ('a', 1)], vec![]], |pairs| {
    ///     let most = |a: i64, b: i64| a.max(b);
    ///     pairs.combine_by_key_with(|n| n, most, most, 1).glom()
    /// });
    /// assert_eq!(out.unwrap(), [[vec![('a', 3), ('b', 2)]], [vec![]]]);
    /// ```
    pub fn combine_by_key_with<C: Data>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        merge_value: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
        partitioner: impl Partitioner<K>,
    ) -> DStream<(K, C)> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        let functions = Arc::new((create, merge_value, merge));
        self.each_rdd("combine_by_key", move |rdd| {
            let (create, merge_value, merge) = (functions.clone(), functions.clone(), functions.clone());
            rdd.combine_by_key_with(
                move |value| (create.0)(value),
                move |combined, value| (merge_value.1)(combined, value),
                move |a, b| (merge.2)(a, b),
                by.clone(),
            )
        })
    }
}
