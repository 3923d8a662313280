//! `group_by_key_and_window`

use std::sync::Arc;

use super::DStream;
use crate::codec::{Key, Stored};
use crate::error::Result;
use crate::rdd::Partitioner;
use crate::time::Duration;

impl<K: Key, V: Stored> DStream<(K, V)> {
    /// Every `slide`, one pair per key of the last `window`: the key, and all of its values, oldest first (Spark's
    /// `groupByKeyAndWindow`). A key without a value in the window is not in the output. An empty batch counts as time.
    ///
    /// All pairs of the window are kept, and are grouped anew at each slide; where values can be combined,
    /// [`reduce_by_key_and_window`](DStream::reduce_by_key_and_window) costs less.
    ///
    /// # Errors
    /// If window or slide is no multiple of this stream's slide duration.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec![('a', 3), ('b', 1)], vec![('a', 2)], vec![], vec![]], |pairs| {
    ///     pairs.group_by_key_and_window(Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// let first = vec![('a', vec![3]), ('b', vec![1])];
    /// let second = vec![('a', vec![3, 2]), ('b', vec![1])];
    /// assert_eq!(out.unwrap(), [first, second, vec![('a', vec![2])], vec![]]);
    /// ```
    pub fn group_by_key_and_window(
        &self,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<(K, Vec<V>)>> {
        self.group_by_key_and_window_with(window, slide, self.ssc.default_partitioner())
    }

    /// As [`group_by_key_and_window`](DStream::group_by_key_and_window), into the partitions of `partitioner`, which may be
    /// just their number.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec![('a', 3), ('b', 1)], vec![('a', 2)], vec![], vec![]], |pairs| {
    ///     pairs.group_by_key_and_window_with(Duration::seconds(2), Duration::seconds(1), 1).unwrap().glom()
    /// });
    /// let first = vec![('a', vec![3]), ('b', vec![1])];
    /// let second = vec![('a', vec![3, 2]), ('b', vec![1])];
    /// assert_eq!(out.unwrap(), [[first], [second], [vec![('a', vec![2])]], [vec![]]]);
    /// ```
    pub fn group_by_key_and_window_with(
        &self,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
        partitioner: impl Partitioner<K>,
    ) -> Result<DStream<(K, Vec<V>)>> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        let pairs = self.window_of("group_by_key_and_window", window.into(), slide.into())?;
        Ok(pairs.completed_by("group_by_key_and_window", move |rdd| rdd.group_by_key_with(by.clone())))
    }
}
