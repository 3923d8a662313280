//! SQL expressions and queries over Arrow batches: the only place that names DataFusion or Arrow.
//!
//! Bytes come in through a [`Decoder`], one batch of rows per chunk of records. A [`Planner`] knows the streams by
//! name and turns SQL into a [`Query`] (planned once, run each batch) or a [`Grouping`] (the `group by` of an operator
//! that keeps state: partial values that can be merged, taken out again and finished). [`Row`]s carry keys and values
//! to the state store and back. The functions of [`encode`] write rows for a sink.
//!
//! For programs there is [`SqlSession`], which keeps RDDs as views and queries them into [`DataFrame`]s.

#![cfg_attr(
    not(feature = "service"),
    allow(dead_code, unused_imports, reason = "the service is what uses the most of it")
)]

mod columns;
mod condition;
mod contains;
mod dataframe;
mod deadline;
pub(crate) mod decode;
pub(crate) mod encode;
mod error;
mod files;
mod flat;
mod functions;
mod grouping;
mod in_order;
mod join_sorted;
mod keeping;
mod memory;
mod planner;
mod query;
mod row;
mod running;
mod session;
mod show;
mod source;
mod split;
mod spool;
mod stream;
mod string_to_array;
mod top_n;
mod typed;
mod types;
mod views;

pub(crate) use datafusion::arrow::array::RecordBatch;
pub(crate) use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

pub(crate) use columns::{
    batch_of_rows, batch_time_schema, columnar, rows_of_batch, with_batch_time, with_times,
};
pub(crate) use condition::Condition;
pub use dataframe::{DataFrame, SqlColumn};
pub(crate) use deadline::IsOver;
pub(crate) use decode::{Decoder, Format, ValueAt};
pub(crate) use encode::FileFormat;
pub(crate) use error::SqlError;
pub(crate) use files::{TableFormat, read_table};
pub(crate) use grouping::Grouping;
pub(crate) use keeping::Keeping;
pub(crate) use memory::{DEFAULT_MEMORY, Memory};
pub(crate) use planner::Planner;
pub(crate) use query::{Inputs, Query};
pub(crate) use row::{Row, Value, Values};
pub(crate) use running::run_in_tasks;
pub use session::SqlSession;
pub(crate) use split::Part;
pub(crate) use spool::{Spool, Spooled, cut, every, shared, spooled};
pub(crate) use types::{data_type, schema, type_name, union_schema};

/// How many records an element of a stream stands for: the rows of a batch of rows, else one.
pub(crate) fn weight(element: &dyn std::any::Any) -> u64 {
    let spooled = |rows: &Spooled| rows.num_rows() as u64;
    let other = || element.downcast_ref::<Spooled>().map_or(1, spooled);
    element.downcast_ref::<RecordBatch>().map_or_else(other, |batch| batch.num_rows() as u64)
}

#[cfg(test)]
mod tests;
