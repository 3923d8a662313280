//! Rows to bytes: for a sink's values and keys, and for people.

use crate::error::Result;
use crate::sql::RecordBatch;

/// One JSON object per row, its members in the order of the columns, NULL written as `null`, timestamps as RFC 3339 in
/// UTC. Nothing for an empty batch.
///
/// # Errors
/// A column has a type that JSON cannot show.
pub(crate) fn rows_as_json(batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let _ = batch;
    todo!()
}

/// A record key for each row: the bytes of a text or bytes column as they are, any other type as its JSON text, `None` for
/// NULL. Nothing for an empty batch.
///
/// # Errors
/// There is no such column, or its type cannot be shown.
pub(crate) fn column_as_keys(batch: &RecordBatch, column: &str) -> Result<Vec<Option<Vec<u8>>>> {
    let _ = (batch, column);
    todo!()
}

/// The first `limit` rows as a table for people; a line that says how many more there are. Only the head for no rows.
pub(crate) fn pretty(batches: &[RecordBatch], limit: usize) -> String {
    let _ = (batches, limit);
    todo!()
}
