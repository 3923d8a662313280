//! Arrow columns to rows and back, a whole batch at a time.

use std::sync::Arc;

use datafusion::arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BinaryViewBuilder, BooleanArray, LargeStringArray, ListArray,
    NullArray, PrimitiveArray, RecordBatchOptions, StringArray, StringViewBuilder, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{ArrowNativeType, Fields, TimeUnit};

use crate::error::{Error, Result};
use crate::sql::{DataType, Field, RecordBatch, Row, Schema, SchemaRef, Value, Values, type_name};
use crate::time::Time;

/// The batch's rows, in order; none for an empty batch.
///
/// # Errors
/// `Config` when a column has a type that a row cannot hold (see [`check_type`]).
pub(crate) fn rows_of_batch(batch: &RecordBatch) -> Result<Vec<Row>> {
    rows_of_columns(batch.columns(), batch.num_rows())
}

/// The rows of these columns of `len` values each.
pub(super) fn rows_of_columns(columns: &[ArrayRef], len: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(len);
    rows.resize_with(len, || Row(Values::with_capacity(columns.len())));
    for column in columns {
        for (row, value) in rows.iter_mut().zip(values_of(column)?) {
            row.0.push(value);
        }
    }
    Ok(rows)
}

/// One batch of all `rows`, in order; a batch without rows if there are none.
///
/// # Errors
/// `Checkpoint` when a row has another number of columns than `schema`, or a value that does not fit its column: rows come
/// from a state store, which was then written by another program.
pub(crate) fn batch_of_rows<'a>(
    schema: &SchemaRef,
    rows: impl IntoIterator<Item = &'a Row>,
) -> Result<RecordBatch> {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let width = schema.fields().len();
    if let Some(row) = rows.iter().find(|row| row.0.len() != width) {
        return Err(Error::new(
            crate::ErrorKind::Checkpoint,
            format!("a stored row has {} columns where there should be {width}: {row:?}", row.0.len()),
        ));
    }
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let values: Vec<&Value> = rows.iter().map(|row| &row.0[index]).collect();
        column_of(field.data_type(), &values)
            .map_err(|error| error.within(format_args!("column `{}`", field.name())))
    });
    batch(schema, columns.collect::<Result<_>>()?, rows.len())
}

/// A batch of `len` rows, which may have no column at all.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, len: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(len));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::internal(format!("columns do not make a batch: {error}")))
}

/// As [`batch`], of columns that are of the schema's types or can be cast to them.
///
/// # Errors
/// `Data` when a value does not fit, such as a time that is too far away to be told in microseconds.
pub(crate) fn columnar(schema: &SchemaRef, columns: Vec<ArrayRef>, len: usize) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |(column, field): (ArrayRef, &Arc<Field>)| match column.data_type() == field.data_type() {
        true => Ok(column),
        false => cast_with_options(&column, field.data_type(), &options)
            .map_err(|error| Error::data(format!("column `{}`: {error}", field.name()))),
    };
    let columns = columns.into_iter().zip(schema.fields()).map(cast).collect::<Result<_>>()?;
    batch(schema, columns, len)
}

/// `batch_time`, then the columns of `schema`.
pub(crate) fn batch_time_schema(schema: &SchemaRef) -> SchemaRef {
    let of = DataType::Timestamp(TimeUnit::Microsecond, None);
    let time = Arc::new(Field::new("batch_time", of, false));
    // A column of that name that the stream has itself is its own affair, and stands under another name.
    let rename = |field: &Arc<Field>| match field.name().as_str() {
        "batch_time" => Arc::new(field.as_ref().clone().with_name("batch_time_1")),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(std::iter::once(time).chain(schema.fields().iter().map(rename)).collect::<Vec<_>>()))
}

/// The rows of `batch` as rows of [`batch_time_schema`].
pub(crate) fn with_batch_time(schema: &SchemaRef, rows: &RecordBatch, time: Time) -> Result<RecordBatch> {
    with_times(schema, rows, std::iter::repeat_n(time, rows.num_rows()))
}

