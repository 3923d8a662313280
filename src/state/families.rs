//! The column families: which operator has which, and what of them nobody needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{BoundColumnFamily, ColumnFamilyDescriptor, WriteBatch};

use super::StateDb;
use super::db::{DAMAGED, Db, IDENTITY, Identity, SCHEMAS, open_error};
use super::options::Memory;
use super::schema::{OperatorSchema, Registered};
use crate::codec::encode_value;
use crate::error::{Error, Result};

/// Operators' column families are prefixed, so that no uid can collide with RocksDB's `default`.
const OPERATOR: &str = "op.";

impl StateDb {
    /// The uids that have state here.
    pub fn uids(&self) -> Vec<String> {
        self.schemas.read().keys().cloned().collect()
    }

    /// What is registered under `uid`.
    pub fn registered(&self, uid: &str) -> Option<Registered> {
        self.schemas.read().get(uid).cloned()
    }

    /// Makes room for the operator `uid`.
    ///
    /// # Errors
    /// If it is there already as another operator, or with another kind of keys or number of partitions.
    pub fn register(&self, uid: &str, schema: OperatorSchema) -> Result<()> {
        let mut schemas = self.schemas.write();
        let mut changed = schemas.clone();
        match changed.get_mut(uid) {
            Some(found) => {
                if !found.admits(uid, &schema, &self.path)? {
                    return Ok(());
                }
            }
            None => {
                schema.check(uid)?;
                let family = self.free_family(uid, &schemas)?;
                self.make_family(&family, "make room for an operator")?;
                changed.insert(uid.to_owned(), schema.registered(family));
            }
        }
        self.put(SCHEMAS, &changed)?;
        *schemas = changed;
        Ok(())
    }

    /// Changes what is registered, on disk when this returns.
    pub(super) fn change_schemas(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Registered>) -> Result<()>,
    ) -> Result<()> {
        let mut schemas = self.schemas.write();
        let mut changed = schemas.clone();
        change(&mut changed)?;
        self.put(SCHEMAS, &changed)?;
        *schemas = changed;
        Ok(())
    }

    /// Makes `state_partitions` the checkpoint's number of them, and `schemas` what is registered, both or neither. The
    /// store has to be opened anew for its operators.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub(super) fn switch(
        &self,
        state_partitions: usize,
        schemas: BTreeMap<String, Registered>,
    ) -> Result<()> {
        let mut held = self.schemas.write();
        let mut batch = WriteBatch::default();
        batch.put(IDENTITY, encode_value(&Identity { state_partitions, ..self.identity.clone() })?);
        batch.put(SCHEMAS, encode_value(&schemas)?);
        self.write("write the checkpoint", batch, true)?;
        *held = schemas;
        Ok(())
    }

    /// Drops operators' column families that no operator has: something that was not finished left them.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub fn drop_unknown_families(&self) -> Result<()> {
        let schemas = self.schemas.read();
        for name in families(&self.path, &self.memory, None)? {
            if name.starts_with(OPERATOR) && !schemas.values().any(|s| s.family == name) {
                self.db.drop_cf(&name).map_err(|e| self.error("drop what nobody needs", e))?;
            }
        }
        Ok(())
    }

    /// The column families that are no operator's.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub(super) fn other_families(&self) -> Result<Vec<String>> {
        let schemas = self.schemas.read();
        let all = families(&self.path, &self.memory, None)?.into_iter();
        Ok(all.filter(|name| !schemas.values().any(|s| s.family == *name)).collect())
    }

    /// As [`scan_records`](StateDb::scan_records), of any column family.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub(super) fn scan_family(
        &self,
        name: &str,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let iterator = self.db.raw_iterator_cf(&self.family_named(name)?);
        crate::rdd::finished(self.walk(iterator, &mut |key, value| Ok(each(key, value)?)))
    }

    pub(super) fn family_named(&self, name: &str) -> Result<Arc<BoundColumnFamily<'_>>> {
        let missing = || Error::damaged(format!("{} has no column family {name}", self.path.display()));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    /// A column family's name that there is not.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub(super) fn unused_family(&self, uid: &str) -> String {
        family_name(uid, |name| self.db.cf_handle(name).is_some())
    }

    /// A column family's name that no operator has. What a crash left under it is dropped: nobody knows of it.
    fn free_family(&self, uid: &str, schemas: &BTreeMap<String, Registered>) -> Result<String> {
        let name = family_name(uid, |name| schemas.values().any(|s| s.family == name));
        if self.db.cf_handle(&name).is_some() {
            self.db.drop_cf(&name).map_err(|e| self.error("make room for an operator", e))?;
        }
        Ok(name)
    }

    /// Makes the column family `name`, which is no operator's, if it is missing.
    pub(super) fn make_family(&self, name: &str, doing: &str) -> Result<()> {
        if self.db.cf_handle(name).is_some() {
            return Ok(());
        }
        self.db.create_cf(name, &self.memory.family()).map_err(|e| self.error(doing, e))
    }

    pub(super) fn family(&self, uid: &str) -> Result<Arc<BoundColumnFamily<'_>>> {
        let name = self.schemas.read().get(uid).map(|s| s.family.clone());
        name.and_then(|name| self.db.cf_handle(&name))
            .ok_or_else(|| Error::internal(format!("operator `{uid}` was not registered")))
    }
}

/// The first name for a column family of the operator `uid` that is not `taken`.
fn family_name(uid: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = format!("{OPERATOR}{uid}");
    let mut number = 1;
    while taken(&name) {
        number += 1;
        name = format!("{OPERATOR}{uid}.{number}");
    }
    name
}

pub(super) fn descriptors(families: &[String], memory: &Memory) -> Vec<ColumnFamilyDescriptor> {
    families.iter().map(|name| ColumnFamilyDescriptor::new(name, memory.family())).collect()
}

/// The column families of the database in `path`; the one that all have if there is none yet.
pub(super) fn families(path: &Path, memory: &Memory, synced: Option<u64>) -> Result<Vec<String>> {
    if path.join("CURRENT").exists() {
        return Db::list_cf(&memory.database(), path).map_err(|e| open_error(path, e));
    }
    let is_table = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "sst"))
    };
    // RocksDB would take what it finds for rubbish, and make an empty database in its place.
    if synced.is_some() || std::fs::read_dir(path).is_ok_and(|mut entries| entries.any(is_table)) {
        return Err(Error::damaged(format!(
            "cannot open the checkpoint {}: there is state in it, but its file CURRENT is missing{DAMAGED}",
            path.display()
        )));
    }
    // Opened without a name, it would have no handle.
    Ok(vec![rocksdb::DEFAULT_COLUMN_FAMILY_NAME.to_owned()])
}
