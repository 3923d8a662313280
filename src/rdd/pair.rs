//! Operators on RDDs of pairs that look at one pair at a time, and what makes pairs.

use super::{Data, Operator, Rdd, hand_on};

impl<T: Data> Rdd<T> {
    /// Each element with the key that `key` gives for it in front. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let words = ssc.parallelize(["tide", "mill"], 1);
    /// assert_eq!(words.key_by(|word| word.len()).collect()?, [(4, "tide"), (4, "mill")]);
    /// # Ok(()) }
    /// ```
    pub fn key_by<K: Data>(&self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Rdd<(K, T)> {
        self.map(move |element| (key(&element), element))
    }
}

impl<K: Data, V: Data> Rdd<(K, V)> {
    /// The key of each pair. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([('a', 1), ('b', 2)], 2).keys().collect()?, ['a', 'b']);
    /// # Ok(()) }
    /// ```
    pub fn keys(&self) -> Rdd<K> {
        self.map(|(key, _)| key)
    }

    /// The value of each pair. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([('a', 1), ('b', 2)], 2).values().collect()?, [1, 2]);
    /// # Ok(()) }
    /// ```
    pub fn values(&self) -> Rdd<V> {
        self.map(|(_, value)| value)
    }

    /// Each pair with its value changed by `f`; keys and partitions stay. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 1), ('b', 2)], 2);
    /// assert_eq!(pairs.map_values(|n| n * 10).collect()?, [('a', 10), ('b', 20)]);
    /// # Ok(()) }
    /// ```
    pub fn map_values<U: Data>(&self, f: impl Fn(V) -> U + Send + Sync + 'static) -> Rdd<(K, U)> {
        self.map(move |(key, value)| (key, f(value)))
    }

    /// For each pair, its key with every value that `f` gives for its value, in order. An empty RDD stays empty.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 2), ('b', 0), ('c', 1)], 2);
    /// assert_eq!(pairs.flat_map_values(|n| 0..n).collect()?, [('a', 0), ('a', 1), ('c', 0)]);
    /// # Ok(()) }
    /// ```
    pub fn flat_map_values<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> Rdd<(K, U)> {
        let operator = Operator::current();
        self.narrow(move |parent, p, task, emit| {
            parent.compute(p, task, &mut |(key, value)| {
                operator.run(|| f(value).into_iter().try_for_each(|made| hand_on(emit, (key.clone(), made))))
            })
        })
    }
}
