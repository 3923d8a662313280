//! The exchange between two stages: elements go to the partition of their key.
//!
//! Output is ordered by partition, then by first occurrence in task order, at any number of threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::blame::push_all;
use super::combined::Combined;
use super::partitioner::{AnyPartitioner, checked_partition};
use super::runner::finished;
use super::{AtRecord, Data, Flow, Operator, Partitioner, Rdd, RddNode, Runner, TaskContext};
use crate::codec::Key;
use crate::error::{Error, Result};
use crate::state::shown;

/// The kept output of a shuffle: one vector per partition.
pub(super) type Output<T> = Mutex<Option<Arc<[Arc<Vec<T>>]>>>;

pub(super) fn read<T: Data>(output: &Output<T>, partition: usize, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
    let Some(partitions) = output.lock().clone() else {
        return Err(Error::internal("a shuffle was read before it was prepared").into());
    };
    push_all(&partitions[partition], partition, emit)
}

/// What a shuffle is made of, which it lets go of when its output is there: nothing is computed again from it.
pub(super) struct Parent<T>(Mutex<Option<Arc<dyn RddNode<T>>>>);

impl<T> Parent<T> {
    pub(super) fn of(rdd: &Rdd<T>) -> Self {
        Self(Mutex::new(Some(rdd.node.clone())))
    }

    /// Prepared for a shuffle.
    pub(super) fn prepared(&self, runner: &Runner) -> Result<Arc<dyn RddNode<T>>> {
        let parent = self.0.lock().clone();
        let parent = parent.ok_or_else(|| Error::internal("a shuffle has lost what it is made of"))?;
        parent.prepare(runner)?;
        Ok(parent)
    }

    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }
}

fn is_empty<T>(output: &Output<T>) -> bool {
    output.lock().as_ref().is_some_and(|partitions| partitions.iter().all(|partition| partition.is_empty()))
}

fn distribute<K: 'static, C>(
    partitioner: &dyn Partitioner<K>,
    pairs: impl Iterator<Item = (K, C)>,
) -> Result<Vec<Vec<(K, C)>>> {
    let mut buckets: Vec<Vec<_>> = (0..partitioner.num_partitions()).map(|_| Vec::new()).collect();
    for pair in pairs {
        buckets[checked_partition(partitioner, &pair.0)?].push(pair);
    }
    Ok(buckets)
}

/// From one list of buckets per map task to one list of task outputs per reduce partition.
pub(super) fn transpose<X>(tasks: Vec<Vec<Vec<X>>>, partitions: usize) -> Vec<Mutex<Vec<Vec<X>>>> {
    let mut columns: Vec<Vec<Vec<X>>> = (0..partitions).map(|_| Vec::with_capacity(tasks.len())).collect();
    for task in tasks {
        for (column, bucket) in columns.iter_mut().zip(task) {
            column.push(bucket);
        }
    }
    columns.into_iter().map(Mutex::new).collect()
}

/// Values combined by key, on the map side first.
pub(super) struct CombineByKey<K, V, C, Create, MergeValue, Merge> {
    pub parent: Parent<(K, V)>,
    pub partitioner: AnyPartitioner<K>,
    pub create: Create,
    pub merge_value: MergeValue,
    pub merge: Merge,
    pub operator: Operator,
    pub output: Output<(K, C)>,
    /// How many keys the last map task had that ended.
    pub keys: AtomicUsize,
}

