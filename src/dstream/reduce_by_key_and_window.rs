//! `reduce_by_key_and_window`, with and without an inverse function.
//!
//! Each key has a queue of panes in memory, whose values are combined already; the store has the same.

use std::sync::Arc;

use indexmap::IndexMap;
use indexmap::map::Entry;
use parking_lot::Mutex;

use super::key_panes::{Edit, KeyPanes};
use super::panes::WindowLengths;
use super::window_spec::WindowSpec;
use super::{DStream, DStreamNode, Emitted, StateName, StreamCore, emitted, keep_output};
use crate::codec::{Key, Stored, decode_key, decode_value, encode_key, encode_value};
use crate::context::Stateful;
use crate::error::{Error, Result};
use crate::rdd::{AnyPartitioner, AtRecord, Rdd, Runner};
use crate::state::{
    Change, OperatorSchema, Pending, StateDb, StateStats, kind, record_key, shown, single_key, split_key,
};
use crate::time::{Duration, Time};

/// A key in the store's form, by whose bytes keys are ordered.
type Place = Arc<[u8]>;

type Keys<K, V> = IndexMap<K, (Place, KeyPanes<V>), ahash::RandomState>;

/// The panes of a state partition's keys, as the last committed batch left them.
struct Shard<K, V> {
    keys: Keys<K, V>,
    /// Whether they are in their order: where a key comes in does not depend on when it came, nor on restarts.
    sorted: bool,
    /// The last window for which totals were made.
    emitted: Option<Time>,
    pending: Pending<Edits<K, V>>,
    /// What the keys take in the store, with what is pending.
    stats: StateStats,
}

/// What a batch changes, to be applied when it is committed and the next one begins.
struct Edits<K, V> {
    keys: Vec<(K, Place, Edit<V>)>,
    emitted: Option<Time>,
    before: StateStats,
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        let (keys, pending) = (Keys::default(), Pending::Nothing);
        Self { keys, sorted: true, emitted: None, pending, stats: StateStats::default() }
    }
}

struct ReduceByKeyAndWindow<K, V> {
    name: StateName,
    parent: Arc<StreamCore<(K, V)>>,
    parent_slide: Duration,
    lengths: WindowLengths,
    spec: WindowSpec<K, V>,
    partitioner: AnyPartitioner<K>,
    runner: Arc<Runner>,
    shards: Vec<Mutex<Shard<K, V>>>,
    output: Emitted<(K, V)>,
}

/// A pane's key in the store, without its partition and kind.
type PaneKey<K> = (i64, K);

/// The values of a window, and what the batch changed.
type TaskResult<K, V> = (Vec<(K, V)>, Vec<Change>);

/// What a task of a state partition gathers.
struct Task<K, V> {
    partition: usize,
    time: Time,
    edits: Vec<(K, Place, Edit<V>)>,
    changes: Vec<Change>,
    output: Vec<(K, V)>,
    stats: StateStats,
}

