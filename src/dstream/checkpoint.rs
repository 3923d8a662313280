//! `checkpoint`

use super::DStream;
use crate::error::{Error, Result};
use crate::rdd::Data;
use crate::time::Duration;

impl<T: Data> DStream<T> {
    /// Checks that `interval` is a positive multiple of this stream's slide duration, and gives the same stream
    /// (Spark's `checkpoint`).
    ///
    /// It is there so that a program may say what it says in Spark. It changes nothing: in Tidemill the changes of a
    /// state are written with every batch, in the same write as the offsets, to the folder that the
    /// [context was given](crate::StreamingContextBuilder::checkpoint). What did not change is not written again, so there
    /// is no interval to choose, and no lineage to cut.
    ///
    /// # Errors
    /// If `interval` is no positive multiple of the slide duration.
    ///
    /// ```
    /// # use tidemill::{Duration, testing::run_batches};
    /// # run_batches(vec![vec!["a"]], |words| {
    /// let pairs = words.map(|word| (word.to_owned(), 1));
    /// let totals = pairs.update_state_by_key(|new, total: Option<i64>| Some(total.unwrap_or(0) + new.iter().sum::<i64>()));
    /// assert!(totals.checkpoint(Duration::seconds(10)).is_ok());
    /// assert!(totals.checkpoint(Duration::millis(1_500)).is_err());
    /// # totals }).unwrap();
    /// ```
    pub fn checkpoint(&self, interval: impl Into<Duration>) -> Result<DStream<T>> {
        let (interval, slide) = (interval.into(), self.slide_duration());
        if interval <= Duration::ZERO || !interval.is_multiple_of(slide) {
            return Err(Error::config(format!(
                "the checkpoint interval {interval} must be a positive multiple of the stream's slide duration {slide}"
            )));
        }
        Ok(self.clone())
    }
}
