//! The thread on which a batch is committed while the next one runs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::engine::{Batch, Engine};
use super::turn::Held;
use crate::error::{Error, Result};
use crate::rdd::caught;

/// Commits at most one batch at a time; its thread is there from the first one on.
pub(super) struct Beside {
    engine: Arc<Engine>,
    thread: Option<Thread>,
    is_busy: bool,
}

struct Thread {
    batches: Sender<(Batch, Held)>,
    ended: Receiver<(Batch, Result<()>)>,
    handle: JoinHandle<()>,
}

impl Beside {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, thread: None, is_busy: false }
    }

    /// Whether a batch is being committed, or was, and nobody has asked for its end.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Has `batch` committed; until it is, the turn is not the next one's. Gives the batch back if there is no thread to do it.
    pub fn commit(&mut self, batch: Batch) -> Option<Batch> {
        if self.thread.is_none() {
            self.thread = self.spawn().inspect_err(|e| tracing::warn!("cannot start a thread: {e}")).ok();
        }
        let Some(thread) = &self.thread else { return Some(batch) };
        let held = self.engine.runner.turn().hold();
        let unsent = thread.batches.send((batch, held)).err();
        self.is_busy = unsent.is_none();
        unsent.map(|unsent| {
            let (batch, held) = unsent.0;
            held.committed();
            batch
        })
    }

    /// Waits for the batch's end. One that was committed has had its last words.
    pub fn wait(&mut self) -> Result<(Batch, Result<()>)> {
        self.is_busy = false;
        let ended = self.thread.as_ref().and_then(|thread| thread.ended.recv().ok());
        ended.ok_or_else(|| Error::internal("the thread that commits batches has ended"))
    }

    fn spawn(&self) -> std::io::Result<Thread> {
        let (batches, to_commit) = channel::<(Batch, Held)>();
        let (ending, ended) = channel();
        let engine = self.engine.clone();
        let handle = std::thread::Builder::new().name("tidemill-commit".to_owned()).spawn(move || {
            for (mut batch, held) in to_commit {
                let _span = batch.span().entered();
                let outcome = caught(|| engine.commit(&mut batch));
                match outcome {
                    // From here on the next batch goes on, whatever listeners are told.
                    Ok(()) => {
                        held.committed();
                        engine.finish(&mut batch, &outcome);
                    }
                    Err(_) => drop(held),
                }
                if ending.send((batch, outcome)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Thread { batches, ended, handle })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(Thread { batches, handle, .. }) = self.thread.take() {
            drop(batches);
            if handle.join().is_err() {
                tracing::error!("the thread that commits batches panicked");
            }
        }
    }
}
