//! The state of every key as an RDD: the store as the last batch left it, with what the running batch changed. It is
//! computed as it is read, so it is never in memory as a whole.

use std::sync::Arc;

use super::delta::{kind, kind_range, split_key};
use super::keyed::{Batch, KeyedState, Memory, shown};
use super::resident::{Entry, Resident};
use super::{Cache, StoreSnapshot};
use crate::codec::{Key, decode_key};
use crate::error::{Error, Result};
use crate::rdd::{AtRecord, Data, Flow, RddNode, Runner, TaskContext};

/// Is called with the place of an entry, its key and its value.
type EachEntry<'a, K> = dyn FnMut(&[u8], &K, &[u8]) -> Flow + 'a;

/// Where the committed entries of a state partition are read from.
pub(crate) enum Base<K> {
    Memory(Arc<Vec<Entry<K>>>),
    Store(Arc<StoreSnapshot>),
}

impl<K: Key> Base<K> {
    /// Calls `each` with the entries of `partition` in the order of the store.
    pub fn visit(&self, uid: &str, partition: usize, each: &mut EachEntry<'_, K>) -> Flow {
        match self {
            Self::Memory(entries) => entries.iter().try_for_each(|e| each(&e.stored, &e.key, &e.value)),
            Self::Store(snapshot) => {
                snapshot.visit(uid, kind_range(partition, kind::ENTRY), &mut |stored, value| {
                    let (_, _, key) = split_key(stored)?;
                    let key: K =
                        decode_key(key).map_err(|e| e.within(format!("state of operator `{uid}`")))?;
                    each(stored, &key, value)
                })
            }
        }
    }
}

/// What of an operator's state is read how.
pub(crate) trait Source<K>: Send + Sync {
    fn partitions(&self) -> usize;
    fn uid(&self) -> Result<Arc<str>>;
    fn unreadable(&self, key: &K, error: Error) -> Error;
}

impl<K: Key, M: Memory<K>> Source<K> for KeyedState<K, M> {
    fn partitions(&self) -> usize {
        self.partitions()
    }

    fn uid(&self) -> Result<Arc<str>> {
        Ok(self.opened()?.uid.clone())
    }

    fn unreadable(&self, key: &K, error: Error) -> Error {
        self.unreadable(key, error)
    }
}

/// What the last batch left in a partition, and what the running one changes there.
type Part<K> = (Base<K>, Option<Arc<Batch<K>>>);

/// See the module.
pub(crate) struct StateView<K, S> {
    source: Arc<dyn Source<K>>,
    parts: Vec<Part<K>>,
    decode: fn(&[u8]) -> Result<S>,
}

impl<K: Key, S: Data> StateView<K, S> {
    /// The state while a batch is running whose tasks have all succeeded.
    pub fn of_cached(state: &Arc<KeyedState<K, Cache>>, decode: fn(&[u8]) -> Result<S>) -> Result<Self> {
        let snapshot = Arc::new(state.snapshot()?);
        let part = |p| (Base::Store(snapshot.clone()), state.shard(p).running());
        Ok(Self { source: state.clone(), parts: (0..state.partitions()).map(part).collect(), decode })
    }

    /// The same, where partitions that are in memory are read from there.
    pub fn of_resident(
        state: &Arc<KeyedState<K, Resident<K>>>,
        decode: fn(&[u8]) -> Result<S>,
    ) -> Result<Self> {
        let snapshot = Arc::new(state.snapshot()?);
        let part = |p| {
            let shard = state.shard(p);
            let base = match &shard.memory.entries {
                Some(entries) => Base::Memory(entries.clone()),
                None => Base::Store(snapshot.clone()),
            };
            (base, shard.running())
        };
        Ok(Self { source: state.clone(), parts: (0..state.partitions()).map(part).collect(), decode })
    }

    fn hand_on(&self, key: &K, value: &[u8], emit: &mut dyn FnMut((K, S)) -> Flow) -> Flow {
        let _key = AtRecord(|| format!("key {}", shown(key)));
        let state = (self.decode)(value).map_err(|e| self.source.unreadable(key, e))?;
        emit((key.clone(), state))
    }
}

impl<K: Key, S: Data> RddNode<(K, S)> for StateView<K, S> {
    fn num_partitions(&self) -> usize {
        self.source.partitions()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut((K, S)) -> Flow) -> Flow {
        let (base, batch) = &self.parts[partition];
        let mut written = batch.iter().flat_map(|batch| &batch.written).peekable();
        base.visit(&self.source.uid()?, partition, &mut |stored, key, value| {
            while let Some(new) = written.next_if(|w| *w.stored < *stored) {
                if let Some(value) = &new.value {
                    self.hand_on(&new.key, value, emit)?;
                }
            }
            match written.next_if(|w| *w.stored == *stored) {
                None => self.hand_on(key, value, emit),
                Some(new) => match &new.value {
                    Some(value) => self.hand_on(key, value, emit),
                    None => Ok(()),
                },
            }
        })?;
        for new in written {
            if let Some(value) = &new.value {
                self.hand_on(&new.key, value, emit)?;
            }
        }
        Ok(())
    }
}
