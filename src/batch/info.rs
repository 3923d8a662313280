//! What is known of a batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::rdd::Effects;
use crate::source::{InputPlan, OffsetRange, PartitionLag};
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
    /// What each input gives to the batch, by the input's uid. Tidemill plans a batch when it starts, not when it is submitted,
    /// so that a batch that waited holds what came meanwhile: at submission nothing is known yet, and this is empty.
    pub stream_id_to_input_info: BTreeMap<String, StreamInputInfo>,
    /// The offset ranges that were planned for it, empty ones included.
    pub offset_ranges: Vec<OffsetRange>,
    /// What was read of each offset range.
    pub slices: Vec<SliceInfo>,
    /// How many records the batch has: 0 at submission, when nothing is planned yet; when it starts, what the inputs that know
    /// say of it; when it has completed, what was read of Kafka, and of other inputs what they said.
    pub num_records: u64,
    /// Bytes of keys and values that were read.
    pub num_bytes: u64,
    /// Records that could not be decoded, processed or sent, and were skipped or went to a dead-letter topic.
    pub bad_records: u64,
    /// Records handed to outputs, by topic or output.
    pub output_records: Vec<(Arc<str>, u64)>,
    /// What became of each output operation.
    pub output_operations: Vec<OutputOperationInfo>,
    /// The rate limits that held for this batch, in records per second, by the input's uid; inputs that are not limited by
    /// [backpressure](crate::Backpressure) have none.
    pub rate_limits: BTreeMap<String, u64>,
    /// How many records each operator gave to those that read it, by its number in the order in which the operators were made;
    /// empty unless somebody watches: as the streaming page does.
    pub operator_records: Vec<(usize, u64)>,
    /// Offsets that were found to be gone before they were read, since the batch before: see
    /// [`OnDataLoss`](crate::OnDataLoss).
    pub lost_ranges: Vec<OffsetRange>,
    /// Lag of every partition after this batch.
    pub lag: Vec<PartitionLag>,
    /// What each stateful operator holds after this batch, by uid.
    pub state: Vec<(Arc<str>, StateStats)>,
    /// How long each phase took: `plan`, `process`, `output`, `commit`. A batch that begins while the one before it is being
    /// committed may wait for that in the second or the third.
    pub phases: Vec<(&'static str, std::time::Duration)>,
    /// Measured from the start of processing to its end, finer than the batch times' milliseconds.
    pub processing_duration: Option<std::time::Duration>,
    /// How often the batch was run: more than once if its transaction was aborted for something that could pass. 0 until it has
    /// completed.
    pub attempts: u32,
    /// Why the batch failed, if it did.
    pub failure: Option<String>,
    /// What kind of error that is.
    pub failure_kind: Option<ErrorKind>,
}

impl BatchInfo {
    pub(crate) fn submitted(batch_time: Time, submission_time: Time) -> Self {
        Self {
            batch_time,
            submission_time,
            processing_start_time: None,
            processing_end_time: None,
            stream_id_to_input_info: BTreeMap::new(),
            offset_ranges: Vec::new(),
            slices: Vec::new(),
            num_records: 0,
            num_bytes: 0,
            bad_records: 0,
            output_records: Vec::new(),
            output_operations: Vec::new(),
            rate_limits: BTreeMap::new(),
            operator_records: Vec::new(),
            lost_ranges: Vec::new(),
            lag: Vec::new(),
            state: Vec::new(),
            phases: Vec::new(),
            processing_duration: None,
            attempts: 0,
            failure: None,
            failure_kind: None,
        }
    }

    /// Takes in what the inputs were planned to give.
    pub(crate) fn planned(&mut self, inputs: impl IntoIterator<Item = StreamInputInfo>) {
        self.stream_id_to_input_info = inputs.into_iter().map(|i| (i.name.to_string(), i)).collect();
        self.num_records = self.stream_id_to_input_info.values().filter_map(|i| i.num_records).sum();
    }

