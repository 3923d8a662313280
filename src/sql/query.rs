//! A planned query: run each batch over that batch's rows, on any thread, without planning again.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use datafusion::common::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, common};
use datafusion::prelude::SessionConfig;
use futures_util::StreamExt as _;

use crate::error::{Error, Result};
use crate::sql::deadline::{IsOver, with_deadline};
use crate::sql::source::InputExec;
use crate::sql::{RecordBatch, SchemaRef, functions};
use crate::time::Time;

/// What a query reads in one run: for each stream its batches of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    tables: Vec<(Arc<str>, Arc<[RecordBatch]>)>,
    time: Option<Time>,
}

impl Inputs {
    /// No stream yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The same with the rows of one more stream; an empty slice for a stream without rows.
    pub(crate) fn with(mut self, stream: &str, batches: impl Into<Arc<[RecordBatch]>>) -> Self {
        self.tables.push((stream.into(), batches.into()));
        self
    }

    /// The same for the batch of this time, which is what `batch_time()` gives.
    pub(crate) fn at(mut self, time: Time) -> Self {
        self.time = Some(time);
        self
    }

    /// The rows of `stream`, if they were given.
    pub(crate) fn get(&self, stream: &str) -> Option<&Arc<[RecordBatch]>> {
        self.tables.iter().find(|(name, _)| &**name == stream).map(|(_, batches)| batches)
    }
}

/// One prepared `select`. Cheap to clone; runs of it may be concurrent.
#[derive(Clone)]
pub(crate) struct Query {
    plan: Arc<dyn ExecutionPlan>,
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    schema: SchemaRef,
    inputs: Arc<[String]>,
    input_schemas: Arc<[SchemaRef]>,
    row_wise: bool,
}

impl Query {
    /// A query that runs `plan`, reading `inputs`: streams by name, sorted, with their schemas.
    pub(super) fn new(
        plan: Arc<dyn ExecutionPlan>,
        state: &SessionState,
        inputs: Vec<(String, SchemaRef)>,
    ) -> Self {
        let (inputs, input_schemas): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        Self {
            schema: plan.schema(),
            row_wise: inputs.len() == 1 && is_row_wise(&plan),
            plan,
            config: state.config().clone(),
            runtime: Arc::clone(state.runtime_env()),
            inputs: inputs.into(),
            input_schemas: input_schemas.into(),
        }
    }

    /// The columns of the result.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The streams that the query reads, each once, sorted by name.
    pub(crate) fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Whether each row of the result comes from one row of the one stream that is read (projection, filter, unnest), so
    /// that running it chunk by chunk gives the same rows as running it over the whole.
    pub(crate) fn is_row_wise(&self) -> bool {
        self.row_wise
    }

    /// The result over `inputs`, without empty batches; over no rows nothing, except for an aggregate without
    /// `group by`, which gives its one row as SQL demands.
    ///
    /// # Errors
    /// `Usage` when a stream's rows are missing or of another schema; `Data` when a value cannot be worked with
    /// (division by zero, a failed cast).
    pub(crate) fn run(&self, inputs: &Inputs) -> Result<Vec<RecordBatch>> {
        self.check(inputs)?;
        let run = || {
            // Operators keep metrics, and some keep more (a join's build side): each run gets fresh ones, which also lets
            // runs be concurrent.
            let plan = reset_plan_states(Arc::clone(&self.plan))?;
            collect(plan.execute(0, Arc::new(self.task(inputs)))?)
        };
        let mut batches = functions::at(inputs.time, run).map_err(run_error)?;
        batches.retain(|batch| batch.num_rows() > 0);
        Ok(batches)
    }

    /// The first `most` rows over `inputs`, and whether there are more.
    ///
    /// # Errors
    /// As for [`run`](Self::run); also `Usage` once `is_over` says that the time is.
    pub(crate) fn run_within(
        &self,
        inputs: &Inputs,
        most: usize,
        is_over: &IsOver,
    ) -> Result<(Vec<RecordBatch>, bool)> {
        self.check(inputs)?;
        let run = || {
            let plan = with_deadline(reset_plan_states(Arc::clone(&self.plan))?, is_over)?;
            let mut rows = plan.execute(0, Arc::new(self.task(inputs)))?;
            let (mut batches, mut left) = (Vec::new(), most);
            while let Some(batch) = block_on(tokio::task::unconstrained(rows.next())) {
                let batch = batch?;
                if batch.num_rows() > left {
                    batches.push(batch.slice(0, left));
                    return Ok((batches, true));
                }
                left -= batch.num_rows();
                batches.push(batch);
            }
            Ok((batches, false))
        };
        functions::at(inputs.time, run).map_err(|error| match error {
            _ if is_over() => Error::usage("the question took longer than it may"),
            error => run_error(error),
        })
    }

    /// The context of one run: the leaves find their rows in its configuration.
    fn task(&self, inputs: &Inputs) -> TaskContext {
        let config = self.config.clone().with_extension(Arc::new(inputs.clone()));
        // Functions are looked up by name only when a plan comes over a wire.
        TaskContext::new(
            None,
            String::new(),
            config,
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::clone(&self.runtime),
        )
    }

    fn check(&self, inputs: &Inputs) -> Result<()> {
        for (stream, schema) in self.inputs.iter().zip(self.input_schemas.iter()) {
            let batches = inputs.get(stream).ok_or_else(|| {
                Error::usage(format!("a query was run without the rows of stream `{stream}`"))
            })?;
            for batch in batches.iter() {
                let given = batch.schema_ref();
                let same = Arc::ptr_eq(given, schema)
                    || given.fields().len() == schema.fields().len()
                        && given
                            .fields()
                            .iter()
                            .zip(schema.fields())
                            .all(|(a, b)| a.data_type() == b.data_type());
                if !same {
                    return Err(Error::usage(format!(
                        "rows of stream `{stream}` have other columns than planned"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = datafusion::physical_plan::displayable(&*self.plan).indent(false).to_string();
        f.debug_struct("Query").field("inputs", &self.inputs).field("plan", &plan).finish()
    }
}

/// Whether `plan` is a chain of operators that look at one row at a time, down to one stream.
fn is_row_wise(plan: &Arc<dyn ExecutionPlan>) -> bool {
    // A limit may have been pushed into any operator.
    if plan.fetch().is_some() {
        return false;
    }
    if plan.downcast_ref::<InputExec>().is_some() {
        return true;
    }
    let looks_at_one_row = matches!(
        plan.name(),
        "ProjectionExec" | "FilterExec" | "UnnestExec" | "CoalesceBatchesExec" | "CooperativeExec"
    );
    looks_at_one_row && plan.children().into_iter().all(is_row_wise)
}

/// A failed run as this crate's error, by what its reader has to do.
fn run_error(error: DataFusionError) -> Error {
    let message = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::Internal(_) => Error::internal(message),
        DataFusionError::ResourcesExhausted(_) | DataFusionError::IoError(_) => Error::task(message),
        _ => Error::data(message),
    }
    .within("a query failed")
}

/// All batches of `stream`, worked out on this thread.
pub(super) fn collect(stream: SendableRecordBatchStream) -> datafusion::common::Result<Vec<RecordBatch>> {
    // Tokio's budget per task would make operators yield for ever when this runs on a runtime's thread.
    block_on(tokio::task::unconstrained(common::collect(stream)))
}

/// Waits for `future` on this thread. With one partition all work is done while polling; may be called within itself.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
