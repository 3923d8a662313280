//! What an administrator does with a store: look at it, copy it, and change what operators it has.

use std::collections::BTreeSet;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::delta::{kind, single_key};
use super::entry::StateEntry;
use super::keyed::Counters;
use super::schema::Registered;
use super::{StateDb, StateStats};
use crate::codec::decode_value;
use crate::error::{Error, Result};
use crate::rdd::{Stop, finished};

impl StateDb {
    /// What is registered, by uid.
    pub fn operators(&self) -> Vec<(String, Registered)> {
        self.uids().into_iter().filter_map(|uid| Some((uid.clone(), self.registered(&uid)?))).collect()
    }

    /// Calls `each` with all that the operator `uid` keeps for its keys, in the order of the store.
    pub fn entries(&self, uid: &str, mut each: impl FnMut(StateEntry) -> Result<()>) -> Result<()> {
        self.entries_until(uid, |entry| each(entry).map(|()| true))
    }

    /// The same, as long as `each` gives true.
    pub fn entries_until(&self, uid: &str, mut each: impl FnMut(StateEntry) -> Result<bool>) -> Result<()> {
        let operator = self.known(uid)?.operator;
        finished(self.scan_until(uid, &mut |stored, value| {
            let within = |e: Error| e.within(format!("operator `{uid}`"));
            let entry = StateEntry::decode(&operator, stored, value).map_err(within)?;
            let goes_on = entry.map_or(Ok(true), &mut each)?;
            if goes_on { Ok(()) } else { Err(Stop::Enough) }
        }))
    }

    /// What is registered under `uid`.
    ///
    /// # Errors
    /// If nothing is.
    pub fn known(&self, uid: &str) -> Result<Registered> {
        self.registered(uid).ok_or_else(|| self.unknown(uid))
    }

    /// How many keys the operator `uid` has, and what they take.
    pub fn size_of(&self, uid: &str) -> Result<StateStats> {
        let schema = self.known(uid)?;
        let mut stats = StateStats::default();
        if schema.has_counters() {
            for partition in 0..schema.partitions {
                if let Some(found) = self.get_state(uid, &single_key(partition, kind::COUNTERS))? {
                    let counters: Counters = decode_value(&found)?;
                    stats.keys += counters.keys;
                    stats.bytes += counters.bytes;
                }
            }
            return Ok(stats);
        }
        let mut keys = BTreeSet::new();
        self.scan(uid, |stored, value| {
            if let Some(entry) = StateEntry::decode(&schema.operator, stored, value)? {
                stats.bytes += (stored.len() + value.len()) as u64;
                // A window without keys has batches.
                keys.insert(if schema.is_keyed() {
                    entry.key.to_string()
                } else {
                    format!("{:?}", entry.time)
                });
            }
            Ok(())
        })?;
        Ok(StateStats { keys: keys.len() as u64, ..stats })
    }

    /// Makes a copy of the store as it is now in the new folder `path`, which must be on the same disk to be quick;
    /// batches go on meanwhile. It can be opened like any checkpoint.
    pub fn backup_to(&self, path: &Path) -> Result<()> {
        if path.exists() {
            return Err(Error::usage(format!("{} is there already: name a new folder", path.display())));
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| {
                Error::unavailable(format!("cannot make the folder {}: {e}", parent.display())).with_source(e)
            })?;
        }
        let _applied = self.applying.lock();
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(path));
        made.map_err(|e| self.error(&format!("make a backup in {} of what is", path.display()), e))
    }

    /// Removes the operator `uid` and all its state.
    pub fn drop_operator(&self, uid: &str) -> Result<()> {
        let mut family = None;
        self.change_schemas(|schemas| {
            family = schemas.remove(uid).map(|s| s.family);
            if family.is_some() { Ok(()) } else { Err(unknown(self.path(), uid, schemas.keys())) }
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
            let schema = schemas.remove(from).ok_or_else(|| unknown(self.path(), from, schemas.keys()))?;
            schemas.insert(to.to_owned(), schema);
            Ok(())
        })
    }

    /// Has these, whose column families were filled, be operators under their uids, which must be free: all or none.
    pub fn add_operators(&self, operators: impl IntoIterator<Item = (String, Registered)>) -> Result<()> {
        self.change_schemas(|schemas| {
            for (uid, schema) in operators {
                if schemas.contains_key(&uid) {
                    return Err(Error::usage(format!(
                        "{} has an operator `{uid}` already: drop or rename that one first",
                        self.path().display()
                    )));
                }
                schemas.insert(uid, schema);
            }
            Ok(())
        })
    }

    fn unknown(&self, uid: &str) -> Error {
        unknown(self.path(), uid, self.uids().iter())
    }
}

fn unknown<'a>(path: &Path, uid: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known: Vec<_> = known.map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Error::usage(format!("{} has no operator `{uid}`; it has: {known}", path.display()))
}
