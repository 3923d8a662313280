//! `state get` and `state scan`

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::service::target::{Out, Place};
use crate::state::{StateDb, StateEntry, has_panes, kind, record_key};

pub(super) fn get(place: &Place, uid: &str, key: &str) -> anyhow::Result<ExitCode> {
    let store = place.read()?;
    let schema = store.known(uid)?;
    // As text first: a word that happens to be JSON too (`5`, `null`) is a key of text, if there are such keys.
    let as_json = serde_json::from_str::<Value>(key).ok();
    let candidates = [Some(Value::String(key.to_owned())), as_json];
    let mut found = Vec::new();
    for candidate in candidates.into_iter().flatten() {
        if has_panes(&schema.operator) {
            store.entries(uid, |entry| {
                if entry.key == candidate {
                    found.push(entry);
                }
                Ok(())
            })?;
        } else {
            found.extend(of_key(&store, uid, &schema.operator, schema.partitions, &candidate)?);
        }
        if !found.is_empty() {
            break;
        }
    }
    if found.is_empty() {
        return Err(Error::usage(format!(
            "operator `{uid}` in {} keeps nothing for the key {key} (its keys are of type {})",
            place.folder.display(),
            schema.key_type
        ))
        .into());
    }
    let mut out = Out::new();
    found.iter().try_for_each(|entry| out.line(shown(entry, &schema.operator)))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Looked for in every partition: where a key belongs, only the program knows.
fn of_key(
    store: &StateDb,
    uid: &str,
    operator: &str,
    partitions: usize,
    key: &Value,
) -> Result<Option<StateEntry>> {
    for partition in 0..partitions {
        let Ok(stored) = record_key(partition, kind::ENTRY, key) else { return Ok(None) };
        if let Some(value) = store.get_state(uid, &stored)? {
            let entry = StateEntry::decode(operator, &stored, &value);
            return entry.map_err(|e| e.within(format!("operator `{uid}`")));
        }
    }
    Ok(None)
}

pub(super) fn scan(
    place: &Place,
    uid: &str,
    limit: Option<u64>,
    prefix: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let store = place.read()?;
    let operator = store.known(uid)?.operator;
    let mut out = Out::new();
    let mut left = limit.unwrap_or(u64::MAX);
    store.entries_until(uid, |entry| {
        if left > 0 && prefix.is_none_or(|prefix| text_of(&entry.key).is_some_and(|t| t.starts_with(prefix)))
        {
            left -= 1;
            out.line(shown(&entry, &operator))?;
        }
        Ok(left > 0 && !out.is_closed())
    })?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The text that a key begins with.
fn text_of(key: &Value) -> Option<&str> {
    match key {
        Value::String(text) => Some(text),
        Value::Array(items) => items.first().and_then(text_of),
        _ => None,
    }
}

/// An entry as people look at it.
fn shown(entry: &StateEntry, operator: &str) -> Value {
    let mut shown = Map::new();
    if let Some(time) = entry.time {
        let name = if has_panes(operator) { "pane" } else { "touched" };
        shown.insert(name.to_owned(), json!(time));
    }
    if operator == "window" {
        shown.insert("rows".to_owned(), entry.value.clone());
    } else {
        shown.insert("key".to_owned(), entry.key.clone());
        let name = if entry.kind == kind::TOTAL { "total" } else { "value" };
        shown.insert(name.to_owned(), entry.value.clone());
    }
    shown.insert("partition".to_owned(), json!(entry.partition));
    Value::Object(shown)
}
