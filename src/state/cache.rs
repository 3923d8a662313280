//! What the state of touched keys is read from before the store is asked: a cache bounded in bytes.

use std::hash::Hash;

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::keyed::{Counters, Memory, Written};
use crate::codec::Key;

/// Encoded values of some keys of a state partition, as the store has them. What has to go is chosen by the clock
/// algorithm: a hand goes round, and takes the first entry that was not used since it came by last.
pub(crate) struct Cache<K> {
    entries: IndexMap<K, Slot, ahash::RandomState>,
    hand: usize,
    bytes: usize,
}

struct Slot {
    value: Box<[u8]>,
    /// What the entry takes in memory.
    cost: u32,
    used: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { entries: IndexMap::default(), hand: 0, bytes: 0 }
    }
}

/// What an entry takes in memory besides the heap that its key and value own: key, slot and hash, of which a quarter more
/// may stand empty; its place in the hash table, a half of which may; and what the allocator adds to the value.
fn overhead<K>() -> usize {
    (size_of::<K>() + size_of::<Slot>() + 8) * 5 / 4 + 16 + 24
}

/// About the heap that a key of so many encoded bytes owns.
pub(super) fn key_heap<K>(stored: usize) -> usize {
    if std::mem::needs_drop::<K>() { stored + 16 } else { 0 }
}

impl<K: Hash + Eq> Cache<K> {
    pub fn get(&mut self, key: &K) -> Option<&[u8]> {
        let slot = self.entries.get_mut(key)?;
        slot.used = true;
        Some(&slot.value)
    }

    /// Whether all `keys` of the partition are here, so that what is not here is nowhere.
    pub fn is_complete(&self, counters: &Counters) -> bool {
        self.entries.len() as u64 == counters.keys
    }

    /// Keeps `value`, as far as `budget` bytes allow it. `stored` is how long the key is in the store.
    pub fn insert(&mut self, key: K, stored: usize, value: Vec<u8>, budget: usize) {
        let cost = overhead::<K>() + key_heap::<K>(stored) + value.len();
        if self.entries.len() == self.entries.capacity() {
            // In smaller steps than by doubling: a half of the budget would stand empty.
            self.entries.reserve_exact(self.entries.len() / 4 + 4);
        }
        let slot = Slot { value: value.into(), cost: u32::try_from(cost).unwrap_or(u32::MAX), used: false };
        self.bytes += slot.cost as usize;
        match self.entries.entry(key) {
            Entry::Vacant(place) => drop(place.insert(slot)),
            // It was asked for before it was changed.
            Entry::Occupied(mut place) => {
                self.bytes -= place.insert(Slot { used: true, ..slot }).cost as usize;
            }
        }
        while self.bytes > budget {
            self.evict();
        }
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(slot) = self.entries.swap_remove(key) {
            self.bytes -= slot.cost as usize;
        }
    }

    fn evict(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            match self.entries.get_index_mut(self.hand) {
                None => return,
                Some((_, slot)) if slot.used => {
                    slot.used = false;
                    self.hand += 1;
                }
                Some(_) => {
                    // The last entry takes the place.
                    if let Some((_, slot)) = self.entries.swap_remove_index(self.hand) {
                        self.bytes -= slot.cost as usize;
                    }
                    return;
                }
            }
        }
    }
}

impl<K: Key> Memory<K> for Cache<K> {
    fn take_in(&mut self, written: Vec<Written<K>>, budget: usize) {
        for Written { key, stored, value } in written {
            match value {
                Some(value) => self.insert(key, stored.len(), value, budget),
                None => self.remove(&key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(keys: std::ops::Range<u32>, budget: usize) -> Cache<u32> {
        let mut cache = Cache::default();
        keys.for_each(|key| cache.insert(key, 8, vec![0; 10], budget));
        cache
    }

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_used() {
        let entry = overhead::<u32>() + 10;
        let mut cache = filled(0..10, 10 * entry);
        assert!(cache.get(&3).is_some());
        for key in 10..19 {
            cache.insert(key, 8, vec![0; 10], 10 * entry);
        }
        assert_eq!((cache.entries.len(), cache.bytes), (10, 10 * entry));
        assert!(cache.get(&3).is_some(), "it was used");
        assert!(cache.get(&0).is_none());
    }

    #[test]
    fn what_is_changed_again_and_again_stays() {
        let entry = overhead::<u32>() + 10;
        let mut cache = filled(0..10, 10 * entry);
        for key in 10..60 {
            cache.insert(3, 8, vec![0; 10], 10 * entry);
            cache.insert(key, 8, vec![0; 10], 10 * entry);
        }
        assert!(cache.get(&3).is_some());
    }

    #[test]
    fn a_longer_value_makes_room_for_itself_or_is_not_kept() {
        let entry = overhead::<u32>() + 10;
        let mut cache = filled(0..4, 4 * entry);
        cache.insert(0, 8, vec![1; 12], 4 * entry);
        assert!(cache.bytes <= 4 * entry);
        cache.insert(1, 8, vec![0; 10 * entry], 4 * entry);
        assert!(cache.bytes <= 4 * entry && cache.get(&1).is_none());
    }

    #[test]
    fn without_room_it_holds_nothing() {
        assert_eq!(filled(0..5, 0).entries.len(), 0);
    }
}
