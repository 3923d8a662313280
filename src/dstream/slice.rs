//! `slice`

use super::DStream;
use crate::context::ContextState;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd, caught};
use crate::time::Time;

impl<T: Data> DStream<T> {
    /// The RDDs of the batches `from` to `to`, both included, oldest first; times between two slides stand for the
    /// slide before them (Spark's `slice`). An empty batch has an (empty) RDD.
    ///
    /// It may be called from an output operation, for the batch that runs, or from elsewhere. An RDD that the stream has not
    /// computed is computed where that is possible: for the running batch, and from RDDs that its parents remember. Older
    /// ones are there if the stream [remembers](DStream::remember) them.
    ///
    /// Batches before the first one since the start are left out, as windows do it. What must outlive a restart belongs into a
    /// [`window`](DStream::window) or a state, which are part of the checkpoint.
    ///
    /// # Errors
    /// If the context has not started, `to` lies after the batch that began last, or a batch is not remembered.
    ///
    /// ```
    /// use tidemill::{Duration, RddQueue, Time, testing::TestContext};
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("slices")?;
    /// let queue = RddQueue::new();
    /// (1..=4).for_each(|n| queue.push([n]));
    /// let squares = test.ssc.queue_stream(&queue).map(|n| n * n).remember(Duration::seconds(3));
    /// squares.print();
    /// test.run(4)?;
    ///
    /// let at = |seconds: i64| Time::from_millis(seconds * 1_000);
    /// let last = squares.slice(at(2), at(4))?.iter().map(|rdd| rdd.collect()).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(last, [[4], [9], [16]]);
    /// assert!(squares.slice(at(1), at(4)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn slice(&self, from: Time, to: Time) -> Result<Vec<Rdd<T>>> {
        let times = self.core.times();
        let Some((since, latest)) = times.range().filter(|_| self.ssc.state() != ContextState::Initialized)
        else {
            return Err(Error::usage(
                "a slice of a stream before its context's first batch: start the context first",
            ));
        };
        let slide = self.slide_duration();
        let (from, to) = (from.floor(slide), to.floor(slide));
        if to > latest {
            return Err(Error::usage(format!(
                "a slice from {from} to {to}, but the latest batch is {latest}: a slice cannot look ahead"
            )));
        }
        // Before the oldest there is nothing to give.
        let oldest = self.core.oldest().map_or(since, |oldest| oldest.min(since));
        let mut time = from.max(oldest.floor(slide));
        let mut rdds = Vec::new();
        while time <= to {
            if time >= since || self.core.is_kept(time) {
                let rdd = caught(|| self.core.get_or_compute(time));
                rdds.extend(rdd.map_err(|e| e.within(format!("slice from {from} to {to}")))?);
            }
            time = time + slide;
        }
        Ok(rdds)
    }
}
