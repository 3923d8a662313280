//! Which partition a key belongs to.

use std::cell::RefCell;
use std::sync::Arc;

use crate::codec::Key;
use crate::error::{Error, Result};

/// Assigns keys to partitions (Spark's `Partitioner`). A number *n* stands for [`HashPartitioner::new(n)`](HashPartitioner::new).
///
/// The same key must always get the same partition, in another process too: state is found by it again.
pub trait Partitioner<K>: Send + Sync + 'static {
    /// Over how many partitions keys are spread; at least one.
    fn num_partitions(&self) -> usize;

    /// The partition of `key`, less than [`num_partitions`](Partitioner::num_partitions).
    ///
    /// # Errors
    /// If the key cannot be assigned; that fails the task.
    fn partition(&self, key: &K) -> Result<usize>;
}

/// Assigns a key to one of `partitions`: Kafka's murmur2 of the key's bytes as the Kafka sink writes
/// them, which is what Kafka's own default partitioner does.
///
/// ```
/// use tidemill::HashPartitioner;
/// assert_eq!(HashPartitioner::new(4).partition(&"tide").unwrap(), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashPartitioner {
    partitions: u32,
}

impl HashPartitioner {
    /// A partitioner over `partitions`, at least one.
    pub fn new(partitions: usize) -> Self {
        Self { partitions: u32::try_from(partitions.max(1)).unwrap_or(u32::MAX) }
    }

    /// Over how many partitions keys are spread.
    pub fn num_partitions(&self) -> usize {
        self.partitions as usize
    }

    /// The partition of `key`.
    ///
    /// # Errors
    /// If the key cannot be serialised.
    pub fn partition<K: serde::Serialize + ?Sized>(&self, key: &K) -> Result<usize> {
        thread_local! {
            // One allocation a thread, not one a key.
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        SCRATCH.with_borrow_mut(|scratch| crate::codec::partition_of(key, self.partitions, scratch))
    }
}

impl<K: Key> Partitioner<K> for HashPartitioner {
    fn num_partitions(&self) -> usize {
        HashPartitioner::num_partitions(self)
    }

    fn partition(&self, key: &K) -> Result<usize> {
        HashPartitioner::partition(self, key)
    }
}

impl<K: Key> Partitioner<K> for usize {
    fn num_partitions(&self) -> usize {
        (*self).max(1)
    }

    fn partition(&self, key: &K) -> Result<usize> {
        HashPartitioner::new(*self).partition(key)
    }
}

/// A partitioner whose type does not matter.
pub(crate) type AnyPartitioner<K> = Arc<dyn Partitioner<K>>;

impl<K: 'static> Partitioner<K> for AnyPartitioner<K> {
    fn num_partitions(&self) -> usize {
        (**self).num_partitions()
    }

    fn partition(&self, key: &K) -> Result<usize> {
        (**self).partition(key)
    }
}

/// The partition of `key`, checked: a partitioner of the user's may say anything.
pub(crate) fn checked_partition<K: 'static>(partitioner: &dyn Partitioner<K>, key: &K) -> Result<usize> {
    let (partition, count) = (partitioner.partition(key)?, partitioner.num_partitions());
    if partition >= count {
        return Err(Error::task(format!(
            "a partitioner gave partition {partition}, but has only {count}, numbered from 0"
        )));
    }
    Ok(partition)
}
