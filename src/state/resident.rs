//! All of a state partition in memory, in the order of the store: for operators that visit every key in every batch.

use std::sync::Arc;

use super::keyed::{Memory, Written};
use crate::codec::Key;

/// The entries of a state partition, or nothing if they take too much.
pub(crate) struct Resident<K> {
    pub entries: Option<Arc<Vec<Entry<K>>>>,
}

/// A key and its value as the store has them.
#[derive(Clone)]
pub(crate) struct Entry<K> {
    pub stored: Vec<u8>,
    pub key: K,
    pub value: Vec<u8>,
}

impl<K> Default for Resident<K> {
    fn default() -> Self {
        Self { entries: None }
    }
}

/// About the heap that a key of so many encoded bytes owns.
fn key_heap<K>(stored: usize) -> usize {
    if std::mem::needs_drop::<K>() { stored + 16 } else { 0 }
}

impl<K> Entry<K> {
    /// What so many of them take in memory, whose keys and values are so many bytes in the store.
    pub fn cost_of(keys: u64, bytes: u64) -> usize {
        let each = size_of::<Self>() + 32 + key_heap::<K>(0);
        let copies = if std::mem::needs_drop::<K>() { 2 } else { 1 };
        keys as usize * each + bytes as usize * copies
    }

    /// What it takes in memory.
    pub fn cost(&self) -> usize {
        let stored = self.stored.len();
        size_of::<Self>() + stored + key_heap::<K>(stored) + self.value.len() + 32
    }
}

impl<K: Key> Memory<K> for Resident<K> {
    fn take_in(&mut self, written: Vec<Written<K>>, budget: usize) {
        if written.is_empty() {
            return;
        }
        let Some(entries) = self.entries.take() else { return };
        let old = Arc::try_unwrap(entries).unwrap_or_else(|shared| (*shared).clone());
        let mut merged = Vec::with_capacity(old.len() + written.len());
        let mut cost = 0;
        let mut keep = |entry: Entry<K>| {
            cost += entry.cost();
            merged.push(entry);
        };
        let mut written = written.into_iter().peekable();
        let entry_of = |w: Written<K>| w.value.map(|value| Entry { stored: w.stored, key: w.key, value });
        for entry in old {
            while let Some(new) = written.next_if(|w| w.stored < entry.stored) {
                entry_of(new).into_iter().for_each(&mut keep);
            }
            match written.next_if(|w| w.stored == entry.stored) {
                Some(new) => entry_of(new).into_iter().for_each(&mut keep),
                None => keep(entry),
            }
        }
        written.filter_map(entry_of).for_each(&mut keep);
        self.entries = (cost <= budget).then(|| Arc::new(merged));
    }
}
