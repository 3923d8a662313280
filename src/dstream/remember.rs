//! `remember`

use super::DStream;
use crate::rdd::Data;
use crate::time::Duration;

impl<T: Data> DStream<T> {
    /// Has this stream remember its RDDs for `duration`, so that [`slice`](DStream::slice) can give them; gives the
    /// same stream. Without it an RDD is forgotten when its batch is over.
    ///
    /// After the batch of time *now*, what is at or before *now* - `duration` is forgotten: the slide duration itself keeps
    /// the last RDD. The longest of all wishes counts, those of
    /// [`StreamingContext::remember`](crate::StreamingContext::remember) among them. Empty batches are remembered too.
    ///
    /// The streams that this one is made from remember theirs for as long; under a window, for as long as both together.
    /// Stateful operators below run, though no output operation may read them. What is remembered is how to compute the RDDs,
    /// and what cannot be had again: what a stateful operator, a shuffle or a queue gave. Other elements are kept only if
    /// the stream is [persisted](DStream::persist), and are computed again otherwise: from Kafka's records, which must not
    /// have expired by then, or from a file, which must still be there.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// use tidemill::{Duration, Time, testing::TestContext};
    /// let test = TestContext::new("remember")?;
    /// let numbers = test.input([vec![1], vec![], vec![3], vec![4]]).remember(Duration::seconds(3));
    /// test.collect(&numbers);
    /// test.run(4)?;
    /// let at = |seconds: i64| Time::from_millis(seconds * 1_000);
    /// // One RDD per batch, that of the empty one among them.
    /// let rdds = numbers.slice(at(2), at(4))?;
    /// let elements = rdds.iter().map(|rdd| rdd.collect()).collect::<tidemill::Result<Vec<_>>>()?;
    /// assert_eq!(elements, [vec![], vec![3], vec![4]]);
    /// assert!(numbers.slice(at(1), at(1)).is_err());
    /// # Ok(()) }
    /// ```
    pub fn remember(&self, duration: impl Into<Duration>) -> DStream<T> {
        let duration = duration.into();
        self.ssc.inner.lifecycle.admit("remember", || self.core.ask_to_remember(duration));
        self.clone()
    }
}
