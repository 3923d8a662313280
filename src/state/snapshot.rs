//! The store as it was at a moment, while batches go on.

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;

use rocksdb::SnapshotWithThreadMode;

use super::StateDb;
use super::db::Db;
use super::options;
use crate::rdd::Flow;

/// A snapshot that keeps its store open.
pub(crate) struct StoreSnapshot {
    snapshot: ManuallyDrop<SnapshotWithThreadMode<'static, Db>>,
    store: Arc<StateDb>,
}

impl StoreSnapshot {
    pub fn new(store: Arc<StateDb>) -> Self {
        let snapshot = SnapshotWithThreadMode::new(&store.db);
        // SAFETY: the snapshot borrows the database inside `store`, which stands on the heap, is not moved out of its
        // `Arc`, and lives until `drop` has let go of the snapshot.
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, Db>, SnapshotWithThreadMode<'static, Db>>(
                snapshot,
            )
        };
        Self { snapshot: ManuallyDrop::new(snapshot), store }
    }

    /// Calls `each` with the keys of `range` and their values, in order.
    pub fn visit(
        &self,
        uid: &str,
        range: Range<Vec<u8>>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Flow,
    ) -> Flow {
        let family = self.store.family(uid)?;
        // What is read through once must not push out what batches read.
        let iterator = self.snapshot.raw_iterator_cf_opt(&family, options::range(range, false));
        self.store.walk(iterator, each)
    }
}

impl Drop for StoreSnapshot {
    fn drop(&mut self) {
        // SAFETY: it is dropped here only, once, and while the database is still open.
        unsafe { ManuallyDrop::drop(&mut self.snapshot) }
    }
}
