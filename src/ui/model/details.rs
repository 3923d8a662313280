//! A batch with everything that is known of it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{At, BatchInfo, millis};
use crate::batch::OutputOperationInfo;
use crate::time::Duration;
use crate::ui::history::{Batch, Status};

/// A batch with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct BatchDetails {
    #[serde(flatten)]
    pub batch: BatchInfo,
    /// Whether ranges, inputs and operations are still kept.
    pub detailed: bool,
    pub submission_time: At,
    pub processing_start_time: Option<At>,
    pub processing_end_time: Option<At>,
    pub phases: Vec<Phase>,
    pub inputs: Vec<InputInfo>,
    pub offset_ranges: Vec<OffsetRange>,
    /// What was found to be gone before it was read; `on_data_loss` lets the application go on.
    pub lost_ranges: Vec<LostRange>,
    pub outputs: Vec<OutputInfo>,
    pub operations: Vec<OutputOperation>,
}

/// How long a phase of a batch took.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct Phase {
    /// `plan`, `process`, `output` or `commit`.
    pub name: &'static str,
    /// In milliseconds.
    pub duration: f64,
}

/// What an input gave to a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct InputInfo {
    #[schema(value_type = String)]
    pub name: Arc<str>,
    /// Records that were planned; absent where only reading tells.
    pub num_records: Option<u64>,
    /// What was planned, as text.
    pub description: String,
}

/// What of a partition belongs to a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct OffsetRange {
    #[schema(value_type = String)]
    pub topic: Arc<str>,
    pub partition: i32,
    pub from_offset: i64,
    pub until_offset: i64,
    /// Records that were found there; absent until they are read.
    pub records: Option<u64>,
    /// Under timestamp slicing: records from before the batch's interval.
    pub late: u64,
    /// Under timestamp slicing: records too far ahead of the clock to be believed.
    pub future: u64,
}

/// Offsets of a partition that were gone before they were read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct LostRange {
    #[schema(value_type = String)]
    pub topic: Arc<str>,
    pub partition: i32,
    pub from_offset: i64,
    pub until_offset: i64,
}

/// Records that went to a topic or another output.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct OutputInfo {
    #[schema(value_type = String)]
    pub name: Arc<str>,
    pub records: u64,
}

/// What became of an output operation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::ui) struct OutputOperation {
    pub output_op_id: usize,
    #[schema(value_type = String)]
    pub name: Arc<str>,
    #[schema(value_type = String)]
    pub description: Arc<str>,
    pub status: Status,
    pub start_time: Option<At>,
    pub end_time: Option<At>,
    /// In milliseconds.
    pub duration: Option<f64>,
    pub failure_reason: Option<String>,
}

impl OutputOperation {
    pub fn of(operation: &OutputOperationInfo) -> Self {
        let status = match (&operation.failure, operation.end_time) {
            (Some(_), _) => Status::Failed,
            (None, Some(_)) => Status::Completed,
            (None, None) => Status::Processing,
        };
        Self {
            output_op_id: operation.id,
            name: operation.name.clone(),
            description: operation.description.clone(),
            status,
            start_time: operation.start_time.map(At),
            end_time: operation.end_time.map(At),
            duration: operation.duration.map(millis),
            failure_reason: operation.failure.clone(),
        }
    }
}

impl BatchDetails {
    pub fn of(batch: &Batch, interval: Duration) -> Self {
        let info = &batch.info;
        let read = |topic: &str, partition| {
            info.slices.iter().find(|slice| *slice.topic == *topic && slice.partition == partition)
        };
        let ranges = info.offset_ranges.iter().map(|range| {
            let slice = read(&range.topic, range.partition);
            OffsetRange {
                topic: range.topic.clone(),
                partition: range.partition,
                from_offset: range.from,
                until_offset: range.until,
                records: slice.map(|slice| slice.records),
                late: slice.map_or(0, |slice| slice.late),
                future: slice.map_or(0, |slice| slice.future),
            }
        });
        let inputs = info.stream_id_to_input_info.values().map(|input| InputInfo {
            name: input.name.clone(),
            num_records: input.num_records,
            description: input.description().to_owned(),
        });
        let outputs = info.output_records.iter();
        let lost = info.lost_ranges.iter().map(|range| LostRange {
            topic: range.topic.clone(),
            partition: range.partition,
            from_offset: range.from,
            until_offset: range.until,
        });
        Self {
            batch: BatchInfo::of(batch, interval),
            detailed: batch.detailed,
            submission_time: At(info.submission_time),
            processing_start_time: info.processing_start_time.map(At),
            processing_end_time: info.processing_end_time.map(At),
            phases: info.phases.iter().map(|(name, took)| Phase { name, duration: millis(*took) }).collect(),
            inputs: inputs.collect(),
            offset_ranges: ranges.collect(),
            lost_ranges: lost.collect(),
            outputs: outputs.map(|(name, n)| OutputInfo { name: name.clone(), records: *n }).collect(),
            operations: info.output_operations.iter().map(OutputOperation::of).collect(),
        }
    }
}
