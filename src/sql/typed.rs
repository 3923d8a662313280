//! Rust types as rows: which columns a type has, its values as Arrow batches, and batches as values again.

use std::any::type_name as rust_name;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_arrow::Deserializer;
use serde_arrow::schema::{STRATEGY_KEY, SchemaLike, TracingOptions};
use serde_arrow::utils::{Item, Items};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::columns::batch;
use crate::sql::error::nearest;
use crate::sql::{DataType, Field, RecordBatch, Schema, SchemaRef, type_name};

/// As many rows as DataFusion itself puts into a batch.
const ROWS_PER_BATCH: usize = 8_192;

/// How a type's values become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A struct: a column for each field, under its name.
    Record,
    /// A tuple: a column for each member, in order.
    Tuple,
    /// Anything else: one column.
    Value,
}

/// The columns that values of `T` have as rows.
pub(super) struct RowType<T> {
    shape: Shape,
    /// The columns under the names by which serde asks for them.
    fields: Vec<FieldRef>,
    /// The columns under the names by which SQL asks for them.
    schema: SchemaRef,
    of: PhantomData<fn(T)>,
}

impl<T: DeserializeOwned> RowType<T> {
    /// The columns of `T`: a struct's fields by their serde names, a tuple's members as `_1`, `_2` …, any other value as
    /// `value`. Found by the type alone, so that they are there without a value.
    ///
    /// # Errors
    /// `Config` when serde cannot tell the type's fields, or SQL has no type for one of them.
    pub(super) fn new() -> Result<Self> {
        // Wrapped, since only then everything that is no struct can be traced.
        let options = TracingOptions::default()
            .map_as_struct(false)
            .sequence_as_large_list(false)
            .enums_without_data_as_strings(true)
            // Let through here, to be refused in our words.
            .allow_null_fields(true);
        let traced = Vec::<FieldRef>::from_type::<Item<T>>(options).map_err(|error| {
            let message = error.message();
            // What follows the first sentence is advice about options that are not ours to give.
            let reason = match message.contains("self describing") || message.contains("maps as structs") {
                true => "what it holds is known only once there is a value (a JSON value, `#[serde(flatten)]`, a date)",
                false => message.split(". ").next().unwrap_or_default().trim_end_matches('.'),
            };
            no_table::<T>(reason)
        })?;
        let [item] = traced.as_slice() else {
            return Err(Error::internal(format!("`{}` was traced as no item", short_name::<T>())));
        };
        let (shape, fields) = match item.data_type() {
            DataType::Struct(fields) if !item.is_nullable() => {
                let shape = if is_tuple(item) { Shape::Tuple } else { Shape::Record };
                (shape, sql_fields(fields, is_tuple(item)))
            }
            _ => (Shape::Value, sql_field(item, item.name()).map(|field| vec![field])),
        };
        let fields = fields.map_err(|reason| no_table::<T>(&reason))?;
        if fields.is_empty() {
            return Err(no_table::<T>("it has no fields"));
        }
        let schema = match shape {
            Shape::Value => vec![renamed(&fields[0], "value")],
            _ => fields.clone(),
        };
        Ok(Self { shape, fields, schema: Arc::new(Schema::new(schema)), of: PhantomData })
    }

    /// The same with other names of the columns, in order.
    ///
    /// # Errors
    /// `Config` when there are more or fewer names than columns, or two that are the same.
    pub(super) fn named(mut self, names: &[&str]) -> Result<Self> {
        let columns = self.schema.fields();
        if names.len() != columns.len() {
            return Err(Error::config(format!(
                "{} for the {} of `{}`: {}",
                counted(names.len(), "name"),
                counted(columns.len(), "column"),
                short_name::<T>(),
                described(&self.schema)
            )));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
            return Err(Error::config(format!("two columns are called `{twice}`")));
        }
        let columns = columns.iter().zip(names).map(|(field, name)| renamed(field, name));
        self.schema = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        Ok(self)
    }

    /// The columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// `rows` in batches, in order; none for no rows.
    ///
    /// # Errors
    /// `Data` when a value is not what its type said (a field that is left out).
    pub(super) fn batches(&self, rows: &[T]) -> Result<Vec<RecordBatch>>
    where
        T: Serialize,
    {
        rows.chunks(ROWS_PER_BATCH)
            .map(|rows| {
                let columns = match self.shape {
                    Shape::Value => serde_arrow::to_arrow(&self.fields, Items(rows)),
                    _ => serde_arrow::to_arrow(&self.fields, rows),
                };
                let columns = columns.map_err(|error| {
                    let reason = format!(
                        "a value of `{}` does not fit its columns: {}",
                        short_name::<T>(),
                        said(&error)
                    );
                    Error::data(reason)
                })?;
                batch(&self.schema, columns, rows.len())
            })
            .collect()
    }

