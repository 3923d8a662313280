//! Bytes to values and back: keys, stored values, and the hash that places keys.

pub(crate) mod block;
mod key;
mod murmur2;
mod scalar;
mod text;
mod utf8;
mod value;
mod words;

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use key::{decode_key, encode_key, partition_of};
pub use murmur2::murmur2;
pub use text::Text;
pub(crate) use utf8::utf8;
pub(crate) use value::{append_value, decode_value, encode_value, encode_values};
pub use words::Words;

use crate::rdd::Data;

/// What a key of a keyed operator must be: comparable, and writable to state and to Kafka.
pub trait Key: Data + Eq + Hash + Serialize + DeserializeOwned {}
impl<K: Data + Eq + Hash + Serialize + DeserializeOwned> Key for K {}

/// What a value must be to be kept in a checkpoint.
pub trait Stored: Data + Serialize + DeserializeOwned {}
impl<V: Data + Serialize + DeserializeOwned> Stored for V {}
