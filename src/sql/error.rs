//! What is wrong with a query, and where in its text.

use std::fmt;

/// Why a query could not be planned, with its place in the text, so that the caller can point into a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlError {
    /// What is wrong, in one line.
    pub(crate) message: String,
    /// The text that is wrong: the whole query, or the one expression of a grouping.
    pub(crate) sql: String,
    /// Line and column in `sql`, both counted from 1, columns in characters; `None` when the place is not known.
    pub(crate) offset: Option<(u64, u64)>,
    /// What would be right: the nearest name, the valid ones, another way to write it.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some((line, column)) = self.offset {
            write!(f, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}
