//! Slices that several operators read: read once, and kept for their batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use super::{ConsumerRecord, Record, SliceReader};
use crate::error::Result;
use crate::rdd::{Flow, Stop};
use crate::source::OffsetRange;

pub(super) struct KeptSlices {
    reader: Arc<dyn SliceReader>,
    /// None once the batch is over: an RDD that is remembered reads its slice again.
    slices: Mutex<Option<HashMap<OffsetRange, Kept>>>,
    /// Bytes that may still be kept.
    left: AtomicI64,
}

#[derive(Clone)]
enum Kept {
    Whole(Arc<Vec<ConsumerRecord>>),
    /// There was no room: each operator reads it for itself.
    Not,
}

impl KeptSlices {
    /// Keeps about `most` bytes; what a slice has beyond that is read again.
    pub fn new(reader: Arc<dyn SliceReader>, most: u64) -> Self {
        let left = AtomicI64::new(i64::try_from(most).unwrap_or(i64::MAX));
        Self { reader, slices: Mutex::new(Some(HashMap::new())), left }
    }

    /// Lets go of the slices, and keeps none from now on.
    pub fn release(&self) {
        *self.slices.lock() = None;
    }

    /// Reads a slice, as far as there is room for it.
    fn gather(&self, range: &OffsetRange) -> Result<Kept> {
        /// Beside the bytes themselves.
        const OVERHEAD: usize = size_of::<ConsumerRecord>();
        let (mut records, mut taken) = (Vec::new(), 0);
        let read = self.reader.read(range, &mut |read| {
            read.iter().try_for_each(|record| {
                let size = (record.len() + OVERHEAD) as i64;
                taken += size;
                if self.left.fetch_sub(size, Ordering::Relaxed) < size {
                    return Err(Stop::Enough);
                }
                records.push(record.to_owned());
                Ok(())
            })
        });
        match read {
            Ok(()) => Ok(Kept::Whole(Arc::new(records))),
            Err(stop) => {
                self.left.fetch_add(taken, Ordering::Relaxed);
                match stop {
                    Stop::Enough => Ok(Kept::Not),
                    Stop::Failed(error) => Err(*error),
                }
            }
        }
    }
}

impl SliceReader for KeptSlices {
    fn reads_in_parallel(&self) -> bool {
        self.reader.reads_in_parallel()
    }

    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
        let kept = self.slices.lock().as_ref().map(|slices| slices.get(range).cloned());
        let kept = match kept {
            None => Kept::Not,
            Some(Some(kept)) => kept,
            Some(None) => {
                let gathered = self.gather(range)?;
                match &mut *self.slices.lock() {
                    Some(slices) => slices.entry(range.clone()).or_insert(gathered).clone(),
                    None => gathered,
                }
            }
        };
        match kept {
            Kept::Whole(records) => {
                records.iter().try_for_each(|record| visit(&[Record::of(&range.topic, record)]))
            }
            Kept::Not => self.reader.read(range, visit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::Headers;
    use super::*;

    /// Counts how often it is read; every offset of a range has a record.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl SliceReader for Counting {
        fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
            self.0.fetch_add(1, Ordering::Relaxed);
            (range.from..range.until).try_for_each(|offset| {
                visit(&[Record {
                    topic: &range.topic,
                    partition: range.partition,
                    offset,
                    timestamp: None,
                    key: None,
                    value: Some(b"v"),
                    headers: Headers::owned(&[]),
                }])
            })
        }
    }

    #[test]
    fn slices_are_read_once_until_they_are_released() {
        let reader = Arc::new(Counting::default());
        let kept = KeptSlices::new(reader.clone(), 1 << 20);
        let range = OffsetRange { topic: "t".into(), partition: 0, from: 3, until: 6 };
        let read = || {
            let mut offsets = Vec::new();
            let flow = kept.read(&range, &mut |records| {
                offsets.extend(records.iter().map(|record| record.offset));
                Ok(())
            });
            assert!(flow.is_ok());
            (offsets, reader.0.load(Ordering::Relaxed))
        };
        assert_eq!(read(), (vec![3, 4, 5], 1));
        assert_eq!(read(), (vec![3, 4, 5], 1));
        kept.release();
        assert_eq!(read(), (vec![3, 4, 5], 2));
        assert_eq!(read(), (vec![3, 4, 5], 3));
    }

    #[test]
    fn what_has_no_room_is_read_by_each() {
        let reader = Arc::new(Counting::default());
        let range = |from, until| OffsetRange { topic: "t".into(), partition: 0, from, until };
        // Room for the first one, and not for half of the second.
        let each = size_of::<ConsumerRecord>() as u64 + 1;
        let kept = KeptSlices::new(reader.clone(), 4 * each);
        let read = |range: &OffsetRange| {
            let mut count = 0;
            let flow = kept.read(range, &mut |records| {
                count += records.len();
                Ok(())
            });
            assert!(flow.is_ok());
            (count, reader.0.load(Ordering::Relaxed))
        };
        assert_eq!(read(&range(0, 3)), (3, 1));
        // Once to see that it is too large, and once for each who wants it.
        assert_eq!(read(&range(3, 7)), (4, 3));
        assert_eq!(read(&range(3, 7)), (4, 4));
        // What it had taken is there for others.
        assert_eq!(read(&range(7, 8)), (1, 5));
        assert_eq!(read(&range(7, 8)), (1, 5));
        assert_eq!(read(&range(0, 3)), (3, 5));
    }
}
