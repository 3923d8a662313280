//! Actions that bring a map to the caller.

use std::hash::Hash;

use indexmap::IndexMap;

use super::{Data, Operator, Rdd};
use crate::error::Result;

type Tally<K> = IndexMap<K, u64, ahash::RandomState>;

fn tally<T: Data, K: Hash + Eq + Send>(
    rdd: &Rdd<T>,
    key: impl Fn(T) -> K + Sync,
) -> Result<IndexMap<K, u64>> {
    let parts = rdd.fold_partitions(Tally::default, |counts, element| {
        *counts.entry(key(element)).or_default() += 1;
        Ok(())
    })?;
    Operator::current().caught(|| {
        let mut counts = IndexMap::new();
        for (key, n) in parts.into_iter().flatten() {
            *counts.entry(key).or_default() += n;
        }
        counts
    })
}

impl<T: Data + Hash + Eq> Rdd<T> {
    /// How often each element occurs, in the order of first occurrence; nothing for an empty RDD. The whole map is
    /// brought to the caller.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let counts = ssc.parallelize(["to", "be", "or", "not", "to", "be"], 2).count_by_value()?;
    /// assert_eq!(counts["to"], 2);
    /// assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("to", 2), ("be", 2), ("or", 1), ("not", 1)]);
    /// # Ok(()) }
    /// ```
    pub fn count_by_value(&self) -> Result<IndexMap<T, u64>> {
        tally(self, |element| element)
    }
}

impl<K: Data + Hash + Eq, V: Data> Rdd<(K, V)> {
    /// How many pairs each key has, in the order of first occurrence; nothing for an empty RDD. The whole map is
    /// brought to the caller.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let counts = ssc.parallelize([('a', 5), ('b', 6), ('a', 7)], 2).count_by_key()?;
    /// assert_eq!(counts.into_iter().collect::<Vec<_>>(), [('a', 2), ('b', 1)]);
    /// # Ok(()) }
    /// ```
    pub fn count_by_key(&self) -> Result<IndexMap<K, u64>> {
        tally(self, |(key, _)| key)
    }

    /// All pairs as a map, in the order of first occurrence; a key's last value wins. Nothing for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let map = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2).collect_as_map()?;
    /// assert_eq!(map.into_iter().collect::<Vec<_>>(), [('a', 3), ('b', 2)]);
    /// # Ok(()) }
    /// ```
    pub fn collect_as_map(&self) -> Result<IndexMap<K, V>> {
        let pairs = self.collect()?;
        Operator::current().caught(|| pairs.into_iter().collect())
    }
}

impl<K: Data + Eq, V: Data> Rdd<(K, V)> {
    /// The values of `key`, in their order; nothing if there is no such key. Looks at every pair.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let pairs = ssc.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// assert_eq!(pairs.lookup(&'a')?, [1, 3]);
    /// assert!(pairs.lookup(&'c')?.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn lookup(&self, key: &K) -> Result<Vec<V>> {
        let found = self.fold_partitions(Vec::new, |values, (k, value)| {
            if k == *key {
                values.push(value);
            }
            Ok(())
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}
