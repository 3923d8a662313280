//! `count_by_value`

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::rdd::Partitioner;

impl<T: Key> DStream<T> {
    /// Each different element of the batch with how often it occurs. An empty batch gives nothing.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec!['b', 'a', 'b'], vec![]], |letters| letters.count_by_value());
    /// assert_eq!(out.unwrap(), [vec![('a', 1), ('b', 2)], vec![]]);
    /// ```
    pub fn count_by_value(&self) -> DStream<(T, u64)> {
        self.count_by_value_with(self.ssc.default_partitioner())
    }

    /// As [`count_by_value`](DStream::count_by_value), into the partitions of `partitioner`.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec!['b', 'a', 'b'], vec![]], |letters| letters.count_by_value_with(1));
    /// assert_eq!(out.unwrap(), [vec![('b', 2), ('a', 1)], vec![]]);
    /// ```
    pub fn count_by_value_with(&self, partitioner: impl Partitioner<T>) -> DStream<(T, u64)> {
        let by: Arc<dyn Partitioner<T>> = Arc::new(partitioner);
        self.each_rdd("count_by_value", move |rdd| {
            rdd.map(|element| (element, 1)).reduce_by_key_with(|a, b| a + b, by.clone())
        })
    }
}
