//! The `group by` of an operator that keeps state: partial values per key that can be merged, taken out again, finished.

use crate::error::Result;
use crate::sql::{Query, RecordBatch, Row, SchemaRef};

/// A prepared grouping: keys and aggregates over one stream. Cheap to clone; may be used by several threads.
///
/// A key's *state* is a [`Row`] of the columns of [`state_schema`](Self::state_schema): the number of rows first, then what
/// each aggregate needs. Merging is associative and commutative for all but the sums of floats, which round.
#[derive(Debug, Clone)]
pub(crate) struct Grouping {
    partial: Query,
    key_schema: SchemaRef,
    value_schema: SchemaRef,
    state_schema: SchemaRef,
    output_schema: SchemaRef,
}

impl Grouping {
    /// The columns of the key.
    pub(crate) fn key_schema(&self) -> &SchemaRef {
        &self.key_schema
    }

    /// The aggregates' output columns.
    pub(crate) fn value_schema(&self) -> &SchemaRef {
        &self.value_schema
    }

    /// The columns of a partial state, to be shown with a stored one.
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
        todo!()
    }

    /// Groups these rows: one key with its state for each distinct key, in the order of first occurrence. NULL keys are a
    /// group like any other. Nothing for no rows.
    ///
    /// # Errors
    /// `Data` when an expression fails on a value.
    pub(crate) fn partial(&self, batches: &[RecordBatch]) -> Result<Vec<(Row, Row)>> {
        let _ = batches;
        todo!()
    }

    /// Adds the rows that `other` stands for to `state`.
    pub(crate) fn merge(&self, state: &mut Row, other: &Row) {
        let _ = (state, other);
        todo!()
    }

    /// Takes the rows that `other` stands for out of `state`, which held them. Exact for integers; a sum of floats keeps the
    /// rounding errors of what was added and taken out until no value is left, which sets it to zero again.
    ///
    /// Only for an [`invertible`](Self::invertible) grouping: for others it does nothing to a min or max.
    pub(crate) fn invert(&self, state: &mut Row, other: &Row) {
        let _ = (state, other);
        todo!()
    }

    /// Whether `state` stands for no row at all any more.
    pub(crate) fn is_zero(&self, state: &Row) -> bool {
        let _ = state;
        todo!()
    }

    /// The output rows of these keys and states, in order; a batch without rows for none.
    ///
    /// # Errors
    /// `Data` when a sum of integers does not fit a bigint; `Checkpoint` when a row does not have the schema's columns.
    pub(crate) fn finish<'a>(&self, groups: impl IntoIterator<Item = (&'a Row, &'a Row)>) -> Result<RecordBatch> {
        let _ = groups.into_iter().count();
        todo!()
    }
}

pub(super) fn plan(planner: &crate::sql::Planner, from: &str, key: &[String], values: &[(String, String)]) -> std::result::Result<Grouping, crate::sql::SqlError> {
    let _ = (planner, from, key, values);
    todo!()
}
