//! Rows to bytes: for a sink's values and keys, and for people.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv::WriterBuilder as CsvWriter;
use datafusion::arrow::datatypes::{TimeUnit, TimestampMillisecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};
use crate::sql::{DataType, Field, RecordBatch, Schema, SchemaRef};

/// Timestamps without a zone are UTC here.
const TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.fZ";
/// Timestamps that a query gave a zone keep its offset.
const TIMESTAMP_WITH_ZONE: &str = "%Y-%m-%dT%H:%M:%S%.f%:z";

/// One JSON object per row, its members in the order of the columns, NULL (and a double that is no number) written as
/// `null`, timestamps as RFC 3339 in UTC, dates as `2026-01-31`, bytes in hexadecimal. Nothing for an empty batch.
///
/// # Errors
/// `Config` when a column has a type that JSON cannot show.
pub(crate) fn rows_as_json(batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let lines = json_lines(batch)
        .map_err(|error| Error::config(format!("rows cannot be written as JSON: {error}")))?;
    // Inside a JSON text a line break is written as \n, so those left end a row.
    Ok(lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

/// A record key for each row: the bytes of a text or bytes column as they are, any other type as its JSON text, `None` for
/// NULL. Nothing for an empty batch.
///
/// # Errors
/// `Config` when there is no such column, or its type cannot be shown.
pub(crate) fn column_as_keys(batch: &RecordBatch, column: &str) -> Result<Vec<Option<Vec<u8>>>> {
    let array = named(batch, column)?;
    fn raw<'a, T: AsRef<[u8]> + ?Sized + 'a>(
        values: impl Iterator<Item = Option<&'a T>>,
    ) -> Vec<Option<Vec<u8>>> {
        values.map(|value| value.map(|value| value.as_ref().to_vec())).collect()
    }
    Ok(match array.data_type() {
        DataType::Utf8 => raw(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => raw(array.as_string::<i64>().iter()),
        DataType::Utf8View => raw(array.as_string_view().iter()),
        DataType::Binary => raw(array.as_binary::<i32>().iter()),
        DataType::LargeBinary => raw(array.as_binary::<i64>().iter()),
        DataType::BinaryView => raw(array.as_binary_view().iter()),
        _ => json_keys(array)?,
    })
}

/// The milliseconds since the epoch in a column of timestamps, none for NULL. Nothing for an empty batch.
///
/// # Errors
/// `Config` when there is no such column, or it has no timestamps.
pub(crate) fn column_as_millis(batch: &RecordBatch, column: &str) -> Result<Vec<Option<i64>>> {
    let array = named(batch, column)?;
    let millis = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))
        .map_err(|error| Error::config(format!("column `{column}` has no timestamps: {error}")))?;
    Ok(millis.as_primitive::<TimestampMillisecondType>().iter().collect())
}

fn named<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(column).ok_or_else(|| {
        let names: Vec<_> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        Error::config(format!("there is no column `{column}`; the columns are {}", names.join(", ")))
    })
}

/// The JSON text of each value.
fn json_keys(array: &ArrayRef) -> Result<Vec<Option<Vec<u8>>>> {
    let schema = Schema::new(vec![Field::new("k", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(array)])
        .map_err(|error| Error::internal(format!("a column does not make a batch: {error}")))?;
    let nulls = array.logical_nulls();
    let rows = rows_as_json(&batch)?.into_iter().enumerate().map(|(index, row)| {
        // What stands between `{"k":` and `}`.
        let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(index));
        (!is_null).then(|| row[5..row.len() - 1].to_vec())
    });
    Ok(rows.collect())
}

fn json_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_format(TIMESTAMP.to_owned())
        .with_timestamp_tz_format(TIMESTAMP_WITH_ZONE.to_owned())
        .build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// How rows are written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// The one column, a line each.
    Text,
    /// A JSON object a line.
    Json,
    /// A line with the columns' names, then a line each.
    Csv,
    /// Parquet, compressed by zstd.
    Parquet,
}

