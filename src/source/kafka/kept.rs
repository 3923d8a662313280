//! Slices that several operators read: read once, and kept for their batch.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ConsumerRecord, Record, SliceReader};
use crate::rdd::Flow;
use crate::source::OffsetRange;

pub(super) struct KeptSlices {
    reader: Arc<dyn SliceReader>,
    /// None once the batch is over: an RDD that is remembered reads its slice again.
    slices: Mutex<Option<HashMap<OffsetRange, Arc<Vec<ConsumerRecord>>>>>,
}

impl KeptSlices {
    pub fn new(reader: Arc<dyn SliceReader>) -> Self {
        Self { reader, slices: Mutex::new(Some(HashMap::new())) }
    }

    /// Lets go of the slices, and keeps none from now on.
    pub fn release(&self) {
        *self.slices.lock() = None;
    }
}

impl SliceReader for KeptSlices {
    fn reads_in_parallel(&self) -> bool {
        self.reader.reads_in_parallel()
    }

    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&Record<'_>) -> Flow) -> Flow {
        let kept = self.slices.lock().as_ref().map(|slices| slices.get(range).cloned());
        let records = match kept {
            None => return self.reader.read(range, visit),
            Some(Some(records)) => records,
            Some(None) => {
                let mut records = Vec::new();
                self.reader.read(range, &mut |record| {
                    records.push(record.to_owned());
                    Ok(())
                })?;
                let records = Arc::new(records);
                match &mut *self.slices.lock() {
                    Some(slices) => slices.entry(range.clone()).or_insert(records).clone(),
                    None => records,
                }
            }
        };
        records.iter().try_for_each(|record| visit(&Record::of(&range.topic, record)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Headers;
    use super::*;

    /// Counts how often it is read; every offset of a range has a record.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl SliceReader for Counting {
        fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&Record<'_>) -> Flow) -> Flow {
            self.0.fetch_add(1, Ordering::Relaxed);
            (range.from..range.until).try_for_each(|offset| {
                visit(&Record {
                    topic: &range.topic,
                    partition: range.partition,
                    offset,
                    timestamp: None,
                    key: None,
                    value: Some(b"v"),
                    headers: Headers::owned(&[]),
                })
            })
        }
    }

    #[test]
    fn slices_are_read_once_until_they_are_released() {
        let reader = Arc::new(Counting::default());
        let kept = KeptSlices::new(reader.clone());
        let range = OffsetRange { topic: "t".into(), partition: 0, from: 3, until: 6 };
        let read = || {
            let mut offsets = Vec::new();
            let flow = kept.read(&range, &mut |record| {
                offsets.push(record.offset);
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
}
