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
    /// See [`slice`](DStream::slice) for an example.
    pub fn remember(&self, duration: impl Into<Duration>) -> DStream<T> {
        let duration = duration.into();
        self.ssc.inner.lifecycle.admit("remember", || self.core.ask_to_remember(duration));
        self.clone()
    }
}
