//! The keys of a state partition with their panes, as the last committed batch left them, and what a batch changes there.

use std::sync::Arc;

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::key_panes::{Edit, KeyPanes};
use crate::codec::{Key, Stored, decode_key, decode_value, encode_key, encode_value};
use crate::error::{Error, Result};
use crate::rdd::AtRecord;
use crate::state::{Change, Gathered, Gatherer, Pending, StateStats, kind, record_key, shown, split_key};
use crate::time::Time;

/// A key in the store's form, by whose bytes keys are ordered.
pub(super) type Place = Arc<[u8]>;

/// A pane's key in the store, without its partition and kind.
pub(super) type PaneKey<K> = (i64, K);

pub(super) type Keys<K, V> = IndexMap<K, (Place, KeyPanes<V>), ahash::RandomState>;

/// How many gathered entries there may be for each key: what a start has to read is bounded by it.
const GATHERED_PER_KEY: u64 = 4;

pub(super) struct Shard<K, V> {
    pub keys: Keys<K, V>,
    /// Whether they are in their order: where a key comes in does not depend on when it came, nor on restarts.
    sorted: bool,
    /// The last window for which totals were made.
    pub emitted: Option<Time>,
    /// What is gathered in the store, all of it of the pane `open`, if there is one.
    gathered: Gathered,
    open: Option<Time>,
    /// What else the open pane is called in the store: panes that were longer before a change of the program go on in it.
    former: Vec<Time>,
    pub pending: Pending<Edits<K, V>>,
    /// What the keys take in the store, with what is pending; a gathered value counts once.
    pub stats: StateStats,
}

/// What a batch changes, to be applied when it is committed and the next one begins.
pub(super) struct Edits<K, V> {
    pub keys: Vec<(Slot<K>, Edit<V>)>,
    pub emitted: Option<Time>,
    pub gathered: Gathered,
    pub open: Option<Time>,
    pub before: StateStats,
}

/// Where an edited key is.
pub(super) enum Slot<K> {
    Known(usize),
    New(K, Place),
}

/// How a batch writes panes: each as an entry, or gathered as long as the pane may get more.
pub(super) struct Writing {
    partition: usize,
    gatherer: Option<Gatherer>,
    /// What was gathered before, and is to be written anew, with what the batch does not change of it.
    anew: Option<Gathered>,
    /// The pane that is open then.
    open: Option<Time>,
    /// What it was called before, where it is not open any more.
    former: Vec<Time>,
    pub changes: Vec<Change>,
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            sorted: true,
            emitted: None,
            gathered: Gathered::default(),
            open: None,
            former: Vec::new(),
            pending: Pending::Nothing,
            stats: StateStats::default(),
        }
    }
}

pub(super) fn place_of<K: Key>(key: &K) -> Result<Place> {
    let mut place = Vec::with_capacity(24);
    encode_key(key, &mut place)?;
    Ok(place.into())
}

impl<K: Key, V: Stored> Shard<K, V> {
    /// Takes back in a record of the store; they come in their order. The last batch fell into the pane that ends at `end`.
    pub fn take_in(&mut self, stored: &[u8], value: &[u8], end: Option<Time>) -> Result<()> {
        let (partition, kind, key) = split_key(stored)?;
        match kind {
            kind::ENTRY => self.restore(stored, value, end, false)?,
            kind::TOTAL => {
                let key = decode_key(key)?;
                let total = decode_value(value).map_err(|e| unreadable(&key, e))?;
                let size = stored.len() + value.len();
                self.panes_of(key)?.restore_total(total, size);
                self.stats.bytes += size as u64;
            }
            kind::EMITTED => self.emitted = Some(decode_value(value)?),
            kind::GATHERED => {
                let mut gathered = self.gathered;
                gathered
                    .restore(partition, key, value, |stored, value| self.restore(stored, value, end, true))?;
                self.gathered = gathered;
            }
            _ => {}
        }
        self.stats.keys = self.keys.len() as u64;
        Ok(())
    }

    fn restore(&mut self, stored: &[u8], value: &[u8], end: Option<Time>, is_gathered: bool) -> Result<()> {
        let (_, _, key) = split_key(stored)?;
        let (pane, key): PaneKey<K> = decode_key(key)?;
        let decoded = decode_value(value).map_err(|e| unreadable(&key, e))?;
        let mut pane = Time::from_millis(pane);
        let end = end.filter(|end| *end < pane);
        if let Some(end) = end {
            if !self.former.contains(&pane) {
                self.former.push(pane);
            }
            pane = end;
        }
        let size = stored.len() + value.len();
        let panes = self.panes_of(key)?;
        let before = match is_gathered {
            true => panes.restore_gathered(pane, decoded, size),
            false => {
                panes.restore_pane(pane, decoded, size);
                0
            }
        };
        // What has another name in the store is written anew with what is gathered.
        if is_gathered || end.is_some() {
            panes.is_gathered = true;
            self.open = Some(pane);
        }
        self.stats.bytes = self.stats.bytes + size as u64 - before as u64;
        Ok(())
    }

