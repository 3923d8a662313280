//! Programs that are stopped or killed, and go on from their checkpoint.

use super::TestContext;
use super::collected::put;
use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::error::{Error, Result};
use crate::rdd::Data;
use crate::time::{Clock as _, Duration, Time};

use parking_lot::Mutex;

/// A row of the table of [`run_with_restarts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row<T> {
    /// A batch of one partition.
    Batch(Vec<T>),
    /// A batch of these partitions.
    Partitions(Vec<Vec<T>>),
    /// The program is stopped gracefully, and started again.
    Restart,
    /// The program is killed, and started again. After a row with a batch it is killed in that batch, after its output operations
    /// and before its commit, so that it is run again; after another row, between two batches.
    Crash,
}

impl<T> From<Vec<T>> for Row<T> {
    fn from(batch: Vec<T>) -> Self {
        Row::Batch(batch)
    }
}

/// Runs `program`, which has its checkpoint in a folder of its own, over `rows`, one second per batch, and gives the
/// elements of each of its batches. A batch that is run again gives what it gives the second time.
///
/// Each start makes the program anew, as a new process does: what a function captured from the program before is gone.
/// See the [module](super) for an example.
///
/// # Errors
/// If a batch fails, or the program does not let go of its context, so that the next one cannot open the checkpoint.
pub fn run_with_restarts<T: Data, U: Data>(
    rows: Vec<Row<T>>,
    program: impl Fn(&DStream<T>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    let folder = tempfile::tempdir()
        .map_err(|e| Error::unavailable("cannot make a folder for the checkpoint").with_source(e))?;
    let batches: Vec<_> = rows.iter().filter_map(partitions).collect();
    let mut rows = rows.iter().peekable();
    let output = Mutex::default();
    let (mut now, mut more) = (Time::ZERO, true);
    // The batch in which the program was killed.
    let mut unfinished = None;
    while more {
        let builder = StreamingContext::builder("test")
            .batch_interval(Duration::seconds(1))
            .worker_threads(2)
            .checkpoint(folder.path());
        let test = TestContext::from_builder(builder, now)?;
        let collected = test.collect(&program(&test.input_partitions(batches.clone())));
        test.ssc.start()?;
        if let Some(time) = unfinished.take() {
            test.wait_for(time)?;
        }
        loop {
            match rows.next() {
                None => {
                    test.ssc.stop(true)?;
                    more = false;
                    break;
                }
                Some(Row::Restart) => break test.ssc.stop(true)?,
                Some(Row::Crash) => break test.crash()?,
                Some(Row::Batch(_) | Row::Partitions(_)) => {
                    if rows.next_if(|row| matches!(row, Row::Crash)).is_some() {
                        test.step_and_crash()?;
                        unfinished = Some(test.clock.now());
                        break;
                    }
                    test.step()?;
                }
            }
        }
        now = test.clock.now();
        collected.take().into_iter().for_each(|(time, elements)| put(&output, time, elements));
    }
    Ok(output.into_inner().into_iter().map(|(_, elements)| elements).collect())
}

fn partitions<T: Clone>(row: &Row<T>) -> Option<Vec<Vec<T>>> {
    match row {
        Row::Batch(batch) => Some(vec![batch.clone()]),
        Row::Partitions(partitions) => Some(partitions.clone()),
        Row::Restart | Row::Crash => None,
    }
}
