//! The state of a keyed operator: what batches changed of it, partition by partition, in front of the store.
//!
//! What a batch changes is *running* until the batch is committed: it is in the delta and nowhere else that another batch
//! or a reader could see it, and `discard` forgets it. Once it is committed, and so in the store, the next batch takes it
//! into memory.

use std::iter::Sum;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::delta::{kind, single_key, user_key};
use super::{Cache, Change, Pending, StateDb, StoreSnapshot, record_key};
use crate::batch::Turn;
use crate::codec::{Key, decode_value, encode_value};
use crate::error::{Error, Result};
use crate::time::Time;

/// How much state an operator holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateStats {
    /// Live keys.
    pub keys: u64,
    /// Bytes of encoded keys and values.
    pub bytes: u64,
    /// Keys whose state was found in memory since the start, of operators that read the state of touched keys only.
    pub cache_hits: u64,
    /// Keys that the store had to be asked for since the start.
    pub cache_misses: u64,
}

impl Sum for StateStats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            keys: sum.keys + one.keys,
            bytes: sum.bytes + one.bytes,
            cache_hits: sum.cache_hits + one.cache_hits,
            cache_misses: sum.cache_misses + one.cache_misses,
        })
    }
}

/// What a state partition holds, kept in the store beside it, so that nobody has to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub keys: u64,
    pub bytes: u64,
    /// No key's last touch is older.
    pub touched_from: Option<Time>,
}

/// What a batch made of a key: its new value as the store has it, or none if it is gone.
#[derive(Clone)]
pub(crate) struct Written<K> {
    pub key: K,
    pub stored: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// What a batch changes in a state partition.
#[derive(Clone)]
pub(crate) struct Batch<K> {
    /// In the order of the store.
    pub written: Vec<Written<K>>,
    pub counters: Counters,
}

/// What of a state partition is in memory.
pub(crate) trait Memory<K>: Default + Send {
    /// Makes what is here what the store has since `written`, in the order of the store; within `budget` bytes.
    fn take_in(&mut self, written: Vec<Written<K>>, budget: usize);
}

pub(crate) struct Shard<K, M> {
    pub memory: M,
    /// As of the last committed batch.
    pub counters: Counters,
    pending: Pending<Arc<Batch<K>>>,
}

impl<K, M> Shard<K, M> {
    /// Of the running batch, if it has got so far.
    pub fn running(&self) -> Option<Arc<Batch<K>>> {
        match &self.pending {
            Pending::Running(batch) => Some(batch.clone()),
            _ => None,
        }
    }

    fn latest(&self) -> Counters {
        match &self.pending {
            Pending::Nothing => self.counters,
            Pending::Running(batch) | Pending::Committed(batch) => batch.counters,
        }
    }
}

/// Where the state is kept, and how many bytes of each partition may be in memory.
pub(crate) struct Opened {
    pub store: Arc<StateDb>,
    pub uid: Arc<str>,
    pub budget: usize,
}

/// Values by key.
pub(crate) struct KeyedState<K, M> {
    shards: Vec<Mutex<Shard<K, M>>>,
    opened: OnceLock<Opened>,
    /// Whether the initial state is still to be taken, and whether the running batch takes it.
    fresh: AtomicBool,
    taking: AtomicBool,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
}

impl<K: Key, M: Memory<K>> KeyedState<K, M> {
    /// The state of an operator that spreads its keys over `partitions`.
    pub fn new(partitions: usize) -> Self {
        let shard =
            || Shard { memory: M::default(), counters: Counters::default(), pending: Pending::Nothing };
        Self {
            shards: (0..partitions).map(|_| Mutex::new(shard())).collect(),
            opened: OnceLock::new(),
            fresh: AtomicBool::new(true),
            taking: AtomicBool::new(false),
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
        }
    }

    /// Finds what `store` has under `uid`, without reading it; `cache` bytes of it may be in memory.
    pub fn open(&self, store: &Arc<StateDb>, uid: Arc<str>, cache: usize) -> Result<()> {
        let mut fresh = store.get_state(&uid, &single_key(0, kind::INITIAL_TAKEN))?.is_none();
        for (partition, shard) in self.shards.iter().enumerate() {
            if let Some(found) = store.get_state(&uid, &single_key(partition, kind::COUNTERS))? {
                shard.lock().counters = decode_value(&found).map_err(|e| {
                    e.within(format!("counters of partition {partition} of operator `{uid}`"))
                })?;
                // State from before there was an initial one is newer than it.
                fresh = false;
            }
        }
        self.fresh.store(fresh, Ordering::Relaxed);
        let opened = Opened { store: store.clone(), uid, budget: cache / self.shards.len().max(1) };
        self.opened.set(opened).map_err(|_| Error::internal("a state was opened twice"))
    }

