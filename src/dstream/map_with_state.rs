//! `map_with_state`

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexSet;
use parking_lot::Mutex;

use super::{DStream, DStreamNode, Emitted, StateName, StreamCore, keep_output};
use crate::codec::{Key, Stored};
use crate::context::Stateful;
use crate::error::Result;
use crate::rdd::{Data, HashPartitioner, Rdd, Runner};
use crate::state::{Change, KeyedState, OperatorSchema, StateDb, StateStats, record_key, split_key};
use crate::time::{Duration, Time};

/// The state of one key, in the function of [`StateSpec`] (Spark's `State`).
///
/// The methods panic where Spark throws: it is the program that is wrong. The panic fails the batch with a
/// message that names the misuse.
pub struct State<S> {
    value: Option<S>,
    changed: Changed,
    timing_out: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    No,
    Updated,
    Removed,
}

impl<S> State<S> {
    /// Whether the key has a state.
    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// The state.
    ///
    /// # Panics
    /// If there is none: ask [`exists`](State::exists), or use [`get_option`](State::get_option).
    #[allow(clippy::panic, reason = "as in Spark, a misuse ends the task")]
    pub fn get(&self) -> &S {
        match &self.value {
            Some(value) => value,
            None => panic!("State::get of a state that does not exist: ask exists() first"),
        }
    }

    /// The state, if there is one.
    pub fn get_option(&self) -> Option<&S> {
        self.value.as_ref()
    }

    /// Makes or replaces the state.
    ///
    /// # Panics
    /// If the state was removed in this call, or is timing out.
    pub fn update(&mut self, value: S) {
        assert!(self.changed != Changed::Removed, "State::update after State::remove");
        assert!(!self.timing_out, "State::update of a state that is timing out");
        self.value = Some(value);
        self.changed = Changed::Updated;
    }

    /// Removes the state; allowed if there is none.
    ///
    /// # Panics
    /// If the state was removed in this call already, or is timing out.
    pub fn remove(&mut self) {
        assert!(self.changed != Changed::Removed, "State::remove after State::remove");
        assert!(!self.timing_out, "State::remove of a state that is timing out");
        self.value = None;
        self.changed = Changed::Removed;
    }

    /// Whether this is the last call for a key whose timeout has passed; the state goes after it.
    pub fn is_timing_out(&self) -> bool {
        self.timing_out
    }
}

type MapFunction<K, V, S, E> = Arc<dyn Fn(Time, &K, Option<V>, &mut State<S>) -> Option<E> + Send + Sync>;

/// What [`map_with_state`](DStream::map_with_state) does with each record (Spark's `StateSpec`).
pub struct StateSpec<K, V, S, E> {
    function: MapFunction<K, V, S, E>,
    initial: Vec<(K, S)>,
    timeout: Option<Duration>,
}

impl<K: Key, V: Data, S: Stored, E: Data> StateSpec<K, V, S, E> {
    /// Calls `f` once per record, with its key, its value and the key's state, in the order of the
    /// records; later records see earlier updates. For a key that times out, it is called once more
    /// with no value. What it returns is in the output.
    pub fn function(f: impl Fn(&K, Option<V>, &mut State<S>) -> Option<E> + Send + Sync + 'static) -> Self {
        Self::function_with_time(move |_, key, value, state| f(key, value, state))
    }

    /// As [`function`](StateSpec::function), with the batch time.
    pub fn function_with_time(
        f: impl Fn(Time, &K, Option<V>, &mut State<S>) -> Option<E> + Send + Sync + 'static,
    ) -> Self {
        Self { function: Arc::new(f), initial: Vec::new(), timeout: None }
    }

    /// The state of some keys at the very first start; a restart goes on with the checkpoint's.
    pub fn initial_state(mut self, state: impl IntoIterator<Item = (K, S)>) -> Self {
        self.initial = state.into_iter().collect();
        self
    }

    /// Keys that no record touched for longer than `timeout` before the batch time lose their state,
    /// after the batch's records were applied.
    pub fn timeout(mut self, timeout: impl Into<Duration>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }
}

/// Marks, in the store, that the initial state was taken.
const INITIAL_TAKEN: u8 = 1;

/// What is kept of a key: when it was last touched, and its state.
type Touched<S> = (Time, S);