    /// Takes in what was read of the inputs, whose `plans` are given.
    pub(crate) fn read(&mut self, plans: &BTreeMap<String, InputPlan>, effects: &Effects) {
        let is_counted = |uid: &String| matches!(plans.get(uid), Some(InputPlan::Offsets(_)));
        let others = self.stream_id_to_input_info.iter().filter(|(uid, _)| !is_counted(uid));
        self.num_records = others.filter_map(|(_, i)| i.num_records).sum();
        for ((topic, partition, _), stats) in &effects.slices {
            match self.slices.last_mut() {
                // A large slice is read in parts.
                Some(last) if last.topic == *topic && last.partition == *partition => {
                    last.records += stats.records;
                    last.late += stats.late;
                    last.future += stats.future;
                }
                _ => self.slices.push(SliceInfo {
                    topic: topic.clone(),
                    partition: *partition,
                    records: stats.records,
                    late: stats.late,
                    future: stats.future,
                }),
            }
            self.num_records += stats.records;
            self.num_bytes += stats.bytes;
        }
        self.bad_records = effects.bad_records.len() as u64;
        let mut given: BTreeMap<usize, u64> = BTreeMap::new();
        for ((_, operator, _), records) in
            effects.given.iter().filter(|((time, ..), _)| *time == self.batch_time)
        {
            *given.entry(*operator).or_default() += records;
        }
        self.operator_records = given.into_iter().collect();
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

/// What one input gives to a batch (Spark's `StreamInputInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInputInfo {
    /// The input's uid: `kafka:orders`, `queue_stream-1`, …
    pub name: Arc<str>,
    /// How many records were planned; absent if that is known only by reading them. For Kafka it is how many offsets the ranges
    /// hold, some of which may have no record.
    pub num_records: Option<u64>,
    /// More about it; under [`DESCRIPTION`](StreamInputInfo::DESCRIPTION), the offset ranges or whatever the input reads, as text.
    pub metadata: BTreeMap<String, String>,
}

impl StreamInputInfo {
    /// Where `metadata` has the text for people.
    pub const DESCRIPTION: &'static str = "description";

    /// The text for people; empty if there is none.
    pub fn description(&self) -> &str {
        self.metadata.get(Self::DESCRIPTION).map_or("", String::as_str)
    }

    pub(crate) fn new(name: &str, num_records: Option<u64>, description: String) -> Self {
        let metadata = BTreeMap::from([(Self::DESCRIPTION.to_owned(), description)]);
        Self { name: name.into(), num_records, metadata }
    }

    /// What `plan` itself says.
    pub(crate) fn of(name: &str, plan: &InputPlan) -> Self {
        match plan {
            InputPlan::Offsets(ranges) => {
                let lines: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                Self::new(name, Some(ranges.iter().map(OffsetRange::count).sum()), lines.join("\n"))
            }
            InputPlan::Blocks { from, until, records } => {
                Self::new(name, Some(*records), format!("{} blocks", until - from))
            }
            InputPlan::Files { files, .. } => Self::new(name, None, files.join("\n")),
            InputPlan::Queue { .. } => {
                Self { name: name.into(), num_records: None, metadata: BTreeMap::new() }
            }
        }
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
    /// Under [`Slicing::Timestamp`](crate::Slicing::Timestamp): records that are from before the batch's interval.
    pub late: u64,
    /// Under [`Slicing::Timestamp`](crate::Slicing::Timestamp): records whose timestamp was too far ahead of the clock to be
    /// believed.
    pub future: u64,
}

/// What became of one output operation of a batch (Spark's `OutputOperationInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputOperationInfo {
    /// The batch that it is part of.
    pub batch_time: Time,
    /// Its number, in the order in which the output operations were made.
    pub id: usize,
    /// What it is: `print`, `foreach_rdd`, …
    pub name: Arc<str>,
    /// Where the program made it: `foreach_rdd at src/main.rs:12:9`.
    pub description: Arc<str>,
    /// When it began to run.
    pub start_time: Option<Time>,
    /// When it was through, or had failed; absent before that.
    pub end_time: Option<Time>,
    /// How long it ran, finer than the times' milliseconds; absent before its end.
    pub duration: Option<std::time::Duration>,
    /// Why it failed, if it did: the error's whole text.
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
