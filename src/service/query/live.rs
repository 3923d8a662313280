//! Tables in memory: the rows of a stream's last batches, from the moment when the batch is committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::{BatchInfo, StreamingListener};
use crate::error::Result;
use crate::sql::{RecordBatch, SchemaRef, with_batch_time};
use crate::time::{Duration, Time};

/// The tables of a running pipeline, by name.
#[derive(Default)]
pub(crate) struct LiveTables(Mutex<BTreeMap<String, Table>>);

/// One table and what may be in it.
struct Table {
    /// `batch_time`, then the stream's columns.
    schema: SchemaRef,
    remember: Option<Duration>,
    most_rows: usize,
    /// What the running batch gave; nobody sees it until the batch is committed.
    running: Option<(Time, Vec<RecordBatch>)>,
    batches: VecDeque<(Time, Vec<RecordBatch>)>,
}

impl LiveTables {
    /// Makes a table for rows of the columns `schema`.
    pub(crate) fn add(&self, name: &str, schema: &SchemaRef, remember: Option<Duration>, most_rows: usize) {
        let (running, batches) = (None, VecDeque::new());
        let schema = crate::sql::batch_time_schema(schema);
        self.0.lock().insert(name.to_owned(), Table { schema, remember, most_rows, running, batches });
    }

    /// Takes what the batch `time` gave, in place of what it gave before if it is run again.
    ///
    /// # Errors
    /// The rows are of other columns.
    pub(crate) fn put(&self, name: &str, time: Time, rows: &[RecordBatch]) -> Result<()> {
        let mut tables = self.0.lock();
        let Some(table) = tables.get_mut(name) else { return Ok(()) };
        let rows = rows.iter().filter(|batch| batch.num_rows() > 0);
        let timed = rows.map(|batch| with_batch_time(&table.schema, batch, time)).collect::<Result<_>>()?;
        table.running = Some((time, timed));
        Ok(())
    }

    /// The tables' names and columns.
    pub(crate) fn schemas(&self) -> Vec<(String, SchemaRef)> {
        self.0.lock().iter().map(|(name, table)| (name.clone(), table.schema.clone())).collect()
    }

    /// How many rows a table has.
    pub(crate) fn num_rows(&self, name: &str) -> Option<u64> {
        let tables = self.0.lock();
        let batches = tables.get(name)?.batches.iter().flat_map(|(_, batches)| batches);
        Some(batches.map(|batch| batch.num_rows() as u64).sum())
    }

    /// The rows of a table, as they are now.
    pub(crate) fn rows(&self, name: &str) -> Option<Vec<RecordBatch>> {
        let tables = self.0.lock();
        let table = tables.get(name)?;
        Some(table.batches.iter().flat_map(|(_, batches)| batches.iter().cloned()).collect())
    }
}

impl Table {
    /// Shows the batch's rows, and forgets what is too old or too much.
    fn publish(&mut self, time: Time) {
        if let Some((of, rows)) = self.running.take()
            && of == time
            && !rows.is_empty()
        {
            if self.remember.is_none() {
                self.batches.clear();
            }
            self.batches.push_back((of, rows));
        }
        if let Some(remember) = self.remember {
            while self.batches.front().is_some_and(|(at, _)| *at <= time - remember) {
                self.batches.pop_front();
            }
        }
        let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let mut all: usize = self.batches.iter().map(|(_, batches)| rows(batches)).sum();
        while all > self.most_rows
            && let Some((at, mut batches)) = self.batches.pop_front()
        {
            let mut over = all - self.most_rows;
            all -= rows(&batches);
            batches.retain_mut(|batch| {
                let cut = over.min(batch.num_rows());
                over -= cut;
                *batch = batch.slice(cut, batch.num_rows() - cut);
                batch.num_rows() > 0
            });
            if !batches.is_empty() {
                all += rows(&batches);
                self.batches.push_front((at, batches));
            }
        }
    }
}

/// Kept apart, since a listener is shared with the context.
pub(crate) struct Publish(pub(crate) Arc<LiveTables>);

impl StreamingListener for Publish {
    fn batch_completed(&self, batch: &BatchInfo) {
        for table in self.0.0.lock().values_mut() {
            if batch.failure.is_none() {
                table.publish(batch.batch_time);
            } else {
                table.running = None;
            }
        }
    }

    /// Time passes on a quiet stream, too.
    fn batch_skipped(&self, time: Time) {
        for table in self.0.0.lock().values_mut() {
            table.publish(time);
        }
    }
}
