//! `transform`

use super::DStream;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd};
use crate::time::Time;

impl<T: Data> DStream<T> {
    /// What `f` makes of each batch's RDD; it is called for empty batches too.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2], vec![]], |n| n.transform(|rdd| rdd.filter(|n| n % 2 == 0))).unwrap();
    /// assert_eq!(out, [vec![2], vec![]]);
    /// ```
    pub fn transform<U: Data>(&self, f: impl Fn(Rdd<T>) -> Rdd<U> + Send + Sync + 'static) -> DStream<U> {
        self.transform_with_time(move |rdd, _| f(rdd))
    }

    /// As [`transform`](DStream::transform), with the batch time.
    pub fn transform_with_time<U: Data>(
        &self,
        f: impl Fn(Rdd<T>, Time) -> Rdd<U> + Send + Sync + 'static,
    ) -> DStream<U> {
        self.try_transform(move |rdd, time| Ok(f(rdd, time)))
    }

    /// As [`transform_with_time`](DStream::transform_with_time), where `f` may fail; that fails the batch.
    pub fn try_transform<U: Data>(
        &self,
        f: impl Fn(Rdd<T>, Time) -> Result<Rdd<U>> + Send + Sync + 'static,
    ) -> DStream<U> {
        let parent = self.core.clone();
        self.derive("transform", &[], self.slide_duration(), move |time| {
            match parent.get_or_compute(time)? {
                Some(rdd) => f(rdd, time).map(Some),
                None => Err(Error::task(format!("the parent of `transform` gave no RDD for batch {time}"))),
            }
        })
    }
}
