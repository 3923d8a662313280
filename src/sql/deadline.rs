//! A query that ends when its time is over: each operator looks at the clock whenever it hands out rows.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures_util::{Stream, StreamExt};

use crate::sql::{RecordBatch, SchemaRef};

/// Says whether the time is over.
pub(crate) type IsOver = Arc<dyn Fn() -> bool + Send + Sync>;

/// `plan`, every operator of which looks whether the time is over.
pub(super) fn with_deadline(
    plan: Arc<dyn ExecutionPlan>,
    is_over: &IsOver,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let wrapped =
            DeadlineExec { properties: Arc::clone(node.properties()), input: node, is_over: is_over.clone() };
        Ok(Transformed::yes(Arc::new(wrapped) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

struct DeadlineExec {
    input: Arc<dyn ExecutionPlan>,
    is_over: IsOver,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for DeadlineExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadlineExec")
    }
}

impl DisplayAs for DeadlineExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("DeadlineExec")
    }
}

impl ExecutionPlan for DeadlineExec {
    fn name(&self) -> &str {
        "DeadlineExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.swap_remove(0);
        Ok(Arc::new(Self {
            properties: Arc::clone(input.properties()),
            input,
            is_over: self.is_over.clone(),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        Ok(Box::pin(Watched { rows, is_over: self.is_over.clone() }))
    }
}

struct Watched {
    rows: SendableRecordBatchStream,
    is_over: IsOver,
}

impl Stream for Watched {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if (self.is_over)() {
            return Poll::Ready(Some(Err(DataFusionError::ResourcesExhausted(
                "the time is over".to_owned(),
            ))));
        }
        self.rows.poll_next_unpin(context)
    }
}

impl RecordBatchStream for Watched {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
