//! Rows that outlive a batch: keys and values of state. How they become Arrow columns and back is in [`columns`].
//!
//! [`columns`]: super::columns

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::{SmallVec, smallvec};

use crate::Text;

/// One value of a row. Its exact SQL type is in the schema beside it: dates are `Int` days and timestamps `Int`
/// microseconds since the epoch (or the unit of their column), so that a value written without its schema reads back as
/// the same value.
///
/// Ordered by kind, then by value; floats by their total order.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// SQL's NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// Every integer type, dates (days) and timestamps (microseconds).
    Int(i64),
    /// `real` and `double`; from a column never `-0.0`, and only one NaN, so that equal keys are equal bytes.
    Float(f64),
    /// Text, most of which needs no memory of its own.
    Text(Text),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// An array.
    List(Box<[Value]>),
}

/// One row: a key, a partial state, or a result. Which column is which is in the schema beside it.
///
/// Serialised as native values, without tags: a row of one column as the bare value, so that the key `tag` has the bytes of
/// a plain string, any other number of columns as a sequence. (A single column that is itself an array is a sequence of one
/// sequence.) Needs a format that describes itself, such as MessagePack or JSON; JSON has neither bytes nor NaN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row(pub(crate) Values);

/// The values of a row: of a key, or a state of one aggregate, without memory of their own.
pub(crate) type Values = SmallVec<[Value; 2]>;

impl Value {
    /// Where the value's kind stands among the kinds.
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::Float(_) => 3,
            Value::Text(_) => 4,
            Value::Bytes(_) => 5,
            Value::List(_) => 6,
        }
    }

    /// A float in the one form that stands for all equal to it.
    pub(super) fn float(value: f64) -> Self {
        Value::Float(if value.is_nan() { f64::NAN } else { value + 0.0 })
    }
}

impl From<Vec<Value>> for Row {
    fn from(values: Vec<Value>) -> Self {
        Row(values.into())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.into())
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Value::Null => {}
            Value::Bool(value) => value.hash(state),
            Value::Int(value) => value.hash(state),
            // Floats are equal by total order exactly if their bits are.
            Value::Float(value) => value.to_bits().hash(state),
            Value::Text(value) => value.hash(state),
            Value::Bytes(value) => value.hash(state),
            Value::List(values) => values.hash(state),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.serialize_bytes(value),
            Value::List(values) => sequence(serializer, values),
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [value] if !matches!(value, Value::List(_)) => value.serialize(serializer),
            values => sequence(serializer, values),
        }
    }
}

fn sequence<S: Serializer>(serializer: S, values: &[Value]) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(values.len()))?;
    for value in values {
        sequence.serialize_element(value)?;
    }
    sequence.end()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::List(values) => Row(values.into_vec().into()),
            value => Row(smallvec![value]),
        })
    }
}

/// Takes whatever native value comes.
struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a null, boolean, number, text, bytes or sequence")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value).map(Value::Int).map_err(|_| E::custom(format!("{value} does not fit a bigint")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.into()))
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::with_capacity(sequence.size_hint().unwrap_or(0).min(1024));
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(row: &Row) -> Row {
        let bytes = rmp_serde::to_vec(row).unwrap();
        rmp_serde::from_slice(&bytes).unwrap()
    }

    #[test]
    fn one_text_column_has_the_bytes_of_a_string() {
        let row = Row::from(vec!["rust".into()]);
        assert_eq!(rmp_serde::to_vec(&row).unwrap(), rmp_serde::to_vec("rust").unwrap());
        assert_eq!(serde_json::to_string(&row).unwrap(), "\"rust\"");
        assert_eq!(round_trip(&row), row);
    }

    #[test]
    fn any_other_row_is_a_sequence() {
        let row =
            Row::from(vec!["a".into(), Value::Null, Value::Int(-3), Value::float(2.0), Value::Bool(true)]);
        assert_eq!(serde_json::to_string(&row).unwrap(), r#"["a",null,-3,2.0,true]"#);
        assert_eq!(serde_json::from_str::<Row>(r#"["a",null,-3,2.0,true]"#).unwrap(), row);
        let list = Value::List([Value::Int(1), Value::Int(2)].into());
        let bytes = Value::Bytes([0, 255].as_slice().into());
        for row in [
            row,
            Row::from(vec![]),
            Row::from(vec![Value::Null]),
            Row::from(vec![list.clone()]),
            Row::from(vec![list, bytes]),
        ] {
            assert_eq!(round_trip(&row), row, "{row:?}");
        }
    }

    #[test]
    fn floats_that_are_equal_in_sql_are_one_key() {
        assert_eq!(Value::float(-0.0), Value::float(0.0));
        assert_eq!(Value::float(-f64::NAN), Value::float(f64::NAN));
        assert!(Value::float(f64::INFINITY) < Value::float(f64::NAN));
        assert!(Value::Null < Value::Bool(false));
    }

    #[test]
    fn an_unsigned_number_too_large_is_an_error() {
        assert!(serde_json::from_str::<Row>("18446744073709551615").is_err());
    }
}
