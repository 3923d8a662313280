//! `count_by_value_and_window`

use super::DStream;
use super::panes::WindowLengths;
use crate::codec::Key;
use crate::error::Result;
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
        let WindowLengths { window, slide, .. } = WindowLengths::new(
            "count_by_value_and_window",
            window.into(),
            slide.into(),
            self.slide_duration(),
        )?;
        let ones = self.map(|element| (element, 1u64));
        ones.reduce_by_key_and_window_with_inverse_filtered(
            |a, b| a + b,
            |a, b| a - b,
            window,
            slide,
            |_, count| *count != 0,
        )
    }
}