/// The same with a time for each row.
pub(crate) fn with_times(
    schema: &SchemaRef,
    rows: &RecordBatch,
    times: impl Iterator<Item = Time>,
) -> Result<RecordBatch> {
    let times =
        PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(times.map(|at| at.as_millis() * 1_000));
    let columns = std::iter::once(Arc::new(times) as ArrayRef).chain(rows.columns().iter().cloned());
    batch(schema, columns.collect(), rows.num_rows())
}

/// Whether rows can hold values of this type: all but structs, maps, decimals, intervals and times of day.
///
/// # Errors
/// `Config`, with what to cast to.
pub(super) fn check_type(of: &DataType) -> Result<()> {
    use DataType::*;
    match of {
        Null | Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32
        | Float64 | Utf8 | LargeUtf8 | Utf8View | Binary | BinaryView | Date32 | Date64 | Timestamp(..) => {
            Ok(())
        }
        List(element) => check_type(element.data_type()),
        other => Err(Error::config(format!(
            "a value of type {} cannot be kept: cast it to bigint, double, text or timestamp",
            type_name(other)
        ))),
    }
}

/// Calls a macro with the primitive Arrow type of a data type that is an integer inside.
macro_rules! with_integer {
    ($of:expr, $call:ident, $else:expr) => {
        match $of {
            DataType::Int8 => $call!(Int8Type),
            DataType::Int16 => $call!(Int16Type),
            DataType::Int32 => $call!(Int32Type),
            DataType::Int64 => $call!(Int64Type),
            DataType::UInt8 => $call!(UInt8Type),
            DataType::UInt16 => $call!(UInt16Type),
            DataType::UInt32 => $call!(UInt32Type),
            DataType::UInt64 => $call!(UInt64Type),
            DataType::Date32 => $call!(Date32Type),
            DataType::Date64 => $call!(Date64Type),
            DataType::Timestamp(TimeUnit::Second, _) => $call!(TimestampSecondType),
            DataType::Timestamp(TimeUnit::Millisecond, _) => $call!(TimestampMillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $call!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => $call!(TimestampNanosecondType),
            _ => $else,
        }
    };
}

/// Each value of a column.
pub(super) fn values_of(array: &ArrayRef) -> Result<Vec<Value>> {
    macro_rules! integers {
        ($t:ty) => {
            integers_of::<$t>(array)
        };
    }
    fn each<T>(values: impl Iterator<Item = Option<T>>, value: impl Fn(T) -> Value) -> Vec<Value> {
        values.map(|v| v.map_or(Value::Null, &value)).collect()
    }
    Ok(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => each(array.as_boolean().iter(), Value::Bool),
        DataType::Float32 => each(array.as_primitive::<Float32Type>().iter(), |v| Value::float(f64::from(v))),
        DataType::Float64 => each(array.as_primitive::<Float64Type>().iter(), Value::float),
        DataType::Utf8 => each(array.as_string::<i32>().iter(), Value::from),
        DataType::LargeUtf8 => each(array.as_string::<i64>().iter(), Value::from),
        DataType::Utf8View => each(array.as_string_view().iter(), Value::from),
        DataType::Binary => each(array.as_binary::<i32>().iter(), |v| Value::Bytes(v.into())),
        DataType::BinaryView => each(array.as_binary_view().iter(), |v| Value::Bytes(v.into())),
        DataType::List(_) => lists_of(array.as_list::<i32>())?,
        // Only in states of aggregates: a list of the members.
        DataType::Struct(_) => structs_of(array.as_struct())?,
        other => return with_integer!(other, integers, check_type(other).map(|()| Vec::new())),
    })
}

fn integers_of<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<Vec<Value>> {
    let column = array.as_primitive::<T>();
    let value = |value: Option<T::Native>| match value {
        None => Ok(Value::Null),
        Some(value) => value
            .to_i64()
            .map(Value::Int)
            .ok_or_else(|| Error::data(format!("{value:?} does not fit a bigint"))),
    };
    column.iter().map(value).collect()
}

fn lists_of(array: &ListArray) -> Result<Vec<Value>> {
    let elements = values_of(array.values())?;
    let list = |index: usize| {
        if array.is_null(index) {
            return Value::Null;
        }
        let (start, end) = (array.value_offsets()[index] as usize, array.value_offsets()[index + 1] as usize);
        Value::List(elements[start..end].into())
    };
    Ok((0..array.len()).map(list).collect())
}

