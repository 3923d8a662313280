//! How a key's state follows from what comes: by aggregates over all of it, or by expressions over the state as it was.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::PhysicalExpr;

use super::columns::{check_type, column_of, columnar, rows_of_columns};
use super::functions;
use super::planner::visit;
use crate::error::{Error, Result};
use crate::sql::{
    DataType, Field, Grouping, Planner, RecordBatch, Row, Schema, SchemaRef, SqlError, Value, batch_of_rows,
    schema,
};
use crate::time::Time;

/// The name by which expressions know the state as it was; NULL for a key that had none.
const STATE: &str = "state";

/// A prepared way to keep states. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    grouping: Grouping,
    update: Option<Update>,
}

impl From<Grouping> for Keeping {
    /// States that are aggregates over all that came.
    fn from(grouping: Grouping) -> Self {
        Self { grouping, update: None }
    }
}

/// Expressions over a key, what the batch has for it, and its state as it was.
#[derive(Clone)]
struct Update {
    expressions: Arc<[Arc<dyn PhysicalExpr>]>,
    /// The key's columns, the values', and the state as one column.
    row: SchemaRef,
    state: SchemaRef,
    output: SchemaRef,
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.expressions.iter().map(ToString::to_string)).finish()
    }
}

impl Planner {
    /// States whose `columns` are expressions over the key, the values of `grouping` in the batch, and the columns of the state
    /// as it was (`state.total`), each with its name.
    ///
    /// A column's type is that which its expression keeps when the state has that type.
    ///
    /// # Errors
    /// As for [`query`](Self::query), with the one wrong expression as the error's text; also if it looks at more than one
    /// row, or its type cannot be told.
    pub(crate) fn keeping(
        &self,
        grouping: Grouping,
        columns: &[(String, String)],
    ) -> std::result::Result<Keeping, SqlError> {
        let given = grouping.output_schema().clone();
        let mut types = vec![DataType::Null; columns.len()];
        for (index, (name, text)) in columns.iter().enumerate() {
            let is_key = grouping.key_schema().column_with_name(name).is_some();
            if is_key || columns[..index].iter().any(|(other, _)| other == name) {
                return Err(SqlError::new(text, format!("two columns are called `{name}`")).with_hint(
                    "the key and the state are the columns of one stream: give one of them another name",
                ));
            }
            if let Some(value) = given.fields().iter().find(|field| field.name() == STATE) {
                return Err(SqlError::new(text, format!("`{}` is the state as it was", value.name()))
                    .with_hint("give the key or value of that name another one"));
            }
        }
        // The first round knows nothing of the state, the next ones what the round before has found.
        for _ in 0..4 {
            let state: Vec<Field> = columns
                .iter()
                .zip(&types)
                .map(|((name, _), of)| Field::new(name, of.clone(), true))
                .collect();
            let old = Field::new(STATE, DataType::Struct(state.into()), true);
            let fields = given.fields().iter().cloned().chain([Arc::new(old)]);
            let row: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let expressions = columns.iter().map(|(_, text)| self.expression(&row, text));
            let expressions = expressions.collect::<std::result::Result<Vec<_>, _>>()?;
            let found: Vec<DataType> = expressions.iter().map(|(_, of)| of.clone()).collect();
            if found != types {
                types = found;
                continue;
            }
            for ((name, text), of) in columns.iter().zip(&types) {
                if *of == DataType::Null {
                    return Err(SqlError::new(text, format!("the type of `{name}` cannot be told"))
                        .with_hint("say it by a cast, such as `cast(… as bigint)`"));
                }
                check_type(of).map_err(|error| SqlError::new(text, error.to_string()))?;
            }
            let state = schema(columns.iter().zip(&types).map(|((name, _), of)| (name.as_str(), of.clone())));
            let output = grouping.key_schema().fields().iter().chain(state.fields()).cloned();
            let output = Arc::new(Schema::new(output.collect::<Vec<_>>()));
            let expressions = expressions.into_iter().map(|(expression, _)| expression).collect();
            return Ok(Keeping { grouping, update: Some(Update { expressions, row, state, output }) });
        }
        let (name, text) = &columns[0];
        Err(SqlError::new(text, format!("the types of the state (`{name}` …) change with each update"))
            .with_hint("say them by casts, such as `cast(… as double)`"))
    }

    /// One expression over the columns of `row`, and its type.
    fn expression(
        &self,
        row: &SchemaRef,
        text: &str,
    ) -> std::result::Result<(Arc<dyn PhysicalExpr>, DataType), SqlError> {
        // Planned as a query first, which finds all that is wrong with it and tells it in the same words.
        const SELECT: &str = "select ";
        let alone = self.alone(row);
        let placed = |error: SqlError| SqlError {
            offset: error.offset.map(|(line, column)| match line {
                1 => (1, column.saturating_sub(SELECT.len() as u64).max(1)),
                _ => (line, column),
            }),
            sql: text.to_owned(),
            ..error
        };
        let plan =
            alone.logical(&format!("{SELECT}{text}\nfrom \"#row\"")).map_err(placed).map_err(|error| {
                // Only the state has parts.
                let part = error
                    .message
                    .strip_suffix("` is no part of it")
                    .map(|name| name.trim_start_matches('`').to_owned());
                match part {
                    Some(part) => SqlError::new(text, format!("the state has no column `{part}`"))
                        .with_hint("its columns are those of `update`"),
                    None => error,
                }
            })?;
        let mut other = plan.schema().fields().len() != 1;
        visit(&plan, &mut |node| {
            other |= !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::TableScan(_));
        });
        if other {
            return Err(SqlError::new(text, "this is not one value of one key").with_hint(
                "aggregates over the batch's rows stand in `values`; an update looks at their values and at `state`",
            ));
        }
        let failed = |error| SqlError::from_datafusion(text, &error, &alone.readable());
        let expression = alone.row_expression(row, text).map_err(failed)?;
        let of = expression.data_type(row).map_err(failed)?;
        Ok((expression, of))
    }
}

