//! What a batch changes in the state: never the whole of it.

use std::sync::Arc;

use crate::codec::encode_key;
use crate::error::{Error, Result};

/// One change to an operator's column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// The changes of a batch by operator.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub operators: Vec<(Arc<str>, Vec<Change>)>,
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

/// The store's key: state partition, what kind of thing it is, its time if it has one, and the user's key.
pub(crate) fn record_key<K: serde::Serialize>(partition: usize, kind: u8, key: &K) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend_from_slice(&(partition as u16).to_be_bytes());
    bytes.push(kind);
    encode_key(key, &mut bytes)?;
    Ok(bytes)
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
