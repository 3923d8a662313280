//! `count`

use super::DStream;
use crate::rdd::{Data, MemoryRdd};

impl<T: Data> DStream<T> {
    /// One element per batch: how many elements the batch has; `0` for an empty one.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec!['a', 'b'], vec![]], |letters| letters.count()).unwrap();
    /// assert_eq!(out, [vec![2], vec![0]]);
    /// ```
    #[track_caller]
    pub fn count(&self) -> DStream<u64> {
        self.each_rdd("count", |rdd| {
            let zero = rdd.derive(MemoryRdd::split(vec![0], 1));
            let partial = rdd.map_partitions_folded(|| 0, |n, _| *n += 1);
            partial.union(&zero).reduced(|a, b| a + b)
        })
    }
}
