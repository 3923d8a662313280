//! `map_values`

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
    pub fn map_values<U: Data>(&self, f: impl Fn(V) -> U + Clone + Send + Sync + 'static) -> DStream<(K, U)> {
        self.each_rdd("map_values", move |rdd| rdd.map_values(f.clone()))
    }
}
