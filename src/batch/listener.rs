//! One event bus, many views: whoever wants to know about batches listens here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{BatchInfo, ReceiverInfo};
use crate::time::{Duration, Time};

/// Is told what happens (Spark's `StreamingListener`). All methods do nothing unless implemented.
///
/// Called on the engine's threads: do little. A panic is caught and logged, and harms no batch.
#[allow(unused_variables, reason = "the names are documentation")]
pub trait StreamingListener: Send + Sync {
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

    /// A batch began to run: its scheduling delay is known.
    fn batch_started(&self, batch: &BatchInfo, waiting: usize) {}

    /// A batch was committed, or failed with a reason.
    fn batch_completed(&self, batch: &BatchInfo) {}
}

#[derive(Default)]
pub(crate) struct ListenerBus {
    listeners: RwLock<Vec<Arc<dyn StreamingListener>>>,
}

impl ListenerBus {
    pub fn add(&self, listener: Arc<dyn StreamingListener>) {
        self.listeners.write().push(listener);
    }

    pub fn announce(&self, event: impl Fn(&dyn StreamingListener)) {
        for listener in self.listeners.read().iter() {
            if catch_unwind(AssertUnwindSafe(|| event(&**listener))).is_err() {
                tracing::warn!("a streaming listener panicked");
            }
        }
    }
}
