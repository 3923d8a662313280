//! `reduce_by_key_and_window`, with and without an inverse function.
//!
//! Each key has a queue of panes, whose values are combined already. Without an inverse function the
//! queue is two stacks, so that a window's value costs one call per new pane, however many panes it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::panes::WindowLengths;
use super::{DStream, DStreamNode, Emitted, StateName, StreamCore};
use crate::codec::{Key, Stored, decode_key, decode_value, encode_value};
use crate::context::Stateful;
use crate::error::Result;
use crate::rdd::{HashPartitioner, Rdd, Runner};
use crate::state::{Change, OperatorSchema, StateDb, StateStats, record_key, split_key};
use crate::time::{Duration, Time};

/// Records of panes and of running totals in the operator's column family.
const PANE: u8 = 0;
const TOTAL: u8 = 1;

type Reduce<V> = Arc<dyn Fn(V, V) -> V + Send + Sync>;
type Keep<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

/// How a window's value follows from its panes.
struct Functions<K, V> {
    reduce: Reduce<V>,
    inverse: Option<Reduce<V>>,
    keep: Option<Keep<K, V>>,
}

/// The panes of one key, oldest first.
struct KeyPanes<V> {
    /// Panes with the combined value of themselves and all younger ones of this stack, youngest first.
    front: Vec<(Time, V)>,
    /// Younger panes, with their own values; with an inverse function, all of them.
    back: VecDeque<(Time, V)>,
    back_total: Option<V>,
    /// With an inverse function: the last window's value, and the last pane in it.
    total: Option<Total<V>>,
    /// What the panes take in the store, oldest first.
    sizes: VecDeque<u32>,
    /// What the total takes there.
    total_size: u32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Total<V> {
    value: V,
    until: Time,
}

impl<V> Default for KeyPanes<V> {
    fn default() -> Self {
        let (sizes, total_size) = (VecDeque::new(), 0);
        Self { front: Vec::new(), back: VecDeque::new(), back_total: None, total: None, sizes, total_size }
    }
}

impl<V: Stored> KeyPanes<V> {
    /// Adds `value` to the pane that ends at `pane`, the youngest; gives the pane's value.
    fn push(&mut self, pane: Time, value: V, reduce: &Reduce<V>, keep_total: bool) -> V {
        if keep_total {
            self.back_total = Some(match self.back_total.take() {
                Some(total) => reduce(total, value.clone()),
                None => value.clone(),
            });
        }
        match self.back.back_mut() {
            Some((last, before)) if *last == pane => {
                *before = reduce(before.clone(), value);
                before.clone()
            }
            _ => {
                self.back.push_back((pane, value.clone()));
                value
            }
        }
    }

    /// Drops panes up to `expired`, and combines the rest.
    fn slide(&mut self, expired: Time, reduce: &Reduce<V>, gone: &mut Vec<Time>) -> Option<V> {
        while let Some((pane, _)) = self.front.last()
            && *pane <= expired
        {
            gone.push(*pane);
            self.front.pop();
        }
        if self.front.is_empty() {
            let mut dropped = false;
            while let Some((pane, _)) = self.back.front()
                && *pane <= expired
            {
                gone.push(*pane);
                self.back.pop_front();
                dropped = true;
            }
            // Turning the stacks costs each pane one call in its life.
            if dropped && self.back.len() > 1 {
                let mut combined: Option<V> = None;
                while let Some((pane, value)) = self.back.pop_back() {
                    let value = match combined {
                        Some(younger) => reduce(value, younger),
                        None => value,
                    };
                    combined = Some(value.clone());
                    self.front.push((pane, value));
                }
                self.back_total = None;
            } else if dropped {
                self.back_total = self.back.front().map(|(_, value)| value.clone());
            }
        }
        match (self.front.last(), &self.back_total) {
            (Some((_, older)), Some(younger)) => Some(reduce(older.clone(), younger.clone())),
            (Some((_, all)), None) => Some(all.clone()),
            (None, younger) => younger.clone(),
        }
    }

    /// Takes panes up to `expired` out of the last window's value, and puts the new ones in.
    fn slide_inverse(
        &mut self,
        expired: Time,
        reduce: &Reduce<V>,
        inverse: &Reduce<V>,
        gone: &mut Vec<Time>,
    ) -> Option<V> {
        let mut old: Option<V> = None;
        let counted = self.total.as_ref().map(|t| t.until);
        while let Some((pane, _)) = self.back.front()
            && *pane <= expired
            && let Some((pane, value)) = self.back.pop_front()
        {
            gone.push(pane);
            // A pane that no window has shown (time went on without batches) has nothing to be taken out of.
            if counted.is_some_and(|until| pane <= until) {
                old = Some(match old {
                    Some(older) => reduce(older, value),
                    None => value,
                });
            }
        }
        let new = self
            .back
            .iter()
            .filter(|(pane, _)| counted.is_none_or(|until| *pane > until))
            .map(|(_, value)| value.clone())
            .reduce(|a, b| reduce(a, b));
        let mut value = self.total.take().map(|t| t.value);
        value = match (value, old) {
            (Some(value), Some(old)) => Some(inverse(value, old)),
            (value, _) => value,
        };
        value = match (value, new) {
            (Some(value), Some(new)) => Some(reduce(value, new)),
            (value, new) => value.or(new),
        };
        value
    }

