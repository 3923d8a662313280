//! `update_state_by_key`

use std::sync::Arc;

use parking_lot::Mutex;

use super::initial_state::InitialState;
use super::{DStream, DStreamNode, Emitted, StateName, StreamCore, emitted};
use crate::codec::{Key, Stored, decode_value, encode_value};
use crate::context::Stateful;
use crate::error::Result;
use crate::rdd::{AnyPartitioner, AtRecord, Data, Flow, Partitioner, Rdd, Runner, finished};
use crate::state::{
    Base, Change, Entry, KeyedState, OperatorSchema, Resident, StateDb, StateStats, StateView, StoreSnapshot,
    Writes, kind, record_key, shown,
};
use crate::time::{Duration, Time};

type UpdateFunction<K, V, S> = Arc<dyn Fn(Time, &K, Vec<V>, Option<S>) -> Option<S> + Send + Sync>;

/// What [`update_state_by_key_with`](DStream::update_state_by_key_with) does with each key: the function, and what it
/// begins with. It takes the place of the many forms of Spark's `updateStateByKey`.
pub struct UpdateStateSpec<K, V, S> {
    function: UpdateFunction<K, V, S>,
    initial: InitialState<K, S>,
    partitioner: Option<AnyPartitioner<K>>,
}

impl<K: Key, V: Data, S: Stored> UpdateStateSpec<K, V, S> {
    /// Calls `f` once per key and batch with the key's new values, in the order of the records, and its state; it gives
    /// the new state, or `None` to remove the key.
    pub fn function(f: impl Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static) -> Self {
        Self::function_with_time(move |_, _, values, state| f(values, state))
    }

    /// As [`function`](UpdateStateSpec::function), with the batch time and the key.
    pub fn function_with_time(
        f: impl Fn(Time, &K, Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        Self { function: Arc::new(f), initial: InitialState::default(), partitioner: None }
    }

    /// The state of some keys at the very first start; a restart goes on with the checkpoint's. The first batch's output
    /// has them already: the function is called for them as for any known key. Of a key that stands there twice, the first
    /// state counts, as in Spark.
    pub fn initial_state(mut self, state: impl IntoIterator<Item = (K, S)>) -> Self {
        self.initial = InitialState::of(state);
        self
    }

    /// As [`initial_state`](UpdateStateSpec::initial_state), from an RDD, which is computed in the first batch.
    pub fn initial_state_rdd(mut self, state: Rdd<(K, S)>) -> Self {
        self.initial = InitialState::Rdd(state);
        self
    }

    /// Over how many partitions the state is spread; the context's
    /// [`state_partitions`](crate::StreamingContextBuilder::state_partitions) unless set. A checkpoint keeps its number:
    /// to start with another one is an error.
    pub fn num_partitions(self, partitions: usize) -> Self {
        self.partitioner(partitions)
    }

    /// Which partition each key belongs to, in the state and in the output. The checkpoint knows only how many there are:
    /// it must go on giving each key the same one.
    pub fn partitioner(mut self, partitioner: impl Partitioner<K>) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}

struct UpdateStateByKey<K, V, S> {
    name: StateName,
    parent: Arc<StreamCore<(K, V)>>,
    slide: Duration,
    spec: UpdateStateSpec<K, V, S>,
    partitioner: AnyPartitioner<K>,
    runner: Arc<Runner>,
    state: Arc<KeyedState<K, Resident<K>>>,
    output: Emitted<(K, S)>,
}

/// A key's new values, and its place in the store.
type Group<K, V> = (Vec<u8>, K, Vec<V>);

impl<K: Key, V: Data, S: Stored> UpdateStateByKey<K, V, S> {
    /// Visits the known keys and those of the batch, all in the order of the store, which does not depend on what is in
    /// memory. The state changes only once all of the user's calls have gone well.
    fn task(
        &self,
        time: Time,
        partition: usize,
        input: Vec<(K, Vec<V>)>,
        initial: &[(K, S)],
        snapshot: &Mutex<Option<Arc<StoreSnapshot>>>,
    ) -> Result<Vec<Change>> {
        self.runner.turn().wait()?;
        let mut shard = self.state.begin(partition)?;
        let opened = self.state.opened()?;
        if shard.counters.keys == 0 && shard.memory.entries.is_none() {
            shard.memory.entries = Some(Arc::default());
        }
        let (base, fits) = match (&shard.memory.entries, self.state.is_fresh()) {
            (_, true) => (Base::Memory(Arc::new(initial_entries(partition, initial)?)), false),
            (Some(entries), _) => (Base::Memory(entries.clone()), false),
            (None, _) => {
                let snapshot = self.snapshot(snapshot)?;
                let heap = Entry::<K>::cost_of(shard.counters.keys, shard.counters.bytes);
                (Base::Store(snapshot), heap <= opened.budget)
            }
        };
        let mut writes = Writes::new(partition, &shard);
        let groups = groups(partition, input)?;
        let mut groups = groups.into_iter().peekable();
        let mut read = Vec::new();
        finished(base.visit(&opened.uid, partition, &mut |stored, key, value| -> Flow {
            while let Some((stored, key, values)) = groups.next_if(|(place, ..)| **place < *stored) {
                self.create(time, key, stored, values, &mut writes)?;
            }
            let values = groups.next_if(|(place, ..)| **place == *stored).map(|(_, _, values)| values);
            let state = decode_value(value).map_err(|e| self.state.unreadable(key, e))?;
            let after = self.call(time, key, values.unwrap_or_default(), Some(state));
            let after = after.map(|state| encode_value(&state)).transpose()?;
            // What the initial state gives is in no store yet.
            let before = (!self.state.is_fresh()).then_some(value);
            if after.as_deref() != before {
                writes.write(key.clone(), stored.to_vec(), before.map(<[u8]>::len), after);
            }
            if fits {
                read.push(Entry { stored: stored.to_vec(), key: key.clone(), value: value.to_vec() });
            }
            Ok(())
        }))?;
        for (stored, key, values) in groups {
            self.create(time, key, stored, values, &mut writes)?;
        }
        if fits {
            shard.memory.entries = Some(Arc::new(read));
        }
        writes.finish(&mut shard)
    }