struct MapWithState<K, V, S, E> {
    name: StateName,
    parent: Arc<StreamCore<(K, V)>>,
    slide: Duration,
    spec: StateSpec<K, V, S, E>,
    partitioner: HashPartitioner,
    runner: Arc<Runner>,
    state: KeyedState<K, Touched<S>>,
    /// Keys by the time at which they were touched last, per state partition; those whose state was removed may stand there
    /// still.
    touched: Vec<Mutex<BTreeMap<Time, IndexSet<K, ahash::RandomState>>>>,
    /// Whether the initial state is still to be taken.
    fresh: Mutex<bool>,
    output: Emitted<E>,
}

impl<K: Key, V: Data, S: Stored, E: Data> MapWithState<K, V, S, E> {
    fn take_initial(&self, time: Time, changes: &mut Vec<Change>) -> Result<()> {
        if std::mem::take(&mut *self.fresh.lock()) {
            changes.push(Change::Put(record_key(0, INITIAL_TAKEN, &())?, Vec::new()));
            for (key, value) in &self.spec.initial {
                let p = self.partitioner.partition(key)?;
                let mut shard = self.state.shard(p);
                self.state.write(&mut shard, p, key.clone(), Some((time, value.clone())), changes)?;
                drop(shard);
                self.note_touch(p, None, time, key);
            }
        }
        Ok(())
    }

    /// Moves `key` from the time `before` at which it was touched last to `time`: each key stands once.
    fn note_touch(&self, partition: usize, before: Option<Time>, time: Time, key: &K) {
        if self.spec.timeout.is_none() || before == Some(time) {
            return;
        }
        let mut touched = self.touched[partition].lock();
        if let Some(before) = before
            && let Some(keys) = touched.get_mut(&before)
        {
            keys.swap_remove(key);
            if keys.is_empty() {
                touched.remove(&before);
            }
        }
        touched.entry(time).or_default().insert(key.clone());
    }

    /// The records of one state partition, then its timeouts. The shard changes only once all of the user's
    /// calls have gone well, so a failed attempt leaves nothing.
    fn task(&self, time: Time, partition: usize, records: Vec<(K, V)>) -> Result<(Vec<E>, Vec<Change>)> {
        let mut shard = self.state.shard(partition);
        let mut overlay: indexmap::IndexMap<K, State<S>, ahash::RandomState> = Default::default();
        let mut output = Vec::new();
        for (key, value) in records {
            let state = match overlay.get_mut(&key) {
                Some(state) => state,
                None => {
                    let value = shard.get(&key).map(|kept| kept.value.1.clone());
                    overlay.entry(key.clone()).or_insert(State {
                        value,
                        changed: Changed::No,
                        timing_out: false,
                    })
                }
            };
            let before = std::mem::replace(&mut state.changed, Changed::No);
            output.extend((self.spec.function)(time, &key, Some(value), state));
            if state.changed == Changed::No {
                state.changed = before;
            }
        }
        let expired = self.expired(time, partition, &shard, &overlay);
        for (key, value) in &expired {
            let mut state = State { value: Some(value.clone()), changed: Changed::No, timing_out: true };
            output.extend((self.spec.function)(time, key, None, &mut state));
        }

        let mut changes = Vec::new();
        for (key, state) in overlay {
            let before = shard.get(&key).map(|kept| kept.value.0);
            match (state.changed, state.value) {
                // With a timeout set any touch counts, an update or not.
                (Changed::No, Some(value)) if self.spec.timeout.is_some() => {
                    self.note_touch(partition, before, time, &key);
                    self.state.write(&mut shard, partition, key, Some((time, value)), &mut changes)?;
                }
                (Changed::Updated, Some(value)) => {
                    self.note_touch(partition, before, time, &key);
                    self.state.write(&mut shard, partition, key, Some((time, value)), &mut changes)?;
                }
                (Changed::Removed, _) => self.state.write(&mut shard, partition, key, None, &mut changes)?,
                _ => {}
            }
        }
        for (key, _) in expired {
            self.state.write(&mut shard, partition, key, None, &mut changes)?;
        }
        if let Some(timeout) = self.spec.timeout.filter(|_| self.runner.is_caught_up()) {
            let mut touched = self.touched[partition].lock();
            *touched = touched.split_off(&(time - timeout));
        }
        Ok((output, changes))
    }

