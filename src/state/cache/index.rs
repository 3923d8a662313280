//! Where entries stand, by the hash of their key.

use super::Place;

/// Open addressing, linear probing: a slot is 32 bits of the hash and the place. It grows by a quarter at a time, and removing
/// leaves nothing behind, so that a full cache takes as much as it is said to.
#[derive(Default)]
pub(super) struct Index {
    slots: Vec<Slot>,
    taken: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    place: Place,
}

/// No entry begins at the last byte of a segment.
const EMPTY: Slot = Slot { hash: 0, place: Place(u32::MAX) };

impl Slot {
    fn is_empty(self) -> bool {
        self.place == EMPTY.place
    }
}

impl Index {
    pub fn len(&self) -> usize {
        self.taken
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Whether it has to grow before something is inserted.
    pub fn is_full(&self) -> bool {
        (self.taken + 1) * 8 > self.slots.len() * 7
    }

    /// How many bytes more it takes once it has grown.
    pub fn growth(&self) -> usize {
        (self.grown() - self.slots.len()) * size_of::<Slot>()
    }

    fn grown(&self) -> usize {
        (self.slots.len() / 4 * 5).max(self.slots.len() + 16)
    }

    pub fn grow(&mut self) {
        let mut slots = Vec::new();
        slots.reserve_exact(self.grown());
        slots.resize(self.grown(), EMPTY);
        let old = std::mem::replace(&mut self.slots, slots);
        for slot in old.into_iter().filter(|slot| !slot.is_empty()) {
            self.put(slot);
        }
    }

    /// Where the search for a hash begins. In the order of hashes, so that a larger index has the same order.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while !self.slots[at].is_empty() {
            at = self.next(at);
        }
        self.slots[at] = slot;
    }

    fn slot_of(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = (hash >> 32) as u32;
        let mut at = self.home(hash);
        while !self.slots[at].is_empty() {
            let slot = self.slots[at];
            if slot.hash == hash && is_it(slot.place) {
                return Some(at);
            }
            at = self.next(at);
        }
        None
    }

    pub fn find(&self, hash: u64, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        self.slot_of(hash, is_it).map(|at| self.slots[at].place)
    }

    /// Adds what is not there. It must not be full.
    pub fn insert(&mut self, hash: u64, place: Place) {
        self.put(Slot { hash: (hash >> 32) as u32, place });
        self.taken += 1;
    }

    /// Removes what stands at `place`; tells whether it was there.
    pub fn remove(&mut self, hash: u64, place: Place) -> bool {
        let Some(mut hole) = self.slot_of(hash, |at| at == place) else { return false };
        self.taken -= 1;
        // What follows moves up, unless it would then stand before its home.
        let mut at = self.next(hole);
        while !self.slots[at].is_empty() {
            let home = self.home(self.slots[at].hash);
            let from_home = (at + self.slots.len() - home) % self.slots.len();
            let from_hole = (at + self.slots.len() - hole) % self.slots.len();
            if from_home >= from_hole {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.slots[hole] = EMPTY;
        true
    }
}
