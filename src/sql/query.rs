//! A planned query: run each batch over that batch's rows, on any thread, without planning again.

use std::sync::Arc;

use crate::error::Result;
use crate::sql::{RecordBatch, SchemaRef};

/// What a query reads in one run: for each stream its batches of rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs(Vec<(Arc<str>, Arc<[RecordBatch]>)>);

impl Inputs {
    /// No stream yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The same with the rows of one more stream; an empty slice for a stream without rows.
    pub(crate) fn with(mut self, stream: &str, batches: impl Into<Arc<[RecordBatch]>>) -> Self {
        self.0.push((stream.into(), batches.into()));
        self
    }

    /// The rows of `stream`, if they were given.
    pub(crate) fn get(&self, stream: &str) -> Option<&Arc<[RecordBatch]>> {
        self.0.iter().find(|(name, _)| &**name == stream).map(|(_, batches)| batches)
    }
}

/// One prepared `select`. Cheap to clone; runs of it may be concurrent.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    schema: SchemaRef,
    inputs: Arc<[String]>,
    row_wise: bool,
}

impl Query {
    /// The columns of the result.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The streams that the query reads, each once, sorted by name.
    pub(crate) fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Whether each row of the result comes from one row of the one stream that is read (projection, filter, unnest), so
    /// that running it chunk by chunk gives the same rows as running it over the whole.
    pub(crate) fn is_row_wise(&self) -> bool {
        self.row_wise
    }

    /// The result over `inputs`, without empty batches; over no rows nothing, except for an aggregate without
    /// `group by`, which gives its one row as SQL demands.
    ///
    /// # Errors
    /// `Usage` when a stream's rows are missing or of another schema; `Data` when a value cannot be worked with
    /// (division by zero, a failed cast).
    pub(crate) fn run(&self, inputs: &Inputs) -> Result<Vec<RecordBatch>> {
        let _ = inputs;
        todo!()
    }
}
