//! `map_with_state`

use std::ops::Deref;
use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::Mutex;

use super::state_spec::{Changed, State, StateSpec};
use super::{DStream, DStreamNode, Emitted, StateName, StreamCore, emitted, keep_output};
use crate::codec::{Key, Stored};
use crate::context::Stateful;
use crate::error::{Error, Result};
use crate::rdd::{AnyPartitioner, Data, Rdd, Runner, TaskContext, caught};
use crate::state::{
    Cache, Change, KeyedState, OperatorSchema, Shard, StateDb, StateStats, StateView, TouchedValue, Writes,
    kind, record_key, shown, touched_key,
};
use crate::time::{Duration, Time};

struct MapWithState<K, V, S, E> {
    name: StateName,
    parent: Arc<StreamCore<(K, V)>>,
    slide: Duration,
    spec: StateSpec<K, V, S, E>,
    partitioner: AnyPartitioner<K>,
    runner: Arc<Runner>,
    state: Arc<KeyedState<K, Cache>>,
    output: Emitted<E>,
}

/// A key that the batch touches.
struct Touched<S> {
    state: State<S>,
    /// What the store has of it.
    before: Option<Before>,
    /// Its place there, if that is known already.
    stored: Option<Vec<u8>>,
    /// Whether the store had to be asked.
    from_store: bool,
}

struct Before {
    touched: Time,
    bytes: Vec<u8>,
}

impl<S> Touched<S> {
    fn new(value: Option<S>, changed: Changed) -> Self {
        Self {
            state: State { value, changed, timing_out: false },
            before: None,
            stored: None,
            from_store: false,
        }
    }
}

type Overlay<K, S> = IndexMap<K, Touched<S>, ahash::RandomState>;
type StateShard<K> = Shard<K, Cache>;

/// A key whose time is over.
struct Expired<K, S> {
    key: K,
    stored: Vec<u8>,
    before: Before,
    value: S,
}

impl<K: Key, V: Data, S: Stored, E: Data> MapWithState<K, V, S, E> {
    /// The records of one state partition, then its timeouts. The state changes only once all of the user's
    /// calls have gone well, so a failed attempt leaves nothing.
    fn task(
        &self,
        time: Time,
        partition: usize,
        records: Vec<(K, V)>,
        initial: &[(K, S)],
    ) -> Result<(Vec<E>, Vec<Change>)> {
        self.runner.turn().wait()?;
        let mut shard = self.state.begin(partition)?;
        let mut overlay = Overlay::default();
        for (key, value) in initial {
            overlay.insert(key.clone(), Touched::new(Some(value.clone()), Changed::Updated));
        }
        let places: Vec<usize> = records
            .iter()
            .map(|(key, _)| match overlay.get_index_of(key) {
                Some(place) => place,
                None => overlay.insert_full(key.clone(), Touched::new(None, Changed::No)).0,
            })
            .collect();
        self.read(&mut shard, partition, &mut overlay)?;
        let mut output = Vec::new();
        let mut called = 0;
        let outcome = caught(|| {
            for ((key, value), place) in records.into_iter().zip(places) {
                called = place;
                let state = &mut overlay[place].state;
                let before = std::mem::replace(&mut state.changed, Changed::No);
                output.extend((self.spec.function)(time, &key, Some(value), state));
                if state.changed == Changed::No {
                    state.changed = before;
                }
            }
            Ok(())
        });
        outcome.map_err(|e| of_key(e, overlay.get_index(called).map(|(key, _)| key)))?;

        let cutoff = self.spec.timeout.filter(|_| self.runner.is_caught_up()).map(|timeout| time - timeout);
        let expired = match cutoff {
            Some(cutoff) => self.expired(&mut shard, partition, cutoff, &overlay)?,
            None => Vec::new(),
        };
        for Expired { key, value, .. } in &expired {
            let mut state = State { value: Some(value.clone()), changed: Changed::No, timing_out: true };
            let called = caught(|| Ok((self.spec.function)(time, key, None, &mut state)));
            output.extend(called.map_err(|e| of_key(e, Some(key)))?);
        }

        let mut writes = Writes::new(partition, &shard);
        for (key, touched) in overlay {
            self.write(time, &mut shard, partition, key, touched, &mut writes)?;
        }
        for Expired { key, stored, before, .. } in expired {
            writes.add(Change::Delete(touched_key(before.touched, &stored)?));
            writes.write(key, stored, Some(before.bytes.len()), None);
        }
        if let Some(cutoff) = cutoff {
            writes.touched_from(cutoff);
        }
        Ok((output, writes.finish(&mut shard)?))
    }

