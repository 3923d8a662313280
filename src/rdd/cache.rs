//! An RDD that computes each partition once and keeps it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Data, Flow, RddNode, Runner, TaskContext};
use crate::error::Result;
use crate::source::OffsetRange;

pub(crate) struct CachedRdd<T> {
    parent: Arc<dyn RddNode<T>>,
    partitions: Vec<Mutex<Option<Arc<Vec<T>>>>>,
}

impl<T: Data> CachedRdd<T> {
    pub fn new(parent: Arc<dyn RddNode<T>>) -> Self {
        let partitions = (0..parent.num_partitions()).map(|_| Mutex::new(None)).collect();
        Self { parent, partitions }
    }
}

impl<T: Data> RddNode<T> for CachedRdd<T> {
    fn num_partitions(&self) -> usize {
        self.partitions.len()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        if self.partitions.iter().any(|p| p.lock().is_none()) { self.parent.prepare(runner) } else { Ok(()) }
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let mut slot = self.partitions[partition].lock();
        let elements = match &*slot {
            Some(elements) => elements.clone(),
            None => {
                let mut elements = Vec::new();
                self.parent.compute(partition, task, &mut |element| {
                    elements.push(element);
                    Ok(())
                })?;
                slot.insert(Arc::new(elements)).clone()
            }
        };
        drop(slot);
        elements.iter().try_for_each(|element| emit(element.clone()))
    }

    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.parent.offset_ranges()
    }
}
