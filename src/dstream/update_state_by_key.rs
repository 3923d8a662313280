//! `update_state_by_key`

use std::sync::Arc;

use parking_lot::Mutex;

use super::{DStream, DStreamNode, Emitted, StateName, StreamCore, keep_output};
use crate::codec::{Key, Stored};
use crate::context::Stateful;
use crate::error::Result;
use crate::rdd::{Data, HashPartitioner, Rdd, Runner};
use crate::state::{Change, KeyedState, OperatorSchema, StateDb, StateStats};
use crate::time::{Duration, Time};

/// The live keys of a state partition, and what changed.
type TaskResult<K, S> = (Vec<(K, S)>, Vec<Change>);

struct UpdateStateByKey<K, V, S, F> {
    name: StateName,
    parent: Arc<StreamCore<(K, V)>>,
    slide: Duration,
    update: F,
    partitioner: HashPartitioner,
    runner: Arc<Runner>,
    state: KeyedState<K, S>,
    output: Emitted<(K, S)>,
}

impl<K, V, S, F> UpdateStateByKey<K, V, S, F>
where
    K: Key,
    V: Data,
    S: Stored + PartialEq,
    F: Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync,
{
    /// Every known key is visited; the shard changes only once all of the user's calls have gone well.
    fn task(&self, partition: usize, input: Vec<(K, Vec<V>)>) -> Result<TaskResult<K, S>> {
        let mut shard = self.state.shard(partition);
        let mut input: indexmap::IndexMap<K, Vec<V>, ahash::RandomState> = input.into_iter().collect();
        let mut updates = Vec::new();
        let mut output = Vec::with_capacity(shard.len() + input.len());
        for (key, kept) in shard.iter() {
            let values = input.get_mut(key).map(std::mem::take).unwrap_or_default();
            let after = (self.update)(values, Some(kept.value.clone()));
            if let Some(state) = &after {
                output.push((key.clone(), state.clone()));
            }
            if after.as_ref() != Some(&kept.value) {
                updates.push((key.clone(), after));
            }
        }
        for (key, values) in input {
            if shard.contains_key(&key) {
                continue;
            }
            if let Some(state) = (self.update)(values, None) {
                output.push((key.clone(), state.clone()));
                updates.push((key, Some(state)));
            }
        }
        let mut changes = Vec::with_capacity(updates.len());
        for (key, state) in updates {
            self.state.write(&mut shard, partition, key, state, &mut changes)?;
        }
        Ok((output, changes))
    }
}

impl<K, V, S, F> Stateful for UpdateStateByKey<K, V, S, F>
where
    K: Key,
    V: Data,
    S: Stored + PartialEq,
    F: Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync,
{
    fn uid(&self) -> Arc<str> {
        self.name.read().uid.clone()
    }

    fn schema(&self) -> OperatorSchema {
        self.name.read().schema::<K, S>("update_state_by_key")
    }

    fn restore(&self, db: &StateDb) -> Result<()> {
        self.state.restore(db, &self.uid(), |_, _, _| {})
    }

    fn evaluate(&self, time: Time) -> Result<Vec<Change>> {
        if !time.is_multiple_of(self.slide) {
            return Ok(Vec::new());
        }
        let input =
            self.parent.get_or_compute(time)?.unwrap_or_else(|| Rdd::in_memory(&self.runner, Vec::new()));
        let append = |mut all: Vec<V>, mut more: Vec<V>| {
            all.append(&mut more);
            all
        };
        let push = |mut all: Vec<V>, value: V| {
            all.push(value);
            all
        };
        let grouped = input.combine_by_key_with(|value| vec![value], push, append, self.partitioner);
        let results = grouped.run_partitions(|pairs, task| self.task(task.partition, pairs))?;
        Ok(keep_output(&self.output, &self.runner, time, results))
    }

    fn discard(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> StateStats {
        self.state.stats()
    }
}

impl<K, V, S, F> DStreamNode<(K, S)> for UpdateStateByKey<K, V, S, F>
where
    K: Key,
    V: Data,
    S: Data,
    F: Send + Sync,
{
    fn slide(&self) -> Duration {
        self.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<(K, S)>>> {
        Ok(self.output.lock().as_ref().filter(|(at, _)| *at == time).map(|(_, rdd)| rdd.clone()))
    }
}

impl<K: Key, V: Data> DStream<(K, V)> {
    /// Keeps a state per key: `update` gets the key's new values and its state, and gives the new
    /// state, or `None` to remove the key. It is called for every known key in every batch, empty
    /// ones too, and every live key is in every output: see [`map_with_state`](DStream::map_with_state) for a
    /// state that costs only what is touched. States that did not change are not written.
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
    pub fn update_state_by_key<S: Stored + PartialEq>(
        &self,
        update: impl Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
    ) -> DStream<(K, S)> {
        let partitioner = self.ssc.default_partitioner();
        self.stateful("update_state_by_key", |name| UpdateStateByKey {
            name,
            parent: self.core.clone(),
            slide: self.slide_duration(),
            update,
            partitioner,
            runner: self.ssc.inner.runner.clone(),
            state: KeyedState::new(partitioner.num_partitions(), 0),
            output: Mutex::new(None),
        })
    }
}
