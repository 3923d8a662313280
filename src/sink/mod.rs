//! Where results go. A sink delivers; it never commits offsets.

pub mod kafka;

use std::sync::Arc;

use crate::error::Result;
use crate::source::DeadLetter;
use crate::time::Time;

/// A destination that takes records while a batch runs, and vouches for them when it is flushed.
pub(crate) trait Sink: Send + Sync {
    /// Connects, and makes what is missing.
    fn start(&self) -> Result<()>;

    /// Waits until everything that was handed over is delivered, or says what is not.
    fn flush(&self) -> Result<()>;

    /// Takes records that could not be decoded, each with the topic that it goes to.
    fn dead_letters(&self, time: Time, letters: Vec<DeadLetter>) -> Result<()>;

    /// Records handed over since the last call, by topic.
    fn take_counts(&self) -> Vec<(Arc<str>, u64)>;
}
