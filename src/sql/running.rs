//! A run of a query that is given its rows one batch after the other, as a task reads them.
//!
//! Set up once per task and not once per batch; and what is grouped is grouped over all that the task reads, so that what follows
//! has one group per task and key to merge, however small the batches are.

use std::sync::Arc;
use std::task::Poll;

use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use futures_util::{Stream, StreamExt as _, future, stream};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::rdd::Rdd;
use crate::sql::query::{block_on, run_error};
use crate::sql::{Inputs, Memory, Query, RecordBatch, Spool, Spooled, functions};
use crate::time::Time;

/// Rows that a run is given as it goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed(Arc<Mutex<Fed>>);

#[derive(Debug, Default)]
struct Fed {
    next: Option<RecordBatch>,
    is_over: bool,
    /// Whether the run has asked for more than there is.
    is_waited_for: bool,
}

impl Feed {
    fn put(&self, batch: RecordBatch) {
        *self.0.lock() = Fed { next: Some(batch), ..Fed::default() };
    }

    fn end(&self) {
        *self.0.lock() = Fed { is_over: true, ..Fed::default() };
    }

    /// What the run reads. Nobody is woken: whoever gives rows asks the run for its own.
    pub(super) fn rows(self) -> impl Stream<Item = RecordBatch> + Send + use<> {
        stream::poll_fn(move |_| {
            let mut fed = self.0.lock();
            match fed.next.take() {
                None if !fed.is_over => {
                    fed.is_waited_for = true;
                    Poll::Pending
                }
                next => Poll::Ready(next),
            }
        })
    }
}

/// A run that has begun.
pub(crate) struct Running {
    query: Query,
    stream: Arc<str>,
    inputs: Inputs,
    /// Nothing if the query is run anew for each batch.
    fed: Option<(Feed, SendableRecordBatchStream)>,
}

impl Query {
    /// Begins a run that is given the rows of `stream` as they come, and has those of all others in `inputs`.
    ///
    /// The plan must read `stream` once. What it groups by no key is given for each batch by itself, since nothing else would bound
    /// it (an `array_agg`); groups by key are given before they take more memory than a task [may have](Self::in_tasks).
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub(crate) fn start(&self, stream: &str, inputs: Inputs) -> Result<Running> {
        let (query, stream) = (self.clone(), Arc::from(stream));
        let fed = if groups_without_keys(self.plan()) {
            None
        } else {
            let feed = Feed::default();
            let of_run = inputs.clone().with_feed(&stream, &feed);
            Some((feed, self.begin(&of_run)?))
        };
        Ok(Running { query, stream, inputs, fed })
    }
}

impl Running {
    /// Takes `batch`, and hands what follows from it so far to `emit`.
    ///
    /// # Errors
    /// As for [`Query::run`], and those of `emit`.
    pub(crate) fn push<E: From<Error>>(
        &mut self,
        batch: RecordBatch,
        emit: &mut dyn FnMut(RecordBatch) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let Some((feed, rows)) = &mut self.fed else {
            let inputs = self.inputs.clone().with(&self.stream, [batch]);
            return self.query.run(&inputs)?.into_iter().try_for_each(emit);
        };
        self.query.check_batch(&self.stream, &batch)?;
        feed.put(batch);
        pull(feed, rows, self.inputs.time(), emit)
    }

    /// Hands the rest to `emit`: there are no more rows.
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub(crate) fn finish<E: From<Error>>(
        self,
        emit: &mut dyn FnMut(RecordBatch) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let Some((feed, mut rows)) = self.fed else { return Ok(()) };
        feed.end();
        pull(&feed, &mut rows, self.inputs.time(), emit)
    }
}

/// What `rows` gives before it waits for more of `feed`.
fn pull<E: From<Error>>(
    feed: &Feed,
    rows: &mut SendableRecordBatchStream,
    time: Option<Time>,
    emit: &mut dyn FnMut(RecordBatch) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut next = || -> Option<DataFusionResult<RecordBatch>> {
        let next = future::poll_fn(|context| match rows.poll_next_unpin(context) {
            Poll::Pending if feed.0.lock().is_waited_for => Poll::Ready(None),
            polled => polled,
        });
        functions::at(time, || block_on(tokio::task::unconstrained(next)))
    };
    while let Some(batch) = next() {
        let batch = batch.map_err(run_error)?;
        if batch.num_rows() > 0 {
            emit(batch)?;
        }
    }
    Ok(())
}

fn groups_without_keys(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| aggregate.group_expr().expr().is_empty())
        || plan.children().into_iter().any(groups_without_keys)
}

