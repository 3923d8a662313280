//! What tasks add to accumulators, and when it counts.
//!
//! While an attempt at a task runs, what it adds is kept in a buffer of its own. Attempts that fail drop theirs; of those
//! that succeed, the stage counts them once all of its tasks have. A batch's sum stays apart from that of the committed ones
//! until the batch is committed, so that it can be discarded.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use indexmap::IndexMap;
use parking_lot::Mutex;

use super::AccumulatorInfo;

/// An accumulator's sums, whatever their type.
pub(super) trait Target: Send + Sync {
    /// Adds what a task has added.
    fn count(&self, added: &(dyn Any + Send + Sync));
    /// The running batch has been committed, or is given up.
    fn settle(&self, commit: bool);
    /// The value, as text.
    fn shown(&self) -> String;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// What one successful attempt added.
///
/// A cached partition is computed once and used any number of times, maybe by an attempt that fails while another one goes on with
/// what it kept. All that use it adopt these additions, and the first whose work counts has them counted.
pub(crate) struct Additions {
    parts: Vec<Part>,
    counted: AtomicBool,
}

struct Part {
    target: Arc<dyn Target>,
    /// Absent while it is being added to.
    added: Option<Box<dyn Any + Send + Sync>>,
}

/// What the attempt that this thread runs has added so far.
#[derive(Default)]
struct Buffer {
    own: Vec<Part>,
    /// Counted by actions that ran inside of the attempt.
    others: Vec<Arc<Additions>>,
}

thread_local! {
    /// The attempts that this thread is in the middle of, innermost last: a thread that waits for other tasks takes up
    /// one of them meanwhile.
    static ATTEMPTS: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Takes the buffer of an attempt away when that ends, however it ends.
struct Attempt;

impl Drop for Attempt {
    fn drop(&mut self) {
        ATTEMPTS.with_borrow_mut(Vec::pop);
    }
}

/// Runs `body`; what it adds to accumulators stands beside its result, and counts nowhere yet.
pub(crate) fn in_attempt<R>(body: impl FnOnce() -> R) -> (R, Vec<Arc<Additions>>) {
    ATTEMPTS.with_borrow_mut(|attempts| attempts.push(Buffer::default()));
    let attempt = Attempt;
    let result = body();
    let Buffer { own, mut others } =
        ATTEMPTS.with_borrow_mut(|attempts| attempts.last_mut().map(std::mem::take)).unwrap_or_default();
    drop(attempt);
    if !own.is_empty() {
        others.push(Arc::new(Additions { parts: own, counted: AtomicBool::new(false) }));
    }
    (result, others)
}

/// Makes `additions` part of the attempt that this thread runs; gives them back if it runs none.
pub(crate) fn add_to_attempt(additions: Vec<Arc<Additions>>) -> Vec<Arc<Additions>> {
    ATTEMPTS.with_borrow_mut(|attempts| match attempts.last_mut() {
        None => additions,
        Some(buffer) => {
            buffer.others.extend(additions);
            Vec::new()
        }
    })
}

/// Calls `f` with what the attempt that this thread runs has added to `target`, `zero` at first; gives `f` back outside of
/// attempts.
pub(super) fn with_own<A: Any + Send + Sync, T: Target + 'static, R, F: FnOnce(&mut A) -> R>(
    target: &Arc<T>,
    zero: impl FnOnce() -> A,
    f: F,
) -> Result<R, F> {
    let taken = ATTEMPTS.with_borrow_mut(|attempts| {
        let own = &mut attempts.last_mut()?.own;
        let is_it = |part: &Part| std::ptr::addr_eq(Arc::as_ptr(&part.target), Arc::as_ptr(target));
        let place = own.iter().position(is_it).unwrap_or_else(|| {
            own.push(Part { target: target.clone(), added: None });
            own.len() - 1
        });
        Some((place, own[place].added.take()))
    });
    let Some((place, added)) = taken else { return Err(f) };
    // Nothing is borrowed here: `f` is the user's, and may add to other accumulators.
    let mut added = added.and_then(|a| a.downcast::<A>().ok()).unwrap_or_else(|| Box::new(zero()));
    let result = f(&mut added);
    ATTEMPTS.with_borrow_mut(|attempts| {
        if let Some(part) = attempts.last_mut().and_then(|buffer| buffer.own.get_mut(place)) {
            part.added = Some(added);
        }
    });
    Ok(result)
}

/// The accumulators of a context, by name, and the batch that runs.
///
/// `begin_batch`, then `commit_batch` or `discard_batch`: what the batch added, in tasks or by the thread that runs it, is
/// part of the values at once, and stays or goes with the batch.
#[derive(Default)]
pub(crate) struct Accumulators {
    named: Mutex<IndexMap<String, Arc<dyn Target>, ahash::RandomState>>,
    pub(super) batch: Arc<RunningBatch>,
}

#[derive(Default)]
pub(super) struct RunningBatch {
    thread: Mutex<Option<ThreadId>>,
    counted: Mutex<Vec<Arc<Additions>>>,
}

impl RunningBatch {
    /// Whether what this thread does belongs to the batch that runs.
    pub fn is_here(&self) -> bool {
        *self.thread.lock() == Some(std::thread::current().id())
    }
}

impl Accumulators {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.named.lock().is_empty()
    }

