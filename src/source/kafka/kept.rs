//! Slices that several operators read: read once, and kept for their batch.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ConsumerRecord, Record, SliceReader};
use crate::rdd::Flow;
use crate::source::OffsetRange;

pub(super) struct KeptSlices {
    reader: Arc<dyn SliceReader>,
    slices: Mutex<HashMap<OffsetRange, Arc<Vec<ConsumerRecord>>>>,
}

impl KeptSlices {
    pub fn new(reader: Arc<dyn SliceReader>) -> Self {
        Self { reader, slices: Mutex::default() }
    }
}

impl SliceReader for KeptSlices {
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&Record<'_>) -> Flow) -> Flow {
        let kept = self.slices.lock().get(range).cloned();
        let records = match kept {
            Some(records) => records,
            None => {
                let mut records = Vec::new();
                self.reader.read(range, &mut |record| {
                    records.push(record.to_owned());
                    Ok(())
                })?;
                self.slices.lock().entry(range.clone()).or_insert(Arc::new(records)).clone()
            }
        };
        records.iter().try_for_each(|record| visit(&Record::of(&range.topic, record)))
    }
}
