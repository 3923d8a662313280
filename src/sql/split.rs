//! A query in two steps: what can be done with chunks of the streams by the tasks that read them, and the rest.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};

use crate::error::Error;
use crate::sql::query::is_row_wise;
use crate::sql::source::InputExec;
use crate::sql::{Query, SchemaRef};

/// What tasks make of a stream's rows, chunk by chunk.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The stream that is read.
    pub(crate) stream: String,
    /// The name by which the rest of the query knows what this gives.
    pub(crate) name: String,
    pub(crate) query: Query,
}

impl Query {
    /// The rest of this query, and the parts that it reads in place of the streams. Tasks filter, unnest and project, and group
    /// what they have; the rest groups that once more, joins and sorts.
    ///
    /// # Errors
    /// `Internal` if the plan cannot be taken apart.
    pub(crate) fn split(&self, is_stream: impl Fn(&str) -> bool) -> crate::Result<(Query, Vec<Part>)> {
        let mut parts: Vec<Part> = Vec::new();
        let mut input = |of_tasks: Arc<dyn ExecutionPlan>, stream: &str| -> Result<Arc<dyn ExecutionPlan>> {
            let name = format!("#{}", parts.len());
            let exec = InputExec::new(&name.as_str().into(), &of_tasks.schema(), None)?;
            let schema = self.inputs_with_schemas().find(|(input, _)| *input == stream);
            let inputs = schema.into_iter().map(|(name, schema)| (name.clone(), schema.clone())).collect();
            let query = self.with_plan(of_tasks, inputs);
            parts.push(Part { stream: stream.to_owned(), name, query });
            Ok(Arc::new(exec))
        };
        let plan = Arc::clone(self.plan()).transform_down(|node| {
            if let Some(stream) = stream_below(&node).filter(|stream| is_stream(stream)) {
                let stream = stream.to_owned();
                return Ok(Transformed::new(input(node, &stream)?, true, TreeNodeRecursion::Jump));
            }
            if let Some(aggregate) = node.downcast_ref::<AggregateExec>()
                && can_split(aggregate)
                && let Some(stream) = stream_below(aggregate.input()).filter(|stream| is_stream(stream))
            {
                let partial = input(partial(aggregate)?, stream)?;
                return Ok(Transformed::new(merged(aggregate, partial)?, true, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::no(node))
        });
        let plan = plan
            .data()
            .map_err(|e| Error::internal(format!("a query cannot be split: {}", e.strip_backtrace())))?;
        let tables = self.inputs_with_schemas().filter(|(name, _)| !is_stream(name));
        let mut inputs: Vec<(String, SchemaRef)> =
            tables.map(|(name, schema)| (name.clone(), schema.clone())).collect();
        inputs.extend(parts.iter().map(|part| (part.name.clone(), part.query.schema().clone())));
        Ok((self.with_plan(plan, inputs), parts))
    }
}

/// The stream under a chain of operators that look at one row at a time.
fn stream_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&str> {
    if !is_row_wise(plan) {
        return None;
    }
    let mut node = plan;
    loop {
        match node.downcast_ref::<InputExec>() {
            Some(input) => return Some(input.stream()),
            None => node = node.children().into_iter().next()?,
        }
    }
}

fn can_split(aggregate: &AggregateExec) -> bool {
    matches!(aggregate.mode(), AggregateMode::Single)
        && !aggregate.group_expr().has_grouping_set()
        && aggregate.limit_options().is_none()
        && *aggregate.input_order_mode() == InputOrderMode::Linear
}

/// The plan that groups a chunk of the rows, and gives the aggregates' states.
pub(super) fn partial(aggregate: &AggregateExec) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(AggregateExec::try_new(
        AggregateMode::Partial,
        aggregate.group_expr().clone(),
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        aggregate.input_schema(),
    )?))
}

/// The plan that merges such states, and gives the aggregates' values.
pub(super) fn merged(
    aggregate: &AggregateExec,
    partial: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(AggregateExec::try_new(
        AggregateMode::Final,
        aggregate.group_expr().as_final(),
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        partial,
        aggregate.input_schema(),
    )?))
}
