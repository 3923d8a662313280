//! Bytes of records to rows: good rows in one batch, bad records by their index.

use crate::error::Result;
use crate::sql::{RecordBatch, SchemaRef};

/// How a record's value is to be read.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// The whole value is one text column of this name.
    Text {
        /// The column's name, `value` by default.
        column: String,
    },
    /// The value is one JSON object; its members of these names are the columns.
    Json {
        /// The columns.
        schema: SchemaRef,
    },
}

/// What came of some records.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The rows of the good records, in order.
    pub(crate) batch: RecordBatch,
    /// The bad records' indices, ascending, each with what is wrong.
    pub(crate) bad: Vec<(usize, String)>,
}

/// Reads records' values as rows. May be shared between threads.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    schema: SchemaRef,
}

impl Decoder {
    /// A decoder for `format`.
    ///
    /// # Errors
    /// `Config` when a column's type cannot be read from this format.
    pub(crate) fn new(format: Format) -> Result<Self> {
        let _ = format;
        todo!()
    }

    /// The columns of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of these values; `None` is a record without value (a tombstone). A batch without rows for no records.
    pub(crate) fn decode(&self, values: &[Option<&[u8]>]) -> Decoded {
        let _ = values;
        todo!()
    }
}
