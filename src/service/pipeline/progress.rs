//! What the service itself makes of finished batches: its log lines.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::StreamingContext;
use crate::batch::{BatchInfo, StreamingListener};
use crate::service::limit::Limit;
use crate::time::{Duration, Time};

/// At short intervals, not every batch has a line of its own; at a second's, each has.
const LINE_EVERY: Duration = Duration::millis(500);

pub(super) struct Progress {
    ssc: StreamingContext,
    last: Mutex<Last>,
    /// Records that could not be decoded since that was last said.
    bad_records: AtomicU64,
    complaints: Limit,
}

#[derive(Default)]
struct Last {
    line: Option<Time>,
    /// What came since the last line.
    batches: u64,
    records: u64,
    output_records: u64,
}

impl Progress {
    pub fn new(ssc: &StreamingContext) -> Self {
        let (last, bad_records, complaints) = (Mutex::default(), AtomicU64::new(0), Limit::default());
        Self { ssc: ssc.clone(), last, bad_records, complaints }
    }
}

impl StreamingListener for Progress {
    fn batch_completed(&self, batch: &BatchInfo) {
        if batch.failure.is_some() {
            return;
        }
        let now = self.ssc.clock().now();
        let mut last = self.last.lock();
        last.batches += 1;
        last.records += batch.num_records;
        last.output_records += batch.output_records.iter().map(|(_, n)| n).sum::<u64>();
        self.bad_records.fetch_add(batch.bad_records, Ordering::Relaxed);
        if batch.bad_records > 0 && self.complaints.pass().is_some() {
            tracing::warn!(
                batch_time = batch.batch_time.as_millis(),
                records = self.bad_records.swap(0, Ordering::Relaxed),
                "records could not be decoded"
            );
        }
        if last.line.is_some_and(|at| now - at < LINE_EVERY) {
            return;
        }
        tracing::info!(
            batch_time = batch.batch_time.as_millis(),
            batches = last.batches,
            records = last.records,
            output_records = last.output_records,
            processing_ms = batch.processing_duration.map(|d| d.as_millis() as u64),
            scheduling_delay_ms = batch.scheduling_delay().map(Duration::as_millis),
            lag_records = batch.lag.iter().map(|l| l.records()).sum::<i64>(),
            "batch completed"
        );
        *last = Last { line: Some(now), ..Last::default() };
    }
}
