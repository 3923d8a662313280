//! The state of a keyed operator: one shard per state partition, changed only by tasks that succeeded.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use indexmap::IndexMap;
use parking_lot::{Mutex, MutexGuard};

use super::{Change, StateDb, record_key, split_key};
use crate::codec::{Key, Stored, decode_key, decode_value, encode_value};
use crate::error::Result;

/// How much state an operator holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateStats {
    /// Live keys.
    pub keys: u64,
    /// Bytes of encoded keys and values.
    pub bytes: u64,
}

/// A value with the size it has on disk.
#[derive(Debug, Clone)]
pub(crate) struct Kept<S> {
    pub value: S,
    bytes: u32,
}

pub(crate) type Shard<K, S> = IndexMap<K, Kept<S>, ahash::RandomState>;

/// Values by key, in memory and as changes for the store.
pub(crate) struct KeyedState<K, S> {
    kind: u8,
    shards: Vec<Mutex<Shard<K, S>>>,
    keys: AtomicU64,
    bytes: AtomicU64,
}

impl<K: Key + Hash, S: Stored> KeyedState<K, S> {
    /// An empty state in `partitions` shards, its records marked with `kind` in the operator's column family.
    pub fn new(partitions: usize, kind: u8) -> Self {
        let shards = (0..partitions).map(|_| Mutex::default()).collect();
        Self { kind, shards, keys: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Reads what the store has under `uid`, calling `each` with every entry.
    pub fn restore(&self, db: &StateDb, uid: &str, mut each: impl FnMut(usize, &K, &S)) -> Result<()> {
        db.scan(uid, |key, value| {
            let (partition, kind, key_part) = split_key(key)?;
            if kind != self.kind {
                return Ok(());
            }
            let key_value: K = decode_key(key_part)?;
            let stored: S = decode_value(value)?;
            each(partition, &key_value, &stored);
            let size = (key.len() + value.len()) as u32;
            self.count(1, i64::from(size));
            self.shards[partition].lock().insert(key_value, Kept { value: stored, bytes: size });
            Ok(())
        })
        .map_err(|e| e.within(format!("state of operator `{uid}`")))
    }

    pub fn shard(&self, partition: usize) -> MutexGuard<'_, Shard<K, S>> {
        self.shards[partition].lock()
    }

    /// Sets (or, with `None`, removes) the value of `key`, and notes the change for the store.
    pub fn write(
        &self,
        shard: &mut Shard<K, S>,
        partition: usize,
        key: K,
        value: Option<S>,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let stored_key = record_key(partition, self.kind, &key)?;
        match value {
            Some(value) => {
                let encoded = encode_value(&value)?;
                let size = (stored_key.len() + encoded.len()) as u32;
                changes.push(Change::Put(stored_key, encoded));
                match shard.insert(key, Kept { value, bytes: size }) {
                    None => self.count(1, i64::from(size)),
                    Some(before) => self.count(0, i64::from(size) - i64::from(before.bytes)),
                }
            }
            None => {
                if let Some(before) = shard.swap_remove(&key) {
                    changes.push(Change::Delete(stored_key));
                    self.count(-1, -i64::from(before.bytes));
                }
            }
        }
        Ok(())
    }

    pub fn stats(&self) -> StateStats {
        StateStats { keys: self.keys.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    fn count(&self, keys: i64, bytes: i64) {
        // Two's complement: adding a negative number wraps to the right result.
        self.keys.fetch_add(keys as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
