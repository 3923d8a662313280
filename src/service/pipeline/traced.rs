//! Rows that know their records: when an expression fails for one, that record is what is skipped or becomes a dead letter.
//!
//! A source whose bad records are not to fail the batch keeps its records beside their rows, as far as queries go that look at
//! each row by itself. Such a query runs over a whole batch of rows; only when it fails are the rows halved until
//! those stand alone for which it does.

use std::sync::Arc;

use super::decode::Kept;
use crate::DStream;
use crate::error::{ErrorKind, Result};
use crate::rdd::TaskContext;
use crate::service::check::OnBadRecord;
use crate::source::Stage;
use crate::sql::{Inputs, Query, RecordBatch};
use crate::time::Time;

/// Rows of a source, what queries have made of them so far, and the records.
#[derive(Clone)]
pub(super) struct Traced {
    /// A part of what was decoded at once.
    pub source: RecordBatch,
    /// The record of the first row of `source`.
    pub first: usize,
    /// All records that were decoded with it.
    pub records: Arc<Kept>,
    pub rows: Vec<RecordBatch>,
}

/// How many rows an element of a pipeline's streams stands for; one if it is none of these.
pub(crate) fn weight(element: &dyn std::any::Any) -> u64 {
    let rows = |traced: &Traced| traced.rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
    element.downcast_ref::<Traced>().map_or_else(|| crate::sql::weight(element), rows)
}

/// A stream of such rows, and the queries between the source and it.
#[derive(Clone)]
pub(super) struct TracedStream {
    pub stream: DStream<Traced>,
    pub policy: Arc<OnBadRecord>,
    /// Each with the name by which it knows what it reads.
    pub queries: Arc<[(Arc<str>, Query)]>,
}

impl TracedStream {
    /// The stream `name`: what `query` makes of each row of this one, which it knows as `input`.
    pub fn query(&self, name: &str, input: &str, query: &Query) -> Self {
        let mut queries = self.queries.to_vec();
        queries.push((input.into(), query.clone()));
        let queries: Arc<[_]> = queries.into();
        let (chain, policy, name): (_, _, Arc<str>) = (queries.clone(), self.policy.clone(), name.into());
        let parent = self.stream.core.clone();
        let stream = self.stream.derive("sql", &[], self.stream.slide_duration(), move |time| {
            let step = Step { queries: chain.clone(), policy: policy.clone(), name: name.clone(), time };
            let rows = parent.get_or_compute(time)?;
            Ok(rows.map(|rdd| rdd.try_flat_map_in_task(move |traced, task| step.run(traced, task))))
        });
        Self { stream, policy: self.policy.clone(), queries }
    }

    /// The rows alone.
    pub fn rows(&self) -> DStream<RecordBatch> {
        self.stream.flat_map(|traced| traced.rows)
    }
}

/// The last query of a chain.
struct Step {
    queries: Arc<[(Arc<str>, Query)]>,
    policy: Arc<OnBadRecord>,
    name: Arc<str>,
    /// The batch's.
    time: Time,
}

impl Step {
    fn run(&self, traced: Traced, task: &TaskContext) -> Result<Vec<Traced>> {
        let Some((last, _)) = self.queries.split_last() else { return Ok(vec![traced]) };
        match run(last, traced.rows.clone(), self.time) {
            Ok(rows) => Ok(vec![Traced { rows, ..traced }]),
            // The plan or the machine is at fault, not a row.
            Err(error) if error.kind() != ErrorKind::Data => Err(error),
            Err(_) => {
                let mut good = Vec::new();
                self.halve(&traced, 0, traced.source.num_rows(), task, &mut good)?;
                Ok(good)
            }
        }
    }

    /// Runs all queries over `count` rows of the source from `start` on, of which some may be bad.
    fn halve(
        &self,
        traced: &Traced,
        start: usize,
        count: usize,
        task: &TaskContext,
        good: &mut Vec<Traced>,
    ) -> Result<()> {
        let source = traced.source.slice(start, count);
        let outcome =
            self.queries.iter().try_fold(vec![source.clone()], |rows, query| run(query, rows, self.time));
        match outcome {
            Ok(rows) => {
                let first = traced.first + start;
                good.push(Traced { source, first, records: traced.records.clone(), rows });
                Ok(())
            }
            Err(error) if error.kind() != ErrorKind::Data => Err(error),
            Err(error) if count == 1 => {
                let record = traced.records.record(traced.first + start);
                self.policy.apply(task, &record, Stage::Process, &self.name, error.whole_text(), None)
            }
            Err(_) => {
                let half = count / 2;
                self.halve(traced, start, half, task, good)?;
                self.halve(traced, start + half, count - half, task, good)
            }
        }
    }
}

/// What a query makes of these rows.
fn run((input, query): &(Arc<str>, Query), rows: Vec<RecordBatch>, time: Time) -> Result<Vec<RecordBatch>> {
    if rows.is_empty() {
        return Ok(rows);
    }
    query.run(&Inputs::new().with(input, rows).at(time))
}
