//! What the service itself makes of finished batches: its log lines, and whether it is ready.

use std::path::Path;

use parking_lot::Mutex;

use crate::StreamingContext;
use crate::batch::{BatchInfo, StreamingListener};
use crate::error::{Error, Result};
use crate::service::http::Health;
use crate::time::{Duration, Time};

/// Batches that may be missed before the service counts as not ready, and a second for good measure.
const PATIENCE: i64 = 3;
/// At short intervals, not every batch has a line of its own; at a second's, each has.
const LINE_EVERY: Duration = Duration::millis(500);

pub(super) struct Progress {
    ssc: StreamingContext,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    completed: Option<Time>,
    line: Option<Time>,
    /// What came since the last line.
    batches: u64,
    records: u64,
    output_records: u64,
}

impl Progress {
    pub fn new(ssc: &StreamingContext) -> Self {
        Self { ssc: ssc.clone(), last: Mutex::default() }
    }
}

impl StreamingListener for Progress {
    /// Nothing to do is done at once.
    fn batch_skipped(&self, _: Time) {
        self.last.lock().completed = Some(self.ssc.clock().now());
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        if batch.failure.is_some() {
            return;
        }
        let now = self.ssc.clock().now();
        let mut last = self.last.lock();
        last.completed = Some(now);
        last.batches += 1;
        last.records += batch.num_records;
        last.output_records += batch.output_records.iter().map(|(_, n)| n).sum::<u64>();
        if batch.bad_records > 0 {
            tracing::warn!(
                batch_time = batch.batch_time.as_millis(),
                records = batch.bad_records,
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
        *last = Last { completed: last.completed, line: Some(now), ..Last::default() };
    }
}

impl Health for Progress {
    fn backup(&self, checkpoint: &Path, to: &Path) -> Result<()> {
        let inner = &self.ssc.inner;
        let own = inner.settings.checkpoint.as_deref().and_then(|own| own.canonicalize().ok());
        match &inner.db {
            Some(db) if own.is_some() && own == checkpoint.canonicalize().ok() => {
                db.backup_to(to)?;
                tracing::info!(to = %to.display(), "backup made");
                Ok(())
            }
            _ => Err(Error::usage(format!(
                "this is an instance of `{}`, whose checkpoint is not {}",
                inner.settings.app_name,
                checkpoint.display()
            ))),
        }
    }

    fn ready(&self) -> std::result::Result<(), String> {
        let patience = self.ssc.batch_interval() * PATIENCE + Duration::seconds(1);
        match self.last.lock().completed {
            None => Err("no batch has completed yet".to_owned()),
            Some(at) => {
                let ago = self.ssc.clock().now() - at;
                if ago <= patience { Ok(()) } else { Err(format!("no batch has completed for {ago}")) }
            }
        }
    }
}