impl<K, V, C, Create, MergeValue, Merge> CombineByKey<K, V, C, Create, MergeValue, Merge>
where
    K: Key,
    V: Data,
    C: Data,
    Create: Fn(V) -> C + Send + Sync,
    MergeValue: Fn(C, V) -> C + Send + Sync,
    Merge: Fn(C, C) -> C + Send + Sync,
{
    fn map_task(
        &self,
        parent: &dyn RddNode<(K, V)>,
        partition: usize,
        task: &TaskContext,
    ) -> Result<Vec<Vec<(K, C)>>> {
        // The next part of a stream has about as many.
        let mut combined = Combined::with_room(self.keys.load(Ordering::Relaxed));
        finished(parent.compute(partition, task, &mut |pair| {
            let guard = self.operator.guard();
            let hash = combined.hash(&pair.0);
            // The key is moved where it is new, and looked at where it is: one that was just made had to be waited for to be moved.
            // Nor is it moved to be dropped.
            match combined.find(hash, &pair.0) {
                Some(found) => found.merge(|_, before| (self.merge_value)(before, pair.1)),
                None => combined.insert(hash, pair.0, (self.create)(pair.1)),
            }
            guard.done();
            Ok(())
        }))?;
        self.keys.store(combined.len(), Ordering::Relaxed);
        self.operator.run(|| distribute(&*self.partitioner, combined.into_pairs()))
    }

    fn reduce_task(&self, mut inputs: Vec<Vec<(K, C)>>) -> Vec<(K, C)> {
        if inputs.iter().filter(|i| !i.is_empty()).count() < 2 {
            return inputs.drain(..).find(|i| !i.is_empty()).unwrap_or_default();
        }
        self.operator.run(|| {
            let mut combined = Combined::with_room(inputs.iter().map(Vec::len).max().unwrap_or_default());
            for (key, part) in inputs.into_iter().flatten() {
                let hash = combined.hash(&key);
                match combined.find(hash, &key) {
                    Some(found) => found.merge(|key, before| {
                        // The elements that were put together here have no place of their own any more.
                        let _key = AtRecord(|| format!("key {}", shown(key)));
                        (self.merge)(before, part)
                    }),
                    None => combined.insert(hash, key, part),
                }
            }
            combined.into_pairs().collect()
        })
    }
}

impl<K, V, C, Create, MergeValue, Merge> RddNode<(K, C)> for CombineByKey<K, V, C, Create, MergeValue, Merge>
where
    K: Key,
    V: Data,
    C: Data,
    Create: Fn(V) -> C + Send + Sync,
    MergeValue: Fn(C, V) -> C + Send + Sync,
    Merge: Fn(C, C) -> C + Send + Sync,
{
    fn num_partitions(&self) -> usize {
        self.partitioner.num_partitions()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        let mut output = self.output.lock();
        if output.is_none() {
            let parent = self.parent.prepared(runner)?;
            let partitions = self.partitioner.num_partitions();
            let map = || {
                let tasks =
                    runner.run_tasks(parent.num_partitions(), |p, task| self.map_task(&*parent, p, task))?;
                Ok(transpose(tasks, partitions))
            };
            // A reduce task takes its input, which is gone if the user's `merge` panics.
            let merged = runner.run_two_stages(partitions, map, |columns, p| {
                Arc::new(self.reduce_task(std::mem::take(&mut columns[p].lock())))
            })?;
            *output = Some(merged.into());
            self.parent.forget();
        }
        Ok(())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut((K, C)) -> Flow) -> Flow {
        read(&self.output, partition, emit)
    }

    fn has_nothing(&self) -> bool {
        is_empty(&self.output)
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

/// Elements moved to the partition that `place` gives for the task, the element's number in it, and the element; those
/// of a partition keep their order.
pub(super) struct Exchange<T, Place> {
    pub parent: Parent<T>,
    pub partitions: usize,
    pub place: Place,
    pub operator: Operator,
    pub output: Output<T>,
}

impl<T, Place> RddNode<T> for Exchange<T, Place>
where
    T: Data,
    Place: Fn(usize, usize, &T) -> Result<usize> + Send + Sync,
{
    fn num_partitions(&self) -> usize {
        self.partitions
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        let mut output = self.output.lock();
        if output.is_none() {
            let parent = self.parent.prepared(runner)?;
            let tasks = runner.run_tasks(parent.num_partitions(), |p, task| {
                let mut buckets: Vec<Vec<T>> = (0..self.partitions).map(|_| Vec::new()).collect();
                let mut number = 0;
                finished(parent.compute(p, task, &mut |element| {
                    let place = self.operator.run(|| (self.place)(p, number, &element))?;
                    buckets[place].push(element);
                    number += 1;
                    Ok(())
                }))?;
                Ok(buckets)
            })?;
            let columns = transpose(tasks, self.partitions);
            *output = Some(
                columns
                    .into_iter()
                    .map(|c| Arc::new(c.into_inner().into_iter().flatten().collect()))
                    .collect(),
            );
            self.parent.forget();
        }
        Ok(())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        read(&self.output, partition, emit)
    }

    fn has_nothing(&self) -> bool {
        is_empty(&self.output)
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}
