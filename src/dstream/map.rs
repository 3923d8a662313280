//! `map`

use std::sync::Arc;

use super::DStream;
use crate::rdd::Data;

impl<T: Data> DStream<T> {
    /// Each element, changed by `f`. An empty batch stays empty.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2], vec![], vec![3]], |numbers| numbers.map(|n| n * 10)).unwrap();
    /// assert_eq!(out, [vec![10, 20], vec![], vec![30]]);
    /// ```
    #[track_caller]
    pub fn map<U: Data>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> DStream<U> {
        let f = Arc::new(f);
        self.each_rdd("map", move |rdd| {
            let f = f.clone();
            rdd.map(move |element| f(element))
        })
    }
}
