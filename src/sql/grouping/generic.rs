//! Any aggregate that DataFusion knows, by the state that it keeps itself: that can be merged, since DataFusion merges it
//! between its own threads, and be stored, since it is made of ordinary columns.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::udaf::AggregateFunctionExpr;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::error::{Error, Result};
use crate::sql::columns::{column_of, values_of};
use crate::sql::source::InputExec;
use crate::sql::{DataType, Value, split};

/// One call of an aggregate, as it was planned.
#[derive(Debug, Clone)]
pub(super) struct Generic {
    call: Arc<AggregateFunctionExpr>,
    state: Arc<[DataType]>,
}

impl Generic {
    /// The one aggregate of a plan of `select CALL from …`.
    ///
    /// # Errors
    /// What is wrong with it: it is no single aggregate, or a state or result of its kind cannot be kept.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> std::result::Result<Self, String> {
        let aggregate = aggregation(plan).ok_or("this is not one call of an aggregate")?;
        let [call] = aggregate.aggr_expr() else {
            return Err("this is not one call of an aggregate".to_owned());
        };
        Self::new(call)
    }

    /// The aggregate of a planned call. What its state looks like depends on the plan that it stands in.
    pub(super) fn new(call: &Arc<AggregateFunctionExpr>) -> std::result::Result<Self, String> {
        let plain = |error: DataFusionError| error.strip_backtrace();
        let fields = call.state_fields().map_err(plain)?;
        let state: Arc<[DataType]> = fields.iter().map(|field| field.data_type().clone()).collect();
        for of in state.iter() {
            check_state(of)
                .map_err(|error| format!("the state of {} cannot be stored: {error}", call.name()))?;
        }
        crate::sql::columns::check_type(call.field().data_type()).map_err(|error| error.to_string())?;
        Ok(Self { call: Arc::clone(call), state })
    }

    pub(super) fn state_columns(&self, name: &str) -> Vec<(String, DataType)> {
        self.state.iter().enumerate().map(|(part, of)| (format!("{name}_{part}"), of.clone())).collect()
    }

    pub(super) fn output_type(&self) -> DataType {
        self.call.field().data_type().clone()
    }

    pub(super) fn width(&self) -> usize {
        self.state.len()
    }

    /// Adds `theirs`, which came later, to `mine`. A state that cannot be read is kept in place of the sum, for
    /// [`finish`](Self::finish) to tell.
    pub(super) fn merge(&self, mine: &mut [Value], theirs: &[Value]) {
        match self.merged(&[mine, theirs]).and_then(|sum| self.stored(sum)) {
            Ok(sum) => mine.clone_from_slice(&sum),
            Err(_) if self.merged(&[mine]).is_err() => {}
            Err(_) => mine.clone_from_slice(theirs),
        }
    }

    /// The value of a state.
    pub(super) fn finish(&self, state: &[Value]) -> Result<Value> {
        let value = match self.merged(&[state])? {
            Sum::Group(mut sum) => sum.evaluate(EmitTo::All),
            Sum::Alone(mut sum) => sum.evaluate().and_then(|value| value.to_array()),
        };
        only(&value.map_err(|e| self.failed(e))?)
    }

    fn merged(&self, states: &[&[Value]]) -> Result<Sum> {
        let column = |(part, of): (usize, &DataType)| {
            let values: Vec<&Value> = states.iter().map(|state| &state[part]).collect();
            column_of(of, &values)
        };
        let columns = self.state.iter().enumerate().map(column).collect::<Result<Vec<ArrayRef>>>()?;
        let sum = if self.call.groups_accumulator_supported() {
            self.call.create_groups_accumulator().and_then(|mut sum| {
                sum.merge_batch(&columns, &vec![0; states.len()], 1)?;
                Ok(Sum::Group(sum))
            })
        } else {
            self.call.create_accumulator().and_then(|mut sum| {
                sum.merge_batch(&columns)?;
                Ok(Sum::Alone(sum))
            })
        };
        sum.map_err(|e| self.failed(e))
    }

    fn stored(&self, sum: Sum) -> Result<Vec<Value>> {
        let parts = match sum {
            Sum::Group(mut sum) => sum.state(EmitTo::All),
            Sum::Alone(mut sum) => sum
                .state()
                .and_then(|parts| parts.iter().map(datafusion::common::ScalarValue::to_array).collect()),
        };
        parts.map_err(|e| self.failed(e))?.iter().map(only).collect()
    }

    fn failed(&self, error: DataFusionError) -> Error {
        Error::data(error.strip_backtrace()).within(format_args!("aggregate {}", self.call.name()))
    }
}

