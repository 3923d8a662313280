//! The store: one RocksDB per application, a column family per stateful operator.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use rocksdb::{DBPinnableSlice, Env, MultiThreaded, WriteBatch};
use serde::{Deserialize, Serialize};

use super::families::{descriptors, families};
use super::options::{self, Memory};
use super::schema::Registered;
use super::synced::Synced;
use super::{Change, Delta};
use crate::codec::{decode_value, encode_value};
use crate::error::{Error, Result};
use crate::rdd::Flow;

pub(super) type Db = rocksdb::DBWithThreadMode<MultiThreaded>;

/// Since 4, entries of windows may be [gathered](super::Gatherer).
pub(super) const FORMAT: u32 = 4;
pub(super) const OLDEST_FORMAT: u32 = 3;
pub(super) const IDENTITY: &[u8] = b"identity";
pub(super) const SCHEMAS: &[u8] = b"operators";

/// Whose checkpoint this is, written once when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub format: u32,
    pub app_id: String,
    pub state_partitions: usize,
}

/// An open store: a checkpoint's, or one in memory.
pub(crate) struct StateDb {
    pub(super) db: Db,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) schemas: RwLock<BTreeMap<String, Registered>>,
    pub(super) memory: Memory,
    /// Held while a prepared batch becomes part of the state: a copy has all of it, or nothing.
    pub(super) applying: Mutex<()>,
    access: Access,
}

enum Access {
    /// With what is known to be on disk. Held by whoever writes.
    Checkpoint(Mutex<Synced>),
    ReadOnly,
    /// Lost at the end.
    InMemory,
}

