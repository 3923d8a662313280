//! `unnest` of one array per row, where DataFusion copies element by element: a column's arrays stand one behind the other in memory,
//! so their elements are a column already.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, NullHandling, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::sql::{DataType, RecordBatch};

/// `plan` with what unnests one array, and nothing else, in this way.
pub(super) fn flat(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let flattened =
        plan.transform_up(|node| match node.downcast_ref::<UnnestExec>().and_then(FlatExec::of) {
            Some(flat) => Ok(Transformed::yes(Arc::new(flat) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        });
    flattened.data()
}

/// Each element of the array in `column` in a row of its own, beside what else is in the array's row.
#[derive(Debug, Clone)]
pub(super) struct FlatExec {
    unnest: UnnestExec,
    column: usize,
    /// Whether an array that is NULL, and one that is empty, is a row with NULL.
    nulls: bool,
    empty: bool,
}

impl FlatExec {
    fn of(unnest: &UnnestExec) -> Option<Self> {
        let [list] = unnest.list_column_indices() else { return None };
        let column = list.index_in_input_schema;
        let is_list = matches!(unnest.input().schema().field(column).data_type(), DataType::List(_));
        if list.depth != 1 || !unnest.struct_column_indices().is_empty() || !is_list {
            return None;
        }
        let (nulls, empty) = match unnest.options().null_handling {
            NullHandling::Drop => (false, false),
            NullHandling::Preserve => (true, false),
            NullHandling::PreserveAndExpandEmpty => (true, true),
        };
        Some(Self { unnest: unnest.clone(), column, nulls, empty })
    }

    /// What becomes of `batch`, in batches of about `most` rows.
    fn flatten(&self, batch: &RecordBatch, most: usize) -> Result<Vec<RecordBatch>> {
        let lists = batch.column(self.column).as_list::<i32>();
        let (mut batches, mut first) = (Vec::new(), 0);
        while first < batch.num_rows() {
            let from = lists.value_offsets()[first];
            let fit = lists.value_offsets()[first + 1..].partition_point(|end| (end - from) as usize <= most);
            let rows = fit.max(1);
            batches.extend(self.flatten_at_once(&batch.slice(first, rows))?);
            first += rows;
        }
        Ok(batches)
    }

    fn flatten_at_once(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let lists = batch.column(self.column).as_list::<i32>();
        let offsets = lists.value_offsets();
        let (start, end) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let is_plain =
            lists.null_count() == 0 && !(self.empty && offsets.windows(2).any(|pair| pair[0] == pair[1]));
        let elements = match is_plain {
            true => lists.values().slice(start, end - start),
            false => self.padded(lists)?,
        };
        if elements.is_empty() {
            return Ok(None);
        }
        let len = elements.len();
        let rows = (batch.num_columns() > 1).then(|| self.rows(lists));
        let column = |(at, column): (usize, &ArrayRef)| match &rows {
            Some(rows) if at != self.column => Ok(take(column, rows, None)?),
            _ => Ok(elements.clone()),
        };
        let columns = batch.columns().iter().enumerate().map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        Ok(Some(RecordBatch::try_new_with_options(self.schema(), columns, &options)?))
    }

    /// How many rows the array of `row` becomes, and how many of these have an element.
    fn count(&self, lists: &ListArray, row: usize) -> (usize, usize) {
        match (lists.is_null(row), lists.value_length(row) as usize) {
            (true, _) => (usize::from(self.nulls), 0),
            (false, 0) => (usize::from(self.empty), 0),
            (false, length) => (length, length),
        }
    }

    /// The elements, with NULL for arrays that are rows without one.
    fn padded(&self, lists: &ListArray) -> Result<ArrayRef> {
        let places = (0..lists.len()).flat_map(|row| {
            let (rows, elements) = self.count(lists, row);
            let first = lists.value_offsets()[row] as u32;
            (0..rows as u32).map(move |at| (elements > 0).then_some(first + at))
        });
        Ok(take(lists.values(), &places.collect::<UInt32Array>(), None)?)
    }

    /// The row that each row of the result comes from.
    fn rows(&self, lists: &ListArray) -> UInt32Array {
        let rows = (0..lists.len()).flat_map(|row| std::iter::repeat_n(row as u32, self.count(lists, row).0));
        UInt32Array::from_iter_values(rows)
    }
}

impl DisplayAs for FlatExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "FlatExec: column={}", self.column)
    }
}

impl ExecutionPlan for FlatExec {
    fn name(&self) -> &str {
        "FlatExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.unnest.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.unnest.input()]
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
        let unnest = UnnestExec::new(
            children.swap_remove(0),
            self.unnest.list_column_indices().to_vec(),
            Vec::new(),
            self.schema(),
            self.unnest.options().clone(),
        )?;
        Ok(Arc::new(Self { unnest, ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let most = context.session_config().batch_size();
        let of_run = self.clone();
        let rows = self
            .unnest
            .input()
            .execute(partition, context)?
            .map(move |batch| Ok::<_, DataFusionError>(stream::iter(of_run.flatten(&batch?, most)?).map(Ok)))
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
