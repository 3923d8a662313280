//! Operators that look at an RDD as a set.

use std::sync::Arc;

use super::partitioner::AnyPartitioner;
use super::{Partitioner, Rdd};
use crate::codec::Key;

impl<T: Key> Rdd<T> {
    /// Each element once. An empty RDD gives nothing.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([2, 1, 2, 3], 2).distinct().take_ordered(9)?, [1, 2, 3]);
    /// # Ok(()) }
    /// ```
    pub fn distinct(&self) -> Rdd<T> {
        self.distinct_with(self.num_partitions())
    }

    /// As [`distinct`](Rdd::distinct), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([2, 1, 2, 3], 2).distinct_with(1).glom().collect()?, [[2, 1, 3]]);
    /// # Ok(()) }
    /// ```
    pub fn distinct_with(&self, partitioner: impl Partitioner<T>) -> Rdd<T> {
        self.map(|element| (element, ())).reduce_by_key_with(|(), ()| (), partitioner).keys()
    }

    /// The elements that are in this RDD and in `other`, each once; nothing if either is empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (left, right) = (ssc.parallelize([2, 1, 2, 3], 2), ssc.parallelize([2, 2, 3, 4], 2));
    /// assert_eq!(left.intersection(&right).take_ordered(9)?, [2, 3]);
    /// # Ok(()) }
    /// ```
    pub fn intersection(&self, other: &Rdd<T>) -> Rdd<T> {
        self.intersection_with(other, self.partitions_of_both(other))
    }

    /// As [`intersection`](Rdd::intersection), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (left, right) = (ssc.parallelize([2, 1, 2, 3], 2), ssc.parallelize([2, 2, 3, 4], 2));
    /// assert_eq!(left.intersection_with(&right, 1).glom().collect()?, [[2, 3]]);
    /// # Ok(()) }
    /// ```
    pub fn intersection_with(&self, other: &Rdd<T>, partitioner: impl Partitioner<T>) -> Rdd<T> {
        let by: AnyPartitioner<T> = Arc::new(partitioner);
        let wanted = other.distinct_with(by.clone());
        self.distinct_with(by).filter_by_presence("intersection", &wanted, |element| element, true)
    }

    /// The elements that are not in `other`, as often as they are here; all of them if `other` is empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (left, right) = (ssc.parallelize([1, 2, 3, 1], 2), ssc.parallelize([2, 2, 4], 2));
    /// assert_eq!(left.subtract(&right).take_ordered(9)?, [1, 1, 3]);
    /// # Ok(()) }
    /// ```
    pub fn subtract(&self, other: &Rdd<T>) -> Rdd<T> {
        self.subtract_with(other, self.num_partitions())
    }

    /// As [`subtract`](Rdd::subtract), into the partitions of `partitioner`, which may be just their number.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let (left, right) = (ssc.parallelize([1, 2, 3, 1], 2), ssc.parallelize([2, 2, 4], 2));
    /// assert_eq!(left.subtract_with(&right, 1).glom().collect()?, [[1, 3, 1]]);
    /// # Ok(()) }
    /// ```
    pub fn subtract_with(&self, other: &Rdd<T>, partitioner: impl Partitioner<T>) -> Rdd<T> {
        let by: AnyPartitioner<T> = Arc::new(partitioner);
        let gone = other.distinct_with(by.clone());
        let here = self.map(|element| (element, ())).partition_by(by);
        here.filter_by_presence("subtract", &gone, |(element, ())| element, false).keys()
    }
}
