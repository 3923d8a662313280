//! What the state of touched keys is read from before the store is asked: a cache bounded in bytes.
//!
//! There may be millions of entries, and most are small. So an entry is a few bytes in a *segment*: how long its key and value
//! are, the key as the store has it, the value. New entries are added at the end of the youngest segment. To make room, the
//! oldest segment is given up: what was used since it was written there is written anew (the clock algorithm, where writing
//! is the hand that goes round), the rest is forgotten.

mod index;

use std::collections::VecDeque;

use ahash::RandomState;
use index::Index;

use super::delta::user_key;
use super::keyed::{Counters, Memory, Written};
use crate::codec::Key;

/// How large a segment may be: it is where places are counted from, with 16 bits.
const LARGEST: usize = 1 << 16;
const SMALLEST: usize = 1 << 10;

/// Encoded values of some keys of a state partition, as the store has them.
#[derive(Default)]
pub(crate) struct Cache {
    index: Index,
    hasher: RandomState,
    /// By number. Those that were given up are empty, and have their number taken again.
    segments: Vec<Segment>,
    /// The numbers of those in use, the oldest first. The last one is written to.
    order: VecDeque<u16>,
    vacant: Vec<u16>,
    /// What the segments take.
    bytes: usize,
    /// What of them is written to, and what of that the entries take that can be found.
    written: usize,
    live: usize,
}

/// Entries, one after the other. What was replaced or removed is there, too, until the segment is given up.
#[derive(Default)]
struct Segment(Vec<u8>);

/// Where an entry stands: the segment's number, and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(u32);

impl Place {
    fn new(segment: u16, at: usize) -> Self {
        Self(u32::from(segment) << 16 | at as u32)
    }

    fn segment(self) -> u16 {
        (self.0 >> 16) as u16
    }

    fn at(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// What stands before key and value: two bytes for the key's length, four for the value's and whether the entry was used.
const HEAD: usize = 6;
const USED: u32 = 1 << 31;

/// An entry's key and value, and whether it was used.
fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let (key, rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_first_chunk()?;
    let (key, value) = (usize::from(u16::from_le_bytes(*key)), u32::from_le_bytes(*value));
    let (key, rest) = rest.split_at_checked(key)?;
    Some((key, rest.get(..(value & !USED) as usize)?, value & USED != 0))
}

fn head(key: &[u8], value: &[u8], used: bool) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..2].copy_from_slice(&(key.len() as u16).to_le_bytes());
    head[2..].copy_from_slice(&(value.len() as u32 | if used { USED } else { 0 }).to_le_bytes());
    head
}

fn size(key: &[u8], value: &[u8]) -> usize {
    HEAD + key.len() + value.len()
}

