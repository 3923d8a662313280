//! `map_values`

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::rdd::Data;

impl<K: Key, V: Data> DStream<(K, V)> {
    /// Each pair with its value changed by `f`. An empty batch stays empty.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![("a", 1)]], |p| p.map(|(k, n)| (k.to_owned(), n)).map_values(|n| n + 1));
    /// assert_eq!(out.unwrap(), [vec![("a".to_owned(), 2)]]);
    /// ```
    pub fn map_values<U: Data>(&self, f: impl Fn(V) -> U + Send + Sync + 'static) -> DStream<(K, U)> {
        let f = Arc::new(f);
        self.each_rdd("map_values", move |rdd| {
            let f = f.clone();
            rdd.map_values(move |value| f(value))
        })
    }
}
