//! What a receiver stores through.

use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::RESTART_DELAY;
use super::supervisor::{Request, Run, Supervisor};
use crate::codec::Stored;
use crate::error::{Error, Result};
use crate::time::{Clock, Duration};

/// A receiver's way to its stream, given to [`Receiver::on_start`](super::Receiver::on_start). Clones are the same, and may
/// be moved to any thread.
///
/// It belongs to one start of the receiver: once that has ended, be it for a restart, the handle is
/// [stopped](ReceiverHandle::is_stopped) for good and takes nothing more.
pub struct ReceiverHandle<T> {
    /// Weak, so that a thread that does not end keeps no checkpoint open.
    supervisor: Weak<Supervisor<T>>,
    run: Arc<Run>,
    clock: Arc<dyn Clock>,
    stream_id: usize,
}

impl<T> Clone for ReceiverHandle<T> {
    fn clone(&self) -> Self {
        Self {
            supervisor: self.supervisor.clone(),
            run: self.run.clone(),
            clock: self.clock.clone(),
            stream_id: self.stream_id,
        }
    }
}

impl<T: Stored> ReceiverHandle<T> {
    pub(super) fn new(supervisor: &Arc<Supervisor<T>>, run: &Arc<Run>) -> Self {
        Self {
            supervisor: Arc::downgrade(supervisor),
            run: run.clone(),
            clock: supervisor.clock.clone(),
            stream_id: supervisor.stream_id,
        }
    }

    /// Adds `element` to the current block, which ends each
    /// [block interval](crate::StreamingContextBuilder::block_interval) and when a batch is planned. With a checkpoint the
    /// element is safe from a kill when its block has ended, and not before. Waits if the receiver is faster than
    /// its [limit](crate::StreamingContextBuilder::receiver_max_rate).
    ///
    /// # Errors
    /// If the receiver has been stopped, or the element cannot be encoded for the checkpoint: it was not taken.
    pub fn store(&self, element: T) -> Result<()> {
        let supervisor = self.admitted(1)?;
        if supervisor.blocks.add(element, &self.run.closed)? { Ok(()) } else { Err(stopped()) }
    }

    /// Makes `elements` a block of its own: a partition of a batch. With a checkpoint it is on disk when this returns, so
    /// that whoever sent the elements may be told that they will be processed. No elements make no block. Limited as
    /// [`store`](ReceiverHandle::store) is, where the elements are let in together.
    ///
    /// # Errors
    /// If the receiver has been stopped, an element cannot be encoded, or the checkpoint cannot be written: none was taken.
    pub fn store_many(&self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let elements: Vec<_> = elements.into_iter().collect();
        let supervisor = self.admitted(elements.len())?;
        if supervisor.blocks.add_block(elements, &self.run.closed)? { Ok(()) } else { Err(stopped()) }
    }

    /// Has the receiver stopped and started again two seconds later, by the context's clock: for a lost connection. Told to
    /// listeners as an error. Returns at once; of several such calls (and [`stop`](ReceiverHandle::stop)) the first counts.
    pub fn restart(&self, message: impl Into<String>, error: impl Display) {
        self.restart_after(message, error, RESTART_DELAY);
    }

    /// As [`restart`](ReceiverHandle::restart), after `delay`.
    pub fn restart_after(&self, message: impl Into<String>, error: impl Display, delay: impl Into<Duration>) {
        self.ask(Request::Restart { message: message.into(), error: error.to_string(), delay: delay.into() });
    }

    /// Has the receiver stopped for good, for one that has come to its end; the message goes to the log. What it stored is
    /// processed, and from then on its batches are empty. Returns at once.
    pub fn stop(&self, message: impl Into<String>) {
        self.ask(Request::Stop { message: message.into() });
    }

    /// Tells listeners of an error; the receiver goes on.
    pub fn report_error(&self, message: impl Into<String>, error: impl Display) {
        if let Some(supervisor) = self.supervisor.upgrade() {
            supervisor.report(message, error, !self.is_stopped());
        }
    }

    /// Whether the receiver has been started, and not stopped since.
    pub fn is_started(&self) -> bool {
        self.run.started.load(Ordering::Acquire) && !self.is_stopped()
    }

    /// Whether the receiver has been told to stop. Its threads should ask, and end.
    pub fn is_stopped(&self) -> bool {
        self.run.stopped.load(Ordering::Acquire) || self.supervisor.strong_count() == 0
    }

    /// The receiver's number: 0, 1, … in the order in which the context's receivers were made.
    pub fn stream_id(&self) -> usize {
        self.stream_id
    }

    /// The supervisor, once the rate limit lets `elements` more through.
    fn admitted(&self, elements: usize) -> Result<Arc<Supervisor<T>>> {
        let supervisor = self.supervisor.upgrade().ok_or_else(stopped)?;
        let give_up = || self.run.stopped.load(Ordering::Acquire);
        let admitted = supervisor.limiter.acquire(elements, &*self.clock, &give_up);
        if admitted { Ok(supervisor) } else { Err(stopped()) }
    }

    fn ask(&self, request: Request) {
        self.run.ask(request);
        self.clock.wake();
    }
}

impl Request {
    pub(super) fn restart(message: &str, error: impl Display) -> Self {
        Request::Restart { message: message.to_owned(), error: error.to_string(), delay: RESTART_DELAY }
    }
}

fn stopped() -> Error {
    Error::usage("the receiver has been stopped, and takes nothing more")
}
