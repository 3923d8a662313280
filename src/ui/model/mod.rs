//! What REST answers with. Names are those of Spark's streaming REST where the thing is the same.

mod details;

use std::sync::Arc;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::history::{Batch, Known, Status};
use crate::batch::ReceiverInfo;
use crate::context::OperatorInfo;
use crate::time::{Duration, Time};

pub(super) use details::{BatchDetails, OutputOperation};

/// A point in time as RFC 3339 in UTC, with milliseconds.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub(super) struct At(pub Time);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or_default();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        serializer.collect_str(&humantime::format_rfc3339_millis(time))
    }
}

/// Milliseconds, to the microsecond.
fn millis(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// The application as a whole.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamingStatistics {
    /// The application's name, which is its consumer group.
    pub app_name: String,
    pub version: &'static str,
    /// `INITIALIZED`, `ACTIVE` or `STOPPED`.
    pub state: &'static str,
    /// When the context started; absent before that.
    pub start_time: Option<At>,
    /// The batch interval in milliseconds.
    pub batch_duration: i64,
    pub num_receivers: usize,
    pub num_active_receivers: usize,
    pub num_inactive_receivers: usize,
    pub num_total_completed_batches: u64,
    /// Batches that failed since the start.
    pub num_total_failed_batches: u64,
    pub num_retained_completed_batches: usize,
    /// Batches that wait or run.
    pub num_active_batches: usize,
    pub num_processed_records: u64,
    /// Records of completed batches and of those that run.
    pub num_received_records: u64,
    /// Records per second over the batches that are kept.
    pub avg_input_rate: Option<f64>,
    /// In milliseconds, over the batches that are kept.
    pub avg_scheduling_delay: Option<f64>,
    /// In milliseconds, over the batches that are kept.
    pub avg_processing_time: Option<f64>,
    /// In milliseconds, over the batches that are kept.
    pub avg_total_delay: Option<f64>,
    /// Records of all partitions that are not processed yet; absent as long as nothing is known.
    pub lag_records: Option<i64>,
    /// The greatest lag of a partition, in seconds.
    pub lag_seconds: Option<f64>,
    /// The server's clock.
    pub now: At,
}

/// The mean of what is there.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u64), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

impl StreamingStatistics {
    pub fn new(app_name: &str, state: &'static str, interval: Duration, known: &Known, now: Time) -> Self {
        let completed = || known.batches.iter().filter(|batch| batch.status == Status::Completed);
        let active = known.receivers.values().filter(|receiver| receiver.active).count();
        let running: u64 = known.running.iter().map(|batch| batch.info.num_records).sum();
        let figures =
            |of: fn(&Figures) -> Option<f64>| mean(completed().filter_map(move |b| of(&Figures::of(b))));
        let has_lag = !known.lag.is_empty();
        Self {
            app_name: app_name.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            state,
            start_time: known.started.map(At),
            batch_duration: interval.as_millis(),
            num_receivers: known.receivers.len(),
            num_active_receivers: active,
            num_inactive_receivers: known.receivers.len() - active,
            num_total_completed_batches: known.totals.completed,
            num_total_failed_batches: known.totals.failed,
            num_retained_completed_batches: completed().count(),
            num_active_batches: known.waiting.max(known.queued.len()) + known.running.len(),
            num_processed_records: known.totals.records,
            num_received_records: known.totals.records + running,
            avg_input_rate: mean(completed().map(|b| b.info.num_records as f64))
                .map(|n| n / interval.as_secs_f64()),
            avg_scheduling_delay: figures(|f| f.scheduling_delay),
            avg_processing_time: figures(|f| f.processing_time),
            avg_total_delay: figures(|f| f.total_delay),
            lag_records: has_lag.then(|| known.lag.iter().map(|lag| lag.records()).sum()),
            lag_seconds: has_lag.then(|| known.lag.iter().map(|lag| lag.seconds(now)).fold(0.0, f64::max)),
            now: At(now),
        }
    }
}

/// A batch's three delays in milliseconds, as far as they are known.
pub(super) struct Figures {
    pub scheduling_delay: Option<f64>,
    pub processing_time: Option<f64>,
    pub total_delay: Option<f64>,
}

impl Figures {
    pub fn of(batch: &Batch) -> Self {
        let scheduling_delay = batch.info.scheduling_delay().map(|d| d.as_millis() as f64);
        let processing_time = batch.info.processing_duration.map(millis);
        let total_delay = scheduling_delay.zip(processing_time).map(|(waited, ran)| waited + ran);
        Self { scheduling_delay, processing_time, total_delay }
    }
}

/// A batch in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BatchInfo {
    /// The batch time in milliseconds since the epoch, by which the batch is asked for.
    pub batch_id: i64,
    pub batch_time: At,
    pub status: Status,
    /// The batch interval in milliseconds.
    pub batch_duration: i64,
    /// Records read.
    pub input_size: u64,
    /// Bytes of keys and values read.
    pub input_bytes: u64,
    /// Records that could not be decoded.
    pub bad_records: u64,
    /// Offsets that were found to be gone before they were read.
    pub lost_records: u64,
    /// Records handed to outputs.
    pub output_size: u64,
    /// From submission to the start of processing, in milliseconds.
    pub scheduling_delay: Option<f64>,
    /// From the start of processing to the commit, in milliseconds.
    pub processing_time: Option<f64>,
    /// From submission to the commit, in milliseconds.
    pub total_delay: Option<f64>,
    pub num_active_output_ops: usize,
    pub num_completed_output_ops: usize,
    pub num_failed_output_ops: usize,
    pub num_total_output_ops: usize,
    /// Why the batch failed.
    pub first_failure_reason: Option<String>,
}

