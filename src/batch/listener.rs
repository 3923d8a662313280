//! One event bus, many views: whoever wants to know about batches listens here.

use super::{BatchInfo, OutputOperationInfo, ReceiverInfo};
use crate::time::{Duration, Time};

/// Is told what happens (Spark's `StreamingListener`). All methods do nothing unless implemented.
///
/// Added by [`add_streaming_listener`](crate::StreamingContext::add_streaming_listener). All listeners of a context are called
/// on one thread of their own, one event after the other in the order in which they happened; no batch waits for them. If
/// more events wait than the [queue](crate::StreamingContextBuilder::listener_queue_capacity) holds, further ones are dropped,
/// counted and logged. A panic is caught, logged once per listener, and keeps no other listener from hearing. When `stop` or
/// `await_termination` returns, everything has been told, unless a listener hangs for more than five seconds.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tidemill::testing::TestContext;
/// use tidemill::{BatchInfo, StreamingListener};
///
/// #[derive(Default)]
/// struct Failures(Mutex<Vec<String>>);
///
/// impl StreamingListener for Failures {
///     fn batch_completed(&self, batch: &BatchInfo) {
///         self.0.lock().unwrap().extend(batch.failure.clone());
///     }
/// }
///
/// # fn main() -> tidemill::Result<()> {
/// let (test, failures) = (TestContext::new("numbers")?, Arc::new(Failures::default()));
/// test.ssc.add_streaming_listener(failures.clone());
/// test.input([vec![1], vec![0]]).map(|n| 1 / n).print();
/// assert!(test.run(2).is_err());
/// assert!(failures.0.lock().unwrap()[0].contains("operator `map`"));
/// # Ok(()) }
/// ```
#[allow(unused_variables, reason = "the names are documentation")]
pub trait StreamingListener: Send + Sync {
    /// What logs call it: its type, unless implemented.
    fn name(&self) -> &str {
        std::any::type_name::<Self>()
    }

    /// The context has started, with this batch interval.
    fn streaming_started(&self, time: Time, batch_interval: Duration) {}

    /// A receiver began to receive, for the first time or again.
    fn receiver_started(&self, receiver: &ReceiverInfo) {}

    /// A receiver reported an error.
    fn receiver_error(&self, receiver: &ReceiverInfo) {}

    /// A receiver stopped.
    fn receiver_stopped(&self, receiver: &ReceiverInfo) {}

    /// A batch is due and waits for its turn; `waiting` batches wait in all.
    fn batch_submitted(&self, batch: &BatchInfo, waiting: usize) {}

    /// There is no batch of this time, and of none of those between it and the one before, since there was nothing to do:
    /// see [`Slicing::Timestamp`](crate::Slicing::Timestamp).
    fn batch_skipped(&self, time: Time) {}

    /// A batch began to run: its scheduling delay is known, and what belongs to it, which is planned only now. If a backlog is
    /// read into Kafka exactly once, that may be before the completion of the batch before it, which is still being committed.
    fn batch_started(&self, batch: &BatchInfo, waiting: usize) {}

    /// An output operation of a batch began to run.
    fn output_operation_started(&self, operation: &OutputOperationInfo) {}

    /// An output operation of a batch is through, or failed with a reason.
    fn output_operation_completed(&self, operation: &OutputOperationInfo) {}

    /// A batch was committed, or failed with a reason.
    fn batch_completed(&self, batch: &BatchInfo) {}
}
