//! The leaf of every plan: a stream whose rows are not known when the plan is made, but handed in with each run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatchOptions;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures_util::{StreamExt as _, stream};

use crate::sql::{Inputs, RecordBatch, SchemaRef, Spooled};

/// A stream as the planner sees it: a name and a schema, no rows and no statistics, so that no optimizer rule can draw
/// conclusions from the rows of one batch.
#[derive(Debug)]
pub(super) struct StreamTable {
    name: Arc<str>,
    schema: SchemaRef,
}

impl StreamTable {
    /// The stream `name` with these columns.
    pub(super) fn new(name: &str, schema: SchemaRef) -> Self {
        Self { name: name.into(), schema }
    }
}

impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    // What `#[async_trait]` would make of an `async fn`, written out to save a dependency.
    fn scan<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 dyn Session,
        projection: Option<&'life2 Vec<usize>>,
        _filters: &'life3 [Expr],
        _limit: Option<usize>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: 'async_trait,
    {
        let exec = InputExec::new(&self.name, &self.schema, projection.cloned());
        Box::pin(async move { Ok(Arc::new(exec?) as Arc<dyn ExecutionPlan>) })
    }
}

/// Reads one stream's batches from the [`Inputs`] of the run, which travel in the task's session configuration.
#[derive(Debug, Clone)]
pub(super) struct InputExec {
    stream: Arc<str>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl InputExec {
    /// The stream that is read.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// Reads `stream`, which has the columns `schema`, or some of them.
    pub(super) fn new(stream: &Arc<str>, schema: &SchemaRef, projection: Option<Vec<usize>>) -> Result<Self> {
        let schema = match &projection {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => Arc::clone(schema),
        };
        // Cooperative, as it hands out what is in memory and never waits: no wrapper that counts batches is needed.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self { stream: Arc::clone(stream), projection, properties: Arc::new(properties) })
    }

    /// The columns of `batch` that are read, under the schema that was planned with.
    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = match &self.projection {
            Some(columns) => columns.iter().map(|&column| Arc::clone(batch.column(column))).collect(),
            None => batch.columns().to_vec(),
        };
        // `count(*)` reads no column at all: only the number of rows is left.
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

impl DisplayAs for InputExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "InputExec: {}", self.stream)
    }
}

impl ExecutionPlan for InputExec {
    fn name(&self) -> &str {
        "InputExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = context.session_config().get_extension::<Inputs>();
        let of_run = self.clone();
        if let Some(feed) = inputs.as_ref().and_then(|inputs| inputs.feed(&self.stream)) {
            let projected = feed.clone().rows().map(move |batch| of_run.project(&batch));
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), projected)));
        }
        let batches = inputs.as_ref().and_then(|inputs| inputs.get(&self.stream)).ok_or_else(|| {
            DataFusionError::Internal(format!("this run was given no rows of stream `{}`", self.stream))
        })?;
        // Read as they are asked for, since not all of them need be in memory.
        let batches: Vec<_> = batches.iter().map(Spooled::batches).collect();
        let projected = batches.into_iter().flatten().map(move |batch| {
            of_run.project(&batch.map_err(|error| DataFusionError::External(Box::new(error)))?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(projected))))
    }
}
