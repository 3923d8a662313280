//! Tables in files, for batches to be joined with.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::csv::ReaderBuilder as CsvReader;
use datafusion::arrow::csv::reader::Format;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder as JsonReader;
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};
use crate::sql::{DataFrame, DataType, Field, RecordBatch, Schema, SchemaRef, SqlSession, schema};

impl SqlSession {
    /// The rows of a CSV file (Spark's `spark.read.option("header", true).csv`): its first line names the columns, fields
    /// are parted by commas and may stand in double quotes. All columns are texts, so that nothing is lost of what only
    /// looks like a number; a query casts them. An empty field is NULL.
    ///
    /// The file is read now, and once. One with a head only is a table without rows.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be opened; `Data` if it has no head, a line has more or fewer fields than the head,
    /// or it is not UTF-8.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("airports.csv");
    /// # std::fs::write(&path, "code,elevation\nAMS,-11\nLPB,13325\n").unwrap();
    /// session.read_csv(&path)?.create_or_replace_temp_view("airports")?;
    /// let high = session.sql("select code from airports where cast(elevation as int) > 1000")?;
    /// assert_eq!(high.collect::<String>()?, ["LPB"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_csv(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        let (columns, batches) = csv(path.as_ref(), None)?;
        Ok(DataFrame::new(self, columns, batches))
    }

    /// The rows of a file of JSON objects, one a line (Spark's `spark.read.json`): their members are the columns, in
    /// the order of the alphabet and with the types that their values have; a member that a line does not have is NULL.
    ///
    /// The file is read now: twice, the first time for the columns. An empty file is a table without rows or columns.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be opened; `Data` if a line is no JSON object, or a member is a text in one line and
    /// a list in another.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("users.json");
    /// # std::fs::write(&path, "{\"id\": 1, \"name\": \"Ann\"}\n{\"id\": 2}\n").unwrap();
    /// session.read_json(&path)?.create_or_replace_temp_view("users")?;
    /// let users = session.sql("select id, name from users order by id")?.collect::<(i64, Option<String>)>()?;
    /// assert_eq!(users, [(1, Some("Ann".to_owned())), (2, None)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_json(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        let (columns, batches) = json(path.as_ref(), None)?;
        Ok(DataFrame::new(self, columns, batches))
    }

    /// The rows of a Parquet file (Spark's `spark.read.parquet`), with its columns and types. The file is read now, as a whole.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be opened; `Data` if it is no Parquet file.
    pub fn read_parquet(&self, path: impl AsRef<Path>) -> Result<DataFrame> {
        let (columns, batches) = parquet(path.as_ref())?;
        Ok(DataFrame::new(self, columns, batches))
    }
}

/// How a file holds a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableFormat {
    Csv,
    Json,
    Parquet,
}

/// A table's columns and rows.
pub(crate) type TableRows = (SchemaRef, Vec<RecordBatch>);

/// The table in the file at `path`; with the columns of `schema`, which a Parquet file has itself.
///
/// # Errors
/// As for [`SqlSession::read_csv`] and the like; also `Data` when a value is not of its column's type.
pub(crate) fn read_table(format: TableFormat, path: &Path, schema: Option<&SchemaRef>) -> Result<TableRows> {
    match format {
        TableFormat::Csv => csv(path, schema),
        TableFormat::Json => json(path, schema),
        TableFormat::Parquet => parquet(path),
    }
}

fn csv(path: &Path, wanted: Option<&SchemaRef>) -> Result<TableRows> {
    let wrong = |error: ArrowError| Error::data(format!("{}: {error}", path.display()));
    let mut file = opened(path)?;
    let (head, _) = Format::default().with_header(true).infer_schema(&mut file, Some(0)).map_err(wrong)?;
    if head.fields().is_empty() {
        return Err(Error::data(format!("{}: there is no line that names the columns", path.display())));
    }
    rewound(&mut file, path)?;
    // Columns are found by their names: those that are not wanted are read as text, and left out.
    let of = |name: &str| match wanted {
        Some(wanted) => {
            wanted.field_with_name(name).map_or(DataType::Utf8View, |field| field.data_type().clone())
        }
        None => DataType::Utf8View,
    };
    let columns = schema(head.fields().iter().map(|field| (field.name().as_str(), of(field.name()))));
    let mut reader = CsvReader::new(Arc::clone(&columns)).with_header(true);
    let mut read = Arc::clone(&columns);
    if let Some(wanted) = wanted {
        let place = |field: &Arc<Field>| {
            columns.index_of(field.name()).map_err(|_| {
                let names: Vec<_> = head.fields().iter().map(|field| field.name().as_str()).collect();
                Error::data(format!(
                    "{}: there is no column `{}`; there are {}",
                    path.display(),
                    field.name(),
                    names.join(", ")
                ))
            })
        };
        reader = reader.with_projection(wanted.fields().iter().map(place).collect::<Result<_>>()?);
        read = Arc::clone(wanted);
    }
    let rows = reader.build_buffered(file).map_err(wrong)?;
    let batches = rows.collect::<Result<Vec<RecordBatch>, _>>().map_err(wrong)?;
    Ok((read, batches))
}

fn json(path: &Path, wanted: Option<&SchemaRef>) -> Result<TableRows> {
    let wrong = |error: ArrowError| Error::data(format!("{}: {error}", path.display()));
    let mut file = opened(path)?;
    let columns = match wanted {
        Some(wanted) => Arc::clone(wanted),
        None => {
            let (columns, _) = infer_json_schema(&mut file, None).map_err(wrong)?;
            rewound(&mut file, path)?;
            let mut columns: Vec<_> = columns.fields().iter().cloned().collect();
            columns.sort_by(|a, b| a.name().cmp(b.name()));
            Arc::new(Schema::new(columns))
        }
    };
    let rows = JsonReader::new(Arc::clone(&columns)).build(file).map_err(wrong)?;
    let batches = rows.collect::<Result<Vec<RecordBatch>, _>>().map_err(wrong)?;
    Ok((columns, batches))
}

fn parquet(path: &Path) -> Result<TableRows> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let wrong = |error: &dyn std::fmt::Display| Error::data(format!("{}: {error}", path.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| wrong(&e))?;
    // The file's own notes on where it comes from are nobody's business here.
    let columns: SchemaRef = Arc::new(Schema::new(reader.schema().fields().clone()));
    let rows = reader.build().map_err(|e| wrong(&e))?;
    let batches = rows.map(|batch| batch.and_then(|batch| batch.with_schema(Arc::clone(&columns))));
    Ok((Arc::clone(&columns), batches.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(&e))?))
}

fn opened(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    Ok(BufReader::new(file))
}

fn rewound(file: &mut BufReader<File>, path: &Path) -> Result<()> {
    file.rewind().map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("{} cannot be read: {error}", path.display())).with_source(error)
}