    /// Notes what the youngest pane takes in the store; gives by how much that is more than before.
    fn resize(&mut self, size: usize) -> i64 {
        let before =
            if self.sizes.len() == self.front.len() + self.back.len() { self.sizes.pop_back() } else { None };
        self.sizes.push_back(size as u32);
        size as i64 - i64::from(before.unwrap_or(0))
    }

    /// The same for the total.
    fn resize_total(&mut self, size: usize) -> i64 {
        size as i64 - i64::from(std::mem::replace(&mut self.total_size, size as u32))
    }

    /// Forgets the sizes of so many of the oldest panes, and gives their sum.
    fn forget(&mut self, panes: usize) -> i64 {
        self.sizes.drain(..panes.min(self.sizes.len())).map(i64::from).sum()
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty() && self.back.is_empty() && self.total.is_none()
    }
}

type Shard<K, V> = IndexMap<K, KeyPanes<V>, ahash::RandomState>;

struct ReduceByKeyAndWindow<K, V> {
    name: StateName,
    parent: Arc<StreamCore<(K, V)>>,
    parent_slide: Duration,
    lengths: WindowLengths,
    functions: Functions<K, V>,
    partitioner: HashPartitioner,
    runner: Arc<Runner>,
    shards: Vec<Mutex<Shard<K, V>>>,
    /// What all panes and totals take in the store.
    bytes: AtomicI64,
    output: Emitted<(K, V)>,
}

/// A pane's key in the store, without its partition and kind.
type PaneKey<K> = (i64, K);

impl<K: Key, V: Stored> ReduceByKeyAndWindow<K, V> {
    /// Adds the batch to its pane. The user's functions run before the shard changes.
    fn absorb(
        &self,
        partition: usize,
        pane: Time,
        pairs: Vec<(K, V)>,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let mut shard = self.shards[partition].lock();
        let two_stacks = self.functions.inverse.is_none();
        for (key, value) in pairs {
            let stored_key = record_key::<PaneKey<&K>>(partition, PANE, &(pane.as_millis(), &key))?;
            let panes = shard.entry(key).or_default();
            let value = panes.push(pane, value, &self.functions.reduce, two_stacks);
            let encoded = encode_value(&value)?;
            self.count(panes.resize(stored_key.len() + encoded.len()));
            changes.push(Change::Put(stored_key, encoded));
        }
        Ok(())
    }

    fn count(&self, bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn emit(&self, partition: usize, time: Time, changes: &mut Vec<Change>) -> Result<Vec<(K, V)>> {
        let mut shard = self.shards[partition].lock();
        let expired = self.lengths.expired(time);
        let mut output = Vec::new();
        let mut gone = Vec::new();
        let mut failed = None;
        shard.retain(|key, panes| {
            gone.clear();
            let outcome =
                self.emit_key(partition, time, expired, key, panes, &mut gone, changes, &mut output);
            if let Err(error) = outcome {
                failed.get_or_insert(error);
            }
            !panes.is_empty()
        });
        failed.map_or(Ok(output), Err)
    }

    #[allow(clippy::too_many_arguments, reason = "the body of one loop")]
    fn emit_key(
        &self,
        partition: usize,
        time: Time,
        expired: Time,
        key: &K,
        panes: &mut KeyPanes<V>,
        gone: &mut Vec<Time>,
        changes: &mut Vec<Change>,
        output: &mut Vec<(K, V)>,
    ) -> Result<()> {
        let Functions { reduce, inverse, keep } = &self.functions;
        let value = match inverse {
            None => panes.slide(expired, reduce, gone),
            Some(inverse) => panes.slide_inverse(expired, reduce, inverse, gone),
        };
        let kept = value.filter(|value| keep.as_ref().is_none_or(|keep| keep(key, value)));
        if inverse.is_some() {
            match &kept {
                Some(value) => {
                    let total = Total { value: value.clone(), until: time };
                    let (stored_key, encoded) = (record_key(partition, TOTAL, key)?, encode_value(&total)?);
                    self.count(panes.resize_total(stored_key.len() + encoded.len()));
                    changes.push(Change::Put(stored_key, encoded));
                    panes.total = Some(total);
                }
                // A key that the filter drops starts anew when it comes back.
                None => {
                    gone.extend(panes.back.drain(..).map(|(pane, _)| pane));
                    self.count(panes.resize_total(0));
                    changes.push(Change::Delete(record_key(partition, TOTAL, key)?));
                }
            }
        }
        self.count(-panes.forget(gone.len()));
        for pane in gone.iter() {
            changes.push(Change::Delete(record_key::<PaneKey<&K>>(
                partition,
                PANE,
                &(pane.as_millis(), key),
            )?));
        }
        output.extend(kept.map(|value| (key.clone(), value)));
        Ok(())
    }
}

impl<K: Key, V: Stored> Stateful for ReduceByKeyAndWindow<K, V> {
    fn uid(&self) -> Arc<str> {
        self.name.read().uid.clone()
    }

