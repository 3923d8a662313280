//! The way from the engine to its listeners: a queue, and one thread that empties it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use parking_lot::{Condvar, Mutex, RwLock};

use super::StreamingListener;
use crate::rdd::panic_message;
use crate::time::{Duration, Stopwatch};

/// How long the end of a context waits for listeners that have not heard everything.
const PATIENCE: Duration = Duration::seconds(5);
/// How often it is said that events are dropped.
const SAY_EVERY: Duration = Duration::minutes(1);

/// Hands events to listeners, in order, on a thread of its own: nothing in the engine waits for a listener.
pub(crate) struct ListenerBus {
    /// The engine's own, which are quick, and told at once.
    own: RwLock<Vec<Arc<dyn StreamingListener>>>,
    listeners: RwLock<Vec<Arc<Registered>>>,
    queue: Arc<EventQueue>,
    capacity: usize,
}

struct Registered {
    listener: Arc<dyn StreamingListener>,
    removed: AtomicBool,
    has_panicked: AtomicBool,
}

type Event = Arc<dyn Fn(&dyn StreamingListener) + Send + Sync>;

#[derive(Default)]
struct EventQueue {
    state: Mutex<Queued>,
    changed: Condvar,
}

#[derive(Default)]
struct Queued {
    /// Each with those who were listening when it happened.
    events: VecDeque<(Event, Vec<Arc<Registered>>)>,
    thread: Option<ThreadId>,
    /// Whether an event is being told right now.
    busy: bool,
    closed: bool,
    dropped: u64,
    said: Option<(Stopwatch, u64)>,
}

impl ListenerBus {
    pub fn new(capacity: usize) -> Self {
        Self { own: RwLock::default(), listeners: RwLock::default(), queue: Arc::default(), capacity }
    }

    /// Adds a part of the engine, which is told on the thread where things happen.
    pub fn add_own(&self, listener: Arc<dyn StreamingListener>) {
        self.own.write().push(listener);
    }

    pub fn add(&self, listener: Arc<dyn StreamingListener>) {
        let (removed, has_panicked) = (AtomicBool::new(false), AtomicBool::new(false));
        self.listeners.write().push(Arc::new(Registered { listener, removed, has_panicked }));
    }

    /// Whether the listener at the address `wanted` was there to be removed.
    pub fn remove(&self, wanted: *const ()) -> bool {
        let mut listeners = self.listeners.write();
        let is_it = |entry: &Arc<Registered>| std::ptr::addr_eq(Arc::as_ptr(&entry.listener), wanted);
        let Some(place) = listeners.iter().position(is_it) else { return false };
        listeners.remove(place).removed.store(true, Ordering::Relaxed);
        true
    }

    /// Has everyone told who listens now: first in line those that wait for it, so that whoever was told at once may
    /// [wait](ListenerBus::flush) for them.
    pub fn announce(&self, event: impl Fn(&dyn StreamingListener) + Send + Sync + 'static) {
        let event: Event = Arc::new(event);
        let listeners = self.listeners.read().clone();
        if !listeners.is_empty() {
            self.enqueue(event.clone(), listeners);
        }
        for listener in self.own.read().iter() {
            tell(&**listener, &*event, &AtomicBool::new(false));
        }
    }

    fn enqueue(&self, event: Event, listeners: Vec<Arc<Registered>>) {
        let mut queued = self.queue.state.lock();
        if queued.closed {
            return;
        }
        if queued.events.len() >= self.capacity {
            queued.note_dropped(self.capacity);
            return;
        }
        queued.events.push_back((event, listeners));
        if queued.thread.is_none() {
            let queue = self.queue.clone();
            let started = std::thread::Builder::new()
                .name("tidemill-listeners".to_owned())
                .spawn(move || queue.tell_all());
            match started {
                Ok(thread) => queued.thread = Some(thread.thread().id()),
                Err(error) => tracing::error!(%error, "cannot start the thread that tells listeners"),
            }
        }
        self.queue.changed.notify_all();
    }

    /// How many events were dropped because listeners were too slow for them.
    pub fn dropped(&self) -> u64 {
        self.queue.state.lock().dropped
    }

    /// Waits until everyone has been told everything, but not for a listener that hangs; says whether it is so.
    pub fn flush(&self) -> bool {
        let watch = Stopwatch::start();
        let mut queued = self.queue.state.lock();
        while queued.busy || !queued.events.is_empty() {
            let left = PATIENCE.to_std().saturating_sub(watch.elapsed());
            if left.is_zero() {
                return false;
            }
            self.queue.changed.wait_for(&mut queued, left);
        }
        true
    }

    /// Nothing will happen any more: waits as [`flush`](ListenerBus::flush), and lets go of the listeners.
    pub fn close(&self) {
        let queued = self.queue.state.lock();
        // A listener that stops the context cannot wait for itself; who started the context will.
        if queued.closed || queued.thread == Some(std::thread::current().id()) {
            return;
        }
        drop(queued);
        let all_told = self.flush();
        let mut queued = self.queue.state.lock();
        if !all_told {
            tracing::warn!(
                events = queued.events.len(),
                "a streaming listener still hangs after {PATIENCE}; it is not told the rest"
            );
            queued.events.clear();
        }
        queued.closed = true;
        drop(queued);
        self.queue.changed.notify_all();
        self.listeners.write().clear();
    }
}

impl Drop for ListenerBus {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queued {
    fn note_dropped(&mut self, capacity: usize) {
        self.dropped += 1;
        if self.said.as_ref().is_none_or(|(watch, _)| watch.elapsed() >= SAY_EVERY.to_std()) {
            let before = self.said.as_ref().map_or(0, |(_, dropped)| *dropped);
            tracing::warn!(
                dropped = self.dropped - before,
                in_all = self.dropped,
                "streaming listeners are too slow: {capacity} events wait for them, and further ones are dropped"
            );
            self.said = Some((Stopwatch::start(), self.dropped));
        }
    }
}

impl EventQueue {
    fn tell_all(&self) {
        let mut queued = self.state.lock();
        loop {
            match queued.events.pop_front() {
                Some((event, listeners)) => {
                    queued.busy = true;
                    drop(queued);
                    for entry in listeners.iter().filter(|e| !e.removed.load(Ordering::Relaxed)) {
                        tell(&*entry.listener, &*event, &entry.has_panicked);
                    }
                    // A listener that this was the last to know ends before anyone hears that all was told.
                    drop((event, listeners));
                    queued = self.state.lock();
                    queued.busy = false;
                    self.changed.notify_all();
                }
                None if queued.closed => return,
                None => self.changed.wait(&mut queued),
            }
        }
    }
}

fn tell(listener: &dyn StreamingListener, event: &dyn Fn(&dyn StreamingListener), has_panicked: &AtomicBool) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| event(listener)))
        && !has_panicked.swap(true, Ordering::Relaxed)
    {
        tracing::error!(
            "the streaming listener {} panicked: {}; that harms no batch, and is said once",
            listener.name(),
            panic_message(&*panic)
        );
    }
}
