//! What a question comes to, and the forms in which it is told.

use clap::ValueEnum;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::sql::{FileFormat, RecordBatch, SchemaRef, encode, type_name};
use crate::time::Time;
use crate::ui;

/// The form of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A table for people
    #[default]
    Table,
    /// A line with the columns' names, then a line per row
    Csv,
    /// One object: columns, rows, and whether there are more
    Json,
}

impl Form {
    /// What HTTP calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// The rows of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: Vec<RecordBatch>,
    /// Whether there are more than the limit let through.
    pub(crate) truncated: bool,
    /// The batch as of which live tables were read, if any were.
    pub(crate) batch: Option<Time>,
}

/// Columns as the page and REST name them.
pub(super) fn columns(schema: &SchemaRef) -> Vec<ui::Column> {
    let column = |field: &std::sync::Arc<crate::sql::Field>| ui::Column {
        name: field.name().clone(),
        data_type: type_name(field.data_type()),
    };
    schema.fields().iter().map(column).collect()
}

impl Answer {
    /// The answer in this form.
    ///
    /// # Errors
    /// `Output` if a column cannot be shown like this: CSV has no arrays.
    pub(crate) fn shown(&self, form: Form) -> Result<String> {
        match form {
            Form::Table => {
                let mut shown = encode::table(&self.schema, &self.rows);
                if self.truncated {
                    shown.push_str("\n(there are more rows: raise the limit)");
                }
                shown.push('\n');
                Ok(shown)
            }
            Form::Csv => {
                FileFormat::Csv.check(&self.schema).map_err(Error::output)?;
                let mut bytes = Vec::new();
                let rows = self.rows.iter().cloned().map(Ok);
                FileFormat::Csv.write(&self.schema, rows, &mut bytes)?;
                String::from_utf8(bytes).map_err(|e| Error::internal("CSV is not UTF-8").with_source(e))
            }
            Form::Json => {
                let json = serde_json::to_string(&self.to_ui()?)
                    .map_err(|e| Error::internal("an answer is no JSON").with_source(e))?;
                Ok(json + "\n")
            }
        }
    }

    /// The answer as REST gives it: one list of values per row.
    ///
    /// # Errors
    /// If a column has a type that JSON cannot show.
    pub(crate) fn to_ui(&self) -> Result<ui::Answer> {
        let mut rows = Vec::new();
        for batch in &self.rows {
            for row in encode::rows_as_json(batch)? {
                let row: Value = serde_json::from_slice(&row)
                    .map_err(|e| Error::internal("a row's JSON cannot be read").with_source(e))?;
                let value = |field: &std::sync::Arc<crate::sql::Field>| row[field.name().as_str()].clone();
                rows.push(self.schema.fields().iter().map(value).collect());
            }
        }
        let batch_id = self.batch.map(Time::as_millis);
        Ok(ui::Answer { columns: columns(&self.schema), rows, truncated: self.truncated, batch_id })
    }
}