    fn schema(&self) -> OperatorSchema {
        // The two forms keep different records.
        let inverse = if self.functions.inverse.is_some() { " with inverse" } else { "" };
        self.name.read().schema::<K, V>(&format!("reduce_by_key_and_window{inverse}"))
    }

    /// Panes come back in the order of their times, as they were made.
    fn restore(&self, db: &StateDb) -> Result<()> {
        let two_stacks = self.functions.inverse.is_none();
        db.scan(&self.uid(), |key, value| {
            let size = key.len() + value.len();
            let (partition, kind, key) = split_key(key)?;
            let mut shard = self.shards[partition].lock();
            if kind == PANE {
                let (pane, key): PaneKey<K> = decode_key(key)?;
                let panes = shard.entry(key).or_default();
                panes.push(Time::from_millis(pane), decode_value(value)?, &self.functions.reduce, two_stacks);
                self.count(panes.resize(size));
            } else {
                let panes = shard.entry(decode_key(key)?).or_default();
                panes.total = Some(decode_value(value)?);
                self.count(panes.resize_total(size));
            }
            Ok(())
        })
        .map_err(|e| e.within(format!("panes of operator `{}`", self.uid())))
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        if time.is_multiple_of(self.parent_slide)
            && let Some(pane) = self.lengths.pane_of(time)
            && let Some(input) = self.parent.get_or_compute(time)?
        {
            let reduce = self.functions.reduce.clone();
            let reduced = input.reduce_by_key_with(move |a, b| reduce(a, b), self.partitioner);
            let parts = reduced.run_partitions(|pairs, _| Ok(pairs))?;
            // Changes to the shards are no task: nothing may be tried twice here.
            for (partition, pairs) in parts.into_iter().enumerate() {
                self.absorb(partition, pane, pairs, &mut changes)?;
            }
        }
        if time.is_multiple_of(self.lengths.slide) {
            let mut partitions = Vec::with_capacity(self.shards.len());
            for partition in 0..self.shards.len() {
                partitions.push(Arc::new(self.emit(partition, time, &mut changes)?));
            }
            *self.output.lock() = Some((time, Rdd::in_memory(&self.runner, partitions)));
        }
        Ok(changes)
    }

    fn discard(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> StateStats {
        let keys = self.shards.iter().map(|shard| shard.lock().len() as u64).sum();
        StateStats { keys, bytes: self.bytes.load(Ordering::Relaxed) as u64 }
    }
}

impl<K: Key, V: Stored> DStreamNode<(K, V)> for ReduceByKeyAndWindow<K, V> {
    fn slide(&self) -> Duration {
        self.lengths.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<(K, V)>>> {
        Ok(self.output.lock().as_ref().filter(|(at, _)| *at == time).map(|(_, rdd)| rdd.clone()))
    }
}

impl<K: Key, V: Stored> DStream<(K, V)> {
    /// Every `slide`, one pair per key of the last `window`: its values put together by `reduce`, which must
    /// be associative. Windows that are not full yet are emitted too; without any value in the window a key is
    /// not in the output. Empty batches count as time.
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
        let functions = Functions { reduce: Arc::new(reduce), inverse: None, keep: None };
        self.window_of_panes(functions, window.into(), slide.into())
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
        let functions = Functions { reduce: Arc::new(reduce), inverse: Some(Arc::new(inverse)), keep: None };
        self.window_of_panes(functions, window.into(), slide.into())
    }

    /// As [the form with an inverse](DStream::reduce_by_key_and_window_with_inverse), without the keys for which
    /// `keep` is false: they are forgotten.
    ///
    /// # Errors
    /// As there.
    pub fn reduce_by_key_and_window_with_inverse_filtered(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Duration>,
        slide: impl Into<Duration>,
        keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> Result<DStream<(K, V)>> {
        let functions = Functions {
            reduce: Arc::new(reduce),
            inverse: Some(Arc::new(inverse)),
            keep: Some(Arc::new(keep)),
        };
        self.window_of_panes(functions, window.into(), slide.into())
    }

    fn window_of_panes(
        &self,
        functions: Functions<K, V>,
        window: Duration,
        slide: Duration,
    ) -> Result<DStream<(K, V)>> {
        let parent_slide = self.slide_duration();
        let lengths = WindowLengths::new("reduce_by_key_and_window", window, slide, parent_slide)?;
        let partitioner = self.ssc.default_partitioner();
        Ok(self.stateful("reduce_by_key_and_window", |name| ReduceByKeyAndWindow {
            name,
            parent: self.core.clone(),
            parent_slide,
            lengths,
            functions,
            partitioner,
            runner: self.ssc.inner.runner.clone(),
            shards: (0..partitioner.num_partitions()).map(|_| Mutex::default()).collect(),
            bytes: AtomicI64::new(0),
            output: Mutex::new(None),
        }))
    }
}