impl Keeping {
    /// What a batch has for its keys.
    pub(crate) fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// The columns of the key.
    pub(crate) fn key_schema(&self) -> &SchemaRef {
        self.grouping.key_schema()
    }

    /// The columns that a state comes to.
    pub(crate) fn value_schema(&self) -> &SchemaRef {
        self.update.as_ref().map_or_else(|| self.grouping.value_schema(), |update| &update.state)
    }

    /// The columns of a stored state.
    pub(crate) fn state_schema(&self) -> &SchemaRef {
        self.update.as_ref().map_or_else(|| self.grouping.state_schema(), |update| &update.state)
    }

    /// The key's columns, then those that the state comes to.
    pub(crate) fn output_schema(&self) -> &SchemaRef {
        self.update.as_ref().map_or_else(|| self.grouping.output_schema(), |update| &update.output)
    }

    /// The state that follows on `old`, with what the batch `time` has for the key, if it has any.
    ///
    /// # Errors
    /// `Data` when an expression fails on a value; `Checkpoint` when a state was kept in another way.
    pub(crate) fn next(&self, time: Time, key: &Row, new: Option<&Row>, old: Option<&Row>) -> Result<Row> {
        match (&self.update, old, new) {
            (Some(update), ..) => {
                let given = match new {
                    Some(new) => self.grouping.finish([(key, new)])?,
                    None => batch_of_rows(self.grouping.output_schema(), [&self.grouping.of_no_rows(key)])?,
                };
                functions::at(Some(time), || update.next(&given, old))
            }
            (None, Some(old), Some(new)) => {
                let mut sum = old.clone();
                self.grouping.merge(&mut sum, new);
                Ok(sum)
            }
            (None, old, new) => Ok(old.or(new).cloned().unwrap_or_default()),
        }
    }

    /// The states of the keys in `rows`, which came before all others.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub(crate) fn initial(&self, rows: &[RecordBatch]) -> Result<Vec<(Row, Row)>> {
        let groups = self.grouping.partial(rows)?;
        if self.update.is_none() {
            return Ok(groups);
        }
        let state = |(key, new): (Row, Row)| {
            let state = self.next(Time::ZERO, &key, Some(&new), None)?;
            Ok((key, state))
        };
        groups.into_iter().map(state).collect()
    }

    /// The output rows of these keys and states, in order.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub(crate) fn finish<'a>(
        &self,
        groups: impl IntoIterator<Item = (&'a Row, &'a Row)>,
    ) -> Result<RecordBatch> {
        let Some(update) = &self.update else { return self.grouping.finish(groups) };
        let row = |(key, state): (&Row, &Row)| Row(key.0.iter().chain(&state.0).cloned().collect());
        let rows: Vec<Row> = groups.into_iter().map(row).collect();
        batch_of_rows(&update.output, &rows)
    }

    /// What `state` comes to, as the one row of a batch of [`value_schema`](Self::value_schema).
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub(crate) fn values(&self, state: &Row) -> Result<RecordBatch> {
        match &self.update {
            Some(update) => batch_of_rows(&update.state, [state]),
            None => self.grouping.values(state),
        }
    }
}

impl Update {
    /// The state that follows on `old`, with `given`: one row of the key's columns and the values'.
    fn next(&self, given: &RecordBatch, old: Option<&Row>) -> Result<Row> {
        let width = self.state.fields().len();
        if let Some(old) = old.filter(|old| old.0.len() != width) {
            let message =
                format!("a stored state has {} columns where there should be {width}: {old:?}", old.0.len());
            return Err(Error::new(crate::ErrorKind::Checkpoint, message));
        }
        let old = old.map_or(Value::Null, |old| Value::List(old.0.to_vec().into()));
        let of_state = self.row.field(self.row.fields().len() - 1).data_type();
        let columns = given.columns().iter().cloned().chain([column_of(of_state, &[&old])?]);
        let row = columnar(&self.row, columns.collect(), 1)?;
        let value = |expression: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
            let value = expression.evaluate(&row).and_then(|value| value.into_array(1));
            value.map_err(|error| {
                Error::data(error.strip_backtrace()).within(format_args!("update `{expression}`"))
            })
        };
        let values = self.expressions.iter().map(value).collect::<Result<Vec<_>>>()?;
        let state = columnar(&self.state, values, 1)?;
        rows_of_columns(state.columns(), 1)?.pop().ok_or_else(|| Error::internal("an update gave no state"))
    }
}
