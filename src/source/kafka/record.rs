//! Records as they come from Kafka.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Headers;
use crate::codec::utf8;

/// A record in the reader's buffer: what the first operator sees, before anything is copied.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// When it was written, in milliseconds since the epoch, if Kafka knows.
    pub timestamp: Option<i64>,
    /// The key's bytes, if there is a key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, decoded when asked for.
    pub headers: Headers<'a>,
}

impl Record<'_> {
    /// The record that `owned` is a copy of.
    pub(super) fn of<'a>(topic: &'a Arc<str>, owned: &'a ConsumerRecord) -> Record<'a> {
        Record {
            topic,
            partition: owned.partition,
            offset: owned.offset,
            timestamp: owned.timestamp,
            key: owned.key.as_deref(),
            value: owned.value.as_deref(),
            headers: Headers::owned(&owned.headers),
        }
    }

    /// Bytes of key and value.
    #[inline]
    pub fn len(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }

    /// Whether both key and value are empty or absent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value as text, invalid UTF-8 replaced by `U+FFFD`; empty for a tombstone.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let value = self.value.unwrap_or_default();
        utf8(value).map_or_else(|| String::from_utf8_lossy(value), std::borrow::Cow::Borrowed)
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> ConsumerRecord {
        ConsumerRecord {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers.to_owned(),
        }
    }
}

/// A record that owns its bytes (Kafka's `ConsumerRecord`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerRecord {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// When it was written, in milliseconds since the epoch, if Kafka knows.
    pub timestamp: Option<i64>,
    /// The key's bytes, if there is a key.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}
