//! An RDD that computes each partition once and keeps it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::narrow::{ReadPartition, all};
use super::runner::Effects;
use super::storage::{Kept, MemoryAndDisk, StorageLevel};
use super::{Data, Flow, Rdd, RddNode, Runner, Stop, TaskContext};
use crate::codec::Stored;
use crate::error::{Error, Result};
use crate::source::OffsetRange;

pub(crate) struct CachedRdd<T> {
    lineage: Mutex<Lineage<T>>,
    offset_ranges: Option<Arc<[OffsetRange]>>,
    keep: Keep<T>,
    partitions: Vec<Mutex<Option<Partition<T>>>>,
}

/// Where partitions that are not kept come from. May be locked while a partition is, not the other way round.
enum Lineage<T> {
    /// From here, to be kept.
    Kept(Arc<dyn RddNode<T>>),
    /// From here, at each use.
    Unpersisted(Arc<dyn RddNode<T>>),
    /// All are kept for good.
    Sealed,
}

/// Reads a partition and keeps its elements.
pub(crate) type Keep<T> =
    Box<dyn Fn(ReadPartition<'_, T>) -> std::result::Result<Arc<dyn Kept<T>>, Stop> + Send + Sync>;

/// A partition's elements, and what computing them left behind: whoever uses the elements adopts it, since the attempt
/// that computed them may fail further on.
type Partition<T> = (Arc<dyn Kept<T>>, Effects);

impl<T: Data> CachedRdd<T> {
    pub fn in_memory(rdd: &Rdd<T>) -> Self {
        Self::new(rdd, Box::new(|read| Ok(Arc::new(all(read)?))))
    }

    /// The same, unless the elements of `rdd` are in memory by themselves.
    pub fn in_memory_once(rdd: &Rdd<T>) -> Option<Self> {
        (!rdd.node.is_in_memory()).then(|| Self::in_memory(rdd))
    }

    /// Likewise, kept in another way.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipelines are its users"))]
    pub fn keeping_once(rdd: &Rdd<T>, keep: Keep<T>) -> Option<Self> {
        (!rdd.node.is_in_memory()).then(|| Self::new(rdd, keep))
    }

    pub fn with_level(rdd: &Rdd<T>, level: StorageLevel) -> Self
    where
        T: Stored,
    {
        match level {
            StorageLevel::MemoryOnly => Self::in_memory(rdd),
            StorageLevel::MemoryAndDisk => {
                let store = MemoryAndDisk::new(rdd.runner.storage_memory().clone(), rdd.runner.disk());
                Self::new(rdd, Box::new(move |read| Ok(store.keep(all(read)?)?)))
            }
        }
    }

    fn new(rdd: &Rdd<T>, keep: Keep<T>) -> Self {
        Self {
            offset_ranges: rdd.node.offset_ranges(),
            partitions: (0..rdd.num_partitions()).map(|_| Mutex::new(None)).collect(),
            lineage: Mutex::new(Lineage::Kept(rdd.node.clone())),
            keep,
        }
    }

    /// Lets go of what this RDD was made from (shuffles keep much), if it has all of its partitions. They stay.
    pub fn seal(&self) {
        if self.is_complete() {
            let mut lineage = self.lineage.lock();
            if let Lineage::Kept(_) = *lineage {
                *lineage = Lineage::Sealed;
            }
        }
    }

    /// Keeps nothing any more, unless it is sealed.
    pub fn release(&self) {
        let mut lineage = self.lineage.lock();
        if let Lineage::Kept(parent) = &*lineage {
            *lineage = Lineage::Unpersisted(parent.clone());
            drop(lineage);
            self.partitions.iter().for_each(|p| *p.lock() = None);
        }
    }

    fn is_complete(&self) -> bool {
        self.partitions.iter().all(|p| p.lock().is_some())
    }

    /// The parent, and whether what it gives is kept.
    fn parent(&self) -> Option<(Arc<dyn RddNode<T>>, bool)> {
        match &*self.lineage.lock() {
            Lineage::Kept(parent) => Some((parent.clone(), true)),
            Lineage::Unpersisted(parent) => Some((parent.clone(), false)),
            Lineage::Sealed => None,
        }
    }
}

impl<T: Data> RddNode<T> for CachedRdd<T> {
    fn num_partitions(&self) -> usize {
        self.partitions.len()
    }

    fn prepare(&self, runner: &Runner) -> Result<()> {
        match self.parent() {
            Some((parent, _)) if !self.is_complete() => parent.prepare(runner),
            _ => Ok(()),
        }
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let mut slot = self.partitions[partition].lock();
        let (elements, effects) = match &*slot {
            Some(kept) => kept.clone(),
            None => {
                let Some((parent, keep)) = self.parent() else {
                    return Err(Error::internal("a persisted RDD has lost a partition").into());
                };
                if !keep {
                    drop(slot);
                    return parent.compute(partition, task, emit);
                }
                let (kept, effects) =
                    task.apart(|own| (self.keep)(&mut |visit| parent.compute(partition, own, visit)));
                slot.insert((kept?, effects)).clone()
            }
        };
        drop(slot);
        task.adopt(effects);
        // What was kept of a Kafka slice has lost its offsets, but the slice is known.
        let place = || match self.offset_ranges() {
            Some(ranges) => format!("partition {partition}, made of {}", ranges[partition]),
            None => format!("partition {partition}"),
        };
        elements.read(&place, emit)
    }

    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        self.offset_ranges.clone()
    }

    fn unpersist(&self) {
        self.release();
    }
}