    /// Fills in what the store has of the keys of `overlay`.
    fn read(&self, shard: &mut StateShard<K>, partition: usize, overlay: &mut Overlay<K, S>) -> Result<()> {
        let found = self.state.look_up(shard, partition, overlay.keys())?;
        for ((key, touched), found) in overlay.iter_mut().zip(found) {
            (touched.stored, touched.from_store) = (Some(found.stored), found.from_store);
            if let Some(bytes) = found.value {
                let (before, value) = self.decode(key, bytes)?;
                touched.before = Some(before);
                touched.state.value = Some(value);
            }
        }
        Ok(())
    }

    fn decode(&self, key: &K, bytes: Vec<u8>) -> Result<(Before, S)> {
        let (touched, value) = TouchedValue::decode(&bytes).map_err(|e| self.state.unreadable(key, e))?;
        Ok((Before { touched, bytes }, value))
    }

    /// The keys whose last touch is strictly older than `cutoff`, and which the batch does not touch.
    fn expired(
        &self,
        shard: &mut StateShard<K>,
        partition: usize,
        cutoff: Time,
        overlay: &Overlay<K, S>,
    ) -> Result<Vec<Expired<K, S>>> {
        let mut due = self.state.touched_before(shard, partition, cutoff)?;
        due.retain(|(key, _)| !overlay.contains_key(key));
        let found = self.state.look_up(shard, partition, due.iter().map(|(key, _)| key))?;
        let both = due.into_iter().zip(found);
        both.map(|((key, stored), found)| {
            let bytes = found.value.ok_or_else(|| {
                Error::checkpoint(format!(
                    "key {} has a timeout, but no state: restore a backup",
                    shown(&key)
                ))
            })?;
            let (before, value) = self.decode(&key, bytes)?;
            Ok(Expired { key, stored, before, value })
        })
        .collect()
    }

    /// Writes what became of a key, if anything did.
    fn write(
        &self,
        time: Time,
        shard: &mut StateShard<K>,
        partition: usize,
        key: K,
        touched: Touched<S>,
        writes: &mut Writes<K>,
    ) -> Result<()> {
        let Touched { state, before, stored, from_store } = touched;
        // What the cache has not, it is to have, even if the batch read it only.
        let keep = |shard: &mut StateShard<K>| match (&before, &stored) {
            (Some(before), Some(stored)) if from_store => self.state.keep(shard, stored, &before.bytes),
            _ => Ok(()),
        };
        let timeout = self.spec.timeout.is_some();
        let place = |stored: Option<Vec<u8>>| match stored {
            Some(stored) => Ok(stored),
            None => record_key(partition, kind::ENTRY, &key),
        };
        match (state.changed, state.value) {
            (Changed::No, None) => {}
            (Changed::No, Some(_)) if !timeout => keep(shard)?,
            // With a timeout set any touch counts, an update or not.
            (_, Some(value)) => {
                let new = TouchedValue::encode(time, &value)?;
                let at = before.as_ref().map(|b| b.touched);
                let stays = !timeout || at == Some(time);
                if stays && before.as_ref().is_some_and(|b| new.is_state_of(b.touched, &b.bytes)) {
                    return keep(shard);
                }
                let stored = place(stored)?;
                if timeout && at != Some(time) {
                    if let Some(at) = at {
                        writes.add(Change::Delete(touched_key(at, &stored)?));
                    }
                    writes.add(Change::Put(touched_key(time, &stored)?, Vec::new()));
                }
                writes.write(key, stored, before.map(|b| b.bytes.len()), Some(new.bytes));
            }
            (_, None) => {
                let Some(before) = before else { return Ok(()) };
                let stored = place(stored)?;
                if timeout {
                    writes.add(Change::Delete(touched_key(before.touched, &stored)?));
                }
                writes.write(key, stored, Some(before.bytes.len()), None);
            }
        }
        Ok(())
    }
}

