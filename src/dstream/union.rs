//! `union`

use super::DStream;
use crate::context::StreamingContext;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd};

impl<T: Data> DStream<T> {
    /// The elements of this stream's batch, then those of `other`'s.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1], vec![]], |numbers| {
    ///     let tens = numbers.map(|n| n * 10);
    ///     numbers.union(&tens).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1, 10], vec![]]);
    /// ```
    #[track_caller]
    pub fn union(&self, other: &DStream<T>) -> Result<DStream<T>> {
        self.ssc.union([self, other])
    }
}

impl StreamingContext {
    /// The elements of the batches of all `streams`, in the order in which they are given; an empty batch if all are empty.
    ///
    /// # Errors
    /// If there are none, two have different slide durations, or one is of another context.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1], vec![]], |numbers| {
    ///     let (tens, hundreds) = (numbers.map(|n| n * 10), numbers.map(|n| n * 100));
    ///     numbers.context().union([numbers, &tens, &hundreds]).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1, 10, 100], vec![]]);
    /// ```
    pub fn union<'a, T: Data>(
        &self,
        streams: impl IntoIterator<Item = &'a DStream<T>>,
    ) -> Result<DStream<T>> {
        self.with_all("union", streams, |rdds, _| {
            let mut rdds = rdds.into_iter();
            let first = rdds.next().ok_or_else(|| Error::internal("a union of no RDDs"))?;
            Ok(Rdd::union_all(&first, rdds))
        })
    }
}
