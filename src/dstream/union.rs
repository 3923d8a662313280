//! `union`

use super::DStream;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd};

impl<T: Data> DStream<T> {
    /// The elements of this stream's batch, then those of `other`'s.
    ///
    /// # Errors
    /// If the two have different slide durations.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1], vec![]], |numbers| {
    ///     let tens = numbers.map(|n| n * 10);
    ///     numbers.union(&tens).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1, 10], vec![]]);
    /// ```
    pub fn union(&self, other: &DStream<T>) -> Result<DStream<T>> {
        let slide = self.slide_duration();
        if slide != other.slide_duration() {
            return Err(Error::config(format!(
                "union of streams that slide by {slide} and by {}: both must slide alike",
                other.slide_duration()
            )));
        }
        let parents = [self.core.clone(), other.core.clone()];
        Ok(self.derive("union", &[other.id()], slide, move |time| {
            let rdds =
                parents.iter().map(|p| p.get_or_compute(time)).collect::<Result<Option<Vec<Rdd<T>>>>>()?;
            let Some(rdds) = rdds else {
                return Err(Error::task(format!("a parent of `union` gave no RDD for batch {time}")));
            };
            let mut rdds = rdds.into_iter();
            Ok(rdds.next().map(|first| Rdd::union_all(&first, rdds)))
        }))
    }
}
