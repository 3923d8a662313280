//! Rows that outlive a batch: keys and values of state, and how they become Arrow columns and back.

use crate::error::Result;
use crate::sql::{RecordBatch, SchemaRef};

/// One value of a row. Its exact SQL type is in the schema beside it: dates are `Int` days and timestamps `Int`
/// microseconds since the epoch, so that a value written without its schema reads back as the same value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// SQL's NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// Every integer type, dates (days) and timestamps (microseconds).
    Int(i64),
    /// `real` and `double`; never `-0.0`, and only one NaN, so that equal keys are equal bytes.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// An array.
    List(Box<[Value]>),
}

/// One row: a key, a partial state, or a result. Which column is which is in the schema beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row(pub(crate) Vec<Value>);

/// The batch's rows, in order; none for an empty batch.
///
/// # Errors
/// A column has a type that a row cannot hold (a struct, a map, an interval).
pub(crate) fn rows_of_batch(batch: &RecordBatch) -> Result<Vec<Row>> {
    let _ = batch;
    todo!()
}

/// One batch of all `rows`, in order; a batch without rows if there are none.
///
/// # Errors
/// A row has another number of columns than `schema`, or a value that does not fit its column.
pub(crate) fn batch_of_rows<'a>(schema: &SchemaRef, rows: impl IntoIterator<Item = &'a Row>) -> Result<RecordBatch> {
    let _ = (schema, rows.into_iter().count());
    todo!()
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        let _ = other;
        todo!()
    }
}
impl Eq for Value {}
impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let _ = state;
        todo!()
    }
}
impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Value {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let _ = other;
        todo!()
    }
}
impl serde::Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let _ = serializer;
        todo!()
    }
}
impl<'de> serde::Deserialize<'de> for Row {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let _ = deserializer;
        todo!()
    }
}
