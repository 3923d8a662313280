//! `count_by_value_and_window`

use super::DStream;
use super::panes::WindowLengths;
use super::window_spec::WindowSpec;
use crate::codec::Key;
use crate::error::Result;
use crate::rdd::Partitioner;
use crate::time::Duration;

impl<T: Key> DStream<T> {
    /// Every `slide`, one pair per distinct element of the last `window`: the element, and how often it is there
    /// (Spark's `countByValueAndWindow`). What has left the window is not in the output. An empty batch counts as time.
    ///
    /// # Errors
    /// If window or slide is no multiple of this stream's slide duration.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!['a', 'b', 'a'], vec!['a'], vec![], vec![]], |letters| {
    ///     letters.count_by_value_and_window(Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', 2), ('b', 1)], vec![('a', 3), ('b', 1)], vec![('a', 1)], vec![]]);
    /// ```
    pub fn count_by_value_and_window(
        &self,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<(T, u64)>> {
        self.count_by_value_and_window_with(window, slide, self.ssc.default_partitioner())
    }

    /// As [`count_by_value_and_window`](DStream::count_by_value_and_window), into the partitions of `partitioner`, which may
    /// be just their number. A checkpoint keeps its number of partitions: to start with another one is an error.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec!['b', 'a', 'b'], vec![], vec![]], |letters| {
    ///     letters.count_by_value_and_window_with(Duration::seconds(2), Duration::seconds(1), 1).unwrap().glom()
    /// });
    /// let both = vec![('a', 1), ('b', 2)];
    /// assert_eq!(out.unwrap(), [[both.clone()], [both], [vec![]]]);
    /// ```
    pub fn count_by_value_and_window_with(
        &self,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
        partitioner: impl Partitioner<T>,
    ) -> Result<DStream<(T, u64)>> {
        let WindowLengths { window, slide, .. } = WindowLengths::new(
            "count_by_value_and_window",
            window.into(),
            slide.into(),
            self.slide_duration(),
        )?;
        let ones = self.map(|element| (element, 1u64));
        let counts = WindowSpec::reduce(|a, b| a + b).inverse(|a, b| a - b).filter(|_, count| *count != 0);
        ones.reduce_by_key_and_window_with(counts.partitioner(partitioner), window, slide)
    }
}
