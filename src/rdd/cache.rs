//! An RDD that computes each partition once and keeps it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::narrow::gather;
use super::runner::Effects;
use super::{Data, Flow, RddNode, Runner, TaskContext};
use crate::error::Result;
use crate::source::OffsetRange;

pub(crate) struct CachedRdd<T> {
    parent: Arc<dyn RddNode<T>>,
    partitions: Vec<Mutex<Option<Kept<T>>>>,
}

/// A partition's elements, and what computing them left behind: whoever uses the elements adopts it, since the attempt
/// that computed them may fail further on.
type Kept<T> = (Arc<Vec<T>>, Effects);

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
        let (elements, effects) = match &*slot {
            Some(kept) => kept.clone(),
            None => {
                let (elements, effects) = task.apart(|own| gather(&*self.parent, partition, own));
                slot.insert((Arc::new(elements?), effects)).clone()
            }
        };
        drop(slot);
        task.adopt(effects);
        elements.iter().try_for_each(|element| emit(element.clone()))
    }

    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.parent.offset_ranges()
    }
}