    /// Whether rows of `schema` can be values of `T`, as far as the types tell.
    fn check(&self, schema: &SchemaRef) -> Result<()> {
        let (have, want) = (schema.fields(), &self.fields);
        if self.shape != Shape::Record && have.len() != want.len() {
            let into = if self.shape == Shape::Tuple {
                "a tuple of as many, or a struct"
            } else {
                "a tuple or a struct"
            };
            return Err(Error::config(format!(
                "rows of {} do not fit `{}`: collect them into {into}; they have {}",
                counted(have.len(), "column"),
                short_name::<T>(),
                described(schema)
            )));
        }
        for (index, want) in want.iter().enumerate() {
            let have = match self.shape {
                Shape::Record => have.iter().find(|have| have.name() == want.name()),
                _ => have.get(index),
            };
            let Some(have) = have else { continue };
            let (have_type, want_type) = (have.data_type(), want.data_type());
            if !may_be_read(have_type, want_type) {
                let wanted = type_name(want_type);
                let hint = match is_list(have_type) || is_list(want_type) {
                    true => String::new(),
                    false => format!("write `cast({} as {wanted})` in the query, or ", have.name()),
                };
                return Err(Error::config(format!(
                    "column `{}` is {}, where `{}` has {wanted}: {hint}change the type",
                    have.name(),
                    type_name(have_type),
                    short_name::<T>(),
                )));
            }
        }
        Ok(())
    }

    /// Why row `index` of `batch` is no value of `T`: `error`, or better words for it.
    fn misfit(&self, batch: &RecordBatch, index: usize, error: &serde_arrow::Error) -> (ErrorKind, String) {
        let schema = batch.schema_ref();
        for want in self.fields.iter().enumerate().filter(|(_, want)| !want.is_nullable()) {
            let have = match self.shape {
                Shape::Record => schema.index_of(want.1.name()).ok(),
                _ => Some(want.0),
            };
            match have {
                // Else serde has a value for it.
                None if error.message().contains("missing field") => {
                    let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
                    let name = want.1.name();
                    let hint = nearest(name, &names, "columns");
                    return (ErrorKind::Config, format!("there is no column `{name}`; {hint}"));
                }
                Some(have) if batch.column(have).is_null(index) => {
                    let name = schema.field(have).name();
                    let reason = format!("column `{name}` is NULL, which only an `Option` can hold");
                    return (ErrorKind::Data, reason);
                }
                _ => {}
            }
        }
        (ErrorKind::Data, said(error))
    }
}

/// The rows of `batches`, all of columns `schema`, as values of `U`: a struct by the names of its fields, a tuple by its
/// order, any other value from the only column.
///
/// # Errors
/// `Config` when the columns are not those of `U`; `Data` when a value does not fit (NULL for what is no `Option`, a number
/// too large).
pub(super) fn values<U: DeserializeOwned>(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<U>> {
    // A type that cannot be traced, such as a JSON value, takes the row as it is.
    let of = RowType::<U>::new().ok().filter(|of| !takes_any_columns(of, schema));
    if let Some(of) = &of {
        of.check(schema)?;
    }
    let mut values = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let item;
        let readable = match &of {
            Some(RowType { shape: Shape::Value, fields, .. }) => {
                let field = renamed(&schema.fields()[0], fields[0].name());
                item = self::batch(
                    &Arc::new(Schema::new(vec![field])),
                    batch.columns().to_vec(),
                    batch.num_rows(),
                )?;
                &item
            }
            _ => batch,
        };
        let rows = Deserializer::from_record_batch(readable).map_err(|error| {
            let reason = said(&error);
            Error::config(format!("rows of {} cannot be taken out of SQL: {reason}", described(schema)))
        })?;
        for (index, row) in rows.iter().enumerate() {
            let value = match &of {
                Some(of) if of.shape == Shape::Value => Item::<U>::deserialize(row).map(|Item(value)| value),
                _ => U::deserialize(row),
            };
            values.push(value.map_err(|error| {
                let misfit = of.as_ref().map(|of| of.misfit(batch, index, &error));
                let (kind, reason) = misfit.unwrap_or_else(|| (ErrorKind::Data, said(&error)));
                let place = format!("row {} does not fit `{}`", values.len() + 1, short_name::<U>());
                Error::new(kind, reason).within(place)
            })?);
        }
    }
    Ok(values)
}