fn structs_of(array: &StructArray) -> Result<Vec<Value>> {
    let rows = rows_of_columns(array.columns(), array.len())?;
    let value = |(index, row): (usize, Row)| {
        if array.is_null(index) { Value::Null } else { Value::List(row.0.into_vec().into()) }
    };
    Ok(rows.into_iter().enumerate().map(value).collect())
}

fn struct_column(of: &DataType, fields: &Fields, values: &[&Value]) -> Result<ArrayRef> {
    let nulls = NullBuffer::from_iter(values.iter().map(|value| !matches!(value, Value::Null)));
    let mut columns = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let member = |value: &&'_ Value| -> Result<Value> {
            match value {
                Value::Null => Ok(Value::Null),
                Value::List(members) if members.len() == fields.len() => Ok(members[index].clone()),
                other => Err(misfit(of, other)),
            }
        };
        let members = values.iter().map(member).collect::<Result<Vec<_>>>()?;
        columns.push(column_of(field.data_type(), &members.iter().collect::<Vec<_>>())?);
    }
    let array = StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), values.len());
    Ok(Arc::new(array.map_err(|error| Error::internal(format!("members do not make a struct: {error}")))?))
}

/// A column of type `of` with these values.
pub(super) fn column_of(of: &DataType, values: &[&Value]) -> Result<ArrayRef> {
    macro_rules! integers {
        ($t:ty) => {
            integer_column::<$t>(of, values)
        };
    }
    let misfit = |value: &Value| misfit(of, value);
    Ok(match of {
        DataType::Null => Arc::new(NullArray::new(values.len())),
        DataType::Boolean => {
            let bool = |value: &&Value| match value {
                Value::Null => Ok(None),
                Value::Bool(value) => Ok(Some(*value)),
                other => Err(misfit(other)),
            };
            Arc::new(values.iter().map(bool).collect::<Result<BooleanArray>>()?)
        }
        DataType::Float32 => {
            let floats = values.iter().map(|value| Ok(float(of, value)?.map(|value| value as f32)));
            Arc::new(floats.collect::<Result<PrimitiveArray<Float32Type>>>()?)
        }
        DataType::Float64 => Arc::new(
            values.iter().map(|value| float(of, value)).collect::<Result<PrimitiveArray<Float64Type>>>()?,
        ),
        DataType::Utf8 => {
            Arc::new(values.iter().map(|value| text(of, value)).collect::<Result<StringArray>>()?)
        }
        DataType::LargeUtf8 => {
            Arc::new(values.iter().map(|value| text(of, value)).collect::<Result<LargeStringArray>>()?)
        }
        DataType::Utf8View => {
            let mut builder = StringViewBuilder::with_capacity(values.len());
            for value in values {
                builder.append_option(text(of, value)?);
            }
            Arc::new(builder.finish())
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            for value in values {
                builder.append_option(bytes(of, value)?);
            }
            Arc::new(builder.finish())
        }
        DataType::BinaryView => {
            let mut builder = BinaryViewBuilder::with_capacity(values.len());
            for value in values {
                builder.append_option(bytes(of, value)?);
            }
            Arc::new(builder.finish())
        }
        DataType::List(element) => {
            let lists = values.iter().map(|value| match value {
                Value::Null => Ok(&[][..]),
                Value::List(list) => Ok(&**list),
                other => Err(misfit(other)),
            });
            let lists = lists.collect::<Result<Vec<&[Value]>>>()?;
            let nulls = NullBuffer::from_iter(values.iter().map(|value| !matches!(value, Value::Null)));
            let elements: Vec<&Value> = lists.iter().copied().flatten().collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
            let elements = column_of(element.data_type(), &elements)?;
            let list = ListArray::try_new(Arc::clone(element), offsets, elements, Some(nulls));
            Arc::new(
                list.map_err(|error| Error::internal(format!("elements do not make an array: {error}")))?,
            )
        }
        DataType::Struct(fields) => struct_column(of, fields, values)?,
        other => {
            return with_integer!(
                other,
                integers,
                Err(check_type(other).err().unwrap_or_else(|| misfit(&Value::Null)))
            );
        }
    })
}