    pub fn partitions(&self) -> usize {
        self.shards.len()
    }

    pub fn opened(&self) -> Result<&Opened> {
        self.opened.get().ok_or_else(|| Error::internal("a state was used before it was opened"))
    }

    pub fn snapshot(&self) -> Result<StoreSnapshot> {
        Ok(StoreSnapshot::new(self.opened()?.store.clone()))
    }

    pub fn shard(&self, partition: usize) -> MutexGuard<'_, Shard<K, M>> {
        self.shards[partition].lock()
    }

    /// The partition as the last committed batch left it, for a task of the next.
    pub fn begin(&self, partition: usize) -> Result<MutexGuard<'_, Shard<K, M>>> {
        let mut shard = self.shards[partition].lock();
        if let Some(batch) = shard.pending.begin()? {
            shard.counters = batch.counters;
            let batch = Arc::try_unwrap(batch).unwrap_or_else(|shared| (*shared).clone());
            shard.memory.take_in(batch.written, self.opened()?.budget);
        }
        Ok(shard)
    }

    /// Whether the running batch is the first, which takes the initial state.
    pub fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Whether the running batch is to take the initial state. The one before it may be taking it: that one's end is waited for.
    pub fn takes_initial(&self, turn: &Turn) -> Result<bool> {
        if self.is_fresh() {
            turn.wait()?;
        }
        Ok(self.is_fresh())
    }

    /// Notes that the running batch has taken the initial state.
    pub fn initial_taken(&self) -> Change {
        self.taking.store(true, Ordering::Relaxed);
        Change::Put(single_key(0, kind::INITIAL_TAKEN), Vec::new())
    }

    /// Forgets what the running batch changed.
    pub fn discard(&self) {
        self.taking.store(false, Ordering::Relaxed);
        for shard in &self.shards {
            shard.lock().pending.discard();
        }
    }

    /// What the running batch changed is in the store now.
    pub fn committed(&self) {
        if self.taking.swap(false, Ordering::Relaxed) {
            self.fresh.store(false, Ordering::Relaxed);
        }
        for shard in &self.shards {
            shard.lock().pending.committed();
        }
    }

    pub fn stats(&self) -> StateStats {
        let counters = self.shards.iter().map(|shard| shard.lock().latest());
        let of_keys: StateStats =
            counters.map(|c| StateStats { keys: c.keys, bytes: c.bytes, ..StateStats::default() }).sum();
        StateStats {
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
            cache_misses: self.cache_misses.load(Ordering::Relaxed),
            ..of_keys
        }
    }

    /// The error for a stored value of `key` that the program cannot read.
    pub fn unreadable(&self, key: &K, error: Error) -> Error {
        let opened = self.opened.get();
        let written =
            opened.and_then(|o| o.store.registered(&o.uid)).map(|r| r.written_as()).unwrap_or_default();
        let uid = opened.map_or("", |o| &*o.uid);
        Error::checkpoint(format!(
            "state of operator `{uid}`, key {}: {error} (values in this checkpoint were written as {written}): let the type \
             read the old values too, or give the operator another uid",
            shown(key)
        ))
        .with_source(error)
    }
}

/// A key as messages show it.
pub(crate) fn shown<K: Serialize>(key: &K) -> String {
    serde_json::to_string(key).unwrap_or_else(|_| "that cannot be shown".to_owned())
}

/// What the state of a key is.
pub(crate) struct Found {
    /// Its place in the store.
    pub stored: Vec<u8>,
    pub value: Option<Vec<u8>>,
    /// Whether the store had to be asked.
    pub from_store: bool,
}

/// How many keys are read from the store at once: their blocks are held in memory as long.
const READ_AT_ONCE: usize = 1024;