    /// The state as the batch before left it, the same for all tasks; made when it is wanted first.
    fn snapshot(&self, made: &Mutex<Option<Arc<StoreSnapshot>>>) -> Result<Arc<StoreSnapshot>> {
        let mut made = made.lock();
        if let Some(snapshot) = &*made {
            return Ok(snapshot.clone());
        }
        Ok(made.insert(Arc::new(self.state.snapshot()?)).clone())
    }

    fn call(&self, time: Time, key: &K, values: Vec<V>, state: Option<S>) -> Option<S> {
        let _key = AtRecord(|| format!("key {}", shown(key)));
        (self.spec.function)(time, key, values, state)
    }

    fn create(
        &self,
        time: Time,
        key: K,
        stored: Vec<u8>,
        values: Vec<V>,
        writes: &mut Writes<K>,
    ) -> Result<()> {
        if let Some(state) = self.call(time, &key, values, None) {
            writes.write(key, stored, None, Some(encode_value(&state)?));
        }
        Ok(())
    }
}

/// The batch's values by key, in the order of the store.
fn groups<K: Key, V>(partition: usize, input: Vec<(K, Vec<V>)>) -> Result<Vec<Group<K, V>>> {
    let placed = input.into_iter().map(|(key, values)| {
        let stored = record_key(partition, kind::ENTRY, &key)?;
        Ok((stored, key, values))
    });
    let mut groups = placed.collect::<Result<Vec<_>>>()?;
    groups.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(groups)
}

/// The initial state as if it had been read.
fn initial_entries<K: Key, S: Stored>(partition: usize, initial: &[(K, S)]) -> Result<Vec<Entry<K>>> {
    let entry = |(key, state): &(K, S)| {
        let stored = record_key(partition, kind::ENTRY, key)?;
        Ok(Entry { stored, key: key.clone(), value: encode_value(state)? })
    };
    // Stable: the first of a key stays.
    let mut entries = initial.iter().map(entry).collect::<Result<Vec<_>>>()?;
    entries.sort_by(|a, b| a.stored.cmp(&b.stored));
    entries.dedup_by(|a, b| a.stored == b.stored);
    Ok(entries)
}

impl<K: Key, V: Data, S: Stored> Stateful for UpdateStateByKey<K, V, S> {
    fn name(&self) -> &StateName {
        &self.name
    }

    fn schema(&self) -> OperatorSchema {
        self.name.read().schema::<K, S>("update_state_by_key", self.partitioner.num_partitions())
    }

