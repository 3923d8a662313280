//! The `group by` of an operator that keeps state: partial values per key that can be merged, taken out again, finished.

mod aggregate;
mod generic;
mod plan;

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::columns::{batch, column_of, columnar, rows_of_columns};
use crate::sql::{Inputs, Memory, Query, RecordBatch, Row, SchemaRef, Spooled, Value, Values};

use aggregate::Aggregate;
use generic::{Generic, PARTIALS};
pub(super) use plan::plan;

/// A prepared grouping: keys and aggregates over one stream. Cheap to clone; may be used by several threads.
///
/// A key's *state* is a [`Row`] of the columns of [`state_schema`](Self::state_schema): the number of rows first, then what
/// each aggregate needs. Merging is associative and commutative for all but the sums of floats, which round.
///
/// Sums of integers are exact: one that leaves the range of a bigint goes on as a list of two, and is an error only if it is
/// still out of range when it is [finished](Self::finish).
#[derive(Debug, Clone)]
pub(crate) struct Grouping {
    partial_sql: Arc<str>,
    /// The keys and the aggregates' states, of a chunk of the rows.
    partial: Query,
    /// Which of its columns are the keys, the number of rows, and each aggregate's.
    partial_columns: Arc<[usize]>,
    /// The keys, the number of rows, and each aggregate's columns, merged from those of all chunks.
    merge: Query,
    aggregates: Arc<[Aggregate]>,
    key_schema: SchemaRef,
    value_schema: SchemaRef,
    state_schema: SchemaRef,
    output_schema: SchemaRef,
}

impl Grouping {
    /// The query behind the partial states: groupings for which it is equal have equal states, whatever their columns' names.
    pub(crate) fn partial_sql(&self) -> &str {
        &self.partial_sql
    }

    /// The columns of the key.
    pub(crate) fn key_schema(&self) -> &SchemaRef {
        &self.key_schema
    }

    /// The aggregates' output columns.
    pub(crate) fn value_schema(&self) -> &SchemaRef {
        &self.value_schema
    }

    /// The columns of a partial state, to be shown with a stored one. A sum that left the range of a bigint is a list there.
    pub(crate) fn state_schema(&self) -> &SchemaRef {
        &self.state_schema
    }

