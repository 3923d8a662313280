//! `reduce_by_key_and_window`, with and without an inverse function.
//!
//! Each key has a queue of panes in memory, whose values are combined already; the store has the same.

use std::sync::Arc;

use parking_lot::Mutex;

use super::key_panes::{Edit, KeyPanes};
use super::key_shard::{Edits, PaneKey, Place, Shard, Slot, Writing, place_of};
use super::panes::WindowLengths;
use super::window_spec::WindowSpec;
use super::{DStream, DStreamNode, Emitted, StateName, StreamCore, emitted, keep_output};
use crate::codec::{Key, Stored, encode_value};
use crate::context::Stateful;
use crate::error::Result;
use crate::rdd::{AnyPartitioner, AtRecord, Rdd, Runner};
use crate::state::{
    Change, OperatorSchema, Pending, StateDb, StateStats, kind, record_key, shown, single_key, split_key,
};
use crate::time::{Duration, Time};

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

/// The values of a window, and what the batch changed.
type TaskResult<K, V> = (Vec<(K, V)>, Vec<Change>);

/// What a task of a state partition gathers.
struct Task<K, V> {
    partition: usize,
    time: Time,
    edits: Vec<(Slot<K>, Edit<V>)>,
    writing: Writing,
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
        let slides = time.is_multiple_of(self.lengths.slide);
        if slides {
            shard.sort();
        }
        let mut task = Task {
            partition,
            time,
            edits: Vec::with_capacity(new.len()),
            writing: shard.writing(partition, time, pane, new.len()),
            output: Vec::new(),
            stats: shard.stats,
        };
        match slides {
            true => self.edit_all(&mut task, &shard, pane, new)?,
            false => self.edit_new(&mut task, &shard, pane, new)?,
        }
        let Task { edits, writing, output, stats, .. } = task;
        let (mut changes, gathered, open) = writing.finish();
        // Where no pane came or went, the last note is as good.
        if slides && self.spec.inverse.is_some() && !changes.is_empty() {
            changes.push(Change::Put(single_key(partition, kind::EMITTED), encode_value(&time)?));
        }
        let before = std::mem::replace(&mut shard.stats, stats);
        let emitted = if slides { Some(time) } else { shard.emitted };
        shard.pending = Pending::Running(Edits { keys: edits, emitted, gathered, open, before });
        Ok((output, changes))
    }

    /// The keys that have `new` values; nothing comes out, so no order shows.
    fn edit_new(
        &self,
        task: &mut Task<K, V>,
        shard: &Shard<K, V>,
        pane: Option<Time>,
        new: Vec<(K, V)>,
    ) -> Result<()> {
        let none = KeyPanes::default();
        let mut changed = vec![false; if task.writing.is_anew() { shard.keys.len() } else { 0 }];
        for (key, value) in new {
            let (slot, panes) = match shard.keys.get_full(&key) {
                Some((index, _, (_, panes))) => (Slot::Known(index), panes),
                None => (Slot::New(key.clone(), place_of(&key)?), &none),
            };
            if let Slot::Known(index) = slot
                && let Some(changed) = changed.get_mut(index)
            {
                *changed = true;
            }
            self.edit(task, &key, slot, panes, pane.zip(Some(value)), None)?;
        }
        let unchanged = shard.keys.iter().zip(changed).filter(|(_, changed)| !changed);
        for ((key, (_, panes)), _) in unchanged {
            task.writing.keep(key, panes)?;
        }
        Ok(())
    }

    /// All keys, in their order: the window slides.
    fn edit_all(
        &self,
        task: &mut Task<K, V>,
        shard: &Shard<K, V>,
        pane: Option<Time>,
        new: Vec<(K, V)>,
    ) -> Result<()> {
        let (none, slides) = (KeyPanes::default(), Some(shard.emitted));
        let placed = new.into_iter().map(|(key, value)| {
            let place = match shard.keys.get(&key) {
                Some((place, _)) => place.clone(),
                None => place_of(&key)?,
            };
            Ok((place, key, value))
        });
        let mut new = placed.collect::<Result<Vec<_>>>()?;
        new.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut new = new.into_iter().peekable();
        let add = |task: &mut Task<K, V>, (place, key, value): (Place, K, V)| {
            let slot = Slot::New(key.clone(), place);
            self.edit(task, &key, slot, &none, pane.zip(Some(value)), slides)
        };
        for (index, (key, (place, panes))) in shard.keys.iter().enumerate() {
            while let Some(new) = new.next_if(|(new, ..)| new < place) {
                add(task, new)?;
            }
            let value = new.next_if(|(new, ..)| new == place).map(|(.., value)| value);
            self.edit(task, key, Slot::Known(index), panes, pane.zip(value), slides)?;
        }
        new.try_for_each(|new| add(task, new))
    }

    /// One key: its `new` value, and the window's value if it slides, then with the time of the last one.
    fn edit(
        &self,
        task: &mut Task<K, V>,
        key: &K,
        slot: Slot<K>,
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
        match edit.replaces {
            true => task.writing.forget_former(key, panes)?,
            false => task.writing.keep(key, panes)?,
        }
        if let Some((pane, value)) = &edit.pane {
            let (size, is_gathered) = task.writing.put(key, *pane, value)?;
            edit.pane_takes(size, is_gathered);
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
                        task.writing.changes.push(Change::Put(stored, encoded));
                    }
                    None if panes.total.is_some() => task.writing.changes.push(Change::Delete(stored)),
                    None => {}
                }
            }
            for pane in panes.dropped(&edit) {
                task.writing.changes.push(Change::Delete(pane_key(pane)?));
            }
            task.output.extend(kept.map(|value| (key.clone(), value)));
        }
        if edit.is_needed(panes) {
            let (keys, bytes) = panes.growth(&edit);
            task.stats.keys = task.stats.keys.wrapping_add_signed(keys);
            task.stats.bytes = task.stats.bytes.wrapping_add_signed(bytes);
            task.edits.push((slot, edit));
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
    fn restore(&self, store: &Arc<StateDb>, last: Option<Time>, _: usize) -> Result<()> {
        let end = last.map(|last| self.lengths.end_of_pane(last));
        let uid = self.uid();
        let take_in = |key: &[u8], value: &[u8]| {
            let (partition, ..) = split_key(key)?;
            self.shards[partition].lock().take_in(key, value, end)
        };
        store.scan_records(&uid, take_in).map_err(|e| {
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
            Some(input) => (self.spec.combine)(&input, self.partitioner.clone()),
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