/// An error of the user's function, with the key that it was called for.
fn of_key<K: Key>(error: Error, key: Option<&K>) -> Error {
    match key {
        Some(key) => error.within(format!("key {}", shown(key))),
        None => error,
    }
}

fn decode_state<S: Stored>(bytes: &[u8]) -> Result<S> {
    Ok(TouchedValue::decode(bytes)?.1)
}

impl<K: Key, V: Data, S: Stored, E: Data> Stateful for MapWithState<K, V, S, E> {
    fn name(&self) -> &StateName {
        &self.name
    }

    fn schema(&self) -> OperatorSchema {
        self.name.read().schema::<K, S>("map_with_state", self.partitioner.num_partitions())
    }

    fn restore(&self, store: &Arc<StateDb>, _: Option<Time>, cache: usize) -> Result<()> {
        store.index_touches(&self.uid(), self.state.partitions(), self.spec.timeout.is_some())?;
        self.state.open(store, self.uid(), cache)
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
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
        // A parent that has no RDD leaves the state going on: timeouts still fire.
        let input =
            self.parent.get_or_compute(time)?.unwrap_or_else(|| Rdd::in_memory(&self.runner, Vec::new()));
        let input = input.partition_by(self.partitioner.clone());
        let task = |records, task: &TaskContext| {
            let initial = initial.get(task.partition).map_or(&[][..], |initial| initial);
            self.task(time, task.partition, records, initial)
        };
        let results = if initial.is_empty() && self.spec.timeout.is_none() {
            input.run_partitions(task)?
        } else {
            input.run_with_state(task)?
        };
        changes.extend(keep_output(&self.output, &self.runner, time, results));
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

    /// Just when the first key times out.
    fn next_due(&self, after: Time) -> Option<Time> {
        let timeout = self.spec.timeout?;
        let first =
            (0..self.partitioner.num_partitions()).map(|partition| self.state.first_touched(partition));
        // What cannot be read is told by the batch that needs it.
        let first: Result<Vec<_>> = first.collect();
        let Ok(first) = first else { return Some(after) };
        first.into_iter().flatten().min().map(|at| at + timeout + Duration::millis(1))
    }
}

impl<K: Key, V: Data, S: Stored, E: Data> DStreamNode<E> for MapWithState<K, V, S, E> {
    fn slide(&self) -> Duration {
        self.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<E>>> {
        Ok(emitted(&self.output, time))
    }
}

/// What the snapshots of a `map_with_state` are made of, whatever its function takes and gives.
trait Snapshots<K, S>: Send + Sync {
    fn snapshot(&self, time: Time) -> Result<Option<Rdd<(K, S)>>>;
}

impl<K: Key, V: Data, S: Stored, E: Data> Snapshots<K, S> for MapWithState<K, V, S, E> {
    fn snapshot(&self, time: Time) -> Result<Option<Rdd<(K, S)>>> {
        if emitted(&self.output, time).is_none() {
            return Ok(None);
        }
        Ok(Some(Rdd::new(&self.runner, StateView::of_cached(&self.state, decode_state)?)))
    }
}

struct StateSnapshots<K, S> {
    operator: Arc<dyn Snapshots<K, S>>,
    slide: Duration,
}

impl<K: Key, S: Stored> DStreamNode<(K, S)> for StateSnapshots<K, S> {
    fn slide(&self) -> Duration {
        self.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<(K, S)>>> {
        self.operator.snapshot(time)
    }
}

/// The stream that [`map_with_state_and_snapshots`](DStream::map_with_state_and_snapshots) gives: that of
/// `map_with_state`, all of whose operators it has, and its snapshots (Spark's `MapWithStateDStream`).
pub struct MapWithStateDStream<K, S, E> {
    stream: DStream<E>,
    operator: Arc<dyn Snapshots<K, S>>,
}

impl<K, S, E> Clone for MapWithStateDStream<K, S, E> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), operator: self.operator.clone() }
    }
}

impl<K, S, E> Deref for MapWithStateDStream<K, S, E> {
    type Target = DStream<E>;

    fn deref(&self) -> &DStream<E> {
        &self.stream
    }
}

