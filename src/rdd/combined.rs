//! Values that are put together by key, in a table of their own: one look-up finds key and value side by side.
//!
//! A key's slot is the first free one from where its hash points to. So a look-up knows which memory it needs as soon as it has the hash, and
//! the processor asks for a slot before it has seen whether it is filled; a table of groups has to read a group first. The keys that come most
//! often mostly come early, and stand where they are looked for.

use std::hash::{BuildHasher, Hasher};
use std::mem::{ManuallyDrop, MaybeUninit, forget};

use hashbrown::DefaultHashBuilder;

use crate::codec::Key;

/// One value per key, in the order in which the keys came first.
pub(super) struct Combined<K, C> {
    /// For each slot, [`FREE`], or some bits of its key's hash. Their number is a power of two, and some are free.
    tags: Box<[u8]>,
    /// As many, filled where the tag is not free.
    slots: Box<[MaybeUninit<Slot<K, C>>]>,
    /// The numbers of the filled slots, in the order in which they were filled.
    order: Vec<usize>,
    hasher: DefaultHashBuilder,
}

const FREE: u8 = 0;
/// Of a slot whose value a user's function took, and then panicked. Its key is there, and found no more.
const DEAD: u8 = 1;

/// A key and its value, and no more: how many slots fit into the processor's cache is what counts.
struct Slot<K, C> {
    key: K,
    value: ManuallyDrop<C>,
}

impl<K, C> Default for Combined<K, C> {
    fn default() -> Self {
        Self::with_slots(1)
    }
}

/// A key's value in its slot.
pub(super) struct Found<'a, K, C> {
    slot: &'a mut Slot<K, C>,
    tag: &'a mut u8,
}

/// Marks a slot as dead if the function that was given its value does not return.
struct Taken<'a>(&'a mut u8);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0 = DEAD;
    }
}

#[inline(always)]
fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8 | 0x80
}

impl<K: Key, C> Combined<K, C> {
    /// The hash of `key`, for [`find`](Self::find): taken of a key where it was made, since one that was just moved has to be waited
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

    /// What is under `key`, whose hash is `hash`.
    #[inline(always)]
    pub fn find(&mut self, hash: u64, key: &K) -> Option<Found<'_, K, C>> {
        let (mask, tag) = (self.tags.len() - 1, tag(hash));
        let mut number = hash as usize & mask;
        loop {
            // SAFETY: the mask keeps it below the number of slots.
            let at = unsafe { *self.tags.get_unchecked(number) };
            if at == tag {
                // SAFETY: likewise; and its tag says that it is filled.
                let slot = unsafe { self.slots.get_unchecked(number).assume_init_ref() };
                if slot.key == *key {
                    break;
                }
            }
            if at == FREE {
                return None;
            }
            number = (number + 1) & mask;
        }
        // SAFETY: as above.
        let slot = unsafe { self.slots.get_unchecked_mut(number).assume_init_mut() };
        // SAFETY: as above.
        Some(Found { slot, tag: unsafe { self.tags.get_unchecked_mut(number) } })
    }

    /// Puts `value` under `key`, which is not there and whose hash is `hash`.
    #[inline(never)]
    pub fn insert(&mut self, hash: u64, key: K, value: C) {
        // Of four slots at least one is free.
        if 4 * (self.order.len() + 1) > 3 * self.slots.len() {
            self.grow();
        }
        self.fill(hash, Slot { key, value: ManuallyDrop::new(value) });
    }

    /// Moves all slots to a table of twice the size. If a key's hash panics, those that were not moved yet are dropped.
    fn grow(&mut self) {
        const FEWEST: usize = 16;
        let mut larger = Self::with_slots(FEWEST.max(2 * self.slots.len()));
        larger.order.reserve(self.order.len() + 1);
        larger.hasher = self.hasher.clone();
        let mut before = std::mem::replace(self, larger);
        before.order.reverse();
        while let Some((key, value)) = before.take_last() {
            let hash = self.hash(&key);
            self.fill(hash, Slot { key, value: ManuallyDrop::new(value) });
        }
    }
}