impl BatchInfo {
    pub fn of(batch: &Batch, interval: Duration) -> Self {
        let info = &batch.info;
        let Figures { scheduling_delay, processing_time, total_delay } = Figures::of(batch);
        let active = info.output_operations.iter().filter(|o| o.end_time.is_none()).count();
        Self {
            batch_id: info.batch_time.as_millis(),
            batch_time: At(info.batch_time),
            status: batch.status,
            batch_duration: interval.as_millis(),
            input_size: info.num_records,
            input_bytes: info.num_bytes,
            bad_records: info.bad_records,
            lost_records: lost_records(batch),
            output_size: info.output_records.iter().map(|(_, n)| n).sum(),
            scheduling_delay,
            processing_time,
            total_delay,
            num_active_output_ops: active,
            num_completed_output_ops: batch.operations - active - batch.failed_operations,
            num_failed_output_ops: batch.failed_operations,
            num_total_output_ops: batch.operations,
            first_failure_reason: info.failure.clone(),
        }
    }
}

fn lost_records(batch: &Batch) -> u64 {
    batch.info.lost_ranges.iter().map(crate::source::OffsetRange::count).sum()
}

/// The figures of many batches, column by column: what charts are drawn of. All columns are of the same length.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeline {
    pub batch_id: Vec<i64>,
    pub input_size: Vec<u64>,
    pub output_size: Vec<u64>,
    pub bad_records: Vec<u64>,
    pub lost_records: Vec<u64>,
    pub scheduling_delay: Vec<Option<f64>>,
    pub processing_time: Vec<Option<f64>>,
    pub total_delay: Vec<Option<f64>>,
    pub failed: Vec<bool>,
}

impl Timeline {
    pub fn of<'a>(batches: impl Iterator<Item = &'a Arc<Batch>>) -> Self {
        let mut all = Self::default();
        for batch in batches {
            let Figures { scheduling_delay, processing_time, total_delay } = Figures::of(batch);
            all.batch_id.push(batch.info.batch_time.as_millis());
            all.input_size.push(batch.info.num_records);
            all.output_size.push(batch.info.output_records.iter().map(|(_, n)| n).sum());
            all.bad_records.push(batch.info.bad_records);
            all.lost_records.push(lost_records(batch));
            all.scheduling_delay.push(scheduling_delay);
            all.processing_time.push(processing_time);
            all.total_delay.push(total_delay);
            all.failed.push(batch.status == Status::Failed);
        }
        all
    }
}

/// An operator of the graph.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stream {
    pub stream_id: usize,
    /// The operator that makes it: `map`, `reduce_by_key_and_window`, …
    #[schema(value_type = String)]
    pub operator: Arc<str>,
    /// What the pipeline file calls it.
    #[schema(value_type = Option<String>)]
    pub stream_name: Option<Arc<str>>,
    /// The streams that it is made of.
    pub parents: Vec<usize>,
    /// How far apart its RDDs are, in milliseconds.
    pub slide_duration: i64,
    /// Under which its state is kept, if it keeps any.
    #[schema(value_type = Option<String>)]
    pub uid: Option<Arc<str>>,
    /// Whether an output operation reaches it.
    pub active: bool,
    /// Records that it gave in the last batch; a stream that several read is counted once.
    pub num_records: u64,
    /// Records that it gave since the start.
    pub num_total_records: u64,
}

/// An output operation of the graph.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    pub output_op_id: usize,
    #[schema(value_type = String)]
    pub name: Arc<str>,
    #[schema(value_type = String)]
    pub description: Arc<str>,
    /// The stream that it reads.
    pub stream_id: usize,
}

/// The graph of operators.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Streams {
    /// Parents come before their children.
    pub streams: Vec<Stream>,
    pub outputs: Vec<Output>,
}

impl Stream {
    pub fn of(operator: OperatorInfo, known: &Known) -> Self {
        let (num_records, num_total_records) = known.operators.get(&operator.id).copied().unwrap_or_default();
        Self {
            stream_id: operator.id,
            operator: operator.operator,
            stream_name: operator.name,
            parents: operator.parents,
            slide_duration: operator.slide.as_millis(),
            uid: operator.uid,
            active: operator.runs,
            num_records,
            num_total_records,
        }
    }
}

/// What a stateful operator holds after the last batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StateInfo {
    /// The operator's uid.
    #[schema(value_type = String)]
    pub operator: Arc<str>,
    pub num_keys: u64,
    /// Bytes of encoded keys and values.
    pub size_bytes: u64,
    /// Keys whose state was found in memory since the start, where only touched keys are read.
    pub cache_hits: u64,
    /// Keys that the store had to be asked for since the start.
    pub cache_misses: u64,
}

/// How far behind a partition is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LagInfo {
    #[schema(value_type = String)]
    pub topic: Arc<str>,
    pub partition: i32,
    /// The next offset to read.
    pub committed_offset: i64,
    /// The partition's end when the last batch was planned.
    pub latest_offset: i64,
    pub lag_records: i64,
    /// The age of the last record read while there is lag, else 0.
    pub lag_seconds: f64,
}

/// A receiver.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receiver {
    pub stream_id: usize,
    #[schema(value_type = String)]
    pub stream_name: Arc<str>,
    pub is_active: bool,
    pub last_error_time: Option<At>,
    pub last_error_message: Option<String>,
    pub last_error: Option<String>,
}

impl Receiver {
    pub fn of(receiver: &ReceiverInfo) -> Self {
        let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            stream_id: receiver.stream_id,
            stream_name: receiver.name.clone(),
            is_active: receiver.active,
            last_error_time: receiver.last_error_time.map(At),
            last_error_message: told(&receiver.last_error_message),
            last_error: told(&receiver.last_error),
        }
    }
}
