//! Each value is one text.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::StringViewArray;
use datafusion::arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use simdutf8::{basic, compat};

use super::{Decoded, ValueAt};
use crate::sql::views::view;
use crate::sql::{RecordBatch, SchemaRef};

/// Rows of the one text column of `schema`.
pub(super) fn decode(schema: &SchemaRef, bytes: &Bytes, values: &[ValueAt]) -> Decoded {
    let place = |value: Range<usize>| view(bytes, 0, value.start, value.end);
    // Of ASCII every byte is a character: a value may begin and end anywhere.
    if bytes.is_ascii() && values.iter().all(|value| value.range().is_some()) {
        let views = values.iter().map(|value| place(value.range().unwrap_or_default())).collect();
        return Decoded { batch: rows(schema, bytes, views, None), bad: Vec::new() };
    }
    let (mut views, mut valid, mut bad) = (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
    // All at once is quicker; a value that begins or ends within a character is none of its own then.
    let all = basic::from_utf8(bytes).ok();
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value.range() else {
            valid.resize(views.len(), true);
            valid.push(false);
            views.push(0);
            continue;
        };
        if all.is_none_or(|all| all.get(value.clone()).is_none())
            && let Err(error) = compat::from_utf8(&bytes[value.clone()])
        {
            let place = error.valid_up_to();
            bad.push((index, format!("expected UTF-8 text, found another byte at position {place}")));
            continue;
        }
        views.push(place(value));
    }
    let nulls = (!valid.is_empty()).then(|| {
        valid.resize(views.len(), true);
        NullBuffer::from(valid)
    });
    Decoded { batch: rows(schema, bytes, views, nulls), bad }
}

/// Rows of views of what was found to be UTF-8 in `bytes`.
fn rows(schema: &SchemaRef, bytes: &Bytes, views: Vec<u128>, nulls: Option<NullBuffer>) -> RecordBatch {
    let block = vec![Buffer::from(bytes.clone())];
    // SAFETY: each view is of the bytes of a value, which are UTF-8.
    let column = unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), block, nulls) };
    // The schema was made for exactly this column.
    RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(column)]).expect("one nullable text column")
}