    /// Whether this thread runs a batch.
    pub fn is_batch_here(&self) -> bool {
        self.batch.is_here()
    }

    /// A batch begins, on this thread.
    pub fn begin_batch(&self) {
        *self.batch.thread.lock() = Some(std::thread::current().id());
    }

    /// The batch was committed: what it added stays.
    pub fn commit_batch(&self) {
        self.settle(true);
    }

    /// The batch failed, or is to be run again: the values are again what they were before it.
    pub fn discard_batch(&self) {
        self.settle(false);
    }

    fn settle(&self, commit: bool) {
        *self.batch.thread.lock() = None;
        for additions in std::mem::take(&mut *self.batch.counted.lock()) {
            additions.counted.store(commit, Ordering::Relaxed);
        }
        let targets: Vec<_> = self.named.lock().values().cloned().collect();
        targets.iter().for_each(|target| target.settle(commit));
    }

    /// Counts what successful tasks added, unless it was counted before.
    pub fn count(&self, additions: Vec<Arc<Additions>>) {
        for additions in additions {
            if additions.counted.swap(true, Ordering::Relaxed) {
                continue;
            }
            for part in &additions.parts {
                if let Some(added) = &part.added {
                    part.target.count(&**added);
                }
            }
            if self.batch.is_here() {
                self.batch.counted.lock().push(additions);
            }
        }
    }

    /// What is registered under `name`, else what `make` gives.
    pub(super) fn get_or_insert(
        &self,
        name: &str,
        make: impl FnOnce() -> Arc<dyn Target>,
    ) -> Arc<dyn Target> {
        self.named.lock().entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// All names with their values, in the order in which they were made.
    pub fn infos(&self) -> Vec<AccumulatorInfo> {
        let named: Vec<_> = self.named.lock().iter().map(|(n, t)| (n.clone(), t.clone())).collect();
        named.into_iter().map(|(name, target)| AccumulatorInfo { name, value: target.shown() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamingContext;

    #[test]
    fn a_batch_that_is_run_again_counts_once_what_was_kept_from_its_first_run() {
        let ssc = StreamingContext::builder("test").build().unwrap();
        let (all, seen) = (ssc.inner.runner.accumulators(), ssc.long_accumulator("seen").unwrap());
        seen.add(100);
        let ((), kept) = in_attempt(|| seen.add(1));
        all.begin_batch();
        all.count(kept.clone());
        all.count(kept.clone());
        seen.add(10);
        assert_eq!(seen.value(), 111);
        all.discard_batch();
        assert_eq!(seen.value(), 100);
        all.begin_batch();
        all.count(kept.clone());
        all.commit_batch();
        assert_eq!(seen.value(), 101);
        all.begin_batch();
        all.count(kept);
        all.commit_batch();
        assert_eq!(seen.value(), 101);
    }

    #[test]
    fn attempts_inside_of_attempts_keep_their_own() {
        let ssc = StreamingContext::builder("test").build().unwrap();
        let (all, seen) = (ssc.inner.runner.accumulators(), ssc.long_accumulator("seen").unwrap());
        let (inner, outer) = in_attempt(|| {
            seen.add(1);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                in_attempt(|| -> () {
                    seen.add(1_000);
                    std::panic::panic_any("it broke")
                })
            }));
            assert!(panicked.is_err());
            let ((), inner) = in_attempt(|| seen.add(20));
            seen.add(2);
            assert_eq!(seen.value(), 3);
            inner
        });
        assert_eq!(seen.value(), 0);
        all.count(outer);
        assert_eq!(seen.value(), 3);
        all.count(inner);
        assert_eq!(seen.value(), 23);
    }
}