fn integer_column<T: ArrowPrimitiveType>(of: &DataType, values: &[&Value]) -> Result<ArrayRef>
where
    T::Native: TryFrom<i64>,
{
    let integer = |value: &&Value| match value {
        Value::Null => Ok(None),
        Value::Int(int) => T::Native::try_from(*int).map(Some).map_err(|_| misfit(of, value)),
        other => Err(misfit(of, other)),
    };
    let column = values.iter().map(integer).collect::<Result<PrimitiveArray<T>>>()?;
    Ok(Arc::new(column.with_data_type(of.clone())))
}

fn float(of: &DataType, value: &Value) -> Result<Option<f64>> {
    match value {
        Value::Null => Ok(None),
        Value::Float(value) => Ok(Some(*value)),
        other => Err(misfit(of, other)),
    }
}

fn text<'a>(of: &DataType, value: &'a Value) -> Result<Option<&'a str>> {
    match value {
        Value::Null => Ok(None),
        Value::Text(value) => Ok(Some(value)),
        other => Err(misfit(of, other)),
    }
}

fn bytes<'a>(of: &DataType, value: &'a Value) -> Result<Option<&'a [u8]>> {
    match value {
        Value::Null => Ok(None),
        Value::Bytes(value) => Ok(Some(value)),
        other => Err(misfit(of, other)),
    }
}

fn misfit(of: &DataType, value: &Value) -> Error {
    Error::new(crate::ErrorKind::Checkpoint, format!("the value {value:?} is no {}", type_name(of)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{data_type, schema};

    #[test]
    fn every_type_comes_back_as_it_was() {
        let names = [
            "bigint",
            "int",
            "smallint",
            "double",
            "real",
            "boolean",
            "text",
            "timestamp",
            "date",
            "bytea",
            "text[]",
            "bigint[][]",
        ];
        let schema = schema(names.iter().map(|name| (*name, data_type(name).unwrap())));
        let inner = Value::List([Value::Int(1), Value::Null].into());
        let full = Row::from(vec![
            Value::Int(i64::MIN),
            Value::Int(-5),
            Value::Int(7),
            Value::float(0.1),
            Value::float(0.5),
            Value::Bool(true),
            "a text longer than a view holds inline".into(),
            Value::Int(1_700_000_000_000_000),
            Value::Int(19_000),
            Value::Bytes([1, 0].as_slice().into()),
            Value::List(["x".into(), Value::Null].into()),
            Value::List([inner, Value::Null, Value::List([].into())].into()),
        ]);
        let empty = Row::from(vec![Value::Null; names.len()]);
        let rows = vec![full.clone(), empty, full];
        let batch = batch_of_rows(&schema, &rows).unwrap();
        assert_eq!(batch.num_rows(), 3);
        assert_eq!(rows_of_batch(&batch).unwrap(), rows);
        assert_eq!(rows_of_batch(&batch.slice(1, 1)).unwrap(), rows[1..2]);
        assert_eq!(rows_of_batch(&batch.slice(2, 1)).unwrap(), rows[2..]);
    }

    #[test]
    fn no_rows_and_no_columns() {
        let empty = batch_of_rows(&schema([("a", DataType::Int64)]), []).unwrap();
        assert_eq!((empty.num_rows(), empty.num_columns()), (0, 1));
        assert_eq!(rows_of_batch(&empty).unwrap(), vec![]);
        let rows = [Row::from(vec![]), Row::from(vec![])];
        let batch = batch_of_rows(&schema([]), &rows).unwrap();
        assert_eq!(rows_of_batch(&batch).unwrap(), rows);
    }

    #[test]
    fn what_does_not_fit_says_so() {
        let small = schema([("n", DataType::Int16)]);
        let error = batch_of_rows(&small, &[Row::from(vec![Value::Int(40_000)])]).unwrap_err();
        assert_eq!(error.to_string(), "column `n`: the value Int(40000) is no smallint");
        assert_eq!(error.kind(), crate::ErrorKind::Checkpoint);
        assert!(batch_of_rows(&small, &[Row::from(vec![])]).is_err());
        assert!(check_type(&DataType::Decimal128(10, 2)).is_err());
    }
}
