//! `cache`, `persist`

use std::sync::Arc;

use super::DStream;
use super::generated::Persist;
use crate::codec::Stored;
use crate::rdd::{CachedRdd, Data, StorageLevel};

impl<T: Data> DStream<T> {
    /// Has each RDD of this stream computed once and kept in memory, for its batch or for as long as the stream
    /// [remembers](DStream::remember) it (Spark's `cache`); gives the same stream. An empty batch is kept like any other.
    ///
    /// What several operators read is kept for its batch anyway. This is for RDDs that an output operation uses
    /// several times, and for remembered ones. What is in memory already (a window's RDD, a queue's) is not copied.
    ///
    /// ```
    /// # use tidemill::testing::run_batches;
    /// # run_batches(vec![vec![1, 2]], |numbers| {
    /// let squares = numbers.map(|n| n * n).cache();
    /// squares.foreach_rdd(|rdd| {
    ///     // The squares are computed by the first of these.
    ///     println!("{} squares, the greatest is {:?}", rdd.count()?, rdd.reduce(i32::max)?);
    ///     Ok(())
    /// });
    /// # squares }).unwrap();
    /// ```
    pub fn cache(&self) -> DStream<T> {
        self.kept_by(Arc::new(CachedRdd::in_memory_once))
    }

    /// As [`cache`](DStream::cache), kept as `level` says: `StorageLevel::MemoryAndDisk` writes to a temporary file
    /// what does not fit into the context's [`storage_memory`](crate::StreamingContextBuilder::storage_memory) (Spark's
    /// `persist`). The last call before the start counts.
    ///
    /// A remembered RDD that is persisted lets go of what it was made from when its batch is over, if all of its
    /// partitions were computed by then.
    ///
    /// ```
    /// use tidemill::{StorageLevel, testing::run_batches};
    /// let out = run_batches(vec![vec![1, 2], vec![]], |numbers| {
    ///     numbers.map(|n| n * n).persist(StorageLevel::MemoryAndDisk)
    /// });
    /// assert_eq!(out.unwrap(), [vec![1, 4], vec![]]);
    /// ```
    pub fn persist(&self, level: StorageLevel) -> DStream<T>
    where
        T: Stored,
    {
        match level {
            StorageLevel::MemoryOnly => self.cache(),
            StorageLevel::MemoryAndDisk => {
                self.kept_by(Arc::new(move |rdd| Some(CachedRdd::with_level(rdd, level))))
            }
        }
    }

    fn kept_by(&self, persist: Persist<T>) -> DStream<T> {
        self.ssc.inner.lifecycle.admit("persist", || self.core.set_persist(persist));
        self.clone()
    }
}
