//! An RDD whose partitions are in memory already.

use std::sync::Arc;

use super::blame::push_all;
use super::{Data, Flow, Rdd, RddNode, Runner, TaskContext};
use crate::error::Result;

/// Partitions that are kept as vectors; cheap to clone and to compute any number of times.
pub(crate) struct MemoryRdd<T> {
    partitions: Vec<Arc<Vec<T>>>,
}

impl<T: Data> MemoryRdd<T> {
    pub fn new(partitions: Vec<Arc<Vec<T>>>) -> Self {
        Self { partitions }
    }

    /// `elements` cut into `parts` runs (at least one) of about the same length.
    pub fn split(elements: Vec<T>, parts: usize) -> Self {
        let parts = parts.max(1);
        let length = elements.len();
        let mut rest = elements.into_iter();
        let cut = |i: usize| i * length / parts;
        Self::new((0..parts).map(|i| Arc::new(rest.by_ref().take(cut(i + 1) - cut(i)).collect())).collect())
    }
}

impl<T: Data> RddNode<T> for MemoryRdd<T> {
    fn num_partitions(&self) -> usize {
        self.partitions.len()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn is_in_memory(&self) -> bool {
        true
    }

    fn has_nothing(&self) -> bool {
        self.partitions.iter().all(|partition| partition.is_empty())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        push_all(&self.partitions[partition], partition, emit)
    }
}

impl<T: Data> Rdd<T> {
    pub(crate) fn in_memory(runner: &Arc<Runner>, partitions: Vec<Arc<Vec<T>>>) -> Self {
        Rdd::new(runner, MemoryRdd::new(partitions))
    }
}