/// What merges states: whatever the grouping itself uses, since the two may write their states in different ways.
enum Sum {
    /// One group of several.
    Group(Box<dyn GroupsAccumulator>),
    Alone(Box<dyn Accumulator>),
}

/// The one value of a column.
fn only(column: &ArrayRef) -> Result<Value> {
    values_of(column)?.pop().ok_or_else(|| Error::internal("an aggregate gave no value"))
}

/// Whether values can hold a part of a state: what rows hold, and structs inside.
fn check_state(of: &DataType) -> Result<()> {
    match of {
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_state(field.data_type())),
        DataType::List(element) => check_state(element.data_type()),
        other => crate::sql::columns::check_type(other),
    }
}

/// The aggregation that gives the rows of `plan`, but for a projection.
fn aggregation(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    match plan.downcast_ref::<AggregateExec>() {
        Some(aggregate) => Some(aggregate),
        None if plan.name() == "ProjectionExec" => aggregation(plan.children().first()?),
        None => None,
    }
}

/// Takes `plan` apart, a projection of an aggregation over columns of it.
///
/// # Errors
/// What is wrong with it: one of its columns is none of the aggregation's.
pub(super) fn in_parts(plan: &Arc<dyn ExecutionPlan>, keys: usize) -> std::result::Result<InParts, String> {
    let plain = |error: DataFusionError| error.strip_backtrace();
    let aggregate = aggregation(plan).ok_or("these aggregates cannot be kept")?;
    let keys = keys.min(aggregate.group_expr().expr().len());
    // Where each column of the result is among those of the aggregation.
    let mut places: Vec<usize> = (0..aggregate.schema().fields().len()).collect();
    let mut above = Vec::new();
    let mut node = plan;
    while let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        above.push(projection);
        node = projection.input();
    }
    for projection in above.iter().rev() {
        let place = |expr: &Arc<dyn PhysicalExpr>| {
            expr.downcast_ref::<Column>().and_then(|c| places.get(c.index()).copied())
        };
        let moved: Option<Vec<usize>> = projection.expr().iter().map(|column| place(&column.expr)).collect();
        places = moved.ok_or("these keys cannot be kept")?;
    }
    let partial = split::partial(aggregate).map_err(plain)?;
    let read: Arc<dyn ExecutionPlan> =
        Arc::new(InputExec::new(&PARTIALS.into(), &partial.schema(), None).map_err(plain)?);
    let merge = Arc::clone(plan).transform_down(|node| match node.downcast_ref::<AggregateExec>() {
        Some(aggregate) => {
            let merged = split::merged(aggregate, Arc::clone(&read))?;
            Ok(Transformed::new(merged, true, TreeNodeRecursion::Jump))
        }
        None => Ok(Transformed::no(node)),
    });
    let merge = merge.data().map_err(plain)?;
    // The aggregates' states stand one after the other behind the keys.
    let mut states = Vec::new();
    let mut next = keys;
    for call in aggregate.aggr_expr() {
        let width = call.state_fields().map_err(plain)?.len();
        states.push(next..next + width);
        next += width;
    }
    let (mut columns, mut calls) = (Vec::new(), Vec::new());
    for place in places {
        match place.checked_sub(keys) {
            None => columns.push(place),
            Some(call) => {
                columns.extend(states[call].clone());
                calls.push(Arc::clone(&aggregate.aggr_expr()[call]));
            }
        }
    }
    Ok(InParts { partial, columns, calls, merge })
}

/// The name by which the second step knows what the first one gives.
pub(super) const PARTIALS: &str = "#partials";

/// An aggregation in two steps.
pub(super) struct InParts {
    /// Groups a chunk of the rows and gives the aggregates' states.
    pub(super) partial: Arc<dyn ExecutionPlan>,
    /// Which of its columns are the keys, and then the states in the order of the aggregates.
    pub(super) columns: Vec<usize>,
    /// The aggregate behind each column after the keys.
    pub(super) calls: Vec<Arc<AggregateFunctionExpr>>,
    /// Merges what was given for all chunks, and gives the aggregates' values.
    pub(super) merge: Arc<dyn ExecutionPlan>,
}
