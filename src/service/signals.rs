//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::signal::unix::{SignalKind, signal};

/// Tells whether, and waits until, a stop was asked for.
#[derive(Clone, Default)]
pub(crate) struct StopRequested {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl StopRequested {
    /// One that only [`request`](Self::request) sets.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Asks for a stop.
    pub(crate) fn request(&self) {
        *self.shared.0.lock() = true;
        self.shared.1.notify_all();
    }

    /// Whether a stop was asked for.
    pub(crate) fn is_requested(&self) -> bool {
        *self.shared.0.lock()
    }

    /// Waits until a stop is asked for, at most for `timeout`; whether it was.
    pub(crate) fn wait(&self, timeout: std::time::Duration) -> bool {
        let mut requested = self.shared.0.lock();
        self.shared.1.wait_while_for(&mut requested, |requested| !*requested, timeout);
        *requested
    }
}

/// Takes over the process's SIGTERM and SIGINT.
///
/// # Errors
/// The operating system refuses a thread or a handler.
pub(crate) fn listen() -> crate::Result<StopRequested> {
    let failed =
        |error: std::io::Error| crate::Error::internal("cannot listen for signals").with_source(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let stop = StopRequested::new();
    let asked = stop.clone();
    // Registered here and not in the thread: a signal that comes right after this call must not kill the process.
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?)
    };
    let wait = async move {
        loop {
            let number = tokio::select! {
                _ = terminate.recv() => 15,
                _ = interrupt.recv() => 2,
            };
            if asked.is_requested() {
                tracing::warn!(signal = number, "second signal, stopping at once");
                std::process::exit(128 + number);
            }
            tracing::info!(
                signal = number,
                "stopping after the running batch; a second signal does not wait"
            );
            asked.request();
        }
    };
    std::thread::Builder::new()
        .name("tidemill-signals".to_owned())
        .spawn(move || runtime.block_on(wait))
        .map_err(failed)?;
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_request() {
        let stop = StopRequested::new();
        assert!(!stop.wait(std::time::Duration::from_millis(1)));
        let other = stop.clone();
        let thread = std::thread::spawn(move || other.wait(std::time::Duration::from_secs(60)));
        stop.request();
        assert!(thread.join().expect("it does not panic") && stop.is_requested());
    }
}
