//! `Broadcast`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::context::StreamingContext;
use crate::rdd::Data;

/// A value that every task may read (Spark's `Broadcast`), made by [`StreamingContext::broadcast`].
///
/// A handle: clones are the same value, and cost nothing. All tasks run in this process, so nothing is sent anywhere;
/// the handle keeps a large table from being copied into each function, and lets it be told as no longer valid.
///
/// A value never changes. One that does is a new value, which [`transform`](crate::DStream::transform) looks up for each batch:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tidemill::testing::TestContext;
///
/// # fn main() -> tidemill::Result<()> {
/// let test = TestContext::new("limits")?;
/// let limit = Arc::new(Mutex::new(test.ssc.broadcast(2)));
/// let current = limit.clone();
/// let small = test.input([vec![1, 2, 3], vec![1, 2, 3]]).transform(move |rdd| {
///     let limit = current.lock().unwrap().clone();
///     rdd.filter(move |n| n < limit.value())
/// });
/// let output = test.collect(&small);
/// test.ssc.start()?;
/// test.step()?;
/// let before = std::mem::replace(&mut *limit.lock().unwrap(), test.ssc.broadcast(3));
/// before.destroy();
/// test.step()?;
/// test.ssc.stop(true)?;
/// output.assert_batches([vec![1], vec![1, 2]]);
/// # Ok(()) }
/// ```
pub struct Broadcast<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    id: u64,
    value: T,
    destroyed: AtomicBool,
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> Broadcast<T> {
    /// Its number, which no other broadcast value of this process has.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The value. As cheap as a reference: functions may ask for it per record.
    ///
    /// # Panics
    /// After [`destroy`](Broadcast::destroy), with a message that says so; in a task, that fails the batch.
    pub fn value(&self) -> &T {
        assert!(
            !self.shared.destroyed.load(Ordering::Relaxed),
            "broadcast value {} was used after it was destroyed: make a new one with `ssc.broadcast`",
            self.shared.id
        );
        &self.shared.value
    }

    /// Spark drops the copies that executors hold, and sends them again when they are asked for. Here there are no copies,
    /// so this does nothing; the value can be used as before.
    pub fn unpersist(&self) {}

    /// Ends the use of the value: from now on [`value`](Broadcast::value) panics, on every handle. The memory is given back
    /// when the last handle is gone. A second call does nothing.
    pub fn destroy(&self) {
        self.shared.destroyed.store(true, Ordering::Relaxed);
    }
}

impl StreamingContext {
    /// Makes `value` readable by all tasks (Spark's `broadcast`), at any time, also while batches run.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tidemill::testing::TestContext;
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("names")?;
    /// let names = test.ssc.broadcast(HashMap::from([(1, "one"), (2, "two")]));
    /// let output = test.collect(&test.input([vec![1, 2], vec![]]).map(move |n| names.value()[&n]));
    /// test.run(2)?;
    /// output.assert_batches([vec!["one", "two"], vec![]]);
    /// # Ok(()) }
    /// ```
    pub fn broadcast<T: Data>(&self, value: T) -> Broadcast<T> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Broadcast { shared: Arc::new(Shared { id, value, destroyed: AtomicBool::new(false) }) }
    }
}
