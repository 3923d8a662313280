//! `count`

use super::DStream;
use crate::rdd::{Data, HashPartitioner};

impl<T: Data> DStream<T> {
    /// One element per batch: how many elements the batch has; `0` for an empty one.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec!['a', 'b'], vec![]], |letters| letters.count()).unwrap();
    /// assert_eq!(out, [vec![2], vec![0]]);
    /// ```
    pub fn count(&self) -> DStream<u64> {
        self.each_rdd("count", |rdd| {
            let zero = rdd.derive(crate::rdd::MemoryRdd::split(vec![((), 0u64)], 1));
            let partial = rdd.map_partitions_folded(|| 0u64, |n, _| *n += 1).map(|n| ((), n));
            partial.union(&zero).reduce_by_key(HashPartitioner::new(1), |a, b| a + b).map(|(_, n)| n)
        })
    }
}
