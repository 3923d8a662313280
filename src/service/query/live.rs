//! Tables in memory: the rows of a stream's last batches, from the moment when the batch is committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::{BatchInfo, StreamingListener};
use crate::error::Result;
use crate::sql::{RecordBatch, SchemaRef, Spooled, cut, with_batch_time};
use crate::time::{Duration, Time};

/// The tables of a running pipeline, by name.
#[derive(Default)]
pub(crate) struct LiveTables(Mutex<Shown>);

#[derive(Default)]
struct Shown {
    tables: BTreeMap<String, Table>,
    /// The last batch, whether it had rows or not.
    batch: Option<Time>,
}

/// One table and what may be in it.
struct Table {
    /// `batch_time`, then the stream's columns.
    schema: SchemaRef,
    remember: Option<Duration>,
    most_rows: usize,
    /// What each batch gave that is not committed yet; nobody sees it before.
    running: BTreeMap<Time, Vec<RecordBatch>>,
    batches: VecDeque<(Time, Vec<RecordBatch>)>,
}

impl LiveTables {
    /// Makes a table for rows of the columns `schema`.
    pub(crate) fn add(&self, name: &str, schema: &SchemaRef, remember: Option<Duration>, most_rows: usize) {
        let (running, batches) = (BTreeMap::new(), VecDeque::new());
        let schema = crate::sql::batch_time_schema(schema);
        self.0.lock().tables.insert(name.to_owned(), Table { schema, remember, most_rows, running, batches });
    }

    /// Takes what the batch `time` gave, in place of what it gave before if it is run again: the last rows, no more than the table
    /// may have.
    ///
    /// # Errors
    /// The rows are of other columns, or cannot be read.
    pub(crate) fn put(&self, name: &str, time: Time, rows: &[Spooled]) -> Result<()> {
        let of_table = |table: &Table| (table.schema.clone(), table.most_rows);
        let Some((schema, most)) = self.0.lock().tables.get(name).map(of_table) else { return Ok(()) };
        let mut over = rows.iter().map(Spooled::num_rows).sum::<usize>().saturating_sub(most);
        let mut last = Vec::new();
        for batch in rows.iter().flat_map(Spooled::batches) {
            let batch = batch?;
            let first = over.min(batch.num_rows());
            over -= first;
            if first < batch.num_rows() {
                last.push(with_batch_time(&schema, &from(batch, first)?, time)?);
            }
        }
        if let Some(table) = self.0.lock().tables.get_mut(name) {
            table.running.insert(time, last);
        }
        Ok(())
    }

    /// The tables' names and columns.
    pub(crate) fn schemas(&self) -> Vec<(String, SchemaRef)> {
        self.0.lock().tables.iter().map(|(name, table)| (name.clone(), table.schema.clone())).collect()
    }

    /// How many rows a table has, and the last batch.
    pub(crate) fn size(&self, name: &str) -> Option<(u64, Option<Time>)> {
        let shown = self.0.lock();
        let batches = shown.tables.get(name)?.batches.iter().flat_map(|(_, batches)| batches);
        Some((batches.map(|batch| batch.num_rows() as u64).sum(), shown.batch))
    }

    /// The rows of those of the tables `names` that are live, all as of the same batch, and which that is if there are any.
    pub(crate) fn rows<'a>(
        &self,
        names: &'a [String],
    ) -> (BTreeMap<&'a str, Vec<RecordBatch>>, Option<Time>) {
        let shown = self.0.lock();
        let rows =
            |table: &Table| table.batches.iter().flat_map(|(_, batches)| batches.iter().cloned()).collect();
        let found: BTreeMap<_, _> =
            names.iter().filter_map(|name| Some((name.as_str(), rows(shown.tables.get(name)?)))).collect();
        let batch = shown.batch.filter(|_| !found.is_empty());
        (found, batch)
    }
}

impl Table {
    /// Shows the batch's rows, and forgets what is too old or too much.
    fn publish(&mut self, time: Time) {
        let later = self.running.split_off(&(time + Duration::millis(1)));
        let rows = std::mem::replace(&mut self.running, later).remove(&time);
        if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
            if self.remember.is_none() {
                self.batches.clear();
            }
            self.batches.push_back((time, rows));
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
                // Where copying fails, the rows stay with what they were cut from.
                let left = from(batch.clone(), cut);
                *batch = left.unwrap_or_else(|_| batch.slice(cut, batch.num_rows() - cut));
                batch.num_rows() > 0
            });
            if !batches.is_empty() {
                all += rows(&batches);
                self.batches.push_front((at, batches));
            }
        }
    }
}

/// The rows from the row `first` on, without what the others took.
fn from(batch: RecordBatch, first: usize) -> Result<RecordBatch> {
    if first == 0 { Ok(batch) } else { cut(&batch, first..batch.num_rows()) }
}

/// Kept apart, since a listener is shared with the context.
pub(crate) struct Publish(pub(crate) Arc<LiveTables>);

impl LiveTables {
    fn publish(&self, time: Time) {
        let mut shown = self.0.lock();
        shown.batch = Some(time);
        shown.tables.values_mut().for_each(|table| table.publish(time));
    }
}

impl StreamingListener for Publish {
    fn batch_completed(&self, batch: &BatchInfo) {
        if batch.failure.is_none() {
            self.0.publish(batch.batch_time);
        } else {
            let mut shown = self.0.0.lock();
            shown.tables.values_mut().for_each(|table| drop(table.running.remove(&batch.batch_time)));
        }
    }

    /// Time passes on a quiet stream, too.
    fn batch_skipped(&self, time: Time) {
        self.0.publish(time);
    }
}
