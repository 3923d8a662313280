//! Keys as bytes, in two forms: as the Kafka sink writes them (which places them in a partition),
//! and in an order-preserving, self-describing form for the state store (FoundationDB's tuple layer).

use foundationdb_tuple::{Bytes, Element, pack_into, unpack};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::murmur2;
use super::scalar::{Other, Scalars, scalars};
use crate::error::{Error, Result};

/// Leads the members of a struct or map, to tell it from a sequence.
const OBJECT: &[u8] = b"{";

/// Appends `key` as the Kafka sink writes it: text as it is, everything else as its JSON text.
pub(crate) fn key_bytes<K: Serialize + ?Sized>(key: &K, into: &mut Vec<u8>) -> Result<()> {
    /// Text alone is written as it is; of all else JSON is the judge.
    struct Plain<'a>(&'a mut Vec<u8>);

    impl Scalars for Plain<'_> {
        fn text(&mut self, text: &str) -> Result<(), Other> {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }

        fn integer(&mut self, _: i64) -> Result<(), Other> {
            Err(Other)
        }

        fn tuple(&mut self) -> Result<(), Other> {
            Err(Other)
        }
    }

    let start = into.len();
    if scalars(key, &mut Plain(into)).is_ok() {
        return Ok(());
    }
    into.truncate(start);
    serde_json::to_writer(&mut *into, key)
        .map_err(|e| Error::task("a key cannot be serialised").with_source(e))?;
    let json = &into[start..];
    if json.first() == Some(&b'"') {
        if json.contains(&b'\\') {
            let text: String = serde_json::from_slice(json)
                .map_err(|e| Error::internal("JSON text cannot be read back").with_source(e))?;
            into.truncate(start);
            into.extend_from_slice(text.as_bytes());
        } else {
            into.pop();
            into.remove(start);
        }
    }
    Ok(())
}

/// The partition of `key` among `partitions`, as Kafka's default partitioner has it.
pub(crate) fn partition_of<K: Serialize + ?Sized>(
    key: &K,
    partitions: u32,
    scratch: &mut Vec<u8>,
) -> Result<usize> {
    scratch.clear();
    key_bytes(key, scratch)?;
    Ok(((murmur2(scratch) as u32 & 0x7fff_ffff) % partitions) as usize)
}

/// Appends `key` in the state store's form; byte order is the order of texts, numbers and sequences of them.
pub(crate) fn encode_key<K: Serialize + ?Sized>(key: &K, into: &mut Vec<u8>) -> Result<()> {
    /// Elements one behind the other are what a tuple is.
    struct Packed<'a>(&'a mut Vec<u8>);

    impl Scalars for Packed<'_> {
        fn text(&mut self, text: &str) -> Result<(), Other> {
            pack_into(&text, self.0);
            Ok(())
        }

        fn integer(&mut self, integer: i64) -> Result<(), Other> {
            pack_into(&integer, self.0);
            Ok(())
        }

        fn tuple(&mut self) -> Result<(), Other> {
            Ok(())
        }
    }

    let start = into.len();
    if scalars(key, &mut Packed(into)).is_ok() {
        return Ok(());
    }
    into.truncate(start);
    encode_any(key, into)
}

/// As [`encode_key`], whatever the key is.
fn encode_any<K: Serialize + ?Sized>(key: &K, into: &mut Vec<u8>) -> Result<()> {
    let value =
        serde_json::to_value(key).map_err(|e| Error::task("a key cannot be serialised").with_source(e))?;
    pack_into(&element(value)?, into);
    Ok(())
}

/// The key that [`encode_key`] wrote.
pub(crate) fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K> {
    let element: Element<'_> =
        unpack(bytes).map_err(|e| Error::checkpoint(format!("a stored key cannot be read: {e}")))?;
    serde_json::from_value(json(element)?).map_err(|e| {
        Error::checkpoint(format!("a stored key is no {}: {e}", std::any::type_name::<K>())).with_source(e)
    })
}

