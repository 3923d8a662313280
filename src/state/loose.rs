//! Stored values as JSON, without knowing their types.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// JSON of whatever MessagePack holds: keys of maps become text, bytes an array of numbers, what is no number `null`.
pub(super) struct Loose(pub Value);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor).map(Loose)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Loose(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((Loose(name), Loose(value))) = members.next_entry()? {
            let name = match name {
                Value::String(text) => text,
                other => other.to_string(),
            };
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde_json::json;

    use super::*;
    use crate::codec::{decode_value, encode_value};

    #[derive(Serialize)]
    enum Kind {
        Unit,
        Pair(u8, Option<bool>),
    }

    #[derive(Serialize)]
    struct Shape {
        name: &'static str,
        by_number: BTreeMap<i32, f64>,
        kinds: Vec<Kind>,
        nothing: (),
    }

    #[test]
    fn values_of_all_shapes_can_be_shown() {
        let shape = Shape {
            name: "a",
            by_number: BTreeMap::from([(-1, 0.5), (2, f64::NAN)]),
            kinds: vec![Kind::Unit, Kind::Pair(1, None)],
            nothing: (),
        };
        let Loose(shown) = decode_value(&encode_value(&shape).unwrap()).unwrap();
        assert_eq!(
            shown,
            json!({"name": "a", "by_number": {"-1": 0.5, "2": null}, "kinds": ["Unit", {"Pair": [1, null]}], "nothing": null})
        );
    }
}
