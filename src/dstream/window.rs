//! `window`

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::panes::WindowLengths;
use super::{DStream, DStreamNode, Emitted, StateName, StreamCore};
use crate::codec::{Stored, decode_key, decode_value, encode_value};
use crate::context::Stateful;
use crate::error::Result;
use crate::rdd::{Rdd, Runner};
use crate::state::{Change, OperatorSchema, StateDb, StateStats, kind, record_key, split_key};
use crate::time::{Duration, Time};

struct Window<T> {
    name: StateName,
    parent: Arc<StreamCore<T>>,
    parent_slide: Duration,
    lengths: WindowLengths,
    runner: Arc<Runner>,
    /// The records of each batch in the window, by partition. Kept in the checkpoint too: what a user's
    /// function made of a slice cannot be made again by reading the slice again.
    batches: Mutex<BTreeMap<Time, Batch<T>>>,
    store: OnceLock<Arc<StateDb>>,
    output: Emitted<T>,
}

struct Batch<T> {
    partitions: Vec<Arc<Vec<T>>>,
    /// What its records take in the store: nothing if it has none.
    bytes: usize,
}

impl<T> Batch<T> {
    /// Has at least so many partitions.
    fn reach(&mut self, partitions: usize) {
        self.partitions.resize_with(self.partitions.len().max(partitions), Default::default);
    }
}

fn batch_of<T>(batches: &mut BTreeMap<Time, Batch<T>>, millis: i64) -> &mut Batch<T> {
    let empty = || Batch { partitions: Vec::new(), bytes: 0 };
    batches.entry(Time::from_millis(millis)).or_insert_with(empty)
}

fn partition_key(batch: Time, number: usize) -> Result<Vec<u8>> {
    record_key(0, kind::ENTRY, &(batch.as_millis(), number))
}

fn partitions_key(batch: Time) -> Result<Vec<u8>> {
    record_key(0, kind::PARTITIONS, &batch.as_millis())
}

impl<T: Stored> Stateful for Window<T> {
    fn name(&self) -> &StateName {
        &self.name
    }

    fn schema(&self) -> OperatorSchema {
        self.name.read().schema::<i64, Vec<T>>("window", 1)
    }

    fn restore(&self, store: &Arc<StateDb>, _: Option<Time>, _: usize) -> Result<()> {
        let _ = self.store.set(store.clone());
        let mut batches = self.batches.lock();
        batches.clear();
        store
            .scan(&self.uid(), |key, value| {
                let size = key.len() + value.len();
                let (_, kind, key) = split_key(key)?;
                match kind {
                    kind::ENTRY => {
                        let (time, number): (i64, usize) = decode_key(key)?;
                        let batch = batch_of(&mut batches, time);
                        batch.reach(number + 1);
                        batch.bytes += size;
                        batch.partitions[number] = Arc::new(decode_value(value)?);
                    }
                    // A checkpoint from before there were these has lost its empty partitions.
                    kind::PARTITIONS => batch_of(&mut batches, decode_key(key)?).reach(decode_value(value)?),
                    _ => {}
                }
                Ok(())
            })
            .map_err(|e| e.within(format!("window of operator `{}`", self.uid())))
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut new = None;
        if time.is_multiple_of(self.parent_slide)
            && self.lengths.pane_of(time).is_some()
            && let Some(input) = self.parent.get_or_compute(time)?
        {
            new = Some(input.run_partitions(|elements, _| Ok(Arc::new(elements)))?);
        }
        self.runner.turn().wait()?;
        let mut batches = self.batches.lock();
        if let Some(partitions) = new {
            let mut bytes = 0;
            for (number, elements) in partitions.iter().enumerate().filter(|(_, e)| !e.is_empty()) {
                let (key, value) = (partition_key(time, number)?, encode_value(&**elements)?);
                bytes += key.len() + value.len();
                changes.push(Change::Put(key, value));
            }
            if !partitions.is_empty() {
                changes.push(Change::Put(partitions_key(time)?, encode_value(&partitions.len())?));
                batches.insert(time, Batch { partitions, bytes });
            }
        }
        if time.is_multiple_of(self.lengths.slide) {
            let gone = batches.extract_if(..=self.lengths.expired(time), |_, _| true);
            for (batch, Batch { partitions, .. }) in gone {
                for number in (0..partitions.len()).filter(|n| !partitions[*n].is_empty()) {
                    changes.push(Change::Delete(partition_key(batch, number)?));
                }
                changes.push(Change::Delete(partitions_key(batch)?));
            }
            let partitions = batches.values().flat_map(|batch| &batch.partitions).cloned().collect();
            *self.output.lock() = Some((time, Rdd::in_memory(&self.runner, partitions)));
        }
        Ok(changes)
    }

    fn committed(&self) {}

    fn discard(&self) -> Result<()> {
        *self.output.lock() = None;
        self.store.get().map_or(Ok(()), |store| self.restore(store, None, 0))
    }

    fn stats(&self) -> StateStats {
        let batches = self.batches.lock();
        let bytes = batches.values().map(|batch| batch.bytes as u64).sum();
        StateStats { keys: batches.len() as u64, bytes, ..StateStats::default() }
    }

    /// An empty window slides unseen.
    fn next_due(&self, after: Time) -> Option<Time> {
        let slide = self.lengths.slide;
        self.batches.lock().values().any(|batch| batch.bytes > 0).then(|| after.floor(slide) + slide)
    }
}

impl<T: Stored> DStreamNode<T> for Window<T> {
    fn slide(&self) -> Duration {
        self.lengths.slide
    }

    fn window(&self) -> Option<Duration> {
        Some(self.lengths.window)
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<T>>> {
        Ok(self.output.lock().as_ref().filter(|(at, _)| *at == time).map(|(_, rdd)| rdd.clone()))
    }
}

impl<T: Stored> DStream<T> {
    /// Every `slide`, the elements of all batches of the last `window`, oldest first. Windows that are
    /// not full yet are emitted too; a slide longer than the window leaves batches out. Empty batches count as time;
    /// a window of nothing but empty batches is an empty batch. A window has all partitions of its batches, empty ones
    /// too. A restart changes nothing.
    ///
    /// # Errors
    /// If window or slide is no multiple of this stream's slide duration.
    ///
    /// ```
    /// use tidemill::{Duration, testing::run_batches};
    /// let out = run_batches(vec![vec![1], vec![2], vec![], vec![3]], |numbers| {
    ///     numbers.window(Duration::seconds(2), Duration::seconds(1)).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1], vec![1, 2], vec![2], vec![3]]);
    /// ```
    pub fn window(&self, window: impl Into<Duration>, slide: impl Into<Duration>) -> Result<DStream<T>> {
        self.window_of("window", window.into(), slide.into())
    }

    /// The window that `operator` is, or is made of.
    pub(super) fn window_of(&self, operator: &str, window: Duration, slide: Duration) -> Result<DStream<T>> {
        let parent_slide = self.slide_duration();
        let lengths = WindowLengths::new(operator, window, slide, parent_slide)?;
        Ok(self.stateful(operator, |name| Window {
            name,
            parent: self.core.clone(),
            parent_slide,
            lengths,
            runner: self.ssc.inner.runner.clone(),
            batches: Mutex::default(),
            store: OnceLock::new(),
            output: Mutex::new(None),
        }))
    }
}
