//! Values that are put together by key, in a table of their own: one look-up finds key and value side by side.

use std::hash::{BuildHasher, Hasher};
use std::mem::{ManuallyDrop, forget};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::codec::Key;

/// One value per key, in the order in which the keys came first.
pub(super) struct Combined<K, C> {
    table: HashTable<Slot<K, C>>,
    hasher: DefaultHashBuilder,
    /// The slot whose value a user's function took, and then panicked.
    hole: Option<usize>,
}

/// Small, since how many keys fit into the processor's cache is what counts.
struct Slot<K, C> {
    key: K,
    value: ManuallyDrop<C>,
    /// How many keys came before.
    place: usize,
}

impl<K, C> Default for Combined<K, C> {
    fn default() -> Self {
        Self { table: HashTable::new(), hasher: DefaultHashBuilder::default(), hole: None }
    }
}

/// Notes the hole that is left if the function that was given the value does not return.
struct Taken<'a> {
    hole: &'a mut Option<usize>,
    place: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.hole = Some(self.place);
    }
}

impl<K: Key, C> Combined<K, C> {
    /// The hash of `key`, for [`fold_in`](Self::fold_in): taken of a key where it was made, since one that was just moved has to be waited
    /// for.
    #[inline(always)]
    #[expect(
        clippy::manual_hash_one,
        reason = "which is not inlined where several programs have keys of one type"
    )]
    pub fn hash(&self, key: &K) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        key.hash(&mut hasher);
        hasher.finish()
    }

    /// Puts `value` under `key`, whose hash is `hash`: made by `create`, or merged into what is there. After a panic in either nothing more may be
    /// put in.
    #[inline]
    pub fn fold_in<V>(
        &mut self,
        hash: u64,
        (key, value): (K, V),
        create: impl FnOnce(V) -> C,
        merge: impl FnOnce(&K, C, V) -> C,
    ) {
        debug_assert!(self.hole.is_none());
        let place = self.table.len();
        match self.table.entry(hash, |slot| slot.key == key, |slot| self.hasher.hash_one(&slot.key)) {
            Entry::Occupied(slot) => {
                let slot = slot.into_mut();
                let taken = Taken { hole: &mut self.hole, place: slot.place };
                // SAFETY: the value is put back right away, or the slot is noted as a hole, whose value nobody looks at again.
                let before = unsafe { ManuallyDrop::take(&mut slot.value) };
                slot.value = ManuallyDrop::new(merge(&slot.key, before, value));
                forget(taken);
            }
            Entry::Vacant(free) => {
                free.insert(Slot { key, value: ManuallyDrop::new(create(value)), place });
            }
        }
    }
}

impl<K, C> Combined<K, C> {
    /// The pairs, in their order.
    pub fn into_pairs(mut self) -> impl Iterator<Item = (K, C)> {
        let mut pairs: Vec<Option<(K, C)>> = Vec::new();
        pairs.resize_with(self.table.len(), || None);
        let hole = self.hole;
        for Slot { key, value, place } in self.table.drain() {
            if hole != Some(place) {
                pairs[place] = Some((key, ManuallyDrop::into_inner(value)));
            }
        }
        pairs.into_iter().flatten()
    }
}

impl<K, C> Drop for Combined<K, C> {
    fn drop(&mut self) {
        let hole = self.hole;
        for Slot { value, place, .. } in self.table.drain() {
            if hole != Some(place) {
                drop(ManuallyDrop::into_inner(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn pairs_come_in_the_order_of_their_first() {
        let mut combined = Combined::default();
        for n in (0..5_000_u32).rev().chain(0..5_000) {
            let hash = combined.hash(&n);
            combined.fold_in(hash, (n, u64::from(n)), |n| n, |_, a, b| a + b);
        }
        let pairs: Vec<_> = combined.into_pairs().collect();
        assert!(pairs.into_iter().eq((0..5_000).rev().map(|n| (n, 2 * u64::from(n)))));
    }

    #[test]
    fn each_value_is_dropped_once_even_after_a_panic() {
        let values: Vec<_> = (0..100).map(|_| Arc::new(())).collect();
        let mut combined = Combined::default();
        for (n, value) in values.iter().enumerate() {
            let hash = combined.hash(&n);
            combined.fold_in(hash, (n, value.clone()), |v| v, |_, a, _| a);
        }
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let hash = combined.hash(&50);
            combined.fold_in(
                hash,
                (50, values[0].clone()),
                |v| v,
                |_, _: Arc<()>, _| panic!("as a user's function may"),
            );
        }));
        assert!(panic.is_err());
        drop(combined);
        assert!(values.iter().all(|value| Arc::strong_count(value) == 1));
    }
}