    /// The key's columns, then the values'.
    pub(crate) fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }

    /// The stream that is grouped.
    pub(crate) fn input(&self) -> &str {
        &self.partial.inputs()[0]
    }

    /// Whether [`invert`](Self::invert) takes rows out again: all aggregates are counts, sums or averages.
    pub(crate) fn invertible(&self) -> bool {
        self.aggregates.iter().all(Aggregate::invertible)
    }

    /// Groups these rows: one key with its state for each distinct key, in the order of first occurrence. NULL keys are a
    /// group like any other. Nothing for no rows.
    ///
    /// Rows may be grouped chunk by chunk, and the states of equal keys [merged](Self::merge).
    ///
    /// # Errors
    /// `Data` when an expression fails on a value; `Usage` when the rows are of another schema.
    pub(crate) fn partial(&self, batches: &[RecordBatch]) -> Result<Vec<(Row, Row)>> {
        let mut groups = Vec::new();
        for batch in self.partial_batches(batches)? {
            groups.extend(self.groups(&batch)?);
        }
        Ok(groups)
    }

    /// What gives the states of chunks of the rows of [`input`](Self::input), in columns that only this grouping can read.
    pub(crate) fn partial_query(&self) -> &Query {
        &self.partial
    }

    fn partial_batches(&self, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(Vec::new());
        }
        self.partial.run(&Inputs::new().with(self.input(), batches))
    }

    /// The keys and states of a batch that the [partial query](Self::partial_query) gave.
    ///
    /// # Errors
    /// `Data` for a value that cannot be kept.
    pub(crate) fn groups(&self, partial: &RecordBatch) -> Result<Vec<(Row, Row)>> {
        let columns: Vec<_> = self.partial_columns.iter().map(|&at| partial.column(at).clone()).collect();
        self.groups_of(&columns, partial.num_rows())
    }

    fn groups_of(&self, columns: &[ArrayRef], len: usize) -> Result<Vec<(Row, Row)>> {
        let (key, rest) = columns.split_at(self.key_schema.fields().len());
        let (keys, states) = (rows_of_columns(key, len)?, rows_of_columns(rest, len)?);
        Ok(keys.into_iter().zip(states).map(|(key, state)| (key, self.state(state))).collect())
    }

    /// Whether [`merged_groups`](Self::merged_groups) gives the states of all chunks together: there are keys, and what merging the
    /// columns gives for each aggregate is its state as well as its value.
    pub(crate) fn merges_states(&self) -> bool {
        let own = |aggregate: &Aggregate| !matches!(aggregate, Aggregate::Generic(_));
        !self.key_schema.fields().is_empty() && self.aggregates.iter().all(own)
    }

    /// The keys and states of a batch that [`run_merge`](Self::run_merge) gave. Only if the grouping
    /// [merges states](Self::merges_states).
    ///
    /// # Errors
    /// As for [`groups`](Self::groups).
    pub(crate) fn merged_groups(&self, merged: &RecordBatch) -> Result<Vec<(Row, Row)>> {
        self.groups_of(merged.columns(), merged.num_rows())
    }

    /// The same grouping, whose queries stay within `memory`.
    ///
    /// # Errors
    /// As for [`Query::within`].
    pub(crate) fn within(&self, memory: &Arc<Memory>) -> Result<Self> {
        let (partial, merge) = (self.partial.clone().in_tasks(memory), self.merge.clone().within(memory)?);
        Ok(Self { partial, merge, ..self.clone() })
    }

    /// Merges the states of all chunks' `partials`: a row for each key, for [`merged`](Self::merged).
    ///
    /// # Errors
    /// As for [`Query::run_spooled`].
    pub(crate) fn run_merge(&self, partials: Vec<Spooled>, memory: &Arc<Memory>) -> Result<Spooled> {
        // Over nothing, an aggregate without keys would have its one row.
        if partials.iter().all(|part| part.num_rows() == 0) {
            return Ok(Spooled::from(Vec::new()));
        }
        self.merge.run_spooled(&Inputs::new().with_parts(PARTIALS, partials), memory)
    }

    /// The output rows of a batch that [`run_merge`](Self::run_merge) gave.
    ///
    /// # Errors
    /// As for [`finish`](Self::finish).
    pub(crate) fn merged(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (keys, mut rest) = batch.columns().split_at(self.key_schema.fields().len());
        let mut columns = keys.to_vec();
        // The number of rows is in no output.
        rest = rest.get(1..).unwrap_or_default();
        for (aggregate, field) in self.aggregates.iter().zip(self.value_schema.fields()) {
            let (own, after) = rest.split_at(aggregate.merged_width());
            rest = after;
            let column = match own {
                [whole] if !aggregate.is_sum() => whole.clone(),
                parts => {
                    let within = |error: Error| error.within(format_args!("column `{}`", field.name()));
                    let values = rows_of_columns(parts, batch.num_rows())?.into_iter().map(|parts| {
                        let mut state = Values::with_capacity(aggregate.width());
                        aggregate.start(&mut parts.0.into_iter(), &mut state);
                        aggregate.finish(&state)
                    });
                    let values = values.collect::<Result<Vec<_>>>().map_err(within)?;
                    column_of(field.data_type(), &values.iter().collect::<Vec<_>>()).map_err(within)?
                }
            };
            columns.push(column);
        }
        columnar(&self.output_schema, columns, batch.num_rows())
    }

    /// The state that a row of the partial query's columns (after the keys) stands for.
    fn state(&self, partial: Row) -> Row {
        let mut columns = partial.0.into_iter();
        let mut state = Values::with_capacity(self.state_schema.fields().len());
        state.extend(columns.next());
        for aggregate in self.aggregates.iter() {
            aggregate.start(&mut columns, &mut state);
        }
        Row(state)
    }

    /// Adds the rows that `other` stands for to `state`.
    pub(crate) fn merge(&self, state: &mut Row, other: &Row) {
        self.combine(state, other, Aggregate::merge);
    }

    /// Takes the rows that `other` stands for out of `state`, which held them. Exact for integers; a sum of floats keeps the
    /// rounding errors of what was added and taken out, and an infinity or NaN once in it, until no value is left, which sets
    /// it to zero again.
    ///
    /// Only for an [`invertible`](Self::invertible) grouping: for others it leaves a min or max as it is.
    pub(crate) fn invert(&self, state: &mut Row, other: &Row) {
        self.combine(state, other, Aggregate::invert);
    }

    fn combine(&self, state: &mut Row, other: &Row, each: fn(&Aggregate, &mut [Value], &[Value])) {
        // A state of another shape comes from another program's checkpoint. It is kept, for `finish` to tell.
        let width = self.state_schema.fields().len();
        if other.0.len() != width {
            state.clone_from(other);
        }
        if state.0.len() != width {
            return;
        }
        let (mut mine, mut theirs) = (state.0.as_mut_slice(), other.0.as_slice());
        // The number of rows is a count like any other.
        for aggregate in std::iter::once(&Aggregate::Count).chain(self.aggregates.iter()) {
            let width = aggregate.width();
            let (here, after) = mine.split_at_mut(width);
            let (there, rest) = theirs.split_at(width);
            each(aggregate, here, there);
            (mine, theirs) = (after, rest);
        }
    }

    /// The output row of a key of which there are no rows.
    pub(crate) fn of_no_rows(&self, key: &Row) -> Row {
        let none = |aggregate: &Aggregate| match aggregate {
            Aggregate::Count => Value::Int(0),
            _ => Value::Null,
        };
        Row(key.0.iter().cloned().chain(self.aggregates.iter().map(none)).collect())
    }

    /// Whether `state` stands for no row at all any more.
    pub(crate) fn is_zero(&self, state: &Row) -> bool {
        matches!(state.0.first(), None | Some(Value::Int(0)))
    }

    /// The values that `state` comes to, as the one row of a batch of [`value_schema`](Self::value_schema).
    ///
    /// # Errors
    /// As for [`finish`](Self::finish).
    pub(crate) fn values(&self, state: &Row) -> Result<RecordBatch> {
        let key = Row::from(vec![Value::Null; self.key_schema.fields().len()]);
        let row = self.finish([(&key, state)])?;
        let columns = row.columns()[self.key_schema.fields().len()..].to_vec();
        batch(&self.value_schema, columns, 1)
    }

    /// The output rows of these keys and states, in order; a batch without rows for none.
    ///
    /// # Errors
    /// `Data` when a sum of integers does not fit a bigint; `Checkpoint` when a row does not have the schema's columns.
    pub(crate) fn finish<'a>(
        &self,
        groups: impl IntoIterator<Item = (&'a Row, &'a Row)>,
    ) -> Result<RecordBatch> {
        let groups: Vec<_> = groups.into_iter().collect();
        let (keys, states) = (self.key_schema.fields(), self.state_schema.fields());
        if let Some((key, state)) =
            groups.iter().find(|(key, state)| key.0.len() != keys.len() || state.0.len() != states.len())
        {
            let message =
                format!("a stored group has other columns than this grouping: {key:?} with {state:?}");
            return Err(Error::new(ErrorKind::Checkpoint, message));
        }
        let mut columns = Vec::with_capacity(self.output_schema.fields().len());
        for (index, field) in keys.iter().enumerate() {
            let values: Vec<_> = groups.iter().map(|(key, _)| &key.0[index]).collect();
            columns.push(column_of(field.data_type(), &values)?);
        }
        let mut start = Aggregate::Count.width();
        for (aggregate, field) in self.aggregates.iter().zip(self.value_schema.fields()) {
            let own = start..start + aggregate.width();
            let values = groups.iter().map(|(_, state)| aggregate.finish(&state.0[own.clone()]));
            let within = |error: Error| error.within(format_args!("column `{}`", field.name()));
            let values = values.collect::<Result<Vec<_>>>().map_err(within)?;
            columns.push(column_of(field.data_type(), &values.iter().collect::<Vec<_>>()).map_err(within)?);
            start = own.end;
        }
        batch(&self.output_schema, columns, groups.len())
    }
}

#[cfg(test)]
mod tests;
