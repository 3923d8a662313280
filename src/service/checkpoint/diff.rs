//! `checkpoint diff`

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::commit::{Batches, check_interval};
use crate::error::Result;
use crate::service::check::Config;
use crate::service::pipeline;
use crate::service::target::{Out, Shape, columns};
use crate::state::{Comparison, StateDb, check_names};

/// What a start would find.
struct Found {
    comparison: Comparison,
    /// The inputs of the pipeline, and those of the checkpoint.
    inputs: (BTreeSet<String>, BTreeSet<String>),
    /// None if there is no checkpoint yet.
    state_partitions: Option<usize>,
    /// Why the start would be refused.
    errors: Vec<String>,
}

pub(super) fn diff(config: &Config, folder: &Path, shape: Shape) -> anyhow::Result<ExitCode> {
    let is_missing = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    let found = if is_missing && folder == config.checkpoint {
        nothing(config)?
    } else {
        compare(config, &StateDb::open_read_only(folder)?)?
    };
    let mut out = Out::new();
    match shape {
        Shape::Json => out.line(as_json(&found, folder))?,
        Shape::Text => as_text(&found, folder, &mut out)?,
    }
    out.finish()?;
    Ok(if found.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a start without a checkpoint finds.
fn nothing(config: &Config) -> Result<Found> {
    let (wanted, inputs) = pipeline::wanted(config, None)?;
    let new = wanted.iter().map(|operator| operator.uid.to_string()).collect();
    Ok(Found {
        comparison: Comparison { new, ..Comparison::default() },
        inputs: (inputs.into_iter().collect(), BTreeSet::new()),
        state_partitions: None,
        errors: Vec::new(),
    })
}

fn compare(config: &Config, store: &StateDb) -> Result<Found> {
    let state_partitions = Some(store.state_partitions());
    let (wanted, inputs) = pipeline::wanted(config, state_partitions)?;
    let removed = config.remove_state.iter().cloned().collect();
    check_names(&wanted, &removed)?;
    let comparison = store.compare(&wanted, &removed);
    let batches = Batches::read(store)?;
    let mut errors: Vec<String> = comparison.refused.iter().map(|(_, error)| error.to_string()).collect();
    if comparison.refused.is_empty()
        && let Err(error) = comparison.check(store)
    {
        errors.push(error.to_string());
    }
    if let Err(error) = store.check_owner(&config.app_id) {
        errors.push(error.to_string());
    }
    if let Err(error) = check_interval(batches.unfinished(), config.batch_interval) {
        errors.push(error.to_string());
    }
    let inputs: BTreeSet<_> = inputs.into_iter().collect();
    if let Some(plan) = batches.unfinished() {
        for uid in inputs.iter().filter(|uid| !plan.inputs.contains_key(*uid)) {
            errors.push(format!(
                "batch {} is unfinished, and was planned without input `{uid}`: run the former pipeline until that batch is \
                 committed",
                plan.time
            ));
        }
    }
    let stored = batches.committed.map(|committed| committed.positions.into_keys().collect());
    Ok(Found { comparison, inputs: (inputs, stored.unwrap_or_default()), state_partitions, errors })
}

fn as_json(found: &Found, folder: &Path) -> Value {
    let Comparison { kept, new, renamed, removed, orphaned, retyped, refused } = &found.comparison;
    let (wanted, stored) = &found.inputs;
    let retyped: Vec<_> =
        retyped.iter().map(|(uid, from, to)| json!({"uid": uid, "written": from, "wanted": to})).collect();
    let renamed: Vec<_> = renamed.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    json!({
        "checkpoint": folder.display().to_string(),
        "state_partitions": found.state_partitions,
        "kept": kept,
        "new": new,
        "renamed": renamed,
        "removed": removed,
        "orphaned": orphaned,
        "changed_types": retyped,
        "refused": refused.iter().map(|(uid, _)| uid).collect::<Vec<_>>(),
        "inputs": {
            "kept": wanted.intersection(stored).collect::<Vec<_>>(),
            "new": wanted.difference(stored).collect::<Vec<_>>(),
            "gone": stored.difference(wanted).collect::<Vec<_>>(),
        },
        "errors": found.errors,
        "starts": found.errors.is_empty(),
    })
}

fn as_text(found: &Found, folder: &Path, out: &mut Out) -> Result<()> {
    let Comparison { kept, new, renamed, removed, orphaned, retyped, refused } = &found.comparison;
    let mut rows = Vec::new();
    let mut row = |what: &str, uid: &str, more: String| {
        rows.push(vec![what.to_owned(), uid.to_owned(), more]);
    };
    let is_refused = |uid: &str| refused.iter().any(|(other, _)| other == uid);
    let types = |uid: &str| {
        let found = retyped.iter().find(|(other, ..)| other == uid);
        found.map(|(_, from, to)| format!("values change from {from} to {to}")).unwrap_or_default()
    };
    for uid in kept {
        row(if is_refused(uid) { "refused" } else { "kept" }, uid, types(uid));
    }
    for (from, uid) in renamed {
        let more = [format!("was {from}"), types(uid)].join(" ");
        row(if is_refused(uid) { "refused" } else { "renamed" }, uid, more.trim_end().to_owned());
    }
    new.iter().for_each(|uid| row("new", uid, String::new()));
    removed.iter().for_each(|uid| row("removed", uid, "its state is dropped".to_owned()));
    orphaned.iter().for_each(|uid| row("orphaned", uid, "no stream has it".to_owned()));
    let (wanted, stored) = &found.inputs;
    wanted.intersection(stored).for_each(|uid| row("kept", uid, "input, goes on".to_owned()));
    wanted.difference(stored).for_each(|uid| row("new", uid, "input, begins at its start".to_owned()));
    stored.difference(wanted).for_each(|uid| row("gone", uid, "input, its position is forgotten".to_owned()));
    let partitions = found.state_partitions.map(|partitions| format!("{partitions} state partitions"));
    let partitions = partitions.unwrap_or_else(|| "there is no checkpoint yet".to_owned());
    out.line(format_args!("{}: {partitions}\n", folder.display()))?;
    out.line(columns(&["", "UID", ""], rows))?;
    for error in &found.errors {
        out.line(format_args!("\n{error}"))?;
    }
    out.line(match (found.errors.is_empty(), found.state_partitions) {
        (false, _) => "\na start is refused",
        (true, Some(_)) => "\na start goes on from here",
        (true, None) => "\na start begins anew",
    })
}
