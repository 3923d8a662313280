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

use crate::error::{Error, Result};
use crate::sql::{DataFrame, DataType, RecordBatch, Schema, SqlSession, schema};

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
        let path = path.as_ref();
        let wrong = |error: ArrowError| Error::data(format!("{}: {error}", path.display()));
        let mut file = opened(path)?;
        let (head, _) =
            Format::default().with_header(true).infer_schema(&mut file, Some(0)).map_err(wrong)?;
        if head.fields().is_empty() {
            return Err(Error::data(format!("{}: there is no line that names the columns", path.display())));
        }
        rewound(&mut file, path)?;
        let columns = schema(head.fields().iter().map(|field| (field.name().as_str(), DataType::Utf8View)));
        let rows =
            CsvReader::new(Arc::clone(&columns)).with_header(true).build_buffered(file).map_err(wrong)?;
        let batches = rows.collect::<Result<Vec<RecordBatch>, _>>().map_err(wrong)?;
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
        let path = path.as_ref();
        let wrong = |error: ArrowError| Error::data(format!("{}: {error}", path.display()));
        let mut file = opened(path)?;
        let (columns, _) = infer_json_schema(&mut file, None).map_err(wrong)?;
        rewound(&mut file, path)?;
        let mut columns: Vec<_> = columns.fields().iter().cloned().collect();
        columns.sort_by(|a, b| a.name().cmp(b.name()));
        let columns = Arc::new(Schema::new(columns));
        let rows = JsonReader::new(Arc::clone(&columns)).build(file).map_err(wrong)?;
        let batches = rows.collect::<Result<Vec<RecordBatch>, _>>().map_err(wrong)?;
        Ok(DataFrame::new(self, columns, batches))
    }
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
