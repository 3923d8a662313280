//! A stream whose batches are given by the program: for tests and first steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Input, InputPlan, InputPosition};
use crate::batch::StreamInputInfo;
use crate::dstream::DStreamNode;
use crate::error::{Error, Result};
use crate::rdd::{Data, MemoryRdd, Rdd, Runner};
use crate::time::{Duration, Time};

/// A queue of RDDs that a [`queue_stream`](crate::StreamingContext::queue_stream) takes its batches from.
pub struct RddQueue<T> {
    rdds: Arc<Mutex<VecDeque<Partitions<T>>>>,
}

type Partitions<T> = Vec<Arc<Vec<T>>>;

impl<T> Clone for RddQueue<T> {
    fn clone(&self) -> Self {
        Self { rdds: self.rdds.clone() }
    }
}

impl<T> Default for RddQueue<T> {
    fn default() -> Self {
        Self { rdds: Arc::default() }
    }
}

impl<T: Data> RddQueue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an RDD of one partition.
    pub fn push(&self, elements: impl IntoIterator<Item = T>) {
        self.push_partitions([elements.into_iter().collect()]);
    }

    /// Adds an RDD with the given partitions.
    pub fn push_partitions(&self, partitions: impl IntoIterator<Item = Vec<T>>) {
        self.rdds.lock().push_back(partitions.into_iter().map(Arc::new).collect());
    }
}

pub(crate) struct QueueInput<T> {
    uid: String,
    queue: RddQueue<T>,
    one_at_a_time: bool,
    /// What a batch has for which the queue has nothing.
    default: Partitions<T>,
    interval: Duration,
    runner: Arc<Runner>,
    /// RDDs taken so far.
    taken: Mutex<u64>,
    current: Mutex<BTreeMap<Time, Vec<Partitions<T>>>>,
}

impl<T: Data> QueueInput<T> {
    pub fn new(
        uid: String,
        queue: RddQueue<T>,
        one_at_a_time: bool,
        default: Vec<T>,
        interval: Duration,
        runner: Arc<Runner>,
    ) -> Self {
        let default = if default.is_empty() { Vec::new() } else { vec![Arc::new(default)] };
        let (taken, current) = (Mutex::new(0), Mutex::default());
        Self { uid, queue, one_at_a_time, default, interval, runner, taken, current }
    }
}

impl<T: Data> Input for QueueInput<T> {
    fn uid(&self) -> &str {
        &self.uid
    }

    /// A recovered program fills its queue anew: what was taken before is skipped.
    fn start(&self, restored: Option<&InputPosition>, _: Option<Time>) -> Result<()> {
        match restored {
            None => Ok(()),
            Some(InputPosition::Queue(taken)) => {
                let mut rdds = self.queue.rdds.lock();
                let skip = usize::try_from(*taken).unwrap_or(usize::MAX).min(rdds.len());
                rdds.drain(..skip);
                *self.taken.lock() = *taken;
                Ok(())
            }
            Some(other) => Err(Error::checkpoint(format!(
                "input `{}` is a queue, but the checkpoint holds {other:?} for it",
                self.uid
            ))),
        }
    }

    fn plan(&self, _: Time) -> Result<InputPlan> {
        let waiting = self.queue.rdds.lock().len() as u64;
        let from = *self.taken.lock();
        Ok(InputPlan::Queue { from, until: from + if self.one_at_a_time { waiting.min(1) } else { waiting } })
    }

    fn begin(&self, time: Time, plan: &InputPlan) -> Result<()> {
        let InputPlan::Queue { from, until } = plan else {
            return Err(Error::checkpoint(format!(
                "input `{}` is a queue, but was planned as {plan:?}",
                self.uid
            )));
        };
        let mut rdds = self.queue.rdds.lock();
        let count = usize::try_from(until - from).unwrap_or(usize::MAX).min(rdds.len());
        let taken = rdds.drain(..count).collect();
        *self.taken.lock() = *until;
        let mut current = self.current.lock();
        current.clear();
        current.insert(time, taken);
        Ok(())
    }

    fn info(&self, _: &InputPlan) -> StreamInputInfo {
        let current = self.current.lock();
        let rdds: Vec<_> = current.values().flatten().collect();
        let elements = rdds.iter().flat_map(|partitions| partitions.iter()).map(|p| p.len() as u64).sum();
        let noun = if rdds.len() == 1 { "RDD" } else { "RDDs" };
        StreamInputInfo::new(&self.uid, Some(elements), format!("{} {noun} of a queue", rdds.len()))
    }
}

impl<T: Data> DStreamNode<T> for QueueInput<T> {
    fn slide(&self) -> Duration {
        self.interval
    }

    /// An exhausted queue gives the default, which is empty unless set.
    fn compute(&self, time: Time) -> Result<Option<Rdd<T>>> {
        let partitions = match self.current.lock().get(&time) {
            Some(rdds) if rdds.is_empty() => self.default.clone(),
            Some(rdds) => rdds.concat(),
            None => Vec::new(),
        };
        Ok(Some(Rdd::new(&self.runner, MemoryRdd::new(partitions))))
    }
}