/// Whether `of` is a map, which takes whatever columns there are by name, unless the one column there is is itself a map.
fn takes_any_columns<U>(of: &RowType<U>, schema: &SchemaRef) -> bool {
    let is_map = |field: &FieldRef| matches!(field.data_type(), DataType::Map(..));
    of.shape == Shape::Value
        && is_map(&of.fields[0])
        && !matches!(&schema.fields()[..], [only] if is_map(only))
}

/// Whether serde can read a column of type `have` where the type has `want`. What only the values can tell is let through.
fn may_be_read(have: &DataType, want: &DataType) -> bool {
    let is_text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_integer_or_bool = |of: &DataType| of.is_integer() || *of == DataType::Boolean;
    let is_number_or_bool = |of: &DataType| is_integer_or_bool(of) || of.is_floating();
    if is_list(have) != is_list(want) {
        // Bytes are a list of small integers to serde, and a missing value is any type's.
        let is_bytes = |of: &DataType| {
            matches!(
                of,
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Struct(_)
            )
        };
        return is_bytes(have) || is_bytes(want) || have.is_null();
    }
    !(is_number_or_bool(want) && is_text(have)
        || is_text(want) && is_integer_or_bool(have)
        || want.is_floating() && is_integer_or_bool(have)
        || is_integer_or_bool(want) && have.is_floating())
}

fn is_list(of: &DataType) -> bool {
    matches!(of, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// Whether serde gives this field as a tuple.
fn is_tuple(field: &Field) -> bool {
    field.metadata().get(STRATEGY_KEY).is_some_and(|strategy| strategy == "TupleAsStruct")
}

fn sql_fields<'a>(
    fields: impl IntoIterator<Item = &'a FieldRef>,
    of_tuple: bool,
) -> Result<Vec<FieldRef>, String> {
    let one = |(index, field): (usize, &'a FieldRef)| match of_tuple {
        true => sql_field(field, &format!("_{}", index + 1)),
        false => sql_field(field, field.name()),
    };
    fields.into_iter().enumerate().map(one).collect()
}

/// The field called `name`, with the types that SQL has for it.
fn sql_field(field: &FieldRef, name: &str) -> Result<FieldRef, String> {
    let same_name = |inner: &FieldRef| sql_field(inner, inner.name());
    let of = match field.data_type() {
        // Variants without data are their names.
        DataType::Dictionary(..) | DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(element) => DataType::List(same_name(element)?),
        DataType::Map(entries, sorted) => DataType::Map(same_name(entries)?, *sorted),
        DataType::Struct(fields) => DataType::Struct(sql_fields(fields, is_tuple(field))?.into()),
        DataType::Null => return Err(format!("`{name}` holds nothing")),
        DataType::Union(..) => {
            return Err(format!("`{name}` is an enum whose variants hold data, for which SQL has no type"));
        }
        other => other.clone(),
    };
    Ok(Arc::new(Field::new(name, of, field.is_nullable())))
}

fn renamed(field: &FieldRef, name: &str) -> FieldRef {
    Arc::new(field.as_ref().clone().with_name(name))
}

fn no_table<T>(reason: &str) -> Error {
    Error::config(format!(
        "`{}` cannot be the rows of a table: {reason}; map it to a struct or a tuple of numbers, texts, lists and the like",
        short_name::<T>()
    ))
}

/// `word text, total bigint`
fn described(schema: &SchemaRef) -> String {
    let column = |field: &FieldRef| format!("{} {}", field.name(), type_name(field.data_type()));
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What `error` says, led by the column if it names one.
fn said(error: &serde_arrow::Error) -> String {
    let text = error.to_string();
    let column = text.rsplit_once("field: \"$.").and_then(|(_, rest)| rest.split('"').next());
    match column {
        Some(column) => format!("column `{column}`: {}", error.message()),
        None => error.message().to_owned(),
    }
}

/// The type's name without the modules that its parts are in.
fn short_name<T>() -> String {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut short = String::new();
    for part in rust_name::<T>().split_inclusive(|c| !is_name(c)) {
        short.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    short
}