impl<K: Key, V: Stored> ReduceByKeyAndWindow<K, V> {
    /// Adds the batch's values to the pane that it belongs to, and, when the window slides, makes its values. The panes
    /// stay as they are until the batch is committed.
    fn task(
        &self,
        time: Time,
        partition: usize,
        pane: Option<Time>,
        new: Vec<(K, V)>,
    ) -> Result<TaskResult<K, V>> {
        self.runner.turn().wait()?;
        let mut shard = self.shards[partition].lock();
        shard.begin()?;
        let mut task = Task {
            partition,
            time,
            edits: Vec::new(),
            changes: Vec::new(),
            output: Vec::new(),
            stats: shard.stats,
        };
        let slides = time.is_multiple_of(self.lengths.slide);
        if slides {
            shard.sort();
        }
        let emitted = slides.then_some(shard.emitted);
        let none = KeyPanes::default();
        let placed = new.into_iter().map(|(key, value)| {
            let place = match shard.keys.get(&key) {
                Some((place, _)) => place.clone(),
                None => place_of(&key)?,
            };
            Ok((place, key, value))
        });
        let mut new = placed.collect::<Result<Vec<_>>>()?;
        // Where nothing comes out, no order shows.
        if slides {
            new.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        let mut new = new.into_iter().peekable();
        if slides {
            for (key, (place, panes)) in &shard.keys {
                while let Some((place, key, value)) = new.next_if(|(new, ..)| new < place) {
                    self.edit(&mut task, &key, &place, &none, pane.zip(Some(value)), emitted)?;
                }
                let value = new.next_if(|(new, ..)| new == place).map(|(.., value)| value);
                self.edit(&mut task, key, place, panes, pane.zip(value), emitted)?;
            }
        }
        for (place, key, value) in new {
            let panes = shard.keys.get(&key).map_or(&none, |(_, panes)| panes);
            self.edit(&mut task, &key, &place, panes, pane.zip(Some(value)), emitted)?;
        }
        let Task { edits, mut changes, output, stats, .. } = task;
        // In their order the store takes keys several times as fast. Two changes of one key stay in theirs.
        changes.sort_by(|a, b| a.key().cmp(b.key()));
        // Where no pane came or went, the last note is as good.
        if slides && self.spec.inverse.is_some() && !changes.is_empty() {
            changes.push(Change::Put(single_key(partition, kind::EMITTED), encode_value(&time)?));
        }
        let before = std::mem::replace(&mut shard.stats, stats);
        let emitted = if slides { Some(time) } else { shard.emitted };
        shard.pending = Pending::Running(Edits { keys: edits, emitted, before });
        Ok((output, changes))
    }

    /// One key: its `new` value, and the window's value if it slides, then with the time of the last one.
    fn edit(
        &self,
        task: &mut Task<K, V>,
        key: &K,
        place: &Place,
        panes: &KeyPanes<V>,
        new: Option<(Time, V)>,
        slides: Option<Option<Time>>,
    ) -> Result<()> {
        let WindowSpec { reduce, inverse, keep, .. } = &self.spec;
        let partition = task.partition;
        let _key = AtRecord(|| format!("key {}", shown(key)));
        let pane_key =
            |pane: Time| record_key::<PaneKey<&K>>(partition, kind::ENTRY, &(pane.as_millis(), key));
        let mut edit = panes.absorb(new, reduce, inverse.is_none());
        if let Some((pane, value)) = &edit.pane {
            let (stored, encoded) = (pane_key(*pane)?, encode_value(value)?);
            edit.pane_takes(stored.len() + encoded.len());
            task.changes.push(Change::Put(stored, encoded));
        }
        if let Some(counted) = slides {
            let expired = self.lengths.expired(task.time);
            let value = match inverse {
                None => panes.slide(&mut edit, expired, reduce),
                Some(inverse) => panes.slide_inverse(&mut edit, expired, counted, reduce, inverse),
            };
            let kept = value.filter(|value| keep.as_ref().is_none_or(|keep| keep(key, value)));
            // A key that the filter drops starts anew when it comes back.
            if kept.is_none() && inverse.is_some() {
                panes.forget(&mut edit);
            }
            if let Some(total) = edit.total.clone() {
                let stored = record_key(partition, kind::TOTAL, key)?;
                match total {
                    Some(total) => {
                        let encoded = encode_value(&total)?;
                        edit.total_takes(stored.len() + encoded.len());
                        task.changes.push(Change::Put(stored, encoded));
                    }
                    None if panes.total.is_some() => task.changes.push(Change::Delete(stored)),
                    None => {}
                }
            }
            for pane in panes.dropped(&edit) {
                task.changes.push(Change::Delete(pane_key(pane)?));
            }
            task.output.extend(kept.map(|value| (key.clone(), value)));
        }
        if edit.is_needed(panes) {
            let (keys, bytes) = panes.growth(&edit);
            task.stats.keys = task.stats.keys.wrapping_add_signed(keys);
            task.stats.bytes = task.stats.bytes.wrapping_add_signed(bytes);
            task.edits.push((key.clone(), place.clone(), edit));
        }
        Ok(())
    }

    fn take_in(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let size = key.len() + value.len();
        let (partition, kind, key) = split_key(key)?;
        let mut shard = self.shards[partition].lock();
        let unreadable = |key: &K, e: Error| e.within(format!("key {}", shown(key)));
        match kind {
            kind::ENTRY => {
                let (pane, key): PaneKey<K> = decode_key(key)?;
                let value = decode_value(value).map_err(|e| unreadable(&key, e))?;
                shard.panes_of(key)?.restore_pane(Time::from_millis(pane), value, size);
            }
            kind::TOTAL => {
                let key = decode_key(key)?;
                let value = decode_value(value).map_err(|e| unreadable(&key, e))?;
                shard.panes_of(key)?.restore_total(value, size);
            }
            kind::EMITTED => {
                shard.emitted = Some(decode_value(value)?);
                return Ok(());
            }
            _ => return Ok(()),
        }
        shard.stats.bytes += size as u64;
        shard.stats.keys = shard.keys.len() as u64;
        Ok(())
    }
}

fn place_of<K: Key>(key: &K) -> Result<Place> {
    let mut place = Vec::with_capacity(24);
    encode_key(key, &mut place)?;
    Ok(place.into())
}

impl<K: Key, V: Stored> Shard<K, V> {
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
    fn sort(&mut self) {
        if !self.sorted {
            self.keys.sort_by(|_, (a, _), _, (b, _)| a.cmp(b));
            self.sorted = true;
        }
    }

