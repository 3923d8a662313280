//! `reduce_by_key`

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::rdd::{Data, Partitioner};

impl<K: Key, V: Data> DStream<(K, V)> {
    /// One pair per key of the batch, its values put together by `f`, which must be associative and
    /// commutative. An empty batch gives nothing.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec!["a", "b", "a"], vec![]], |words| {
    ///     words.map(|w| (w.to_owned(), 1)).reduce_by_key(|a, b| a + b)
    /// });
    /// assert_eq!(out.unwrap(), [vec![("a".to_owned(), 2), ("b".to_owned(), 1)], vec![]]);
    /// ```
    #[track_caller]
    pub fn reduce_by_key(&self, f: impl Fn(V, V) -> V + Send + Sync + 'static) -> DStream<(K, V)> {
        self.reduce_by_key_with(f, self.ssc.default_partitioner())
    }

    /// As [`reduce_by_key`](DStream::reduce_by_key), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![('b', 1), ('a', 2), ('b', 3)], vec![]], |pairs| {
    ///     pairs.reduce_by_key_with(|a, b| a + b, 1)
    /// });
    /// assert_eq!(out.unwrap(), [vec![('b', 4), ('a', 2)], vec![]]);
    /// ```
    pub fn reduce_by_key_with(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        partitioner: impl Partitioner<K>,
    ) -> DStream<(K, V)> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        let f = Arc::new(f);
        self.each_rdd("reduce_by_key", move |rdd| {
            let f = f.clone();
            rdd.reduce_by_key_with(move |a, b| f(a, b), by.clone())
        })
    }
}
