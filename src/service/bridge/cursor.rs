//! Where a bridge has got to, kept in a file over restarts.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::args::Source;
use crate::error::{Error, Result};

/// The file of one source and topic.
pub(super) struct CursorFile {
    path: PathBuf,
    source: &'static str,
    place: String,
    /// What the run before left.
    pub found: Option<i64>,
    saved: parking_lot::Mutex<Option<i64>>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    source: String,
    /// What the cursor is a place in.
    place: String,
    cursor: i64,
}

impl CursorFile {
    /// The file in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// It cannot be read or written, or is no cursor.
    pub fn open(folder: &Path, topic: &str, source: &Source) -> Result<Self> {
        let path = folder.join(format!("{}-{topic}.json", source.name()));
        let failed = |what: &str, error: std::io::Error| {
            Error::config(format!("cannot {what} {}, the bridge's --state", path.display()))
                .with_source(error)
        };
        std::fs::create_dir_all(folder).map_err(|e| failed("make the folder of", e))?;
        let place = source.place();
        let found = match std::fs::read(&path) {
            Ok(bytes) => {
                let content: Content = serde_json::from_slice(&bytes).map_err(|e| {
                    Error::config(format!("{} is no cursor: remove it to begin anew", path.display()))
                        .with_source(e)
                })?;
                if content.place != place {
                    tracing::warn!(
                        of = content.place,
                        "the cursor that was kept is of something else: beginning anew"
                    );
                }
                (content.place == place).then_some(content.cursor)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", error)),
        };
        Ok(Self { path, source: source.name(), place, found, saved: parking_lot::Mutex::new(found) })
    }

    /// Keeps `cursor`, if it is news: a kill leaves the old one or this one.
    pub fn save(&self, cursor: Option<i64>) -> Result<()> {
        let mut saved = self.saved.lock();
        let Some(cursor) = cursor.filter(|cursor| Some(*cursor) != *saved) else { return Ok(()) };
        let content = Content { source: self.source.to_owned(), place: self.place.clone(), cursor };
        let write = || {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut file, &content)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|e: std::io::Error| {
            Error::unavailable(format!("cannot write {}, the bridge's cursor", self.path.display()))
                .with_source(e)
        })?;
        *saved = Some(cursor);
        Ok(())
    }
}
