//! `checkpoint show`

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::commit::{Batches, Plan, StagedFile};
use crate::error::Result;
use crate::service::state;
use crate::service::target::{Out, Place, Shape, columns};
use crate::source::{InputPlan, InputPosition};
use crate::state::StateDb;
use crate::time::Time;

pub(super) fn show(place: &Place, shape: Shape) -> anyhow::Result<ExitCode> {
    let store = place.read()?;
    let batches = Batches::read(&store)?;
    let mut out = Out::new();
    match shape {
        Shape::Json => out.line(as_json(place, &store, &batches)?)?,
        Shape::Text => as_text(place, &store, &batches, &mut out)?,
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(place: &Place, store: &StateDb, batches: &Batches) -> Result<Value> {
    let positions = |positions: &crate::commit::Positions| -> Value {
        positions.iter().map(|(uid, position)| (uid.clone(), position_as_json(position))).collect()
    };
    let committed = batches.committed.as_ref().map(|committed| {
        json!({
            "batch": committed.time,
            "marker": committed.marker,
            "in_transaction": committed.in_transaction,
            "positions": positions(&committed.positions),
            "staged_files": committed.staged,
        })
    });
    let unfinished = batches.unfinished().map(|plan| {
        let inputs: Value = plan.inputs.iter().map(|(uid, plan)| (uid.clone(), plan_as_json(plan))).collect();
        json!({"batch": plan.time, "inputs": inputs})
    });
    let prepared = batches.prepared.as_ref().map(|prepared| {
        json!({
            "batch": prepared.time,
            "positions": positions(&prepared.positions),
            "staged_files": prepared.staged,
        })
    });
    Ok(json!({
        "checkpoint": place.folder.display().to_string(),
        "app_id": store.app_id(),
        "state_partitions": store.state_partitions(),
        "committed": committed,
        "unfinished": unfinished,
        "prepared": prepared,
        "received_blocks_of": store.block_uids()?,
        "operators": state::operators(store)?,
    }))
}

fn position_as_json(position: &InputPosition) -> Value {
    match position {
        InputPosition::Offsets(offsets) => offsets
            .iter()
            .map(|((topic, partition), offset)| {
                json!({"topic": topic, "partition": partition, "offset": offset})
            })
            .collect(),
        other => json!(other),
    }
}

fn plan_as_json(plan: &InputPlan) -> Value {
    match plan {
        InputPlan::Offsets(ranges) => json!(ranges),
        other => json!(other),
    }
}

fn as_text(place: &Place, store: &StateDb, batches: &Batches, out: &mut Out) -> Result<()> {
    let batch = |time: Option<Time>| time.map_or("none".to_owned(), |time| time.to_string());
    let committed = batches.committed.as_ref();
    let told = match committed {
        Some(committed) if committed.in_transaction => " (told in a transaction)",
        _ => "",
    };
    let facts = [
        ("checkpoint", place.folder.display().to_string()),
        ("application", store.app_id().to_owned()),
        ("state partitions", store.state_partitions().to_string()),
        ("last committed batch", batch(committed.map(|committed| committed.time))),
        (
            "marker in the group",
            format!("{}{told}", batch(committed.and_then(|c| c.marker).map(|marker| marker.time))),
        ),
        ("unfinished batch", batch(batches.unfinished().map(|plan| plan.time))),
        ("prepared batch", batch(batches.prepared.as_ref().map(|prepared| prepared.time))),
    ];
    for (name, value) in facts {
        out.line(format_args!("{name:22}{value}"))?;
    }
    let mut rows = Vec::new();
    if let Some(committed) = committed {
        for (uid, position) in &committed.positions {
            rows.extend(position_rows(uid, position));
        }
    }
    if !rows.is_empty() {
        out.line(format_args!("\n{}", columns(&["INPUT", "WHERE", "NEXT"], rows)))?;
    }
    if let Some(plan) = batches.unfinished() {
        out.line(format_args!("\n{}", columns(&["UNFINISHED", "READS"], plan_rows(plan))))?;
    }
    let staged = committed.map(|c| &c.staged).into_iter().chain(batches.prepared.as_ref().map(|p| &p.staged));
    let staged: Vec<_> =
        staged.flatten().map(|StagedFile { from, to }| vec![to.clone(), from.clone()]).collect();
    if !staged.is_empty() {
        out.line(format_args!("\n{}", columns(&["STAGED FILE", "NOW"], staged)))?;
    }
    let receivers: Vec<_> = store.block_uids()?.into_iter().map(|uid| vec![uid]).collect();
    if !receivers.is_empty() {
        out.line(format_args!("\n{}", columns(&["RECEIVED BLOCKS OF"], receivers)))?;
    }
    out.line(format_args!("\n{}", state::text(store)?))
}

fn position_rows(uid: &str, position: &InputPosition) -> Vec<Vec<String>> {
    let row = |place: String, next: String| vec![uid.to_owned(), place, next];
    match position {
        InputPosition::Offsets(offsets) => offsets
            .iter()
            .map(|((topic, partition), offset)| row(format!("{topic}-{partition}"), offset.to_string()))
            .collect(),
        InputPosition::Queue(taken) => vec![row("queue".to_owned(), taken.to_string())],
        InputPosition::Blocks(next) => vec![row("received blocks".to_owned(), next.to_string())],
        InputPosition::Files(_) => vec![row("files".to_owned(), "those that come".to_owned())],
    }
}

fn plan_rows(plan: &Plan) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (uid, plan) in &plan.inputs {
        let reads = match plan {
            InputPlan::Offsets(ranges) => {
                ranges.iter().filter(|range| !range.is_empty()).map(ToString::to_string).collect()
            }
            InputPlan::Queue { from, until } => vec![format!("[{from}, {until}) of the queue")],
            InputPlan::Blocks { from, until, .. } => vec![format!("blocks [{from}, {until})")],
            InputPlan::Files { files, .. } => files.clone(),
        };
        let reads = if plan.is_empty() { vec!["nothing".to_owned()] } else { reads };
        rows.extend(reads.into_iter().map(|reads| vec![uid.clone(), reads]));
    }
    rows
}
