//! How many records an operator gives: counted for whoever watches, and only then.

use std::any::Any;
use std::sync::Arc;

use super::{Data, Flow, Rdd, RddNode, Runner, TaskContext};
use crate::error::Result;
use crate::source::OffsetRange;
use crate::time::Time;

/// How many records an element stands for: one, or the rows of a batch of rows.
pub(super) type Weigh = fn(&dyn Any) -> u64;

/// The same elements, counted as they pass.
struct Counted<T> {
    parent: Arc<dyn RddNode<T>>,
    operator: usize,
    time: Time,
    weigh: Weigh,
}

impl<T: Data> RddNode<T> for Counted<T> {
    fn num_partitions(&self) -> usize {
        self.parent.num_partitions()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        self.parent.prepare(runner)
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let mut records = 0;
        let flow = self.parent.compute(partition, task, &mut |element| {
            records += (self.weigh)(&element);
            emit(element)
        });
        task.gave((self.time, self.operator, partition), records);
        flow
    }

    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.parent.offset_ranges()
    }

    fn has_nothing(&self) -> bool {
        self.parent.has_nothing()
    }

    fn is_in_memory(&self) -> bool {
        self.parent.is_in_memory()
    }

    fn unpersist(&self) {
        self.parent.unpersist();
    }
}

impl<T: Data> Rdd<T> {
    /// This RDD, which `operator` gave for the batch `time`; counted if somebody watches.
    pub(crate) fn counted(self, operator: usize, time: Time) -> Rdd<T> {
        match self.runner.weigh() {
            Some(weigh) => {
                let parent = self.node.clone();
                self.with_node(Arc::new(Counted { parent, operator, time, weigh }))
            }
            None => self,
        }
    }
}