fn element(value: Value) -> Result<Element<'static>> {
    Ok(match value {
        Value::Null => Element::Nil,
        Value::Bool(b) => Element::Bool(b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Element::Int(i),
            (None, Some(f)) if n.is_f64() => Element::Double(f),
            _ => return Err(Error::task(format!("key {n} is outside the range of a 64-bit signed integer"))),
        },
        Value::String(s) => Element::String(s.into()),
        Value::Array(items) => Element::Tuple(items.into_iter().map(element).collect::<Result<_>>()?),
        Value::Object(members) => {
            let mut items = vec![Element::Bytes(Bytes::from(OBJECT))];
            for (name, member) in members {
                items.push(Element::String(name.into()));
                items.push(element(member)?);
            }
            Element::Tuple(items)
        }
    })
}

fn json(element: Element<'_>) -> Result<Value> {
    Ok(match element {
        Element::Nil => Value::Null,
        Element::Bool(b) => b.into(),
        Element::Int(i) => i.into(),
        Element::Double(f) => f.into(),
        Element::String(s) => Value::String(s.into_owned()),
        Element::Tuple(items) => match items.split_first() {
            Some((Element::Bytes(mark), members)) if &**mark == OBJECT => members
                .chunks_exact(2)
                .map(|pair| match &pair[0] {
                    Element::String(name) => Ok((name.to_string(), json(pair[1].clone())?)),
                    other => Err(Error::checkpoint(format!("a stored key has {other:?} for a field's name"))),
                })
                .collect::<Result<serde_json::Map<_, _>>>()?
                .into(),
            _ => items.into_iter().map(json).collect::<Result<Vec<_>>>()?.into(),
        },
        other => return Err(Error::checkpoint(format!("a stored key holds {other:?}, which no key has"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Place {
        town: String,
        house: Option<i64>,
    }

    fn encoded<K: Serialize>(key: &K) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_key(key, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn text_keys_are_their_own_bytes() {
        for text in ["", "plain", "two\nlines", "\"quoted\"", "naïve ☃"] {
            let mut bytes = Vec::new();
            key_bytes(text, &mut bytes).unwrap();
            assert_eq!(bytes, text.as_bytes());
        }
    }

    #[test]
    fn other_keys_are_json() {
        let mut bytes = Vec::new();
        key_bytes(&("a", 1), &mut bytes).unwrap();
        assert_eq!(bytes, br#"["a",1]"#);
    }

    #[test]
    fn an_unsigned_key_that_does_not_fit_is_an_error() {
        assert!(encode_key(&u64::MAX, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn keys_come_back(town in ".*", house in any::<Option<i64>>(), pair in any::<(i32, bool)>()) {
            let place = Place { town, house };
            prop_assert_eq!(decode_key::<Place>(&encoded(&place)).unwrap(), place);
            prop_assert_eq!(decode_key::<(i32, bool)>(&encoded(&pair)).unwrap(), pair);
        }

        #[test]
        fn the_quick_way_writes_the_same(
            pair in any::<(i64, String)>(),
            three in any::<(u32, i8, String)>(),
            text in ".*",
            nested in any::<((u8, u8), String)>(),
            one in any::<(i16,)>(),
            some in any::<Option<i64>>(),
        ) {
            fn slow<K: Serialize>(key: &K) -> Vec<u8> {
                let mut bytes = Vec::new();
                encode_any(key, &mut bytes).unwrap();
                bytes
            }
            prop_assert_eq!(encoded(&pair), slow(&pair));
            prop_assert_eq!(encoded(&three), slow(&three));
            prop_assert_eq!(encoded(&text), slow(&text));
            prop_assert_eq!(encoded(&nested), slow(&nested));
            prop_assert_eq!(encoded(&one), slow(&one));
            prop_assert_eq!(encoded(&some), slow(&some));
        }

        #[test]
        fn bytes_are_in_the_order_of_the_keys(a in any::<(i64, String)>(), b in any::<(i64, String)>()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
        }
    }
}