impl Cache {
    /// The value of `key`, which is as the store has it, if it is here.
    pub fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let place = self.find(key)?;
        let bytes = &mut self.segments[usize::from(place.segment())].0[place.at()..];
        bytes[HEAD - 1] |= (USED >> 24) as u8;
        entry(bytes).map(|(_, value, _)| value)
    }

    /// Whether all keys of the partition are here, so that what is not here is nowhere.
    pub fn is_complete(&self, counters: &Counters) -> bool {
        self.index.len() as u64 == counters.keys
    }

    /// Keeps `value`, as far as `budget` bytes allow it.
    pub fn insert(&mut self, key: &[u8], value: &[u8], budget: usize) {
        let known = self.find(key);
        if let Some(place) = known {
            let bytes = &mut self.segments[usize::from(place.segment())].0[place.at()..];
            let length = entry(bytes).map(|(_, value, _)| value.len());
            if length == Some(value.len()) {
                bytes[..HEAD].copy_from_slice(&head(key, value, true));
                bytes[HEAD + key.len()..][..value.len()].copy_from_slice(value);
                return;
            }
            self.remove(key);
        }
        // One that is large would have many others go.
        let is_large = size(key, value) > budget / 8 || value.len() >= USED as usize;
        if is_large || u16::try_from(key.len()).is_err() {
            return;
        }
        self.make_room_in_index(budget);
        if let Some(segment) = self.make_room(size(key, value), budget) {
            // It was asked for before it was changed.
            self.append(segment, key, value, known.is_some());
        }
    }

    pub fn remove(&mut self, key: &[u8]) {
        let Some(place) = self.find(key) else { return };
        self.forget(key, place);
    }

    fn find(&self, key: &[u8]) -> Option<Place> {
        let is_it = |place: Place| entry(self.bytes_at(place)).is_some_and(|(found, ..)| found == key);
        self.index.find(self.hasher.hash_one(key), is_it)
    }

    fn bytes_at(&self, place: Place) -> &[u8] {
        &self.segments[usize::from(place.segment())].0[place.at()..]
    }

    /// What stands at `place` cannot be found any more.
    fn forget(&mut self, key: &[u8], place: Place) {
        let value = entry(self.bytes_at(place)).map_or(0, |(_, value, _)| value.len());
        if self.index.remove(self.hasher.hash_one(key), place) {
            self.live -= HEAD + key.len() + value;
        }
    }

    fn append(&mut self, segment: u16, key: &[u8], value: &[u8], used: bool) {
        let bytes = &mut self.segments[usize::from(segment)].0;
        let place = Place::new(segment, bytes.len());
        bytes.extend_from_slice(&head(key, value, used));
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        self.index.insert(self.hasher.hash_one(key), place);
        self.written += size(key, value);
        self.live += size(key, value);
    }

    /// The segment that has `wanted` bytes of room, once others were given up for it; none if nothing helps.
    fn make_room(&mut self, wanted: usize, budget: usize) -> Option<u16> {
        // Each may be written anew once; then some have to go.
        let most = self.order.len() + 1;
        let mut left = 2 * most;
        loop {
            if let Some(last) = self.order.back()
                && self.segments[usize::from(*last)].has_room(wanted)
            {
                return Some(*last);
            }
            if let Some(made) = self.add_segment(wanted, budget) {
                return Some(made);
            }
            left = left.checked_sub(1)?;
            self.give_up_oldest(budget, left >= most);
        }
    }

    fn make_room_in_index(&mut self, budget: usize) {
        let most = self.order.len() + 1;
        let mut left = 2 * most;
        while self.index.is_full() {
            if self.bytes + self.index.bytes() + self.index.growth() <= budget || left == 0 {
                self.index.grow();
            } else {
                left -= 1;
                self.give_up_oldest(budget, left >= most);
            }
        }
    }

    /// A segment of its own for an entry that is larger than others are.
    fn add_segment(&mut self, wanted: usize, budget: usize) -> Option<u16> {
        let usual = (self.bytes / 4).next_power_of_two().clamp(SMALLEST, LARGEST).min(budget / 8);
        // What is left may do, but not in shreds.
        let left = budget.saturating_sub(self.bytes + self.index.bytes());
        let capacity = usual.min(left.max(usual / 8)).max(wanted);
        if capacity > left {
            return None;
        }
        let number = match self.vacant.pop() {
            Some(number) => number,
            None => {
                let number = u16::try_from(self.segments.len()).ok()?;
                self.segments.push(Segment::default());
                number
            }
        };
        self.segments[usize::from(number)] = Segment(Vec::with_capacity(capacity));
        self.bytes += self.segments[usize::from(number)].0.capacity();
        self.order.push_back(number);
        Some(number)
    }

    /// Makes room of the oldest segment. What was used stays; if it `may_keep_all`, so does the rest, where much is taken by what was
    /// replaced.
    fn give_up_oldest(&mut self, budget: usize, may_keep_all: bool) {
        let Some(number) = self.order.pop_front() else { return };
        let Segment(bytes) = std::mem::take(&mut self.segments[usize::from(number)]);
        self.bytes -= bytes.capacity();
        let keep_all = may_keep_all && self.live <= self.written / 4 * 3;
        self.written -= bytes.len();
        let mut at = 0;
        while let Some((key, value, used)) = bytes.get(at..).and_then(entry) {
            let taken = size(key, value);
            if self.index.remove(self.hasher.hash_one(key), Place::new(number, at)) {
                self.live -= taken;
                if (used || keep_all)
                    && let Some(segment) = self.room_left(taken, budget)
                {
                    self.append(segment, key, value, false);
                }
            }
            at += taken;
        }
        // Not before: its number would stand for two segments.
        self.vacant.push(number);
    }

    /// The segment that has `wanted` bytes of room without another having to go.
    fn room_left(&mut self, wanted: usize, budget: usize) -> Option<u16> {
        let last =
            self.order.back().filter(|last| self.segments[usize::from(**last)].has_room(wanted)).copied();
        last.or_else(|| self.add_segment(wanted, budget))
    }
}

impl Segment {
    fn has_room(&self, wanted: usize) -> bool {
        // A place in it has to be told with 16 bits, and no entry begins at the last one: see the index.
        self.0.capacity() - self.0.len() >= wanted && self.0.len() < LARGEST - 1
    }
}

impl<K: Key> Memory<K> for Cache {
    fn take_in(&mut self, written: Vec<Written<K>>, budget: usize) {
        for Written { stored, value, .. } in &written {
            match value {
                Some(value) => self.insert(user_key(stored), value, budget),
                None => self.remove(user_key(stored)),
            }
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