    /// The keys whose last touch is strictly older than the batch time less the timeout.
    fn expired(
        &self,
        time: Time,
        partition: usize,
        shard: &indexmap::IndexMap<K, crate::state::Kept<Touched<S>>, ahash::RandomState>,
        overlay: &indexmap::IndexMap<K, State<S>, ahash::RandomState>,
    ) -> Vec<(K, S)> {
        let Some(timeout) = self.spec.timeout.filter(|_| self.runner.is_caught_up()) else {
            return Vec::new();
        };
        let touched = self.touched[partition].lock();
        let due =
            touched.range(..time - timeout).flat_map(|(at, keys)| keys.iter().map(move |key| (*at, key)));
        due.filter(|(_, key)| !overlay.contains_key(*key))
            .filter_map(|(at, key)| {
                let (last, value) = &shard.get(key)?.value;
                (*last == at).then(|| (key.clone(), value.clone()))
            })
            .collect()
    }
}

impl<K: Key, V: Data, S: Stored, E: Data> Stateful for MapWithState<K, V, S, E> {
    fn uid(&self) -> Arc<str> {
        self.name.read().uid.clone()
    }

    fn schema(&self) -> OperatorSchema {
        self.name.read().schema::<K, S>("map_with_state")
    }

    fn restore(&self, db: &StateDb) -> Result<()> {
        db.scan(&self.uid(), |key, _| {
            if split_key(key)?.1 == INITIAL_TAKEN {
                *self.fresh.lock() = false;
            }
            Ok(())
        })?;
        self.state.restore(db, &self.uid(), |partition, key, (at, _)| {
            // State from before there was an initial one is newer than it.
            *self.fresh.lock() = false;
            self.note_touch(partition, None, *at, key);
        })
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
        if !time.is_multiple_of(self.slide) {
            return Ok(Vec::new());
        }
        let mut changes = Vec::new();
        self.take_initial(time, &mut changes)?;
        // A parent that has no RDD leaves the state going on: timeouts still fire.
        let input =
            self.parent.get_or_compute(time)?.unwrap_or_else(|| Rdd::in_memory(&self.runner, Vec::new()));
        let results = input
            .partition_by(self.partitioner)
            .run_partitions(|records, task| self.task(time, task.partition, records))?;
        changes.extend(keep_output(&self.output, &self.runner, time, results));
        Ok(changes)
    }

    fn discard(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> StateStats {
        self.state.stats()
    }
}

impl<K: Key, V: Data, S: Stored, E: Data> DStreamNode<E> for MapWithState<K, V, S, E> {
    fn slide(&self) -> Duration {
        self.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<E>>> {
        Ok(self.output.lock().as_ref().filter(|(at, _)| *at == time).map(|(_, rdd)| rdd.clone()))
    }
}

impl<K: Key, V: Data> DStream<(K, V)> {
    /// Keeps a state per key, and gives what the function of `spec` returns for each record. Only touched
    /// keys cost anything. On an empty batch only timeouts call the function.
    ///
    /// ```
    /// use tidemill::{StateSpec, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!["a", "b", "a"], vec![], vec!["a"]], |words| {
    ///     let running = StateSpec::function(|word: &String, n: Option<u64>, total: &mut tidemill::State<u64>| {
    ///         let sum = total.get_option().unwrap_or(&0) + n.unwrap_or(0);
    ///         total.update(sum);
    ///         Some((word.clone(), sum))
    ///     });
    ///     words.map(|w| (w.to_owned(), 1)).map_with_state(running)
    /// });
    /// let pair = |w: &str, n| (w.to_owned(), n);
    /// assert_eq!(out.unwrap(), [vec![pair("a", 1), pair("a", 2), pair("b", 1)], vec![], vec![pair("a", 3)]]);
    /// ```
    pub fn map_with_state<S: Stored, E: Data>(&self, spec: StateSpec<K, V, S, E>) -> DStream<E> {
        let partitioner = self.ssc.default_partitioner();
        let partitions = partitioner.num_partitions();
        self.stateful("map_with_state", |name| MapWithState {
            name,
            parent: self.core.clone(),
            slide: self.slide_duration(),
            spec,
            partitioner,
            runner: self.ssc.inner.runner.clone(),
            state: KeyedState::new(partitions, 0),
            touched: (0..partitions).map(|_| Mutex::default()).collect(),
            fresh: Mutex::new(true),
            output: Mutex::new(None),
        })
    }
}
