//! A planned query: run each batch over that batch's rows, on any thread, without planning again.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, common};
use datafusion::prelude::SessionConfig;
use futures_util::StreamExt as _;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::deadline::{IsOver, with_deadline};
use crate::sql::join_sorted::join_sorted;
use crate::sql::memory::Memory;
use crate::sql::running::Feed;
use crate::sql::source::InputExec;
use crate::sql::{RecordBatch, SchemaRef, Spool, Spooled, functions};
use crate::time::Time;

/// What a query reads in one run: for each stream its batches of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    tables: Vec<(Arc<str>, Arc<[Spooled]>)>,
    /// A stream whose rows come while the run goes on.
    feed: Option<(Arc<str>, Feed)>,
    time: Option<Time>,
}

impl Inputs {
    /// No stream yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The same with the rows of one more stream; an empty slice for a stream without rows.
    pub(crate) fn with(self, stream: &str, rows: impl Into<Spooled>) -> Self {
        self.with_parts(stream, [rows.into()])
    }

    /// The same with the rows of one more stream, one part after the other.
    pub(crate) fn with_parts(mut self, stream: &str, parts: impl Into<Arc<[Spooled]>>) -> Self {
        self.tables.push((stream.into(), parts.into()));
        self
    }

    /// The same for the batch of this time, which is what `batch_time()` gives.
    pub(crate) fn at(mut self, time: Time) -> Self {
        self.time = Some(time);
        self
    }

    /// The same, where the rows of `stream` come from `feed`.
    pub(super) fn with_feed(self, stream: &Arc<str>, feed: &Feed) -> Self {
        Self { feed: Some((stream.clone(), feed.clone())), ..self }
    }

    /// Where the rows of `stream` come from, if they come while the run goes on.
    pub(super) fn feed(&self, stream: &str) -> Option<&Feed> {
        self.feed.as_ref().filter(|(name, _)| &**name == stream).map(|(_, feed)| feed)
    }

    /// The batch's time.
    pub(super) fn time(&self) -> Option<Time> {
        self.time
    }