impl<K, S, E> From<MapWithStateDStream<K, S, E>> for DStream<E> {
    fn from(stream: MapWithStateDStream<K, S, E>) -> Self {
        stream.stream
    }
}

impl<K: Key, S: Stored, E: Data> MapWithStateDStream<K, S, E> {
    /// Names the state; see [`DStream::uid`].
    ///
    /// # Errors
    /// As there.
    pub fn uid(self, uid: &str) -> Result<Self> {
        Ok(Self { stream: self.stream.uid(uid)?, operator: self.operator })
    }

    /// Renames the state; see [`DStream::was`].
    ///
    /// # Errors
    /// As there.
    pub fn was(self, old_uid: &str) -> Result<Self> {
        Ok(Self { stream: self.stream.was(old_uid)?, operator: self.operator })
    }

    /// Each batch, every key with its state after the batch (Spark's `stateSnapshots`), on an empty batch too; the first
    /// has the initial state.
    ///
    /// The RDD is read from the state store as it is computed, in the order of the keys, so it may be larger than memory;
    /// used twice it is read twice.
    ///
    /// ```
    /// use tidemill::{State, StateSpec, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!["a", "b", "a"], vec![], vec!["b"]], |words| {
    ///     let count = StateSpec::function(|_: &String, n: Option<u64>, total: &mut State<u64>| {
    ///         total.update(total.get_option().unwrap_or(&0) + n?);
    ///         None::<()>
    ///     });
    ///     words.map(|w| (w.to_owned(), 1)).map_with_state_and_snapshots(count).state_snapshots()
    /// });
    /// let counts = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
    /// assert_eq!(out.unwrap(), [counts(2, 1), counts(2, 1), counts(2, 2)]);
    /// ```
    pub fn state_snapshots(&self) -> DStream<(K, S)> {
        let slide = self.stream.slide_duration();
        self.stream
            .view("state_snapshots", Arc::new(StateSnapshots { operator: self.operator.clone(), slide }))
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
        self.map_with_state_and_snapshots(spec).stream
    }

    /// As [`map_with_state`](DStream::map_with_state); the stream also has
    /// [`state_snapshots`](MapWithStateDStream::state_snapshots). An empty batch gives nothing but timeouts, and a snapshot.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// use tidemill::{State, StateSpec, testing::TestContext};
    /// let test = TestContext::new("sums")?;
    /// let sums = StateSpec::function(|_: &char, n: Option<i64>, sum: &mut State<i64>| {
    ///     sum.update(sum.get_option().unwrap_or(&0) + n?);
    ///     sum.get_option().copied()
    /// });
    /// let sums = test.input([vec![('a', 1), ('a', 2)], vec![]]).map_with_state_and_snapshots(sums);
    /// let (mapped, snapshots) = (test.collect(&sums), test.collect(&sums.state_snapshots()));
    /// test.run(2)?;
    /// assert_eq!(mapped.batches().into_vec(), [vec![1, 3], vec![]]);
    /// assert_eq!(snapshots.batches().into_vec(), [[('a', 3)], [('a', 3)]]);
    /// # Ok(()) }
    /// ```
    pub fn map_with_state_and_snapshots<S: Stored, E: Data>(
        &self,
        spec: StateSpec<K, V, S, E>,
    ) -> MapWithStateDStream<K, S, E> {
        let partitioner =
            spec.partitioner.clone().unwrap_or_else(|| Arc::new(self.ssc.default_partitioner()));
        let timeout = spec.timeout;
        let (stream, operator) = self.stateful_node("map_with_state", |name| MapWithState {
            name,
            parent: self.core.clone(),
            slide: self.slide_duration(),
            spec,
            runner: self.ssc.inner.runner.clone(),
            state: Arc::new(KeyedState::new(partitioner.num_partitions())),
            partitioner,
            output: Mutex::new(None),
        });
        if let Some(timeout) = timeout.filter(|timeout| *timeout <= Duration::ZERO) {
            self.ssc.inner.lifecycle.refuse(format!(
                "the timeout {timeout} of `{}` must be longer than 0: a key would be gone before anything could touch it again",
                operator.uid()
            ));
        }
        MapWithStateDStream { stream, operator }
    }
}