impl StateDb {
    /// Opens the checkpoint of `app_id` at `path`, or makes it with `state_partitions`.
    ///
    /// # Errors
    /// If the folder cannot be written, is locked by another process, is damaged, or belongs to
    /// another application. Nothing is changed then.
    pub fn open(path: &Path, app_id: &str, state_partitions: usize, memory_limit: usize) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| {
            Error::checkpoint(format!("cannot make the checkpoint folder {}: {e}", path.display()))
                .with_source(e)
        })?;
        let synced = Synced::open(path)?;
        let memory = Memory::new(memory_limit);
        let families = families(path, &memory, synced.last())?;
        // The log is read twice, since opening it for writing replaces it: a damaged one stays as it is.
        if let Some(last) = synced.last() {
            let options = memory.database();
            let probe =
                Db::open_cf_descriptors_read_only(&options, path, descriptors(&families, &memory), false);
            synced.check(last, probe.map_err(|e| open_error(path, e))?.latest_sequence_number())?;
        }
        let db = Db::open_cf_descriptors(&memory.database(), path, descriptors(&families, &memory))
            .map_err(|e| open_error(path, e))?;
        let fresh = Identity { format: FORMAT, app_id: app_id.to_owned(), state_partitions };
        let this = Self::with(db, path, memory, Access::Checkpoint(Mutex::new(synced)), fresh)?;
        this.check_owner(app_id)?;
        Ok(this)
    }

    /// A store in memory, for a context without a checkpoint.
    pub fn in_memory(app_id: &str, state_partitions: usize, memory_limit: usize) -> Result<Self> {
        let path = Path::new("/state");
        let failed = |e| Error::internal("cannot make a state store in memory").with_source(e);
        let memory = Memory::new(memory_limit);
        let mut options = memory.volatile_database();
        options.set_env(&Env::mem_env().map_err(failed)?);
        let db = Db::open(&options, path).map_err(failed)?;
        let identity = Identity { format: FORMAT, app_id: app_id.to_owned(), state_partitions };
        Self::with(db, path, memory, Access::InMemory, identity)
    }

    /// Opens the checkpoint at `path` to look at it. Nothing is locked or written: an instance may be running on it.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn open_read_only(path: &Path) -> Result<Self> {
        /// How often a writer may get in the way.
        const ATTEMPTS: usize = 20;
        if !path.join("CURRENT").exists() {
            return Err(Error::checkpoint(format!("there is no checkpoint in {}", path.display())));
        }
        // A running instance that makes a file of its log meanwhile could leave a gap between the two.
        for _ in 1..ATTEMPTS {
            let before = files_of(path);
            let opened = Self::read_only(path);
            if files_of(path) == before {
                return opened;
            }
        }
        Self::read_only(path)
    }

    /// Opens the checkpoint at `path`, whoever it belongs to, to change it.
    ///
    /// # Errors
    /// If there is none, it is damaged, or an instance has it open.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn open_existing(path: &Path) -> Result<Self> {
        let Identity { app_id, state_partitions, .. } = Self::open_read_only(path)?.identity.clone();
        Self::open(path, &app_id, state_partitions, options::DEFAULT_MEMORY_LIMIT)
    }

    fn read_only(path: &Path) -> Result<Self> {
        let memory = Memory::new(options::DEFAULT_MEMORY_LIMIT);
        let mut database = memory.database();
        database.create_if_missing(false);
        // All at once: a running instance deletes files that it needs no more.
        database.set_max_open_files(-1);
        let families = families(path, &memory, None)?;
        let opened =
            Db::open_cf_descriptors_read_only(&database, path, descriptors(&families, &memory), false);
        let db = opened.map_err(|e| open_error(path, e))?;
        let nobodys = Identity { format: FORMAT, app_id: String::new(), state_partitions: 0 };
        Self::with(db, path, memory, Access::ReadOnly, nobodys)
    }

    fn with(db: Db, path: &Path, memory: Memory, access: Access, fresh: Identity) -> Result<Self> {
        let schemas = RwLock::default();
        let (path, applying) = (path.to_owned(), Mutex::default());
        let mut this = Self { db, path, identity: fresh, schemas, memory, applying, access };
        match this.get::<Identity>(IDENTITY)? {
            None if matches!(this.access, Access::ReadOnly) => {
                return Err(Error::checkpoint(format!(
                    "{} is no checkpoint of Tidemill",
                    this.path.display()
                )));
            }
            None => this.put(IDENTITY, &this.identity)?,
            Some(found) if !(OLDEST_FORMAT..=FORMAT).contains(&found.format) => {
                return Err(Error::checkpoint(format!(
                    "the checkpoint {} has format {}, this program reads formats {OLDEST_FORMAT} to {FORMAT}",
                    this.path.display(),
                    found.format
                )));
            }
            Some(found) => this.identity = found,
        }
        *this.schemas.write() = this.get(SCHEMAS)?.unwrap_or_default();
        Ok(this)
    }

    /// Gives the checkpoint the format that this program writes. An older program, which would not understand what is
    /// written from now on, refuses it then.
    pub(super) fn raise_format(&self) -> Result<()> {
        match self.identity.format {
            FORMAT => Ok(()),
            _ => self.put(IDENTITY, &Identity { format: FORMAT, ..self.identity.clone() }),
        }
    }

    /// # Errors
    /// If it is not the checkpoint of `app_id`.
    pub fn check_owner(&self, app_id: &str) -> Result<()> {
        if self.identity.app_id == app_id {
            return Ok(());
        }
        Err(Error::checkpoint(format!(
            "the checkpoint {} belongs to application `{}`, not to `{app_id}`: name another folder",
            self.path.display(),
            self.identity.app_id
        )))
    }

    /// Whether an instance has the checkpoint at `path` open.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn is_locked(path: &Path) -> bool {
        Synced::is_locked(path)
    }

    /// The application that it belongs to.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn app_id(&self) -> &str {
        &self.identity.app_id
    }

    /// The number of state partitions that was fixed when the checkpoint was made.
    pub fn state_partitions(&self) -> usize {
        self.identity.state_partitions
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`scan_until`](Self::scan_until), to the end.
    pub fn scan(&self, uid: &str, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        crate::rdd::finished(self.scan_until(uid, &mut |key, value| Ok(each(key, value)?)))
    }

    /// Calls `each` with every record of the operator `uid` as it is written, in key order.
    pub fn scan_records(&self, uid: &str, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let iterator = self.db.raw_iterator_cf(&self.family(uid)?);
        crate::rdd::finished(self.walk(iterator, &mut |key, value| Ok(each(key, value)?)))
    }

    /// Calls `each` with the keys of `range` and their values, in order.
    pub fn visit(
        &self,
        uid: &str,
        range: Range<Vec<u8>>,
        fill_cache: bool,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Flow,
    ) -> Flow {
        let family = self.family(uid)?;
        let iterator = self.db.raw_iterator_cf_opt(&family, options::range(range, fill_cache));
        self.walk(iterator, each)
    }

    pub(super) fn walk(
        &self,
        iterator: rocksdb::DBRawIteratorWithThreadMode<'_, Db>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Flow,
    ) -> Flow {
        self.walk_from(iterator, &[], each)
    }

    pub(super) fn walk_from(
        &self,
        mut iterator: rocksdb::DBRawIteratorWithThreadMode<'_, Db>,
        start: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Flow,
    ) -> Flow {
        iterator.seek(start);
        while let Some((key, value)) = iterator.item() {
            each(key, value)?;
            iterator.next();
        }
        // An iterator also ends where it cannot read on.
        Ok(iterator.status().map_err(|e| self.error("read the state", e))?)
    }

    /// The values of `keys`, which are sorted.
    pub fn multi_get(&self, uid: &str, keys: &[&[u8]]) -> Result<Vec<Option<DBPinnableSlice<'_>>>> {
        let family = self.family(uid)?;
        let found = self.db.batched_multi_get_cf_opt(&family, keys.iter().copied(), true, &options::keys());
        found.into_iter().map(|value| value.map_err(|e| self.error("read the state", e))).collect()
    }

    /// The record of the operator `uid` at `key`.
    pub fn get_state(&self, uid: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get_cf(&self.family(uid)?, key).map_err(|e| self.error("read the state", e))
    }

    /// The record `name`, if it was written.
    pub fn get<T: serde::de::DeserializeOwned>(&self, name: &[u8]) -> Result<Option<T>> {
        match self.db.get(name).map_err(|e| self.error("read the checkpoint", e))? {
            None => Ok(None),
            Some(bytes) => decode_value(&bytes).map(Some).map_err(|e| {
                e.within(format!("record `{}` of {}", String::from_utf8_lossy(name), self.path.display()))
            }),
        }
    }

    /// Writes the record `name`, on disk when this returns.
    pub fn put<T: Serialize>(&self, name: &[u8], value: &T) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.put(name, encode_value(value)?);
        self.write("write the checkpoint", batch, true)
    }

    /// Writes the record `name`, which outlives the process, but not a failure of the machine.
    pub fn put_unsynced<T: Serialize>(&self, name: &[u8], value: &T) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.put(name, encode_value(value)?);
        self.write("write the checkpoint", batch, false)
    }

    /// Applies `delta` and writes the record `name`, both or neither, on disk when this returns.
    pub fn apply<T: Serialize>(&self, delta: &Delta, name: &[u8], value: &T) -> Result<()> {
        let mut batch = self.batch_of(delta, |_| ())?;
        batch.put(name, encode_value(value)?);
        self.write("write the state", batch, true)
    }

    /// Applies `delta` and nothing else; it outlives the process, but not a failure of the machine.
    pub fn apply_changes(&self, delta: &Delta) -> Result<()> {
        self.write("write the state", self.batch_of(delta, |_| ())?, false)
    }

    /// The write that applies `delta`; `after_each` change it may be taken away, and a new one is begun.
    pub(super) fn batch_of(
        &self,
        delta: &Delta,
        mut after_each: impl FnMut(&mut WriteBatch),
    ) -> Result<WriteBatch> {
        let mut batch = WriteBatch::default();
        for (uid, changes) in &delta.operators {
            let family = self.family(uid)?;
            for change in changes {
                match change {
                    Change::Put(key, value) => batch.put_cf(&family, key, value),
                    Change::Delete(key) => batch.delete_cf(&family, key),
                }
                after_each(&mut batch);
            }
        }
        for (name, value) in &delta.records {
            batch.put(name, value);
        }
        Ok(batch)
    }

    /// The one way into the database.
    pub(super) fn write(&self, doing: &str, batch: WriteBatch, sync: bool) -> Result<()> {
        match &self.access {
            Access::ReadOnly => Err(Error::usage(format!("{} is open to be read only", self.path.display()))),
            Access::InMemory => {
                self.db.write_opt(batch, &options::write(false, false)).map_err(|e| self.error(doing, e))
            }
            Access::Checkpoint(synced) => {
                // Nobody else may write between a synced write and the note that it is on disk.
                let mut synced = synced.lock();
                self.db.write_opt(batch, &options::write(sync, true)).map_err(|e| self.error(doing, e))?;
                if sync { synced.note(self.db.latest_sequence_number()) } else { Ok(()) }
            }
        }
    }

    /// Calls `each` with the checkpoint's own records whose names are in `from..until`, in the order of their names, for as
    /// long as it says so.
    pub fn scan_between(
        &self,
        from: &[u8],
        until: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let start = rocksdb::IteratorMode::From(from, rocksdb::Direction::Forward);
        for entry in self.db.iterator(start) {
            let (key, value) = entry.map_err(|e| self.error("read the checkpoint", e))?;
            if *key >= *until || !each(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Deletes the checkpoint's own records whose names are in `from..until`.
    pub fn delete_between(&self, from: &[u8], until: &[u8]) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range(from, until);
        self.write("prune the checkpoint", batch, false)
    }

    pub(super) fn error(&self, doing: &str, error: rocksdb::Error) -> Error {
        let hint = hint(&error);
        told(format!("cannot {doing} in {}: {error}{hint}", self.path.display()), hint).with_source(error)
    }
}

impl Drop for StateDb {
    /// A long log takes time to read at the next start: after a good end there is none.
    fn drop(&mut self) {
        /// A short one is read faster than its content is made a file.
        const SHORT: u64 = 1 << 20;
        if !matches!(self.access, Access::Checkpoint(_)) {
            return;
        }
        let families: Vec<_> =
            self.schemas.get_mut().values().filter_map(|s| self.db.cf_handle(&s.family)).collect();
        let held = |family| {
            let size = self.db.property_int_value_cf(family, "rocksdb.cur-size-active-mem-table");
            size.ok().flatten().unwrap_or(0)
        };
        if families.iter().any(|family| held(family) > SHORT)
            && let Err(error) =
                self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &rocksdb::FlushOptions::default())
        {
            tracing::warn!(%error, "the state's log could not be shortened; the next start reads it");
        }
    }
}

