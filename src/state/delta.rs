//! What a batch changes in the state: never the whole of it.

use std::ops::Range;
use std::sync::Arc;

use crate::codec::encode_key;
use crate::error::{Error, Result};

/// One change to an operator's column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

impl Change {
    /// The record's key.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// The changes of a batch by operator.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub operators: Vec<(Arc<str>, Vec<Change>)>,
    /// Records of the checkpoint itself that go with them, by name; they alone are no change.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.operators.iter().all(|(_, changes)| changes.is_empty())
    }

    pub fn add(&mut self, uid: Arc<str>, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.operators.push((uid, changes));
        }
    }
}

/// The kinds of records in an operator's column family. Below [`BOOKKEEPING`] are entries: a key and a value that
/// everybody can read. From there on it is the operator's own affair, but for [gathered](super::Gatherer) entries.
pub(crate) mod kind {
    /// A key's state, or a pane.
    pub const ENTRY: u8 = 0;
    /// A key's running total over a window.
    pub const TOTAL: u8 = 1;
    pub const BOOKKEEPING: u8 = 128;
    /// Says, in partition 0, that the initial state was taken.
    pub const INITIAL_TAKEN: u8 = 128;
    /// How much a partition holds.
    pub const COUNTERS: u8 = 129;
    /// Keys by the time of their last touch.
    pub const TOUCHED: u8 = 130;
    /// Says, in partition 0, that `TOUCHED` is complete.
    pub const TOUCHED_COMPLETE: u8 = 131;
    /// The last window that totals were made for.
    pub const EMITTED: u8 = 132;
    /// How many partitions a batch has.
    pub const PARTITIONS: u8 = 133;
    /// Many entries in one record, newer than those of their own.
    pub const GATHERED: u8 = 134;
}

/// How many bytes stand before the user's key.
pub(super) const PREFIX: usize = 3;

/// The store's key: state partition, what kind of thing it is, its time if it has one, and the user's key.
pub(crate) fn record_key<K: serde::Serialize>(partition: usize, kind: u8, key: &K) -> Result<Vec<u8>> {
    let mut bytes = prefix(partition, kind, 24);
    encode_key(key, &mut bytes)?;
    Ok(bytes)
}

/// The store's key of something that there is once in a partition.
pub(crate) fn single_key(partition: usize, kind: u8) -> Vec<u8> {
    prefix(partition, kind, PREFIX)
}

pub(super) fn prefix(partition: usize, kind: u8, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    append_prefix(partition, kind, &mut bytes);
    bytes
}

pub(super) fn append_prefix(partition: usize, kind: u8, into: &mut Vec<u8>) {
    into.extend_from_slice(&(partition as u16).to_be_bytes());
    into.push(kind);
}

/// Where all records of a kind stand in a partition.
pub(super) fn kind_range(partition: usize, kind: u8) -> Range<Vec<u8>> {
    prefix(partition, kind, PREFIX)..prefix(partition, kind + 1, PREFIX)
}

/// The user's key in a key that [`record_key`] made.
pub(super) fn user_key(stored: &[u8]) -> &[u8] {
    stored.get(PREFIX..).unwrap_or_default()
}

/// The parts of a key that [`record_key`] made: partition, kind, and the encoded user's key.
pub(crate) fn split_key(bytes: &[u8]) -> Result<(usize, u8, &[u8])> {
    match bytes {
        [high, low, kind, key @ ..] => Ok((u16::from_be_bytes([*high, *low]) as usize, *kind, key)),
        _ => {
            Err(Error::checkpoint(format!("a key of {} bytes in the state store is too short", bytes.len())))
        }
    }
}