impl FileFormat {
    /// How the names of such files end.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// Whether rows of these columns can be written like this; else what is wrong.
    pub(crate) fn check(self, schema: &SchemaRef) -> std::result::Result<(), String> {
        let nested = |field: &&Arc<Field>| field.data_type().is_nested();
        match self {
            Self::Text if !matches!(schema.fields().as_ref(), [only] if only.data_type().is_string()) => {
                Err("`text` is for streams of one column, a text".to_owned())
            }
            Self::Csv => match schema.fields().iter().find(nested) {
                Some(field) => Err(format!("CSV cannot hold the array `{}`", field.name())),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Writes all `batches` to `file`.
    ///
    /// # Errors
    /// Whatever the writer says, or the first wrong batch.
    pub(crate) fn write(
        self,
        schema: &SchemaRef,
        batches: impl Iterator<Item = Result<RecordBatch>>,
        mut file: impl std::io::Write + Send,
    ) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::output(error.to_string());
        match self {
            Self::Text => {
                for batch in batches {
                    for line in column_as_keys(&batch?, schema.field(0).name())? {
                        file.write_all(&line.unwrap_or_default())
                            .and_then(|()| file.write_all(b"\n"))
                            .map_err(|e| failed(&e))?;
                    }
                }
            }
            Self::Json => {
                for batch in batches {
                    let lines = json_lines(&batch?).map_err(|e| failed(&e))?;
                    file.write_all(&lines).map_err(|e| failed(&e))?;
                }
            }
            Self::Csv => {
                let mut writer =
                    CsvWriter::new().with_timestamp_format(TIMESTAMP.to_owned()).build(&mut file);
                for batch in batches {
                    writer.write(&batch?).map_err(|e| failed(&e))?;
                }
            }
            Self::Parquet => {
                let zstd = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(Default::default()))
                    .build();
                let mut writer = ArrowWriter::try_new(&mut file, Arc::clone(schema), Some(zstd))
                    .map_err(|e| failed(&e))?;
                for batch in batches {
                    writer.write(&batch?).map_err(|e| failed(&e))?;
                }
                writer.close().map_err(|e| failed(&e))?;
            }
        }
        file.flush().map_err(|e| failed(&e))
    }
}

/// All rows as a table for people; the head alone for none.
pub(crate) fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> String {
    let head = RecordBatch::new_empty(Arc::clone(schema));
    let shown: Vec<RecordBatch> = if batches.is_empty() { vec![head] } else { batches.to_vec() };
    match pretty_format_batches(&shown) {
        Ok(table) => table.to_string(),
        Err(error) => format!("(these rows cannot be shown: {error})"),
    }
}

/// The first `limit` rows as a table for people, and a line that says how many more there are, with the `beyond` that are not
/// among these. Only the head for batches without rows, nothing for no batches.
pub(crate) fn pretty(batches: &[RecordBatch], limit: usize, beyond: usize) -> String {
    if batches.is_empty() {
        return String::new();
    }
    let (mut left, mut more, mut shown) = (limit, beyond, Vec::with_capacity(batches.len()));
    for batch in batches {
        let rows = batch.num_rows().min(left);
        left -= rows;
        more += batch.num_rows() - rows;
        shown.push(batch.slice(0, rows));
    }
    let table = match pretty_format_batches(&shown) {
        Ok(table) => table.to_string(),
        // A table is for the eye only: better a word in its place than a failed batch.
        Err(error) => format!("(these rows cannot be shown: {error})"),
    };
    match more {
        0 => table,
        1 => format!("{table}\n(1 more row)"),
        _ => format!("{table}\n({more} more rows)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Row, Value, batch_of_rows, data_type, schema};

    fn batch() -> RecordBatch {
        let columns = ["text", "bigint", "double", "timestamp", "date", "text[]", "bytea"];
        let schema = schema(
            ["t", "n", "x", "at", "day", "tags", "b"].into_iter().zip(columns.map(|c| data_type(c).unwrap())),
        );
        let full = Row::from(vec![
            "a \"b\"\né".into(),
            Value::Int(-1),
            Value::float(0.5),
            Value::Int(1_700_000_000_123_000),
            Value::Int(1),
            Value::List(["x".into(), Value::Null].into()),
            Value::Bytes([0, 255].as_slice().into()),
        ]);
        batch_of_rows(&schema, &[full, Row::from(vec![Value::Null; 7])]).unwrap()
    }

    #[test]
    fn a_row_is_an_object_in_the_order_of_the_columns() {
        let rows: Vec<_> =
            rows_as_json(&batch()).unwrap().into_iter().map(|r| String::from_utf8(r).unwrap()).collect();
        assert_eq!(
            rows,
            [
                r#"{"t":"a \"b\"\né","n":-1,"x":0.5,"at":"2023-11-14T22:13:20.123Z","day":"1970-01-02","tags":["x",null],"b":"00ff"}"#,
                r#"{"t":null,"n":null,"x":null,"at":null,"day":null,"tags":null,"b":null}"#,
            ]
        );
        assert!(rows_as_json(&batch().slice(0, 0)).unwrap().is_empty());
        assert_eq!(rows_as_json(&batch().slice(1, 1)).unwrap().len(), 1);
    }

    #[test]
    fn doubles_that_are_no_numbers_are_null() {
        let rows = [f64::NAN, f64::INFINITY].map(|x| Row::from(vec![Value::float(x)]));
        let batch = batch_of_rows(&schema([("x", DataType::Float64)]), &rows).unwrap();
        assert_eq!(rows_as_json(&batch).unwrap(), [br#"{"x":null}"#, br#"{"x":null}"#]);
    }

    #[test]
    fn keys_are_raw_text_or_json() {
        let batch = batch();
        let keys = |column| column_as_keys(&batch, column).unwrap();
        assert_eq!(keys("t"), [Some("a \"b\"\né".as_bytes().to_vec()), None]);
        assert_eq!(keys("b"), [Some(vec![0, 255]), None]);
        assert_eq!(keys("n"), [Some(b"-1".to_vec()), None]);
        assert_eq!(keys("at"), [Some(b"\"2023-11-14T22:13:20.123Z\"".to_vec()), None]);
        assert_eq!(keys("tags"), [Some(b"[\"x\",null]".to_vec()), None]);
        let error = column_as_keys(&batch, "tag").unwrap_err();
        assert_eq!(error.to_string(), "there is no column `tag`; the columns are t, n, x, at, day, tags, b");
    }

    #[test]
    fn a_table_says_what_it_leaves_out() {
        let rows = [("a", 1), ("b", 2), ("c", 3)].map(|(tag, n)| Row::from(vec![tag.into(), n.into()]));
        let batch =
            batch_of_rows(&schema([("tag", DataType::Utf8View), ("n", DataType::Int64)]), &rows).unwrap();
        let expected = "+-----+---+\n| tag | n |\n+-----+---+\n| a   | 1 |\n+-----+---+\n(2 more rows)";
        assert_eq!(pretty(std::slice::from_ref(&batch), 1, 0), expected);
        assert!(!pretty(std::slice::from_ref(&batch), 3, 0).contains("more"));
        assert!(pretty(&[batch.slice(0, 0)], 3, 0).contains("tag"));
        assert_eq!(pretty(&[], 3, 0), "");
    }
}
