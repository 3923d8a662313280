//! A record of an operator's state, decoded without its types, and encoded again.

use serde_json::Value;

use super::delta::{kind, record_key, split_key};
use super::loose::Loose;
use crate::codec::{decode_key, decode_value, encode_value, encode_values, partition_of};
use crate::error::{Error, Result};
use crate::time::Time;

/// What an operator keeps for a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateEntry {
    pub partition: usize,
    /// [`kind::ENTRY`] or [`kind::TOTAL`].
    pub kind: u8,
    /// Of `map_with_state` its last touch; of a window the end of the pane, or the batch.
    pub time: Option<Time>,
    /// Of a `window` the number of the batch's partition.
    pub key: Value,
    pub value: Value,
}

/// Whether the operator's entries are panes, by time and key.
pub(crate) fn has_panes(operator: &str) -> bool {
    operator == "window" || operator.starts_with("reduce_by_key_and_window")
}

pub(super) fn notes_touches(operator: &str) -> bool {
    operator == "map_with_state"
}

impl StateEntry {
    /// The entry of an operator of this name; nothing if the record is the operator's bookkeeping.
    pub fn decode(operator: &str, stored: &[u8], value: &[u8]) -> Result<Option<Self>> {
        let (partition, kind, key) = split_key(stored)?;
        if kind >= kind::BOOKKEEPING {
            return Ok(None);
        }
        let unreadable = |e: Error| e.within(format!("partition {partition}"));
        let key: Value = decode_key(key).map_err(unreadable)?;
        let of_key = |e: Error| e.within(format!("partition {partition}, key {key}"));
        let (time, state) = if kind == kind::ENTRY && notes_touches(operator) {
            let (time, Loose(state)): (Time, Loose) = decode_value(value).map_err(of_key)?;
            (Some(time), state)
        } else {
            let Loose(state) = decode_value(value).map_err(of_key)?;
            (None, state)
        };
        if kind == kind::ENTRY && has_panes(operator) {
            let Ok((time, of_pane)) = serde_json::from_value::<(Time, Value)>(key.clone()) else {
                return Err(of_key(Error::damaged("it is no pane, which has a time and a key")));
            };
            return Ok(Some(Self { partition, kind, time: Some(time), key: of_pane, value: state }));
        }
        Ok(Some(Self { partition, kind, time, key, value: state }))
    }

    /// The record of an operator of this name.
    pub fn encode(&self, operator: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let no_time = || Error::data("an entry of this operator needs a time");
        let Self { partition, kind, time, key, value } = self;
        if *kind == kind::ENTRY && has_panes(operator) {
            let time = time.ok_or_else(no_time)?.as_millis();
            return Ok((record_key(*partition, *kind, &(time, key))?, encode_value(value)?));
        }
        let stored = record_key(*partition, *kind, key)?;
        if *kind == kind::ENTRY && notes_touches(operator) {
            return Ok((stored, encode_values(&time.ok_or_else(no_time)?, value)?.0));
        }
        Ok((stored, encode_value(value)?))
    }
}

/// The partition of `key` among `partitions`, as the program places it.
///
/// # Errors
/// If only the program can tell.
pub(crate) fn place(key: &Value, partitions: usize) -> Result<usize> {
    if has_members(key) {
        return Err(Error::usage(format!(
            "key {key} has named members, whose order in the program decides its partition: only the program knows it"
        )));
    }
    partition_of(key, partitions as u32, &mut Vec::new())
}

/// Whether there is an object with an order in `key`.
fn has_members(key: &Value) -> bool {
    match key {
        Value::Object(members) => members.len() > 1 || members.values().any(has_members),
        Value::Array(items) => items.iter().any(has_members),
        _ => false,
    }
}