/// What each of `queries` makes of the rows of `rdd`, which it knows by the name beside it: per query, one result per task, in the
/// order of the partitions. The tasks run side by side, and share the memory for rows that wait.
///
/// # Errors
/// If a task fails, or a temporary file cannot be written.
pub(crate) fn run_in_tasks(
    rdd: &Rdd<RecordBatch>,
    queries: &[(&str, &Query)],
    time: Option<Time>,
    memory: &Arc<Memory>,
) -> Result<Vec<Vec<Spooled>>> {
    let inputs = || time.map_or_else(Inputs::new, |time| Inputs::new().at(time));
    let tasks = rdd.fold_partitions_into(
        || queries.iter().map(|_| (None::<Running>, Spool::new(memory))).collect::<Vec<_>>(),
        |runs, batch| {
            for ((stream, query), (run, spool)) in queries.iter().zip(runs).filter(|_| batch.num_rows() > 0) {
                let run = match run {
                    Some(run) => run,
                    None => run.insert(query.start(stream, inputs())?),
                };
                run.push(batch.clone(), &mut |rows| spool.push(&rows))?;
            }
            Ok(())
        },
        |runs| {
            let finished = runs.into_iter().map(|(run, mut spool)| {
                run.map_or(Ok(()), |run| run.finish(&mut |rows| spool.push(&rows)))?;
                spool.finish()
            });
            finished.collect::<Result<Vec<_>>>()
        },
    )?;
    let mut all: Vec<Vec<Spooled>> = queries.iter().map(|_| Vec::with_capacity(tasks.len())).collect();
    for of_task in tasks {
        for (result, rows) in all.iter_mut().zip(of_task) {
            result.push(rows);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdd::Disk;
    use crate::sql::{DataType, Planner, Row, Value, batch_of_rows, rows_of_batch, schema};

    fn planner() -> Planner {
        let mut planner = Planner::new();
        planner.register("words", schema([("word", DataType::Utf8View), ("n", DataType::Int64)]));
        planner
    }

    /// Rows of so many words by turns, from the number `first` on.
    fn rows_of(words: usize, first: usize, count: usize) -> RecordBatch {
        let row =
            |n: usize| Row::from(vec![format!("word {}", n % words).as_str().into(), Value::Int(n as i64)]);
        let rows: Vec<_> = (first..first + count).map(row).collect();
        batch_of_rows(&schema([("word", DataType::Utf8View), ("n", DataType::Int64)]), &rows).unwrap()
    }

    fn rows(first: usize, count: usize) -> RecordBatch {
        rows_of(10, first, count)
    }

    fn add(all: &mut Vec<Row>, rows: &RecordBatch) -> Result<()> {
        all.extend(rows_of_batch(rows)?);
        Ok(())
    }

    /// How many rows each push gives, that of the end last, and all of them.
    fn run(query: &Query, pushes: &[RecordBatch]) -> (Vec<usize>, Vec<Row>) {
        let mut run = query.start("words", Inputs::new()).unwrap();
        let (mut counts, mut all) = (Vec::new(), Vec::new());
        for batch in pushes {
            let before = all.len();
            run.push(batch.clone(), &mut |rows| add(&mut all, &rows)).unwrap();
            counts.push(all.len() - before);
        }
        let before = all.len();
        run.finish(&mut |rows| add(&mut all, &rows)).unwrap();
        counts.push(all.len() - before);
        (counts, all)
    }

    #[test]
    fn rows_come_in_order_and_as_soon_as_they_can() {
        let query = planner().query("select n + 1 as n from words").unwrap();
        let (counts, all) = run(&query, &[rows(0, 3), rows(3, 1), rows(4, 2)]);
        assert_eq!(counts, [3, 1, 2, 0]);
        assert_eq!(all, [1, 2, 3, 4, 5, 6].map(|n| Row::from(vec![Value::Int(n)])));
        assert_eq!(run(&query, &[]), (vec![0], vec![]));
        let query = planner().query("select n from words where n % 2 = 0").unwrap();
        let (_, all) = run(&query, &[rows(0, 3), rows(3, 1), rows(4, 4)]);
        assert_eq!(all, [0, 2, 4, 6].map(|n| Row::from(vec![Value::Int(n)])));
    }

    #[test]
    fn groups_are_those_of_all_rows_unless_they_take_too_much() {
        let query = planner().query("select word, count(*) as n from words group by word").unwrap();
        let (_, mut parts) = query.split(|_| true).unwrap();
        let pushes: Vec<_> = (0..50).map(|push| rows(push * 20, 20)).collect();
        let of_task = parts.remove(0).query;
        let (counts, all) = run(&of_task, &pushes);
        assert_eq!((counts[..50].iter().sum::<usize>(), counts[50]), (0, 10));
        assert_eq!(all[3], Row::from(vec!["word 3".into(), Value::Int(100)]));
        // With little memory, groups are given in between, and a word is among them as often as it was given.
        let little = Memory::new(0, &Disk::new(std::env::temp_dir().as_path()));
        let pushes: Vec<_> = (0..40).map(|push| rows_of(50_000, push * 2_500, 2_500)).collect();
        let (counts, all) = run(&of_task.in_tasks(&little), &pushes);
        assert!(counts[..20].iter().sum::<usize>() > 10_000, "{counts:?}");
        let of_word = all.iter().filter(|row| row.0[0] == "word 7".into()).map(|row| row.0[1].clone());
        assert_eq!(of_word.collect::<Vec<_>>(), [Value::Int(1), Value::Int(1)]);
        assert_eq!(all.len(), 100_000);
    }

    #[test]
    fn what_is_grouped_by_no_key_is_given_for_each_push() {
        let query = planner().query("select array_agg(n) as all from words").unwrap();
        let (_, mut parts) = query.split(|_| true).unwrap();
        assert_eq!(run(&parts.remove(0).query, &[rows(0, 3), rows(3, 3)]).0, [1, 1, 0]);
    }

    #[test]
    fn a_value_that_cannot_be_worked_with_ends_the_run() {
        let query = planner().query("select 1 / (n - 2) as n from words").unwrap();
        let mut run = query.start("words", Inputs::new()).unwrap();
        let mut none = |_| Ok(());
        run.push::<Error>(rows(0, 2), &mut none).unwrap();
        let error = run.push::<Error>(rows(2, 2), &mut none).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Data, "{error}");
        let other =
            batch_of_rows(&schema([("word", DataType::Int64)]), &[Row::from(vec![Value::Int(1)])]).unwrap();
        let error = query.start("words", Inputs::new()).unwrap().push::<Error>(other, &mut none).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage, "{error}");
    }
}
