//! `zip_with_index`

use std::sync::Arc;

use parking_lot::Mutex;

use super::runner::finished;
use super::{Data, Flow, Rdd, RddNode, Runner, TaskContext};
use crate::error::{Error, Result};

struct Indexed<T> {
    parent: Arc<dyn RddNode<T>>,
    /// The index of each partition's first element.
    starts: Mutex<Option<Arc<[u64]>>>,
}

impl<T: Data> RddNode<(T, u64)> for Indexed<T> {
    fn num_partitions(&self) -> usize {
        self.parent.num_partitions()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        let mut starts = self.starts.lock();
        self.parent.prepare(runner)?;
        if starts.is_none() {
            // The length of the last partition does not matter.
            let counts = runner.run_tasks(self.parent.num_partitions().saturating_sub(1), |p, task| {
                let mut count = 0u64;
                finished(self.parent.compute(p, task, &mut |_| {
                    count += 1;
                    Ok(())
                }))?;
                Ok(count)
            })?;
            let mut next = 0;
            let following = counts.into_iter().map(|count| {
                next += count;
                next
            });
            *starts = Some(std::iter::once(0).chain(following).collect());
        }
        Ok(())
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut((T, u64)) -> Flow) -> Flow {
        let Some(starts) = self.starts.lock().clone() else {
            return Err(Error::internal("`zip_with_index` was read before it was prepared").into());
        };
        let mut index = starts[partition];
        self.parent.compute(partition, task, &mut |element| {
            let indexed = (element, index);
            index += 1;
            emit(indexed)
        })
    }
}

impl<T: Data> Rdd<T> {
    /// Each element with its index, counted through the partitions in their order, from 0. An empty RDD stays empty.
    ///
    /// If there are several partitions, the RDD is computed once more, to count them.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let letters = ssc.parallelize(['a', 'b', 'c'], 2);
    /// assert_eq!(letters.zip_with_index().collect()?, [('a', 0), ('b', 1), ('c', 2)]);
    /// # Ok(()) }
    /// ```
    pub fn zip_with_index(&self) -> Rdd<(T, u64)> {
        self.derive(Indexed { parent: self.node.clone(), starts: Mutex::default() })
    }
}
