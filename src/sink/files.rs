//! Folders of files, named by batch time: written under a temporary name, renamed when the batch is committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::Sink;
use crate::commit::StagedFile;
use crate::error::{Error, Result};

/// All folders that the running batch has written.
#[derive(Default)]
pub(crate) struct FileSink {
    staged: Mutex<Vec<StagedFile>>,
}

impl FileSink {
    /// Has `write` make the folder that will be called `folder` once the batch is committed.
    pub fn stage(&self, folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // The names must mean the same to the next start, wherever that is made.
        let folder = &std::path::absolute(folder).map_err(|e| {
            Error::output(format!("{} is no name for a folder", folder.display())).with_source(e)
        })?;
        let from = temporary(folder);
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::config(format!("the name of folder {} is not UTF-8", path.display())))
        };
        let file = StagedFile { from: text(&from)?, to: text(folder)? };
        let mut staged = self.staged.lock();
        if staged.contains(&file) {
            return Err(Error::config(format!(
                "two output operations write the folder {}: give one of them another prefix or suffix",
                folder.display()
            )));
        }
        // What an attempt that was killed left there.
        remove(&from)?;
        staged.push(file);
        drop(staged);
        write(&from)
    }
}

impl Sink for FileSink {
    /// The folders' contents are synced by whoever wrote them; here their own entries are.
    fn staged(&self) -> Result<Vec<StagedFile>> {
        let staged = self.staged.lock().clone();
        let parents: BTreeSet<_> =
            staged.iter().filter_map(|folder| Path::new(&folder.from).parent()).collect();
        for parent in parents {
            let failed = |e| Error::output(format!("cannot sync {}: {e}", parent.display())).with_source(e);
            sync(parent).map_err(failed)?;
            // It may have been made for this batch.
            parent.parent().map_or(Ok(()), sync).map_err(failed)?;
        }
        Ok(staged)
    }

    fn committed(&self) {
        self.staged.lock().clear();
    }

    fn abort(&self) -> Result<()> {
        for folder in std::mem::take(&mut *self.staged.lock()) {
            remove(Path::new(&folder.from))?;
        }
        Ok(())
    }
}

/// `some/.name.staged` for `some/name`: hidden from whoever lists finished folders.
fn temporary(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.staged"))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::output(format!("cannot remove {}", folder.display())).with_source(error))
        }
        _ => Ok(()),
    }
}

/// Gives folders their names. One that was renamed before a crash is left as it is; one that stands in the way is an
/// earlier run of the same batch, and is replaced.
pub(crate) fn name(staged: &[StagedFile]) -> Result<()> {
    for StagedFile { from, to } in staged {
        let (from, to) = (Path::new(from), Path::new(to));
        if !from.exists() {
            if to.exists() {
                continue;
            }
            // It had its name before a crash, most likely, and somebody has taken it since.
            tracing::warn!("the output folder {} of a committed batch is not there any more", to.display());
            continue;
        }
        remove(to)?;
        let renamed = std::fs::rename(from, to).and_then(|()| sync(to.parent().unwrap_or(to)));
        renamed.map_err(|e| {
            Error::output(format!("cannot rename {} to {}: {e}", from.display(), to.display())).with_source(e)
        })?;
    }
    Ok(())
}

/// Makes a folder's entries outlive a failure of the machine.
fn sync(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::fs::File::open(folder)?.sync_all()
}
