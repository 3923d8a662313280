//! How far the store is known to be on disk.
//!
//! A log that was cut short by a flipped byte in a record's length looks like one whose end was torn by a crash. So each
//! synced write notes its sequence number beside the database: whatever a start reads back must reach as far. The note
//! itself is not synced; an old one only says less.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::db::DAMAGED;
use crate::codec::murmur2;
use crate::error::{Error, Result};

const NAME: &str = "SYNCED";

pub(super) struct Synced {
    path: PathBuf,
    /// Locked as long as it is open, so that nobody looks at a log that somebody writes.
    file: File,
    last: Option<u64>,
}

impl Synced {
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.to_owned();
        let failed = |e: std::io::Error| {
            let hint = "the folder and all files in it must be writable";
            Error::checkpoint(format!("cannot open the checkpoint {}: {NAME}: {e}; {hint}", folder.display()))
                .with_source(e)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(NAME))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::checkpoint(format!(
                    "cannot open the checkpoint {}: it is locked; another process has it open: stop that one, or name \
                     another folder",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let mut text = String::new();
        // What a power failure left unreadable says nothing.
        let last = file.read_to_string(&mut text).ok().and_then(|_| parse(&text));
        Ok(Self { path, file, last })
    }

    /// Whether somebody holds the one in `folder`.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn is_locked(folder: &Path) -> bool {
        let Ok(file) = File::open(folder.join(NAME)) else { return false };
        let is_locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let _ = file.unlock();
        is_locked
    }

    /// The last write that is known to be on disk.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// # Errors
    /// If the database, whose last write is `found`, has lost some.
    pub fn check(&self, last: u64, found: u64) -> Result<()> {
        if found >= last {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "cannot open the checkpoint {}: its log ends at write {found}, but {last} writes had reached the disk{DAMAGED}. \
             If older files were put there on purpose, delete {NAME}",
            self.path.display()
        )))
    }

    /// Notes that all writes up to `sequence` are on disk.
    pub fn note(&mut self, sequence: u64) -> Result<()> {
        let text = shown(sequence);
        self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(text.as_bytes())).map_err(
            |e| {
                Error::checkpoint(format!("cannot write {NAME} in {}: {e}", self.path.display()))
                    .with_source(e)
            },
        )?;
        self.last = Some(sequence);
        Ok(())
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        // Closing it is not enough while a process that was just started still has a copy of it.
        let _ = self.file.unlock();
    }
}

/// Always as long, so that one text replaces the other.
fn shown(sequence: u64) -> String {
    let digits = format!("{sequence:020}");
    let sum = murmur2(digits.as_bytes()) as u32;
    format!("{digits} {sum:08x}\n")
}

fn parse(text: &str) -> Option<u64> {
    let sequence = text.split(' ').next()?.parse().ok()?;
    (shown(sequence) == text).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_a_broken_one_says_nothing() {
        assert_eq!(parse(&shown(0)), Some(0));
        assert_eq!(parse(&shown(u64::MAX)), Some(u64::MAX));
        assert_eq!(parse(&shown(17).replace('7', "8")), None);
        assert_eq!(parse(""), None);
    }
}
