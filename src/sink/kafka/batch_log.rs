//! The batch log as a topic: which offsets each committed batch had, in the batch's own transaction.

use std::sync::Arc;

use super::producer::Shared;
use super::{KafkaSink, ProducerRecord};
use crate::error::Result;
use crate::time::Time;

/// The order of the log is that of its one partition.
const PARTITIONS: i32 = 1;

impl KafkaSink {
    /// Writes to `topic` which offsets each batch had that commits something: one record a batch, in the batch's transaction,
    /// whose key is the batch time and whose value is JSON. The topic is made with one partition if it is missing.
    ///
    /// ```text
    /// {"app_id":"clicks","batch_time":1700000000000,
    ///  "inputs":{"kafka:clicks":[{"topic":"clicks","partition":0,"from":5,"until":9,"late":0,"future":0}]}}
    /// ```
    ///
    /// With it, `tidemill replay --follow-log` runs the same batches again, also if they depend on when records arrived.
    pub fn log_batches(&self, topic: &str) {
        self.create_topic(topic, PARTITIONS);
        let shared = &self.shared;
        self.ssc.inner.lifecycle.admit("log_batches", || *shared.batch_log.lock() = Some(Arc::from(topic)));
    }
}

impl Shared {
    /// Hands over the log's record of batch `time`, if one is wanted.
    pub fn send_log(&self, time: Time, record: impl FnOnce() -> Result<String>) -> Result<bool> {
        let Some(topic) = self.batch_log.lock().clone() else { return Ok(false) };
        let record = ProducerRecord::new(time.as_millis().to_string(), record()?);
        self.send_all(&topic, time, std::slice::from_ref(&record)).map(|()| true)
    }
}
