//! Each value is one text.

use std::str::from_utf8;
use std::sync::Arc;

use datafusion::arrow::array::StringViewBuilder;

use super::Decoded;
use crate::sql::{RecordBatch, SchemaRef};

/// Rows of the one text column of `schema`.
pub(super) fn decode(schema: &SchemaRef, values: &[Option<&[u8]>]) -> Decoded {
    let mut column = StringViewBuilder::with_capacity(values.len());
    let mut bad = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value.map(from_utf8).transpose() {
            Ok(text) => column.append_option(text),
            Err(error) => {
                bad.push((
                    index,
                    format!("expected UTF-8 text, found another byte at position {}", error.valid_up_to()),
                ));
            }
        }
    }
    let column = Arc::new(column.finish());
    // The schema was made for exactly this column.
    let batch = RecordBatch::try_new(Arc::clone(schema), vec![column]).expect("one nullable text column");
    Decoded { batch, bad }
}
