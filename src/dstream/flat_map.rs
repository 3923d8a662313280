//! `flat_map`

use std::sync::Arc;

use super::DStream;
use crate::rdd::Data;

impl<T: Data> DStream<T> {
    /// What `f` gives for each element, in order. An empty batch stays empty.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec!["to be", "or not"], vec![]], |lines| {
    ///     lines.flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    /// });
    /// assert_eq!(out.unwrap(), [vec!["to", "be", "or", "not"], vec![]]);
    /// ```
    #[track_caller]
    pub fn flat_map<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> DStream<U> {
        let f = Arc::new(f);
        self.each_rdd("flat_map", move |rdd| {
            let f = f.clone();
            rdd.flat_map(move |element| f(element))
        })
    }
}