    fn restore(&self, store: &Arc<StateDb>, _: Option<Time>, cache: usize) -> Result<()> {
        self.state.open(store, self.uid(), cache)
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
        // It holds what is in memory, which is about to change.
        *self.output.lock() = None;
        if !time.is_multiple_of(self.slide) {
            return Ok(Vec::new());
        }
        let mut changes = Vec::new();
        let mut initial = Vec::new();
        if self.state.takes_initial(self.runner.turn())? {
            changes.push(self.state.initial_taken());
            initial = self.spec.initial.by_partition(&self.runner, &self.partitioner)?;
        }
        let input =
            self.parent.get_or_compute(time)?.unwrap_or_else(|| Rdd::in_memory(&self.runner, Vec::new()));
        let snapshot = Mutex::new(None);
        let grouped = input.group_by_key_with(self.partitioner.clone());
        let results = grouped.run_with_state(|pairs, task| {
            let initial = initial.get(task.partition).map_or(&[][..], |initial| initial);
            self.task(time, task.partition, pairs, initial, &snapshot)
        })?;
        changes.extend(results.into_iter().flatten());
        let view = StateView::of_resident(&self.state, decode_value)?;
        *self.output.lock() = Some((time, Rdd::new(&self.runner, view)));
        Ok(changes)
    }

    fn committed(&self) {
        self.state.committed();
    }

    fn discard(&self) -> Result<()> {
        *self.output.lock() = None;
        self.state.discard();
        Ok(())
    }

    fn stats(&self) -> StateStats {
        self.state.stats()
    }
}

impl<K: Key, V: Data, S: Stored> DStreamNode<(K, S)> for UpdateStateByKey<K, V, S> {
    fn slide(&self) -> Duration {
        self.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<(K, S)>>> {
        Ok(emitted(&self.output, time))
    }
}

impl<K: Key, V: Data> DStream<(K, V)> {
    /// Keeps a state per key: `update` gets the key's new values and its state, and gives the new
    /// state, or `None` to remove the key. It is called for every known key in every batch, empty
    /// ones too, and every live key is in every output: see [`map_with_state`](DStream::map_with_state) for a
    /// state that costs only what is touched. States that did not change are not written.
    ///
    /// The output is read from the state as it is computed, in the order of the keys; where the state is larger than
    /// [its share of memory](crate::StreamingContextBuilder::state_memory_limit), from the disk.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec!["a", "b", "a"], vec![], vec!["b"]], |words| {
    ///     words.map(|w| (w.to_owned(), 1)).update_state_by_key(|new, total: Option<u64>| {
    ///         Some(total.unwrap_or(0) + new.iter().sum::<u64>())
    ///     })
    /// });
    /// let counts = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
    /// assert_eq!(out.unwrap(), [counts(2, 1), counts(2, 1), counts(2, 2)]);
    /// ```
    pub fn update_state_by_key<S: Stored>(
        &self,
        update: impl Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
    ) -> DStream<(K, S)> {
        self.update_state_by_key_with(UpdateStateSpec::function(update))
    }

    /// As [`update_state_by_key`](DStream::update_state_by_key), with all that an [`UpdateStateSpec`] can tell: the batch
    /// time and the key for the function, an initial state, a number of partitions or a partitioner.
    ///
    /// ```
    /// use tidemill::{UpdateStateSpec, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!["b"], vec![]], |words| {
    ///     let sum = |new: Vec<u64>, total: Option<u64>| Some(total.unwrap_or(0) + new.iter().sum::<u64>());
    ///     let spec = UpdateStateSpec::function(sum).initial_state([("a".to_owned(), 10)]).num_partitions(4);
    ///     words.map(|w| (w.to_owned(), 1)).update_state_by_key_with(spec)
    /// });
    /// let counts = vec![("a".to_owned(), 10), ("b".to_owned(), 1)];
    /// assert_eq!(out.unwrap(), [counts.clone(), counts]);
    /// ```
    pub fn update_state_by_key_with<S: Stored>(&self, spec: UpdateStateSpec<K, V, S>) -> DStream<(K, S)> {
        let partitioner =
            spec.partitioner.clone().unwrap_or_else(|| Arc::new(self.ssc.default_partitioner()));
        self.stateful("update_state_by_key", |name| UpdateStateByKey {
            name,
            parent: self.core.clone(),
            slide: self.slide_duration(),
            spec,
            runner: self.ssc.inner.runner.clone(),
            state: Arc::new(KeyedState::new(partitioner.num_partitions())),
            partitioner,
            output: Mutex::new(None),
        })
    }
}