    /// The panes of a key that is restored.
    fn panes_of(&mut self, key: K) -> Result<&mut KeyPanes<V>> {
        let (_, panes) = match self.keys.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(slot) => {
                self.sorted = false;
                let place = place_of(slot.key())?;
                slot.insert((place, KeyPanes::default()))
            }
        };
        Ok(panes)
    }

    /// Puts the keys in their order; quick where only a few are new.
    pub fn sort(&mut self) {
        if !self.sorted {
            self.keys.sort_by(|_, (a, _), _, (b, _)| a.cmp(b));
            self.sorted = true;
        }
    }

    /// Applies what the last batch changed, if it was committed.
    pub fn begin(&mut self) -> Result<()> {
        let Some(edits) = self.pending.begin()? else { return Ok(()) };
        self.emitted = edits.emitted;
        if self.open.is_some() && edits.open.is_none() {
            self.keys.values_mut().for_each(|(_, panes)| panes.is_gathered = false);
            self.former.clear();
        }
        (self.gathered, self.open) = (edits.gathered, edits.open);
        let known = self.keys.len();
        let mut emptied = false;
        for (slot, edit) in edits.keys {
            let panes = match slot {
                Slot::Known(index) => &mut self.keys[index].1,
                Slot::New(key, place) => {
                    &mut self.keys.entry(key).or_insert_with(|| (place, KeyPanes::default())).1
                }
            };
            panes.apply(edit);
            emptied |= panes.is_empty();
        }
        self.sorted &= self.keys.len() == known;
        if emptied {
            self.keys.retain(|_, (_, panes)| !panes.is_empty());
        }
        Ok(())
    }

    /// How the batch `time` of the state partition `partition` writes so many `new` values of `pane`.
    pub fn writing(&self, partition: usize, time: Time, pane: Option<Time>, new: usize) -> Writing {
        let mut writing = Writing {
            partition,
            gatherer: None,
            anew: None,
            open: None,
            former: Vec::new(),
            changes: Vec::new(),
        };
        let before = self.open.map(|_| self.gathered);
        let gets_more = pane.is_some_and(|pane| time < pane);
        if gets_more && (before.is_none() || self.open == pane) {
            writing.open = pane;
            let entries = self.gathered.entries() + new as u64;
            writing.anew = before.filter(|_| entries > GATHERED_PER_KEY * self.keys.len() as u64);
            writing.gatherer = Some(Gatherer::new(partition, self.gathered, writing.anew.is_some()));
        } else {
            writing.anew = before;
            writing.former.clone_from(&self.former);
        }
        writing
    }
}

impl Writing {
    /// Whether gathered values that do not change are to be written too.
    pub fn is_anew(&self) -> bool {
        self.anew.is_some()
    }

    /// Writes the value of a key's pane; tells what it takes, and whether it was gathered.
    pub fn put<K: Key, V: Stored>(&mut self, key: &K, pane: Time, value: &V) -> Result<(usize, bool)> {
        let key: PaneKey<&K> = (pane.as_millis(), key);
        if let Some(gatherer) = &mut self.gatherer {
            return Ok((gatherer.put(&key, value)?, true));
        }
        let (stored, encoded) = (record_key(self.partition, kind::ENTRY, &key)?, encode_value(value)?);
        let size = stored.len() + encoded.len();
        self.changes.push(Change::Put(stored, encoded));
        Ok((size, false))
    }

    /// Writes what was gathered of a key whose youngest pane the batch leaves as it is, if that is to be written anew.
    pub fn keep<K: Key, V: Stored>(&mut self, key: &K, panes: &KeyPanes<V>) -> Result<()> {
        self.forget_former(key, panes)?;
        if self.is_anew()
            && panes.is_gathered
            && let Some((pane, value)) = panes.youngest()
        {
            let _key = AtRecord(|| format!("key {}", shown(key)));
            self.put(key, pane, value)?;
        }
        Ok(())
    }

    /// Deletes what a key has in the open pane under what that was called before, if it is written anew.
    pub fn forget_former<K: Key, V>(&mut self, key: &K, panes: &KeyPanes<V>) -> Result<()> {
        if panes.is_gathered {
            for pane in &self.former {
                let former: PaneKey<&K> = (pane.as_millis(), key);
                self.changes.push(Change::Delete(record_key(self.partition, kind::ENTRY, &former)?));
            }
        }
        Ok(())
    }

    /// All changes in their order, and what is gathered then, of which pane.
    pub fn finish(self) -> (Vec<Change>, Gathered, Option<Time>) {
        let Self { partition, gatherer, anew, open, mut changes, .. } = self;
        let (records, gathered) = gatherer.map(Gatherer::finish).unwrap_or_default();
        changes.extend(records);
        // In their order the store takes keys several times as fast. Two changes of one key stay in theirs.
        changes.sort_by(|a, b| a.key().cmp(b.key()));
        // Last: whoever reads what was applied so far misses nothing.
        changes.extend(anew.iter().flat_map(|before| before.deletions(partition)));
        (changes, gathered, open)
    }
}

fn unreadable<K: Key>(key: &K, error: Error) -> Error {
    error.within(format!("key {}", shown(key)))
}
