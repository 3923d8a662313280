//! Joins whose sides do not fit in memory.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

/// `plan` with joins that sort both sides, on disk if need be, in place of those that keep one of them in memory, which are
/// quicker; nothing if there are none.
pub(super) fn join_sorted(plan: Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let sorted = plan.transform_up(|node| {
        let other = match (node.downcast_ref::<HashJoinExec>(), node.downcast_ref::<CrossJoinExec>()) {
            (Some(join), _) => of_hashed(join)?,
            (_, Some(join)) => Some(of_cross(join)?),
            _ => None,
        };
        Ok(other.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    Ok(sorted.transformed.then_some(sorted.data))
}

/// Pairs of any two rows, one side of which is kept on disk if need be.
fn of_cross(join: &CrossJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    Ok(Arc::new(NestedLoopJoinExec::try_new(left, right, None, &JoinType::Inner, None)?))
}

fn of_hashed(join: &HashJoinExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    // What `not in` gives over NULLs only the other join knows.
    if join.null_aware {
        return Ok(None);
    }
    let (left, right): (Vec<_>, Vec<_>) = join.on().iter().cloned().unzip();
    let (Some(left), Some(right)) = (sorted(join.left(), left), sorted(join.right(), right)) else {
        return Ok(None);
    };
    let merged: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
        left,
        right,
        join.on().to_vec(),
        join.filter().cloned(),
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )?);
    let Some(columns) = &join.projection else { return Ok(Some(merged)) };
    let schema = merged.schema();
    let columns: Vec<_> = columns
        .iter()
        .map(|&at| {
            let name = schema.field(at).name().clone();
            (Arc::new(Column::new(&name, at)) as Arc<dyn PhysicalExpr>, name)
        })
        .collect();
    Ok(Some(Arc::new(ProjectionExec::try_new(columns, merged)?)))
}

fn sorted(side: &Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>) -> Option<Arc<dyn ExecutionPlan>> {
    let keys = keys.into_iter().map(|key| PhysicalSortExpr::new(key, SortOptions::default()));
    let keys = LexOrdering::new(keys)?;
    Some(Arc::new(SortExec::new(keys, Arc::clone(side))))
}
