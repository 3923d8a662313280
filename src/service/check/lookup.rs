//! Tables in files: read when the pipeline is checked, so that their columns are known and their rows are right.

use std::path::{Path, PathBuf};

use super::config::Table;
use super::{names, sources};
use crate::service::file::{self, Entry};
use crate::service::report::Report;
use crate::sql::{self, TableFormat};

/// The checked table with its rows, or nothing if something about it was reported.
pub(super) fn check(table: &Entry<file::Table>, report: &mut Report) -> Option<Table> {
    let named = names::sql_name("table", &table.name, &table.at, report);
    let file = &table.value.as_ref()?.value;
    let kinds = [("csv", &file.csv), ("json", &file.json), ("parquet", &file.parquet)];
    let given = kinds.map(|(name, path)| (name, path.as_ref().map(|path| &path.key_at)));
    sources::one_kind(&format!("`{}`", table.name), &table.at, &given, report)?;
    let (format, path) = match (&file.csv, &file.json, &file.parquet) {
        (Some(path), _, _) => (TableFormat::Csv, path),
        (_, Some(path), _) => (TableFormat::Json, path),
        (_, _, path) => (TableFormat::Parquet, path.as_ref()?),
    };
    let schema = match &file.schema {
        Some(schema) if format == TableFormat::Parquet => {
            report
                .error(schema.key_at.clone(), "a Parquet file has its own columns and types")
                .help("remove `schema`, and cast in a query");
            return None;
        }
        Some(_) => Some(sources::columns(&file.schema, report)?),
        None => None,
    };
    match sql::read_table(format, &beside(report.path(), &path.value), schema.as_ref()) {
        Ok((schema, rows)) => {
            let name = named.then(|| table.name.clone())?;
            Some(Table { name, path: path.value.clone(), schema, rows: rows.into() })
        }
        Err(error) => {
            let finding = report.error(path.at.clone(), format!("the table `{}` cannot be read", table.name));
            finding.help(error.to_string());
            None
        }
    }
}

/// A path as the file means it: a relative one begins where the file is.
fn beside(file: &str, path: &str) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path)
}
