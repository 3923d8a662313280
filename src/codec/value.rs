//! Stored values: MessagePack with field names, led by the number of the encoding's version.
//!
//! Values describe themselves, so the command line can show them without the program, and a field
//! that was added with a default can be read from older values.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

const VERSION: u8 = 1;

pub(crate) fn encode_value<V: Serialize>(value: &V) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    append_value(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends what [`encode_value`] gives.
pub(crate) fn append_value<V: Serialize>(value: &V, into: &mut Vec<u8>) -> Result<()> {
    into.push(VERSION);
    value.serialize(&mut rmp_serde::Serializer::new(into).with_struct_map()).map_err(|e| {
        Error::checkpoint(format!("cannot encode a {}", std::any::type_name::<V>())).with_source(e)
    })
}

/// The two values as [`encode_value`] writes a pair of them; tells where the second begins.
pub(crate) fn encode_values<A: Serialize, B: Serialize>(first: &A, second: &B) -> Result<(Vec<u8>, usize)> {
    /// MessagePack's mark of an array of two.
    const PAIR: u8 = 0x92;
    let mut bytes = vec![VERSION, PAIR];
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    let failed =
        |e| Error::checkpoint(format!("cannot encode a {}", std::any::type_name::<B>())).with_source(e);
    first.serialize(&mut serializer).map_err(failed)?;
    let place = serializer.get_ref().len();
    second.serialize(&mut serializer).map_err(failed)?;
    Ok((bytes, place))
}

pub(crate) fn decode_value<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    match bytes.split_first() {
        Some((&VERSION, body)) => rmp_serde::from_slice(body).map_err(|e| {
            Error::checkpoint(format!("a stored value is no {}: {e}", std::any::type_name::<V>()))
                .with_source(e)
        }),
        Some((version, _)) => Err(Error::checkpoint(format!(
            "a stored value has encoding version {version}, this program reads version {VERSION}"
        ))),
        None => Err(Error::checkpoint("a stored value is empty")),
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
