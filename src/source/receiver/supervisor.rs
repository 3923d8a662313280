//! The supervisor: a thread that starts a receiver, starts it again, ends its blocks in time, and stops it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::blocks::Blocks;
use super::rate::RateLimiter;
use super::{Receiver, ReceiverHandle};
use crate::batch::{ListenerBus, ReceiverInfo};
use crate::codec::Stored;
use crate::error::{Error, Result};
use crate::rdd::caught;
use crate::time::{Clock, Duration, Time};

/// How long a receiver is waited for that was told to stop.
const STOP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) struct Supervisor<T> {
    pub stream_id: usize,
    pub name: Arc<str>,
    pub receiver: Arc<dyn Receiver<T>>,
    pub blocks: Blocks<T>,
    pub limiter: RateLimiter,
    pub clock: Arc<dyn Clock>,
    pub listeners: Arc<ListenerBus>,
    pub block_interval: Duration,
    pub stopping: AtomicBool,
    pub last_error: Mutex<LastError>,
}

#[derive(Default, Clone)]
pub(super) struct LastError {
    message: String,
    error: String,
    time: Option<Time>,
}

/// The time from one start of a receiver to its end. What belongs to an earlier run can do no harm to a later one.
#[derive(Default)]
pub(super) struct Run {
    pub started: AtomicBool,
    /// The receiver shall end.
    pub stopped: AtomicBool,
    /// Nothing is taken any more.
    pub closed: AtomicBool,
    asked: AtomicBool,
    request: Mutex<Option<Request>>,
    returned: Mutex<bool>,
    changed: Condvar,
}

/// What a receiver asks its supervisor for.
pub(super) enum Request {
    Restart { message: String, error: String, delay: Duration },
    Stop { message: String },
}

impl Run {
    /// Asks for `request`, unless something was asked for already.
    pub fn ask(&self, request: Request) {
        self.request.lock().get_or_insert(request);
        self.asked.store(true, Ordering::Release);
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    fn has_returned(&self) {
        *self.returned.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until `on_start` has returned; false if it does not.
    fn wait(&self, patience: std::time::Duration) -> bool {
        let mut returned = self.returned.lock();
        self.changed.wait_while_for(&mut returned, |returned| !*returned, patience);
        *returned
    }
}

impl<T: Stored> Supervisor<T> {
    pub fn spawn(self: &Arc<Self>) -> Result<JoinHandle<()>> {
        let supervisor = self.clone();
        spawn(format!("tidemill-supervisor-{}", self.stream_id), move || supervisor.supervise())
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Tells of an error; the receiver goes on.
    pub fn report(&self, message: impl Into<String>, error: impl Display, active: bool) {
        let (message, error) = (message.into(), error.to_string());
        tracing::warn!(receiver = &*self.name, error, "{message}");
        *self.last_error.lock() = LastError { message, error, time: Some(self.clock.now()) };
        let info = self.info(active);
        self.listeners.announce(move |l| l.receiver_error(&info));
    }

    fn info(&self, active: bool) -> ReceiverInfo {
        let LastError { message, error, time } = self.last_error.lock().clone();
        ReceiverInfo {
            stream_id: self.stream_id,
            name: self.name.clone(),
            active,
            last_error_message: message,
            last_error: error,
            last_error_time: time,
        }
    }

    fn supervise(self: Arc<Self>) {
        let mut due = self.clock.now();
        loop {
            self.clock.wait_until(due, &|| self.is_stopping());
            if self.is_stopping() {
                return;
            }
            let run = Arc::new(Run::default());
            self.start(&run);
            self.end_blocks_in_time(&run);
            match self.end(&run) {
                Some(restart) => due = restart,
                None => return,
            }
        }
    }

    /// Calls `on_start` on a thread of its own.
    fn start(self: &Arc<Self>, run: &Arc<Run>) {
        tracing::info!(receiver = &*self.name, "receiver started");
        let info = self.info(true);
        self.listeners.announce(move |l| l.receiver_started(&info));
        run.started.store(true, Ordering::Release);
        let (receiver, own_run) = (self.receiver.clone(), run.clone());
        let handle = ReceiverHandle::new(self, run);
        let thread = spawn(format!("tidemill-receiver-{}", self.stream_id), move || {
            let outcome = caught(|| receiver.on_start(handle.clone()));
            if let Err(error) = outcome
                && !handle.is_stopped()
            {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                handle.restart(error.to_string(), cause.unwrap_or_default());
            }
            own_run.has_returned();
        });
        if let Err(error) = thread {
            run.ask(Request::restart("the receiver's thread could not be started", error));
            run.has_returned();
        }
    }

    /// Until the receiver or the context wants it to end.
    fn end_blocks_in_time(&self, run: &Run) {
        let is_over = || run.is_asked() || self.is_stopping();
        loop {
            let next = self.clock.now().floor(self.block_interval) + self.block_interval;
            self.clock.wait_until(next, &is_over);
            if is_over() {
                return;
            }
            self.end_block(|| self.blocks.cut());
        }
    }

    /// What cannot be written stays; if that does not change, the next batch fails with it.
    fn end_block(&self, cut: impl FnOnce() -> Result<()>) {
        if let Err(error) = cut() {
            self.report("a block of received elements could not be written", error, true);
        }
    }

    /// Stops the receiver, and tells when it is to be started again, if it asked for that.
    fn end(&self, run: &Run) -> Option<Time> {
        let restart = match run.request.lock().take() {
            Some(Request::Restart { message, error, delay }) => {
                let due = self.clock.now() + delay;
                self.report(message, error, true);
                tracing::info!(receiver = &*self.name, delay = %delay, "the receiver will be started again");
                Some(due)
            }
            Some(Request::Stop { message }) => {
                tracing::info!(receiver = &*self.name, "the receiver stops: {message}");
                None
            }
            None => None,
        };
        run.stopped.store(true, Ordering::Release);
        // Whoever waits for the rate limit shall see it.
        self.clock.wake();
        if let Err(error) = caught(|| {
            self.receiver.on_stop();
            Ok(())
        }) {
            self.report("`on_stop` of the receiver failed", error, true);
        }
        if !run.wait(STOP_PATIENCE) {
            tracing::warn!(
                receiver = &*self.name,
                "the receiver was told to stop {} s ago, but its `on_start` has not returned; nothing that it stores \
                 now is taken",
                STOP_PATIENCE.as_secs()
            );
        }
        self.end_block(|| self.blocks.close(&run.closed));
        tracing::info!(receiver = &*self.name, "receiver stopped");
        let info = self.info(false);
        self.listeners.announce(move |l| l.receiver_stopped(&info));
        restart
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let error = format!("cannot start the thread {name}");
    std::thread::Builder::new().name(name).spawn(body).map_err(|e| Error::internal(error).with_source(e))
}