    /// Applies what the last batch changed, if it was committed.
    fn begin(&mut self) -> Result<()> {
        let Some(edits) = self.pending.begin()? else { return Ok(()) };
        self.emitted = edits.emitted;
        let mut emptied = false;
        for (key, place, edit) in edits.keys {
            let known = self.keys.len();
            let (_, panes) = self.keys.entry(key).or_insert_with(|| (place, KeyPanes::default()));
            panes.apply(edit);
            emptied |= panes.is_empty();
            self.sorted &= self.keys.len() == known;
        }
        if emptied {
            self.keys.retain(|_, (_, panes)| !panes.is_empty());
        }
        Ok(())
    }
}

impl<K: Key, V: Stored> Stateful for ReduceByKeyAndWindow<K, V> {
    fn name(&self) -> &StateName {
        &self.name
    }

    fn schema(&self) -> OperatorSchema {
        // The two forms keep different records.
        let inverse = if self.spec.inverse.is_some() { " with inverse" } else { "" };
        let operator = format!("reduce_by_key_and_window{inverse}");
        self.name.read().schema::<K, V>(&operator, self.partitioner.num_partitions())
    }

    /// Panes come back in the order of their times, as they were made.
    fn restore(&self, store: &Arc<StateDb>, _: usize) -> Result<()> {
        let uid = self.uid();
        store.scan(&uid, |key, value| self.take_in(key, value)).map_err(|e| {
            let written = store.registered(&uid).map(|r| r.written_as()).unwrap_or_default();
            e.within(format!("panes of operator `{uid}`, written as {written}"))
        })
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
        *self.output.lock() = None;
        let slides = time.is_multiple_of(self.lengths.slide);
        let mut pane = None;
        let mut input = None;
        if time.is_multiple_of(self.parent_slide) {
            pane = self.lengths.pane_of(time);
            if pane.is_some() {
                input = self.parent.get_or_compute(time)?;
            }
        }
        if input.is_none() && !slides {
            return Ok(Vec::new());
        }
        let reduced = match input {
            Some(input) => {
                let reduce = self.spec.reduce.clone();
                input.reduce_by_key_with(move |a, b| reduce(a, b), self.partitioner.clone())
            }
            None => Rdd::in_memory(&self.runner, vec![Arc::default(); self.shards.len()]),
        };
        let results = reduced.run_with_state(|pairs, task| self.task(time, task.partition, pane, pairs))?;
        let changes = keep_output(&self.output, &self.runner, time, results);
        if !slides {
            *self.output.lock() = None;
        }
        Ok(changes)
    }

    fn committed(&self) {
        for shard in &self.shards {
            shard.lock().pending.committed();
        }
    }

    fn discard(&self) -> Result<()> {
        *self.output.lock() = None;
        for shard in &self.shards {
            let mut shard = shard.lock();
            if let Some(edits) = shard.pending.discard() {
                shard.stats = edits.before;
            }
        }
        Ok(())
    }

    fn stats(&self) -> StateStats {
        self.shards.iter().map(|shard| shard.lock().stats).sum()
    }

    fn next_due(&self, after: Time) -> Option<Time> {
        let slide = self.lengths.slide;
        (self.stats().keys > 0).then(|| after.floor(slide) + slide)
    }
}

impl<K: Key, V: Stored> DStreamNode<(K, V)> for ReduceByKeyAndWindow<K, V> {
    fn slide(&self) -> Duration {
        self.lengths.slide
    }