impl<K, C> Combined<K, C> {
    /// One that need not grow before it has so many keys.
    pub fn with_room(keys: usize) -> Self {
        let mut combined = Self::with_slots((keys + keys / 3 + 2).next_power_of_two());
        combined.order.reserve(keys);
        combined
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    fn with_slots(slots: usize) -> Self {
        Self {
            tags: vec![FREE; slots].into(),
            slots: Box::new_uninit_slice(slots),
            order: Vec::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Fills the first free slot from where `hash` points to; there is one.
    fn fill(&mut self, hash: u64, slot: Slot<K, C>) {
        let mask = self.tags.len() - 1;
        let mut number = hash as usize & mask;
        while self.tags[number] != FREE {
            number = (number + 1) & mask;
        }
        self.slots[number].write(slot);
        self.tags[number] = tag(hash);
        self.order.push(number);
    }

    /// Takes out the last pair of the order. Its slot is not to be looked for again.
    fn take_last(&mut self) -> Option<(K, C)> {
        loop {
            let number = self.order.pop()?;
            // SAFETY: it is filled, and with its number gone from the order nobody takes it again.
            let Slot { key, value } = unsafe { self.slots[number].assume_init_read() };
            if self.tags[number] != DEAD {
                return Some((key, ManuallyDrop::into_inner(value)));
            }
        }
    }

    /// The pairs, in their order.
    pub fn into_pairs(mut self) -> impl Iterator<Item = (K, C)> {
        self.order.reverse();
        std::iter::from_fn(move || self.take_last())
    }
}

impl<K, C> Found<'_, K, C> {
    /// Puts what `merge` makes of the value in its place. After a panic there the key is as good as gone.
    #[inline(always)]
    pub fn merge(self, merge: impl FnOnce(&K, C) -> C) {
        let Self { slot, tag } = self;
        let taken = Taken(tag);
        // SAFETY: the value is put back right away, or the slot is marked as dead, whose value nobody looks at again.
        let before = unsafe { ManuallyDrop::take(&mut slot.value) };
        slot.value = ManuallyDrop::new(merge(&slot.key, before));
        forget(taken);
    }
}

impl<K, C> Drop for Combined<K, C> {
    fn drop(&mut self) {
        while self.take_last().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::Hash;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[test]
    fn pairs_come_in_the_order_of_their_first() {
        let mut combined = Combined::default();
        for n in (0..5_000_u32).rev().chain(0..5_000) {
            let hash = combined.hash(&n);
            match combined.find(hash, &n) {
                Some(found) => found.merge(|_, before| before + u64::from(n)),
                None => combined.insert(hash, n, u64::from(n)),
            }
        }
        let pairs: Vec<_> = combined.into_pairs().collect();
        assert!(pairs.into_iter().eq((0..5_000).rev().map(|n| (n, 2 * u64::from(n)))));
    }

    #[test]
    fn pairs_that_nobody_takes_are_dropped_once() {
        let values: Vec<_> = (0..100).map(|_| Arc::new(())).collect();
        let mut combined = Combined::default();
        for (n, value) in values.iter().enumerate() {
            let hash = combined.hash(&n);
            combined.insert(hash, n, value.clone());
        }
        let mut pairs = combined.into_pairs();
        let taken: Vec<_> = pairs.by_ref().take(40).collect();
        drop(pairs);
        assert!(taken.iter().map(|(n, _)| *n).eq(0..40));
        assert!(values.iter().enumerate().all(|(n, v)| Arc::strong_count(v) == 1 + usize::from(n < 40)));
    }

    thread_local! {
        static FAILS: Cell<bool> = const { Cell::new(false) };
    }

    #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Fussy(u32);

    impl Hash for Fussy {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(!(FAILS.get() && self.0 == 5), "as a user's hash may");
            self.0.hash(state);
        }
    }

    #[test]
    fn each_value_is_dropped_once_even_if_a_hash_panics_while_the_table_grows() {
        let values: Vec<_> = (0..13).map(|_| Arc::new(())).collect();
        let mut combined = Combined::default();
        let mut insert = |n: u32| {
            let key = Fussy(n);
            let hash = combined.hash(&key);
            combined.insert(hash, key, values[n as usize].clone());
        };
        // The thirteenth does not fit into 16 slots.
        (0..12).for_each(&mut insert);
        FAILS.set(true);
        assert!(catch_unwind(AssertUnwindSafe(|| insert(12))).is_err());
        FAILS.set(false);
        let left: Vec<_> = (0..13)
            .filter(|n| {
                let key = Fussy(*n);
                let hash = combined.hash(&key);
                combined.find(hash, &key).is_some()
            })
            .collect();
        assert_eq!(left, [0, 1, 2, 3, 4]);
        drop(combined);
        assert!(values.iter().all(|value| Arc::strong_count(value) == 1));
    }

    #[test]
    fn each_value_is_dropped_once_even_after_a_panic() {
        let values: Vec<_> = (0..100).map(|_| Arc::new(())).collect();
        let mut combined = Combined::default();
        for (n, value) in values.iter().enumerate() {
            let hash = combined.hash(&n);
            combined.insert(hash, n, value.clone());
        }
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let hash = combined.hash(&50);
            let found = combined.find(hash, &50).unwrap();
            found.merge(|_, _: Arc<()>| panic!("as a user's function may"));
        }));
        assert!(panic.is_err());
        // Whoever swallowed it goes on: what was lost stays lost, also when the table grows.
        for n in 100..200 {
            let hash = combined.hash(&n);
            assert!(combined.find(hash, &n).is_none());
            combined.insert(hash, n, values[0].clone());
        }
        let hash = combined.hash(&50);
        assert!(combined.find(hash, &50).is_none());
        drop(combined);
        assert!(values.iter().all(|value| Arc::strong_count(value) == 1));
    }
}
