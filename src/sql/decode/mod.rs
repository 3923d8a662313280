//! Bytes of records to rows: good rows in one batch, bad records by their index.

mod json;
mod members;
mod text;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::sql::{DataType, RecordBatch, SchemaRef};

/// How a record's value is to be read.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// The whole value is one text column of this name. A record without value is a row with NULL; bytes that are not
    /// UTF-8 are bad.
    Text {
        /// The column's name, `value` by default.
        column: String,
    },
    /// The value is one JSON object; its members of these names are the columns, a missing one is NULL, others are passed
    /// over. A number may also be written as a string of its digits; a timestamp is an RFC 3339 string (UTC without an
    /// offset) or an integer of microseconds, a date `2026-01-31` or an integer of days.
    ///
    /// Bad are: no value, no or half a JSON object, more than one, a member of another type. Commas too many or too few, and
    /// how a number in a member that is passed over is written, are not looked at.
    Json {
        /// The columns.
        schema: SchemaRef,
    },
}

/// Where a record's value stands, or that there is none: small, since there is one of each record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueAt {
    start: u32,
    /// [`NONE`](ValueAt::NONE)'s stands for no value.
    length: u32,
}

impl ValueAt {
    pub(crate) const NONE: Self = Self { start: 0, length: u32::MAX };

    /// These bytes of fewer than 4 GiB, which is as far as Arrow's views of texts reach, too.
    pub(crate) fn of(range: Range<usize>) -> Self {
        Self { start: range.start as u32, length: (range.end - range.start) as u32 }
    }

    #[inline]
    pub(crate) fn range(self) -> Option<Range<usize>> {
        let start = self.start as usize;
        (self.length != Self::NONE.length).then(|| start..start + self.length as usize)
    }
}

/// What came of some records.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The rows of the good records, in order.
    pub(crate) batch: RecordBatch,
    /// The bad records' indices, ascending, each with what is wrong.
    pub(crate) bad: Vec<(usize, String)>,
}

/// Reads records' values as rows. Cheap to clone; may be shared between threads.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    schema: SchemaRef,
    format: Format,
}

impl Decoder {
    /// A decoder for `format`.
    ///
    /// # Errors
    /// `Config` when a column's type cannot be read from this format, or there is no column.
    pub(crate) fn new(format: Format) -> Result<Self> {
        let schema = match &format {
            Format::Text { column } => crate::sql::schema([(column.as_str(), DataType::Utf8View)]),
            Format::Json { schema } => {
                json::check(schema)?;
                Arc::clone(schema)
            }
        };
        Ok(Self { schema, format })
    }

    /// The columns of the rows.
    #[cfg(test)]
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// As [`decode`](Self::decode), of values that stand anywhere.
    #[cfg(test)]
    pub(crate) fn decode_values(&self, values: &[Option<&[u8]>]) -> Decoded {
        let mut bytes = Vec::new();
        let mut place = |value: &[u8]| {
            bytes.extend_from_slice(value);
            ValueAt::of(bytes.len() - value.len()..bytes.len())
        };
        let places: Vec<_> = values.iter().map(|value| value.map_or(ValueAt::NONE, &mut place)).collect();
        self.decode(&bytes.into(), &places)
    }

    /// The rows of the values that stand at these places of `bytes`; [`ValueAt::NONE`] is a record without value (a tombstone). A batch without
    /// rows for no records. Long texts are views into `bytes`, and keep them.
    pub(crate) fn decode(&self, bytes: &Bytes, values: &[ValueAt]) -> Decoded {
        match self.format {
            Format::Text { .. } => text::decode(&self.schema, bytes, values),
            Format::Json { .. } => json::decode(&self.schema, bytes, values),
        }
    }
}

#[cfg(test)]
mod tests;