impl<T: Data> Rdd<T> {
    /// This RDD, each partition of which is computed at most once and then kept in memory (Spark's `cache`). An empty
    /// partition is kept like any other.
    ///
    /// Spark changes the RDD itself. Here the RDD that is given keeps its partitions, and the one that this is called on goes on
    /// computing them at each use:
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let calls = ssc.long_accumulator("calls")?;
    /// let counting = calls.clone();
    /// let squares = ssc.parallelize([1, 2, 3], 2).map(move |n| {
    ///     counting.add(1);
    ///     n * n
    /// });
    /// let kept = squares.cache();
    /// assert_eq!((kept.count()?, kept.collect()?), (3, vec![1, 4, 9]));
    /// assert_eq!(calls.value(), 3);
    /// squares.count()?;
    /// assert_eq!(calls.value(), 6);
    /// # Ok(()) }
    /// ```
    #[must_use = "the RDD that it is called on stays as it is: use the one that it gives"]
    pub fn cache(&self) -> Rdd<T> {
        self.derive(CachedRdd::in_memory(self))
    }

    /// This RDD, each partition of which is computed at most once and then kept as `level` says, until
    /// [`unpersist`](Rdd::unpersist), or until nobody has this RDD any more (Spark's `persist`).
    ///
    /// A partition that can be neither kept in memory nor written to a temporary file fails the task. An empty one is kept
    /// like any other. The RDD that this is called on stays as it is, as with [`cache`](Rdd::cache).
    ///
    /// ```
    /// use tidemill::{RddQueue, StorageLevel, testing::run_batches};
    /// let out = run_batches(vec![vec![1, 2], vec![]], |numbers| {
    ///     numbers.transform(|rdd| {
    ///         let squares = rdd.map(|n| n * n).persist(StorageLevel::MemoryAndDisk);
    ///         // Computed once, though it is used twice.
    ///         squares.union(&squares)
    ///     })
    /// });
    /// assert_eq!(out.unwrap(), [vec![1, 4, 1, 4], vec![]]);
    /// ```
    #[must_use = "the RDD that it is called on stays as it is: use the one that it gives"]
    pub fn persist(&self, level: StorageLevel) -> Rdd<T>
    where
        T: Stored,
    {
        self.derive(CachedRdd::with_level(self, level))
    }

    /// Lets go of what [`cache`](Rdd::cache) or [`persist`](Rdd::persist) kept: from now on this RDD is computed at each
    /// use. Does nothing to an RDD that is neither, nor to a remembered one of a stream that is
    /// [persisted](crate::DStream::persist): the stream lets go of it when its time is over.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let calls = ssc.long_accumulator("calls")?;
    /// let counting = calls.clone();
    /// let kept = ssc.parallelize([1, 2], 2).map(move |_| counting.add(1)).cache();
    /// assert_eq!((kept.count()?, kept.count()?, calls.value()), (2, 2, 2));
    /// kept.unpersist();
    /// assert_eq!((kept.count()?, calls.value()), (2, 4));
    /// # Ok(()) }
    /// ```
    pub fn unpersist(&self) {
        self.node.unpersist();
    }
}