/// The files of the database in `path` that tell what belongs to it.
fn files_of(path: &Path) -> Option<BTreeSet<OsString>> {
    let names = std::fs::read_dir(path).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let tells = |name: &OsString| {
        let name = name.to_string_lossy();
        name.ends_with(".log") || name.ends_with(".sst") || name.starts_with("MANIFEST")
    };
    Some(names.filter(tells).collect())
}

pub(super) const DAMAGED: &str = "; it is damaged: restore a backup, or, to start anew without its state and \
                                  positions, name another folder; nothing was changed";

fn hint(error: &rocksdb::Error) -> &'static str {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => DAMAGED,
        _ => "",
    }
}

pub(super) fn open_error(path: &Path, error: rocksdb::Error) -> Error {
    let text = error.to_string();
    let hint = if text.contains("lock") {
        "; another process has it open: stop that one, or name another folder"
    } else {
        match hint(&error) {
            // A file that is missing or cannot be read is an I/O error to RocksDB.
            "" if text.contains("No such file") => DAMAGED,
            hint => hint,
        }
    };
    told(format!("cannot open the checkpoint {}: {text}{hint}", path.display()), hint).with_source(error)
}

fn told(message: String, hint: &str) -> Error {
    if hint == DAMAGED { Error::damaged(message) } else { Error::checkpoint(message) }
}
