//! `reduce_by_window`, with and without an inverse function.

use super::DStream;
use super::panes::WindowLengths;
use crate::codec::Stored;
use crate::error::Result;
use crate::time::Duration;

impl<T: Stored> DStream<T> {
    /// Every `slide`, one element: all elements of the last `window` put together by `reduce`, which must be
    /// associative; nothing for an empty window (Spark's `reduceByWindow`). An empty batch counts as time.
    ///
    /// # Errors
    /// If window or slide is no multiple of this stream's slide duration.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec![3, 5], vec![4], vec![], vec![]], |numbers| {
    ///     numbers.reduce_by_window(i32::max, Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![5], vec![5], vec![4], vec![]]);
    /// ```
    pub fn reduce_by_window(
        &self,
        reduce: impl Fn(T, T) -> T + Send + Sync + 'static,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<T>> {
        let lengths =
            WindowLengths::new("reduce_by_window", window.into(), slide.into(), self.slide_duration())?;
        let reduced = self.under_one_key().reduce_by_key_and_window(reduce, lengths.window, lengths.slide)?;
        Ok(reduced.completed_by("reduce_by_window", |rdd| rdd.map(|((), value)| value)))
    }

    /// As [`reduce_by_window`](DStream::reduce_by_window), where each window's value is made of the last one's:
    /// `inverse` takes out what has left. Before any element has come there is nothing; later an empty window has a
    /// value too: the last one with everything taken out.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec![], vec![3, 5], vec![4], vec![], vec![]], |numbers| {
    ///     let s = Duration::seconds;
    ///     numbers.reduce_by_window_with_inverse(|a, b| a + b, |a, b| a - b, s(2), s(1)).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![], vec![8], vec![12], vec![4], vec![0]]);
    /// ```
    pub fn reduce_by_window_with_inverse(
        &self,
        reduce: impl Fn(T, T) -> T + Send + Sync + 'static,
        inverse: impl Fn(T, T) -> T + Send + Sync + 'static,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<T>> {
        let lengths = WindowLengths::new(
            "reduce_by_window_with_inverse",
            window.into(),
            slide.into(),
            self.slide_duration(),
        )?;
        let reduced = self.under_one_key().reduce_by_key_and_window_with_inverse(
            reduce,
            inverse,
            lengths.window,
            lengths.slide,
        )?;
        Ok(reduced.completed_by("reduce_by_window", |rdd| rdd.map(|((), value)| value)))
    }

    /// One key for all: the window of a whole stream is that of a stream with a single key.
    fn under_one_key(&self) -> DStream<((), T)> {
        self.map(|element| ((), element))
    }
}
