//! What an administrator does with a store: look at it, copy it, and change what operators it has.
#![allow(dead_code, reason = "for the command line")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rocksdb::WriteBatch;
use rocksdb::checkpoint::Checkpoint;
use serde_json::Value;

use super::delta::{kind, single_key, split_key};
use super::keyed::Counters;
use super::loose::Loose;
use super::schema::Registered;
use super::{StateDb, StoreSnapshot};
use crate::codec::{decode_key, decode_value, encode_value};
use crate::error::{Error, Result};
use crate::rdd::finished;

/// An entry of an operator's state, decoded without its types.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateEntry {
    pub partition: usize,
    /// [`kind::ENTRY`] or [`kind::TOTAL`].
    pub kind: u8,
    /// Of a window's panes, `[time, key]`.
    pub key: Value,
    /// Of `map_with_state`, `[last touch, state]`.
    pub value: Value,
}

impl StateDb {
    /// What is registered, by uid.
    pub fn operators(&self) -> Vec<(String, Registered)> {
        self.uids().into_iter().filter_map(|uid| Some((uid.clone(), self.registered(&uid)?))).collect()
    }

    /// Calls `each` with the state of the operator `uid` as the last committed batch left it, in the order of the store;
    /// batches go on meanwhile.
    pub fn scan_snapshot(
        self: &Arc<Self>,
        uid: &str,
        mut each: impl FnMut(StateEntry) -> Result<()>,
    ) -> Result<()> {
        let snapshot = StoreSnapshot::new(self.clone());
        finished(snapshot.visit(uid, Vec::new()..vec![u8::MAX; 4], &mut |stored, value| {
            let (partition, kind, key) = split_key(stored)?;
            if kind >= kind::BOOKKEEPING {
                return Ok(());
            }
            let unreadable = |e: Error| e.within(format!("operator `{uid}`, partition {partition}"));
            let key = decode_key(key).map_err(unreadable)?;
            let Loose(value) = decode_value(value).map_err(unreadable)?;
            Ok(each(StateEntry { partition, kind, key, value })?)
        }))
    }

    /// Makes a copy of the store as it is now in the new folder `path`, which must be on the same disk to be quick;
    /// batches go on meanwhile. It can be opened like any checkpoint.
    pub fn backup_to(&self, path: &Path) -> Result<()> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(path));
        made.map_err(|e| self.error(&format!("make a backup in {} of what is", path.display()), e))
    }

    /// Removes the operator `uid` and all its state.
    pub fn drop_operator(&self, uid: &str) -> Result<()> {
        let mut family = None;
        self.change_schemas(|schemas| {
            family = schemas.remove(uid).map(|s| s.family);
            if family.is_some() { Ok(()) } else { Err(self.unknown(uid, schemas)) }
        })?;
        // A crash before this leaves a family that nobody knows of.
        match family {
            Some(name) => self.db.drop_cf(&name).map_err(|e| self.error("drop an operator", e)),
            None => Ok(()),
        }
    }

    /// Gives the state of operator `from` the uid `to`, which must be free.
    pub fn rename_operator(&self, from: &str, to: &str) -> Result<()> {
        self.change_schemas(|schemas| {
            if schemas.contains_key(to) {
                return Err(Error::usage(format!(
                    "{} has an operator `{to}` already: drop it first, or choose another uid",
                    self.path().display()
                )));
            }
            let schema = schemas.remove(from).ok_or_else(|| self.unknown(from, schemas))?;
            schemas.insert(to.to_owned(), schema);
            Ok(())
        })
    }

    /// Makes room for an operator as another checkpoint has it registered.
    pub fn import_operator(&self, uid: &str, like: &Registered) -> Result<()> {
        self.register(
            uid,
            super::OperatorSchema {
                operator: like.operator.clone(),
                key_type: like.key_type.clone(),
                value_type: like.written_as(),
                partitions: like.partitions,
                exact: false,
            },
        )?;
        self.change_schemas(|schemas| {
            if let Some(schema) = schemas.get_mut(uid) {
                schema.value_types.clone_from(&like.value_types);
            }
            Ok(())
        })
    }

    /// Writes records of the operator `uid` as [`scan`](StateDb::scan) gave them, on disk when this returns. Without the
    /// bookkeeping they are no use before [`recount`](StateDb::recount).
    pub fn put_raw<'a>(
        &self,
        uid: &str,
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<()> {
        let family = self.family(uid)?;
        let mut batch = WriteBatch::default();
        records.into_iter().for_each(|(key, value)| batch.put_cf(&family, key, value));
        self.write("write the state", batch, true)
    }

    /// Brings the operator's own records in line with its entries, of which some were put in from outside: counts them, and
    /// has the next start note their last touches anew. Operators trust these records.
    pub fn recount(&self, uid: &str) -> Result<()> {
        let partitions = self.registered(uid).map_or(0, |s| s.partitions);
        let mut counters = vec![Counters::default(); partitions];
        self.scan(uid, |stored, value| {
            let (partition, kind, _) = split_key(stored)?;
            let Some(counters) = counters.get_mut(partition) else {
                return Err(Error::checkpoint(format!(
                    "operator `{uid}` has {partitions} partitions, but a record in partition {partition}"
                )));
            };
            if kind == kind::ENTRY {
                counters.keys += 1;
                counters.bytes += (stored.len() + value.len()) as u64;
            }
            Ok(())
        })?;
        let family = self.family(uid)?;
        let mut batch = WriteBatch::default();
        for (partition, counters) in counters.iter().enumerate() {
            batch.put_cf(&family, single_key(partition, kind::COUNTERS), encode_value(counters)?);
        }
        batch.delete_cf(&family, single_key(0, kind::TOUCHED_COMPLETE));
        self.write("write the state", batch, true)
    }

    fn unknown(&self, uid: &str, known: &BTreeMap<String, Registered>) -> Error {
        let known = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Error::usage(format!("{} has no operator `{uid}`; it has: {known}", self.path().display()))
    }
}
