//! `count_by_window`

use super::DStream;
use super::panes::WindowLengths;
use crate::error::Result;
use crate::rdd::Data;
use crate::time::Duration;

impl<T: Data> DStream<T> {
    /// Every `slide`, one element: how many elements the last `window` has (Spark's `countByWindow`).
    ///
    /// Before any element has come there is nothing; once the window has emptied there is `0`, from then on in every
    /// empty window. Only a count per pane is kept, never the elements. An empty batch counts as time.
    ///
    /// # Errors
    /// If window or slide is no multiple of this stream's slide duration.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec![], vec!['a', 'b'], vec!['c'], vec![], vec![]], |letters| {
    ///     letters.count_by_window(Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![], vec![2], vec![3], vec![1], vec![0]]);
    /// ```
    pub fn count_by_window(
        &self,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<u64>> {
        let lengths =
            WindowLengths::new("count_by_window", window.into(), slide.into(), self.slide_duration())?;
        let ones = self.map(|_| 1u64);
        ones.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, lengths.window, lengths.slide)
    }
}