    /// The rows of `stream`, if they were given.
    pub(crate) fn get(&self, stream: &str) -> Option<&Arc<[Spooled]>> {
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
    bounds: Option<Bounds>,
    /// What groups may take before they are given.
    of_task: Option<usize>,
}

/// What keeps the memory of a run within bounds.
#[derive(Clone)]
struct Bounds {
    memory: Arc<Memory>,
    /// The same plan with other joins, for when a side of one does not fit.
    sorted: Option<Arc<dyn ExecutionPlan>>,
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
            bounds: None,
            of_task: None,
        }
    }

    /// The same query by another plan, which reads these streams.
    pub(super) fn with_plan(&self, plan: Arc<dyn ExecutionPlan>, inputs: Vec<(String, SchemaRef)>) -> Self {
        let (inputs, input_schemas): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        Self {
            schema: plan.schema(),
            row_wise: inputs.len() == 1 && is_row_wise(&plan),
            plan,
            inputs: inputs.into(),
            input_schemas: input_schemas.into(),
            ..self.clone()
        }
    }

    /// The plan that is run.
    pub(super) fn plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }

    /// The streams that are read, with their columns.
    pub(super) fn inputs_with_schemas(&self) -> impl Iterator<Item = (&String, &SchemaRef)> {
        self.inputs.iter().zip(self.input_schemas.iter())
    }

    /// The same query, whose runs stay within `memory`: what is grouped, joined, sorted or made distinct goes on on disk beyond
    /// it.
    ///
    /// # Errors
    /// `Internal` if the plan cannot be changed so.
    pub(crate) fn within(mut self, memory: &Arc<Memory>) -> Result<Self> {
        // What is merged from disk is read in batches, of which several have to fit.
        let bytes = memory.of_query();
        self.config = self.config.with_batch_size((bytes / 4096).clamp(256, 8192));
        self.config.options_mut().execution.sort_spill_reservation_bytes = (bytes / 16).min(10 << 20);
        let unchanged = |e: DataFusionError| {
            Error::internal(format!("a query cannot be made to stay within memory: {}", e.strip_backtrace()))
        };
        let mut runtime = RuntimeEnv::clone(&self.runtime);
        runtime.disk_manager = memory.disk_manager().map_err(unchanged)?;
        self.runtime = Arc::new(runtime);
        let sorted = join_sorted(Arc::clone(&self.plan)).map_err(unchanged)?;
        self.bounds = Some(Bounds { memory: memory.clone(), sorted });
        Ok(self)
    }

    /// The same query for the tasks of a batch, each of which gives its groups before they take more than an eighth of what queries may
    /// have. Whoever reads them merges them anyway, and how many times a key is among them depends on the rows alone.
    pub(crate) fn in_tasks(self, memory: &Memory) -> Self {
        // Less is soon used up by what holds groups, be they none.
        const LEAST: usize = 1 << 20;
        Self { of_task: Some((memory.of_query() / 8).max(LEAST)), ..self }
    }

    /// Begins a run over `inputs`.
    pub(super) fn begin(&self, inputs: &Inputs) -> Result<SendableRecordBatchStream> {
        self.check(inputs)?;
        // Operators keep metrics, and some keep more (a join's build side): each run gets fresh ones, which also lets runs be
        // concurrent.
        let plan = reset_plan_states(Arc::clone(&self.plan));
        plan.and_then(|plan| plan.execute(0, Arc::new(self.task(inputs)))).map_err(run_error)
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
        let run = || collect(self.begin(inputs)?).map_err(run_error);
        let mut batches = functions::at(inputs.time, run)?;
        batches.retain(|batch| batch.num_rows() > 0);
        Ok(batches)
    }

    /// The result over `inputs`, as [`run`](Self::run) gives it, wherever it has room. Within bounds, a join that does not fit is
    /// begun anew as one of sorted rows, which goes on on disk.
    ///
    /// # Errors
    /// As for [`run`](Self::run); `Unavailable` when the disk is full, or one key's value alone is larger than the memory.
    pub(crate) fn run_spooled(&self, inputs: &Inputs, memory: &Arc<Memory>) -> Result<Spooled> {
        self.check(inputs)?;
        let sorted = self.bounds.as_ref().and_then(|bounds| bounds.sorted.as_ref());
        functions::at(inputs.time, || match (self.spool(&self.plan, inputs, memory), sorted) {
            (Err(Failed::Run(error)), Some(sorted)) if does_not_fit(&error) => {
                tracing::debug!(error = %error.strip_backtrace(), "a join does not fit in memory: its sides are sorted");
                self.spool(sorted, inputs, memory)
            }
            (outcome, _) => outcome,
        })
        .map_err(|failed| match failed {
            Failed::Run(error) => run_error(error),
            Failed::Spool(error) => error,
        })
    }

    fn spool(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        inputs: &Inputs,
        memory: &Arc<Memory>,
    ) -> std::result::Result<Spooled, Failed> {
        let plan = reset_plan_states(Arc::clone(plan));
        let rows = plan.and_then(|plan| plan.execute(0, Arc::new(self.task(inputs))));
        let (mut rows, mut spool) = (rows.map_err(Failed::Run)?, Spool::new(memory));
        while let Some(batch) = block_on(tokio::task::unconstrained(rows.next())) {
            spool.push(&batch.map_err(Failed::Run)?).map_err(Failed::Spool)?;
        }
        spool.finish().map_err(Failed::Spool)
    }

    /// The first `most` rows over `inputs`, and whether there are more.
    ///
    /// # Errors
    /// As for [`run`](Self::run); also `Usage` once `is_over` says that the time is, or when a key alone is larger than the memory.
    pub(crate) fn run_within(
        &self,
        inputs: &Inputs,
        most: usize,
        is_over: &IsOver,
    ) -> Result<(Vec<RecordBatch>, bool)> {
        self.check(inputs)?;
        let run = |plan: &Arc<dyn ExecutionPlan>| {
            let plan = with_deadline(reset_plan_states(Arc::clone(plan))?, is_over)?;
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
        let sorted = self.bounds.as_ref().and_then(|bounds| bounds.sorted.as_ref());
        let answer = functions::at(inputs.time, || match (run(&self.plan), sorted) {
            (Err(error), Some(sorted)) if does_not_fit(&error) => run(sorted),
            (answer, _) => answer,
        });
        answer.map_err(|error| match error {
            _ if is_over() => Error::usage("the question took longer than it may"),
            error if does_not_fit(&error) => Error::usage(format!(
                "the question needs more memory than it may have: {}",
                error.strip_backtrace()
            )),
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
            self.runtime(),
        )
    }

    /// Each run has a pool of its own, so that none depends on what another one holds.
    fn runtime(&self) -> Arc<RuntimeEnv> {
        let pool: Arc<dyn MemoryPool> = match (&self.bounds, self.of_task) {
            (Some(bounds), _) => Arc::new(FairSpillPool::new(bounds.memory.of_query())),
            (None, Some(of_task)) => Arc::new(GreedyMemoryPool::new(of_task)),
            (None, None) => return Arc::clone(&self.runtime),
        };
        let mut runtime = RuntimeEnv::clone(&self.runtime);
        runtime.memory_pool = pool;
        Arc::new(runtime)
    }

    fn check(&self, inputs: &Inputs) -> Result<()> {
        for (stream, schema) in self.inputs.iter().zip(self.input_schemas.iter()) {
            if inputs.feed(stream).is_some() {
                continue;
            }
            let batches = inputs.get(stream).ok_or_else(|| {
                Error::usage(format!("a query was run without the rows of stream `{stream}`"))
            })?;
            batches
                .iter()
                .flat_map(Spooled::in_memory)
                .try_for_each(|batch| check_columns(stream, schema, batch))?;
        }
        Ok(())
    }

    /// Looks whether rows of `stream` have its columns.
    pub(super) fn check_batch(&self, stream: &str, batch: &RecordBatch) -> Result<()> {
        let mut schemas = self.inputs.iter().zip(self.input_schemas.iter());
        schemas
            .find(|(name, _)| *name == stream)
            .map_or(Ok(()), |(_, schema)| check_columns(stream, schema, batch))
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = datafusion::physical_plan::displayable(&*self.plan).indent(false).to_string();
        f.debug_struct("Query").field("inputs", &self.inputs).field("plan", &plan).finish()
    }
}

fn check_columns(stream: &str, schema: &SchemaRef, batch: &RecordBatch) -> Result<()> {
    let given = batch.schema_ref();
    let same = || {
        let mut both = given.fields().iter().zip(schema.fields());
        given.fields().len() == schema.fields().len() && both.all(|(a, b)| a.data_type() == b.data_type())
    };
    match Arc::ptr_eq(given, schema) || same() {
        true => Ok(()),
        false => Err(Error::usage(format!("rows of stream `{stream}` have other columns than planned"))),
    }
}

/// Why a run ended early.
enum Failed {
    Run(DataFusionError),
    Spool(Error),
}

fn does_not_fit(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// Whether `plan` is a chain of operators that look at one row at a time, down to one stream.
pub(super) fn is_row_wise(plan: &Arc<dyn ExecutionPlan>) -> bool {
    // A limit may have been pushed into any operator.
    if plan.fetch().is_some() {
        return false;
    }
    if plan.downcast_ref::<InputExec>().is_some() {
        return true;
    }
    let looks_at_one_row = matches!(
        plan.name(),
        "ProjectionExec"
            | "FilterExec"
            | "FlatExec"
            | "UnnestExec"
            | "CoalesceBatchesExec"
            | "CooperativeExec"
    );
    looks_at_one_row && plan.children().into_iter().all(is_row_wise)
}

/// A failed run as this crate's error, by what its reader has to do.
pub(super) fn run_error(error: DataFusionError) -> Error {
    let message = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::Internal(_) => Error::internal(message),
        DataFusionError::ResourcesExhausted(_) => Error::unavailable(format!(
            "what a key or row has in one batch does not fit in memory: {message}; raise `batch_memory_limit`"
        )),
        DataFusionError::IoError(_) => Error::unavailable(message),
        // What was handed in failed, not what was made of it.
        DataFusionError::External(of_input) => {
            Error::new(of_input.downcast_ref::<Error>().map_or(ErrorKind::Data, Error::kind), message)
        }
        DataFusionError::ArrowError(error, _) if matches!(**error, ArrowError::IoError(..)) => {
            Error::unavailable(message)
        }
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
