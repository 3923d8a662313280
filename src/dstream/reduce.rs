//! `reduce`

use std::sync::Arc;

use super::DStream;
use crate::rdd::Data;

impl<T: Data> DStream<T> {
    /// One element per batch: all of its elements put together by `f`, which must be associative; they are put together in
    /// their order. An empty batch gives nothing.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2, 3], vec![], vec![4]], |numbers| numbers.reduce(|a, b| a + b));
    /// assert_eq!(out.unwrap(), [vec![6], vec![], vec![4]]);
    /// ```
    pub fn reduce(&self, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> DStream<T> {
        let f = Arc::new(f);
        self.each_rdd("reduce", move |rdd| {
            let f = f.clone();
            rdd.reduced(move |a, b| f(a, b))
        })
    }
}
