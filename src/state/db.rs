//! The checkpoint folder: one RocksDB per application, a column family per stateful operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rocksdb::{
    ColumnFamilyDescriptor, DBRecoveryMode, IteratorMode, MultiThreaded, Options, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use super::{Change, Delta};
use crate::codec::{decode_value, encode_value};
use crate::error::{Error, Result};

type Db = rocksdb::DBWithThreadMode<MultiThreaded>;

const FORMAT: u32 = 2;
const IDENTITY: &[u8] = b"identity";
const SCHEMAS: &[u8] = b"operators";
/// Operators' column families are prefixed, so that no uid can collide with RocksDB's `default`.
const OPERATOR: &str = "op.";

/// Whose checkpoint this is, written once when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    app_id: String,
    state_partitions: usize,
}

/// What an operator keeps under its uid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperatorSchema {
    pub operator: String,
    pub key_type: String,
    pub value_type: String,
}

/// An open checkpoint.
pub(crate) struct StateDb {
    db: Db,
    path: PathBuf,
    state_partitions: usize,
    schemas: RwLock<BTreeMap<String, OperatorSchema>>,
}

impl StateDb {
    /// Opens the checkpoint of `app_id` at `path`, or makes it with `state_partitions`.
    ///
    /// # Errors
    /// If the folder cannot be written, is locked by another process, is damaged, or belongs to
    /// another application.
    pub fn open(path: &Path, app_id: &str, state_partitions: usize) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| {
            Error::checkpoint(format!("cannot make the checkpoint folder {}: {e}", path.display()))
                .with_source(e)
        })?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // A flipped byte in the middle of the log must be an error, not a silent cut.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_paranoid_checks(true);
        options.set_keep_log_file_num(4);
        options.set_max_open_files(512);
        let families = Db::list_cf(&options, path).unwrap_or_default();
        let descriptors = families
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(name, family_options()))
            .collect::<Vec<_>>();
        let db = Db::open_cf_descriptors(&options, path, descriptors).map_err(|e| open_error(path, e))?;
        let mut this = Self { db, path: path.to_owned(), state_partitions, schemas: RwLock::default() };
        match this.get::<Identity>(IDENTITY)? {
            None => {
                let identity = Identity { format: FORMAT, app_id: app_id.to_owned(), state_partitions };
                this.put(IDENTITY, &identity)?;
            }
            Some(found) if found.format != FORMAT => {
                return Err(Error::checkpoint(format!(
                    "the checkpoint {} has format {}, this program reads format {FORMAT}",
                    path.display(),
                    found.format
                )));
            }
            Some(found) if found.app_id != app_id => {
                return Err(Error::checkpoint(format!(
                    "the checkpoint {} belongs to application `{}`, not to `{app_id}`: name another folder",
                    path.display(),
                    found.app_id
                )));
            }
            Some(found) => this.state_partitions = found.state_partitions,
        }
        *this.schemas.write() = this.get(SCHEMAS)?.unwrap_or_default();
        Ok(this)
    }

    /// The number of state partitions that was fixed when the checkpoint was made.
    pub fn state_partitions(&self) -> usize {
        self.state_partitions
    }

    /// The uids that have state here.
    pub fn uids(&self) -> Vec<String> {
        self.schemas.read().keys().cloned().collect()
    }

    /// Makes room for the operator `uid`.
    ///
    /// # Errors
    /// If it is there already, with other types.
    pub fn register(&self, uid: &str, schema: OperatorSchema) -> Result<()> {
        let mut schemas = self.schemas.write();
        match schemas.get(uid) {
            Some(found) if *found == schema => return Ok(()),
            Some(found) => {
                return Err(Error::checkpoint(format!(
                    "operator `{uid}` is a {} from {} to {}, but the checkpoint {} holds a {} from {} to {} under \
                     that uid: give the changed operator another uid",
                    schema.operator,
                    schema.key_type,
                    schema.value_type,
                    self.path.display(),
                    found.operator,
                    found.key_type,
                    found.value_type
                )));
            }
            None => {}
        }
        if self.db.cf_handle(&family(uid)).is_none() {
            self.db
                .create_cf(family(uid), &family_options())
                .map_err(|e| self.error("make room for an operator", e))?;
        }
        schemas.insert(uid.to_owned(), schema);
        self.put(SCHEMAS, &*schemas)
    }

    /// Calls `each` with every key and value of the operator `uid`, in key order.
    pub fn scan(&self, uid: &str, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let Some(cf) = self.db.cf_handle(&family(uid)) else { return Ok(()) };
        for entry in self.db.iterator_cf(&cf, IteratorMode::Start) {
            let (key, value) = entry.map_err(|e| self.error("read the state", e))?;
            each(&key, &value)?;
        }
        Ok(())
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
        self.db
            .put_opt(name, encode_value(value)?, &synced())
            .map_err(|e| self.error("write the checkpoint", e))
    }

    /// Writes the record `name`, which outlives the process, but not a failure of the machine.
    pub fn put_unsynced<T: Serialize>(&self, name: &[u8], value: &T) -> Result<()> {
        self.db.put(name, encode_value(value)?).map_err(|e| self.error("write the checkpoint", e))
    }

    /// Applies `delta` and writes the record `name`, both or neither, on disk when this returns.
    pub fn apply<T: Serialize>(&self, delta: &Delta, name: &[u8], value: &T) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (uid, changes) in &delta.operators {
            let cf = self.family(uid)?;
            for change in changes {
                match change {
                    Change::Put(key, value) => batch.put_cf(&cf, key, value),
                    Change::Delete(key) => batch.delete_cf(&cf, key),
                }
            }
        }
        batch.put(name, encode_value(value)?);
        self.db.write_opt(batch, &synced()).map_err(|e| self.error("write the state", e))
    }

    /// Calls `each` with the checkpoint's own records whose names begin with `prefix`, in the order of their names.
    pub(super) fn scan_records(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        for entry in self.db.iterator(IteratorMode::From(prefix, rocksdb::Direction::Forward)) {
            let (key, value) = entry.map_err(|e| self.error("read the checkpoint", e))?;
            if !key.starts_with(prefix) {
                break;
            }
            each(&key, &value)?;
        }
        Ok(())
    }

    /// Writes `batch`: on disk when this returns if it is `synced`, else at latest with the next write that is.
    pub(super) fn write(&self, batch: WriteBatch, sync: bool, doing: &str) -> Result<()> {
        let options = if sync { synced() } else { WriteOptions::default() };
        self.db.write_opt(batch, &options).map_err(|e| self.error(doing, e))
    }

    /// The column family of the operator `uid`.
    pub(super) fn family(&self, uid: &str) -> Result<Arc<rocksdb::BoundColumnFamily<'_>>> {
        self.db
            .cf_handle(&family(uid))
            .ok_or_else(|| Error::internal(format!("operator `{uid}` was not registered")))
    }

    fn error(&self, doing: &str, error: rocksdb::Error) -> Error {
        Error::checkpoint(format!("cannot {doing} in {}: {error}", self.path.display())).with_source(error)
    }
}

fn family(uid: &str) -> String {
    format!("{OPERATOR}{uid}")
}

fn family_options() -> Options {
    let mut options = Options::default();
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn open_error(path: &Path, error: rocksdb::Error) -> Error {
    let text = error.to_string();
    let cannot = format!("cannot open the checkpoint {}: {text}", path.display());
    let told = if text.contains("lock") {
        Error::checkpoint(format!(
            "{cannot}; another process has it open: stop that one, or name another folder"
        ))
    } else if error.kind() == rocksdb::ErrorKind::Corruption {
        Error::damaged(format!("{cannot}; it is damaged: restore a backup; nothing was changed"))
    } else {
        Error::checkpoint(format!("{cannot}; see the cause"))
    };
    told.with_source(error)
}
