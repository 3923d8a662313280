//! `state backup` and `state restore`

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::running;
use crate::commit::Batches;
use crate::error::{Error, Result};
use crate::service::target::{Out, Place};
use crate::state::StateDb;

pub(super) fn backup(place: &Place, to: &Path, http: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    let to = absolute(to)?;
    // Only whoever writes to the database can copy it: another process could miss what is written meanwhile.
    if StateDb::is_locked(&place.folder) {
        let address = http.or(place.config.as_ref().and_then(|config| config.http));
        let Some(address) = address else {
            return Err(Error::usage(format!(
                "an instance has {} open: tell with `--http ADDRESS` where it listens, so that it can be asked for a backup, \
                 or stop it",
                place.folder.display()
            ))
            .into());
        };
        running::backup(address, &absolute(&place.folder)?, &to)?;
    } else {
        place.write()?.backup_to(&to)?;
    }
    let mut out = Out::new();
    let batch = last_batch(&StateDb::open_read_only(&to)?)?;
    out.line(format_args!("{} is a copy of {} {batch}", to.display(), place.folder.display()))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(place: &Place, from: &Path) -> anyhow::Result<ExitCode> {
    let folder = &place.folder;
    let is_free = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_free {
        return Err(Error::usage(format!(
            "{} is not empty: move it away, or name another folder",
            folder.display()
        ))
        .into());
    }
    verified(from)?;
    // Beside it first: a copy that was interrupted must not look like a checkpoint.
    let mut beside = folder.clone().into_os_string();
    beside.push(".restoring");
    let beside = PathBuf::from(beside);
    let failed = |e: std::io::Error| {
        Error::unavailable(format!("cannot copy {} to {}: {e}", from.display(), beside.display()))
            .with_source(e)
    };
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(failed)?;
    }
    copy_files(from, &beside).map_err(failed)?;
    let store = verified(&beside)?;
    let batch = last_batch(&store)?;
    drop(store);
    fs::rename(&beside, folder).map_err(failed)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    let mut out = Out::new();
    out.line(format_args!("{} is a copy of {} {batch}", folder.display(), from.display()))?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The checkpoint in `folder`, if nothing is wrong with it.
fn verified(folder: &Path) -> Result<StateDb> {
    let store = StateDb::open_read_only(folder)?;
    let problems = Batches::verify(&store).problems;
    if problems.is_empty() {
        return Ok(store);
    }
    Err(Error::damaged(format!("{} is damaged: {}", folder.display(), problems.join("; "))))
}

fn last_batch(store: &StateDb) -> Result<String> {
    Ok(match Batches::read(store)?.committed {
        Some(committed) => format!("as batch {} left it", committed.time),
        None => "before its first batch".to_owned(),
    })
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // The log of what the database did, and locks, belong to the folder that they were made in.
        let name = entry.file_name();
        if !entry.file_type()?.is_file() || name == "LOCK" || name.to_string_lossy().starts_with("LOG") {
            continue;
        }
        fs::copy(entry.path(), to.join(&name))?;
        File::open(to.join(&name))?.sync_all()?;
    }
    File::open(to)?.sync_all()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Error::config(format!("{} is no path: {e}", path.display())).with_source(e))
}
