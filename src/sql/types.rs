//! The names of column types, as they are written in a pipeline file.

use std::sync::Arc;

use datafusion::arrow::datatypes::TimeUnit;

use crate::sql::{DataType, Field, Schema, SchemaRef};

/// Every name that [`data_type`] knows, the usual one of each type first.
const NAMES: &[(&str, DataType)] = &[
    ("bigint", DataType::Int64),
    ("int", DataType::Int32),
    ("smallint", DataType::Int16),
    ("double", DataType::Float64),
    ("real", DataType::Float32),
    ("boolean", DataType::Boolean),
    ("text", DataType::Utf8View),
    ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("date", DataType::Date32),
    ("bytea", DataType::BinaryView),
    ("int8", DataType::Int64),
    ("long", DataType::Int64),
    ("integer", DataType::Int32),
    ("float8", DataType::Float64),
    ("double precision", DataType::Float64),
    ("float", DataType::Float32),
    ("float4", DataType::Float32),
    ("bool", DataType::Boolean),
    ("varchar", DataType::Utf8View),
    ("string", DataType::Utf8View),
];

/// How many of [`NAMES`] are the usual ones, which error messages list.
const USUAL: usize = 10;

/// The type called `name`, in any case: `bigint`, `text`, `timestamp` (microseconds, UTC), an array of one of them as
/// `text[]` or `array<text>`, and the usual other names (`integer`, `varchar`, `string`, `float` …).
///
/// # Errors
/// No type has this name; the message lists those there are.
pub(crate) fn data_type(name: &str) -> Result<DataType, String> {
    let lower = name.trim().to_ascii_lowercase();
    let element = lower
        .strip_suffix("[]")
        .or_else(|| lower.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')));
    if let Some(element) = element {
        return Ok(DataType::List(Arc::new(Field::new_list_field(data_type(element)?, true))));
    }
    if let Some((_, found)) = NAMES.iter().find(|(known, _)| *known == lower) {
        return Ok(found.clone());
    }
    let known: Vec<_> = NAMES[..USUAL].iter().map(|(known, _)| *known).collect();
    Err(format!(
        "there is no type `{}`; the types are {}, and arrays of them (text[])",
        name.trim(),
        known.join(", ")
    ))
}

/// The name under which `of` is shown, as it can be written in SQL; for types that SQL has no name for, Arrow's own.
pub(crate) fn type_name(of: &DataType) -> String {
    match of {
        DataType::List(field) | DataType::LargeList(field) | DataType::ListView(field) => {
            format!("{}[]", type_name(field.data_type()))
        }
        DataType::Utf8 | DataType::LargeUtf8 => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary => "bytea".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::UInt8 => "tinyint unsigned".to_owned(),
        DataType::UInt16 => "smallint unsigned".to_owned(),
        DataType::UInt32 => "int unsigned".to_owned(),
        DataType::UInt64 => "bigint unsigned".to_owned(),
        other => match NAMES.iter().find(|(_, known)| known == other) {
            Some((name, _)) => (*name).to_owned(),
            None => other.to_string(),
        },
    }
}

/// A schema of nullable columns, in this order.
pub(crate) fn schema<'a>(columns: impl IntoIterator<Item = (&'a str, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(
        columns.into_iter().map(|(name, of)| Field::new(name, of, true)).collect::<Vec<_>>(),
    ))
}

/// The columns of the rows of both, if they have the same names and, as [`type_name`] tells them, types: Arrow has several forms
/// of a text and several units of a timestamp, of which the usual one is taken where they differ. A column may be NULL if it
/// may be in one of them.
pub(crate) fn union_schema(first: &SchemaRef, second: &SchemaRef) -> Option<SchemaRef> {
    if first.fields().len() != second.fields().len() {
        return None;
    }
    let column = |(a, b): (&Arc<Field>, &Arc<Field>)| {
        let of = union_type(a.data_type(), b.data_type())?;
        (a.name() == b.name()).then(|| Field::new(a.name(), of, a.is_nullable() || b.is_nullable()))
    };
    let columns = first.fields().iter().zip(second.fields()).map(column).collect::<Option<Vec<_>>>()?;
    Some(Arc::new(Schema::new(columns)))
}

fn union_type(first: &DataType, second: &DataType) -> Option<DataType> {
    if first == second {
        return Some(first.clone());
    }
    let name = type_name(first);
    (name == type_name(second)).then(|| data_type(&name).unwrap_or_else(|_| first.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_type_and_prints_as_the_usual_one() {
        assert_eq!(data_type("BigInt"), Ok(DataType::Int64));
        assert_eq!(data_type(" varchar "), Ok(DataType::Utf8View));
        assert_eq!(type_name(&data_type("string").unwrap()), "text");
        assert_eq!(type_name(&data_type("timestamp").unwrap()), "timestamp");
        for (name, of) in &NAMES[..USUAL] {
            assert_eq!(type_name(of), *name);
        }
    }

    #[test]
    fn arrays_are_written_both_ways() {
        assert_eq!(data_type("text[]"), data_type("array<text>"));
        assert_eq!(type_name(&data_type("bigint[][]").unwrap()), "bigint[][]");
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let message = data_type("strnig[]").unwrap_err();
        assert!(message.starts_with("there is no type `strnig`"), "{message}");
        assert!(message.contains("bigint, int, smallint"), "{message}");
    }
}