impl<K: Key> KeyedState<K, Cache> {
    /// What the state is of each of `keys`: from the cache, else from the store. What was read there is not kept: most of it will be
    /// written, and is kept then; for the rest there is [`keep`](Self::keep).
    pub fn look_up<'k>(
        &self,
        shard: &mut Shard<K, Cache>,
        partition: usize,
        keys: impl Iterator<Item = &'k K>,
    ) -> Result<Vec<Found>> {
        let complete = shard.memory.is_complete(&shard.counters);
        let found = keys.map(|key| {
            let stored = record_key(partition, kind::ENTRY, key)?;
            let value = shard.memory.get(user_key(&stored)).map(<[u8]>::to_vec);
            Ok(Found { from_store: value.is_none() && !complete, stored, value })
        });
        let mut found = found.collect::<Result<Vec<_>>>()?;
        let mut misses: Vec<usize> = (0..found.len()).filter(|place| found[*place].from_store).collect();
        self.cache_hits.fetch_add((found.len() - misses.len()) as u64, Ordering::Relaxed);
        self.cache_misses.fetch_add(misses.len() as u64, Ordering::Relaxed);
        misses.sort_unstable_by(|a, b| found[*a].stored.cmp(&found[*b].stored));
        let Opened { store, uid, .. } = self.opened()?;
        for misses in misses.chunks(READ_AT_ONCE) {
            let keys: Vec<&[u8]> = misses.iter().map(|place| &*found[*place].stored).collect();
            let values = store.multi_get(uid, &keys)?;
            for (place, value) in misses.iter().zip(values) {
                found[*place].value = value.map(|value| value.to_vec());
            }
        }
        Ok(found)
    }

    /// Keeps what was found in the store at `stored`, and was not changed.
    pub fn keep(&self, shard: &mut Shard<K, Cache>, stored: &[u8], value: &[u8]) -> Result<()> {
        shard.memory.insert(user_key(stored), value, self.opened()?.budget);
        Ok(())
    }
}

/// What a task gathers of changes to its state partition.
pub(crate) struct Writes<K> {
    partition: usize,
    written: Vec<Written<K>>,
    /// Of other records than keys' states.
    others: Vec<Change>,
    before: Counters,
    counters: Counters,
}

impl<K: Key> Writes<K> {
    pub fn new<M>(partition: usize, shard: &Shard<K, M>) -> Self {
        let before = shard.counters;
        Self { partition, written: Vec::new(), others: Vec::new(), before, counters: before }
    }

    /// Sets (or, with `None`, removes) the value of `key`, which was `before` bytes long if there was one.
    pub fn write(&mut self, key: K, stored: Vec<u8>, before: Option<usize>, value: Option<Vec<u8>>) {
        let length = stored.len() as u64;
        if let Some(before) = before {
            self.counters.keys = self.counters.keys.saturating_sub(1);
            self.counters.bytes = self.counters.bytes.saturating_sub(length + before as u64);
        }
        if let Some(value) = &value {
            self.counters.keys += 1;
            self.counters.bytes += length + value.len() as u64;
        }
        if before.is_some() || value.is_some() {
            self.written.push(Written { key, stored, value });
        }
    }

    /// Adds a change of another record than a key's state.
    pub fn add(&mut self, change: Change) {
        self.others.push(change);
    }

    /// No key's last touch is older than `time` any more.
    pub fn touched_from(&mut self, time: Time) {
        self.counters.touched_from = self.counters.touched_from.max(Some(time));
    }

    /// Makes this what the running batch changed in `shard`; gives it as changes for the store.
    pub fn finish<M>(self, shard: &mut Shard<K, M>) -> Result<Vec<Change>> {
        let Self { partition, mut written, others, before, counters } = self;
        written.sort_unstable_by(|a, b| a.stored.cmp(&b.stored));
        let mut changes: Vec<_> = written
            .iter()
            .map(|w| match &w.value {
                Some(value) => Change::Put(w.stored.clone(), value.clone()),
                None => Change::Delete(w.stored.clone()),
            })
            .collect();
        changes.extend(others);
        // A bound that moved is worth no write by itself.
        if !changes.is_empty() && counters != before {
            changes.push(Change::Put(single_key(partition, kind::COUNTERS), encode_value(&counters)?));
        }
        shard.pending = Pending::Running(Arc::new(Batch { written, counters }));
        Ok(changes)
    }
}
