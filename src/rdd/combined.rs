//! Values that are put together by key, in a table of their own: one look-up finds key and value side by side.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::codec::Key;

/// One value per key, in the order in which the keys came first.
pub(super) struct Combined<K, C> {
    table: HashTable<Slot<K, C>>,
    hasher: ahash::RandomState,
}

struct Slot<K, C> {
    key: K,
    /// Only a panic in the user's function leaves a hole, and that ends the attempt.
    value: Option<C>,
    /// How many keys came before.
    place: usize,
}

impl<K, C> Default for Combined<K, C> {
    fn default() -> Self {
        Self { table: HashTable::new(), hasher: ahash::RandomState::new() }
    }
}

impl<K: Key, C> Combined<K, C> {
    /// Puts `value` under `key`: made by `create`, or merged into what is there.
    #[inline]
    pub fn fold_in<V>(
        &mut self,
        key: K,
        value: V,
        create: impl FnOnce(V) -> C,
        merge: impl FnOnce(&K, C, V) -> C,
    ) {
        let hash = self.hasher.hash_one(&key);
        let place = self.table.len();
        match self.table.entry(hash, |slot| slot.key == key, |slot| self.hasher.hash_one(&slot.key)) {
            Entry::Occupied(slot) => {
                let slot = slot.into_mut();
                slot.value = Some(match slot.value.take() {
                    Some(before) => merge(&slot.key, before, value),
                    None => create(value),
                });
            }
            Entry::Vacant(free) => {
                free.insert(Slot { key, value: Some(create(value)), place });
            }
        }
    }

    /// The pairs, in their order.
    pub fn into_pairs(self) -> impl Iterator<Item = (K, C)> {
        let mut pairs: Vec<Option<(K, C)>> = Vec::new();
        pairs.resize_with(self.table.len(), || None);
        for Slot { key, value, place } in self.table {
            pairs[place] = value.map(|value| (key, value));
        }
        pairs.into_iter().flatten()
    }
}
