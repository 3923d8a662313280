//! `state drop`, `state rename` and `state repartition`

use std::process::ExitCode;

use crate::commit::Batches;
use crate::error::{Error, Result};
use crate::service::target::{Out, Place};
use crate::state::StateDb;

pub(super) fn drop(place: &Place, uid: &str, execute: bool) -> anyhow::Result<ExitCode> {
    let store = if execute { place.write()? } else { place.read()? };
    let (schema, size) = (store.known(uid)?, store.size_of(uid)?);
    let what = format!(
        "`{uid}` ({}, {} keys, {} bytes) of {}",
        schema.operator,
        size.keys,
        size.bytes,
        place.folder.display()
    );
    let mut out = Out::new();
    if execute {
        settled(&store, "drop state")?;
        store.drop_operator(uid)?;
        out.line(format_args!("dropped {what}"))?;
    } else {
        out.line(format_args!("would drop {what}; nothing was changed: add --execute to drop it"))?;
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn rename(place: &Place, from: &str, to: &str) -> anyhow::Result<ExitCode> {
    if to.is_empty() {
        return Err(Error::config("the new uid is empty").into());
    }
    place.write()?.rename_operator(from, to)?;
    let mut out = Out::new();
    out.line(format_args!("renamed `{from}` to `{to}` in {}", place.folder.display()))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn repartition(place: &Place, partitions: &str) -> anyhow::Result<ExitCode> {
    let Ok(partitions) = partitions.parse() else {
        return Err(Error::config(format!("`{partitions}` is no number of partitions")).into());
    };
    let store = place.write()?;
    settled(&store, "repartition")?;
    let before = store.state_partitions();
    let done = store
        .repartition(partitions)
        .map_err(|e| e.within(format!("{} stays in {before} state partitions", place.folder.display())))?;
    let mut out = Out::new();
    for (uid, records) in done.moved {
        out.line(format_args!("`{uid}`: {records} records"))?;
    }
    for uid in done.kept {
        out.line(format_args!("`{uid}`: kept as it is, since its partitions are its own"))?;
    }
    out.line(format_args!("{}: {before} -> {partitions} state partitions", place.folder.display()))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// If a batch waits for Kafka's word: what it changes is meant for the state as it is.
fn settled(store: &StateDb, doing: &str) -> Result<()> {
    match Batches::read(store)?.prepared {
        None => Ok(()),
        Some(prepared) => Err(Error::checkpoint(format!(
            "cannot {doing} in {}: batch {} is prepared, and whether it is committed is for Kafka to tell; run the program \
             once, and stop it",
            store.path().display(),
            prepared.time
        ))),
    }
}
