//! `state list`

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::error::Result;
use crate::service::target::{Out, Place, Shape, columns};
use crate::state::StateDb;

pub(super) fn list(place: &Place, shape: Shape) -> anyhow::Result<ExitCode> {
    let store = place.read()?;
    let mut out = Out::new();
    match shape {
        Shape::Text => out.line(text(&store)?)?,
        Shape::Json => out.line(json!(operators(&store)?))?,
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of each operator.
pub(in crate::service) fn operators(store: &StateDb) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (uid, schema) in store.operators() {
        let size = store.size_of(&uid)?;
        all.push(json!({
            "uid": uid,
            "operator": schema.operator,
            "key_type": schema.key_type,
            "value_types": schema.value_types,
            "partitions": schema.partitions,
            "keys": size.keys,
            "bytes": size.bytes,
        }));
    }
    Ok(all)
}

/// The same, one line each.
pub(in crate::service) fn text(store: &StateDb) -> Result<String> {
    let mut rows = Vec::new();
    for (uid, schema) in store.operators() {
        let size = store.size_of(&uid)?;
        let written = schema.written_as();
        rows.push(vec![
            uid,
            schema.operator,
            schema.key_type,
            written,
            schema.partitions.to_string(),
            size.keys.to_string(),
            size.bytes.to_string(),
        ]);
    }
    if rows.is_empty() {
        return Ok("no operator has state".to_owned());
    }
    Ok(columns(&["UID", "OPERATOR", "KEY", "VALUE", "PARTITIONS", "KEYS", "BYTES"], rows))
}
