//! Receivers: inputs that are given their elements from outside, and keep them until their batch is committed.

mod blocks;
mod handle;
mod input;
mod rate;
mod supervisor;

pub use handle::ReceiverHandle;
pub(crate) use input::{ReceiverInput, ReceiverParts};

use crate::codec::Stored;
use crate::error::{Error, Result};
use crate::time::Duration;

/// How long after a failure a receiver is started again, as in Spark.
const RESTART_DELAY: Duration = Duration::seconds(2);

/// An input of one's own (Spark's `Receiver`), for
/// [`StreamingContext::receiver_stream`](crate::StreamingContext::receiver_stream).
///
/// A closure that takes a [`ReceiverHandle`] is a receiver, too.
///
/// ```
/// use std::sync::mpsc::channel;
/// use tidemill::{Duration, Receiver, ReceiverHandle, Result, StreamingContext};
///
/// /// Counts up to a limit, in blocks of ten.
/// struct Numbers {
///     limit: u64,
/// }
///
/// impl Receiver<u64> for Numbers {
///     fn on_start(&self, handle: ReceiverHandle<u64>) -> Result<()> {
///         for from in (0..self.limit).step_by(10) {
///             handle.store_many(from..self.limit.min(from + 10))?;
///         }
///         handle.stop("all numbers are given");
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let ssc = StreamingContext::builder("numbers").batch_interval(Duration::millis(20)).build()?;
/// let (sender, numbers) = channel();
/// ssc.receiver_stream(Numbers { limit: 25 }).foreach_rdd(move |rdd| -> Result<()> {
///     rdd.collect()?.into_iter().for_each(|n| drop(sender.send(n)));
///     Ok(())
/// });
/// ssc.start()?;
/// assert!(numbers.iter().take(25).eq(0..25));
/// ssc.stop(true)?;
/// # Ok(())
/// # }
/// ```
pub trait Receiver<T: Stored>: Send + Sync + 'static {
    /// What it is called in logs and by listeners; its position in the checkpoint goes by this name, so it should not
    /// change between releases. The type's name without its path unless implemented.
    fn name(&self) -> String {
        let name = std::any::type_name::<Self>();
        let path = name.split('<').next().unwrap_or(name);
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// Begins to receive. Runs on a thread of its own, so it may do all the work itself, as long as it returns soon after
    /// [`is_stopped`](ReceiverHandle::is_stopped) says so or [`store`](ReceiverHandle::store) refuses; or it may start
    /// threads and return: with `Ok` the receiver stays active.
    ///
    /// # Errors
    /// An error (or a panic) is told to listeners, and the receiver is started again two seconds later, by the context's
    /// clock; to decide otherwise, call [`restart_after`](ReceiverHandle::restart_after) or
    /// [`stop`](ReceiverHandle::stop). An error after the receiver was told to stop means nothing.
    fn on_start(&self, handle: ReceiverHandle<T>) -> Result<()>;

    /// Makes `on_start` and all threads that it started end: wakes what waits for something outside (closes a socket).
    /// Called when the context stops, before a restart, and after the receiver stopped itself. What is stored
    /// while this runs and until `on_start` has returned (for which it has ten seconds) is still taken.
    fn on_stop(&self) {}
}

impl<T, F> Receiver<T> for F
where
    T: Stored,
    F: Fn(ReceiverHandle<T>) -> Result<()> + Send + Sync + 'static,
{
    /// A closure's type has no name.
    fn name(&self) -> String {
        "receiver".to_owned()
    }

    fn on_start(&self, handle: ReceiverHandle<T>) -> Result<()> {
        self(handle)
    }
}

/// What the context's builder says about receivers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceiverSettings {
    pub block_interval: Duration,
    /// Elements per second and receiver.
    pub max_rate: Option<u64>,
    /// Bytes of blocks per receiver that are held in memory though they are on disk.
    pub memory: usize,
}

impl Default for ReceiverSettings {
    fn default() -> Self {
        Self { block_interval: Duration::millis(200), max_rate: None, memory: 64 << 20 }
    }
}

impl ReceiverSettings {
    pub fn check(&self) -> Result<()> {
        if self.block_interval < Duration::millis(1) {
            return Err(Error::config(format!(
                "block interval {} is below one millisecond",
                self.block_interval
            )));
        }
        if self.max_rate == Some(0) {
            return Err(Error::config("a receiver's rate must be at least one element per second"));
        }
        Ok(())
    }
}