    fn window(&self) -> Option<Duration> {
        Some(self.lengths.window)
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<(K, V)>>> {
        Ok(emitted(&self.output, time))
    }
}

impl<K: Key, V: Stored> DStream<(K, V)> {
    /// Every `slide`, one pair per key of the last `window`: its values put together by `reduce`, which must
    /// be associative. Windows that are not full yet are emitted too; without any value in the window a key is
    /// not in the output. Empty batches count as time. Each partition's keys come in the order of the checkpoint (of
    /// texts, of numbers, …), so that a restart changes nothing.
    ///
    /// # Errors
    /// If window or slide is no multiple of this stream's slide duration.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!["a"], vec!["a", "b"], vec![], vec![]], |words| {
    ///     let pairs = words.map(|w| (w.to_owned(), 1));
    ///     pairs.reduce_by_key_and_window(|a, b| a + b, Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// let (a, b) = (|n| ("a".to_owned(), n), |n| ("b".to_owned(), n));
    /// assert_eq!(out.unwrap(), [vec![a(1)], vec![a(2), b(1)], vec![a(1), b(1)], vec![]]);
    /// ```
    pub fn reduce_by_key_and_window(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<(K, V)>> {
        self.reduce_by_key_and_window_with(WindowSpec::reduce(reduce), window, slide)
    }

    /// As [`reduce_by_key_and_window`](DStream::reduce_by_key_and_window), where each window's value is made of
    /// the last one's: `inverse` takes out what has left. A key stays for ever, its value gone back to zero,
    /// as in Spark, unless it is dropped by
    /// [the form with a filter](DStream::reduce_by_key_and_window_with_inverse_filtered).
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!["a"], vec!["a"], vec![], vec![]], |words| {
    ///     let (pairs, s) = (words.map(|w| (w.to_owned(), 1)), Duration::seconds);
    ///     pairs.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, s(2), s(1)).unwrap()
    /// });
    /// let a = |n| vec![("a".to_owned(), n)];
    /// assert_eq!(out.unwrap(), [a(1), a(2), a(1), a(0)]);
    /// ```
    pub fn reduce_by_key_and_window_with_inverse(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<(K, V)>> {
        self.reduce_by_key_and_window_with(WindowSpec::reduce(reduce).inverse(inverse), window, slide)
    }

    /// As [the form with an inverse](DStream::reduce_by_key_and_window_with_inverse), without the keys for which
    /// `keep` is false: they are forgotten. Empty batches count as time.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec![('a', 1)], vec![('a', 1)], vec![], vec![]], |pairs| {
    ///     let (window, slide) = (Duration::seconds(2), Duration::seconds(1));
    ///     let (add, subtract) = (|a, b| a + b, |a, b| a - b);
    ///     pairs.reduce_by_key_and_window_with_inverse_filtered(add, subtract, window, slide, |_, n| *n > 0).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', 1)], vec![('a', 2)], vec![('a', 1)], vec![]]);
    /// ```
    pub fn reduce_by_key_and_window_with_inverse_filtered(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
        keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> Result<DStream<(K, V)>> {
        let spec = WindowSpec::reduce(reduce).inverse(inverse).filter(keep);
        self.reduce_by_key_and_window_with(spec, window, slide)
    }

    /// All forms of [`reduce_by_key_and_window`](DStream::reduce_by_key_and_window) in one: a [`WindowSpec`] has the reduce
    /// function, and, if wanted, its inverse, a filter, and a number of partitions or a partitioner.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::{Duration, WindowSpec, testing::run_batches_sorted};
    /// let out = run_batches_sorted(vec![vec!["a"], vec!["a", "b"], vec![], vec![]], |words| {
    ///     let sums = WindowSpec::reduce(|a, b| a + b).inverse(|a, b| a - b).filter(|_, n| *n > 0).num_partitions(4);
    ///     let pairs = words.map(|w| (w.to_owned(), 1));
    ///     pairs.reduce_by_key_and_window_with(sums, Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// let (a, b) = (|n| ("a".to_owned(), n), |n| ("b".to_owned(), n));
    /// assert_eq!(out.unwrap(), [vec![a(1)], vec![a(2), b(1)], vec![a(1), b(1)], vec![]]);
    /// ```
    pub fn reduce_by_key_and_window_with(
        &self,
        spec: WindowSpec<K, V>,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
    ) -> Result<DStream<(K, V)>> {
        let parent_slide = self.slide_duration();
        let lengths =
            WindowLengths::new("reduce_by_key_and_window", window.into(), slide.into(), parent_slide)?;
        let partitioner =
            spec.partitioner.clone().unwrap_or_else(|| Arc::new(self.ssc.default_partitioner()));
        Ok(self.stateful("reduce_by_key_and_window", |name| ReduceByKeyAndWindow {
            name,
            parent: self.core.clone(),
            parent_slide,
            lengths,
            spec,
            runner: self.ssc.inner.runner.clone(),
            shards: (0..partitioner.num_partitions()).map(|_| Mutex::default()).collect(),
            partitioner,
            output: Mutex::new(None),
        }))
    }
}
