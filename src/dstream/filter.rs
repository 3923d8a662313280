//! `filter`

use std::sync::Arc;

use super::DStream;
use crate::rdd::Data;

impl<T: Data> DStream<T> {
    /// The elements for which `keep` is true. An empty batch stays empty.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2, 3], vec![]], |numbers| numbers.filter(|n| n % 2 == 1)).unwrap();
    /// assert_eq!(out, [vec![1, 3], vec![]]);
    /// ```
    #[track_caller]
    pub fn filter(&self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> DStream<T> {
        let keep = Arc::new(keep);
        self.each_rdd("filter", move |rdd| {
            let keep = keep.clone();
            rdd.filter(move |element| keep(element))
        })
    }
}
