//! `map_partitions`, `glom` and `repartition`

use std::sync::Arc;

use super::DStream;
use crate::rdd::Data;

impl<T: Data> DStream<T> {
    /// What `f` gives for the elements of each partition; it is called for empty partitions too. A batch has a partition
    /// for each that was read, so an empty batch may have none.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2, 3], vec![]], |n| n.map_partitions(|part| [part.iter().sum::<i32>()]));
    /// assert_eq!(out.unwrap(), [[6], [0]]);
    /// ```
    pub fn map_partitions<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(Vec<T>) -> I + Send + Sync + 'static,
    ) -> DStream<U> {
        let f = Arc::new(f);
        self.each_rdd("map_partitions", move |rdd| {
            let f = f.clone();
            rdd.map_partitions(move |elements| f(elements))
        })
    }

    /// As [`map_partitions`](DStream::map_partitions), with the partition's number in its batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec!['a', 'b', 'c'], vec![]], |letters| {
    ///     letters.repartition(2).map_partitions_with_index(|i, part| part.into_iter().map(move |letter| (i, letter)))
    /// });
    /// assert_eq!(out.unwrap(), [vec![(0, 'a'), (0, 'c'), (1, 'b')], vec![]]);
    /// ```
    pub fn map_partitions_with_index<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(usize, Vec<T>) -> I + Send + Sync + 'static,
    ) -> DStream<U> {
        let f = Arc::new(f);
        self.each_rdd("map_partitions_with_index", move |rdd| {
            let f = f.clone();
            rdd.map_partitions_with_index(move |i, elements| f(i, elements))
        })
    }

    /// One vector per partition, an empty one for an empty partition; a batch without partitions gives nothing.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2, 3], vec![]], |numbers| numbers.repartition(2).glom());
    /// assert_eq!(out.unwrap(), [[vec![1, 3], vec![2]], [vec![], vec![]]]);
    /// ```
    pub fn glom(&self) -> DStream<Vec<T>> {
        self.each_rdd("glom", |rdd| rdd.glom())
    }

    /// The same elements, dealt out to `partitions` partitions (at least one) of about the same length; see
    /// [`Rdd::repartition`](crate::Rdd::repartition). An empty batch gives empty partitions.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2, 3, 4], vec![]], |numbers| numbers.repartition(3).glom());
    /// assert_eq!(out.unwrap(), [[vec![1, 4], vec![2], vec![3]], [vec![], vec![], vec![]]]);
    /// ```
    pub fn repartition(&self, partitions: usize) -> DStream<T> {
        self.each_rdd("repartition", move |rdd| rdd.repartition(partitions))
    }
}
