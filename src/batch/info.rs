//! What is known of a batch.

use std::sync::Arc;

use crate::source::{OffsetRange, PartitionLag};
use crate::state::StateStats;
use crate::time::{Duration, Time};

/// What is known of a batch so far (Spark's `BatchInfo`). Delays are absent until they are known.
#[derive(Debug, Clone)]
pub struct BatchInfo {
    /// The batch time.
    pub batch_time: Time,
    /// When the batch was due and put in the queue.
    pub submission_time: Time,
    /// When it began to run.
    pub processing_start_time: Option<Time>,
    /// When it had been committed, or had failed.
    pub processing_end_time: Option<Time>,
    /// The offset ranges that were planned for it, empty ones included.
    pub offset_ranges: Vec<OffsetRange>,
    /// What was read of each offset range.
    pub slices: Vec<SliceInfo>,
    /// Records that were read.
    pub num_records: u64,
    /// Bytes of keys and values that were read.
    pub num_bytes: u64,
    /// Records that could not be decoded, and were skipped or went to a dead-letter topic.
    pub bad_records: u64,
    /// Records handed to outputs, by topic or output.
    pub output_records: Vec<(Arc<str>, u64)>,
    /// What became of each output operation.
    pub output_operations: Vec<OutputOperationInfo>,
    /// Lag of every partition after this batch.
    pub lag: Vec<PartitionLag>,
    /// What each stateful operator holds after this batch, by uid.
    pub state: Vec<(Arc<str>, StateStats)>,
    /// How long each phase took: `plan`, `process`, `output`, `commit`.
    pub phases: Vec<(&'static str, std::time::Duration)>,
    /// Measured from the start of processing to its end, finer than the batch times' milliseconds.
    pub processing_duration: Option<std::time::Duration>,
    /// Why the batch failed, if it did.
    pub failure: Option<String>,
}

impl BatchInfo {
    pub(crate) fn submitted(batch_time: Time, submission_time: Time) -> Self {
        Self {
            batch_time,
            submission_time,
            processing_start_time: None,
            processing_end_time: None,
            offset_ranges: Vec::new(),
            slices: Vec::new(),
            num_records: 0,
            num_bytes: 0,
            bad_records: 0,
            output_records: Vec::new(),
            output_operations: Vec::new(),
            lag: Vec::new(),
            state: Vec::new(),
            phases: Vec::new(),
            processing_duration: None,
            failure: None,
        }
    }

    /// From submission to the start of processing; absent before that.
    pub fn scheduling_delay(&self) -> Option<Duration> {
        Some(self.processing_start_time? - self.submission_time)
    }

    /// From the start of processing to its end; absent before that.
    pub fn processing_delay(&self) -> Option<Duration> {
        Some(self.processing_end_time? - self.processing_start_time?)
    }

    /// From submission to the end of processing; absent before that.
    pub fn total_delay(&self) -> Option<Duration> {
        Some(self.processing_end_time? - self.submission_time)
    }
}

/// What was read of one offset range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceInfo {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// Records that it held.
    pub records: u64,
}

/// What became of one output operation of a batch (Spark's `OutputOperationInfo`).
#[derive(Debug, Clone)]
pub struct OutputOperationInfo {
    /// Its number, in the order in which the output operations were made.
    pub id: usize,
    /// What it is: `print`, `foreach_rdd`, …
    pub name: Arc<str>,
    /// How long it ran.
    pub duration: std::time::Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What is known of a receiver (Spark's `ReceiverInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverInfo {
    /// Its number, in the order in which the receivers were made.
    pub stream_id: usize,
    /// What it is: `socket_text_stream(localhost:9999)`, or what a receiver of one's own calls itself.
    pub name: Arc<str>,
    /// Whether it is receiving.
    pub active: bool,
    /// The last error that it reported; empty if there was none.
    pub last_error_message: String,
    /// What was told about that error beside its message.
    pub last_error: String,
    /// When it was reported.
    pub last_error_time: Option<Time>,
}
