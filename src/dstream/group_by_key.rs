//! `group_by_key`

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::rdd::{Data, Partitioner};

impl<K: Key, V: Data> DStream<(K, V)> {
    /// One pair per key of the batch, with all its values in the order of their arrival. An empty batch gives nothing.
    ///
    /// All values of a key are in memory at once; where they are only put together, `reduce_by_key` needs less.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 3), ('b', 2), ('a', 1)], vec![]], |pairs| pairs.group_by_key());
    /// assert_eq!(out.unwrap(), [vec![('a', vec![3, 1]), ('b', vec![2])], vec![]]);
    /// ```
    pub fn group_by_key(&self) -> DStream<(K, Vec<V>)> {
        self.group_by_key_with(self.ssc.default_partitioner())
    }

    /// As [`group_by_key`](DStream::group_by_key), into the partitions of `partitioner`, which may be just their number. An
    /// empty batch gives empty partitions.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![('a', 3), ('b', 2), ('a', 1)], vec![]], |pairs| {
    ///     pairs.group_by_key_with(1).glom()
    /// });
    /// assert_eq!(out.unwrap(), [[vec![('a', vec![3, 1]), ('b', vec![2])]], [vec![]]]);
    /// ```
    pub fn group_by_key_with(&self, partitioner: impl Partitioner<K>) -> DStream<(K, Vec<V>)> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.each_rdd("group_by_key", move |rdd| rdd.group_by_key_with(by.clone()))
    }
}
