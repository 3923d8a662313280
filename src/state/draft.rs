//! State that is put together, and is no operator's before it is complete.

use rocksdb::WriteBatch;

use super::StateDb;
use super::delta::{kind, single_key, split_key};
use super::entry::notes_touches;
use super::keyed::Counters;
use super::schema::Registered;
use super::touched::{TouchedValue, touched_key};
use crate::codec::encode_value;
use crate::error::{Error, Result};

/// How much is written at once.
const PIECE_BYTES: usize = 1 << 20;

/// A column family that is being filled. If nobody adopts it, [`StateDb::drop_unknown_families`] drops it.
pub(crate) struct Draft<'a> {
    store: &'a StateDb,
    schema: Registered,
    batch: WriteBatch,
    counters: Vec<Counters>,
    notes_touches: bool,
}

impl StateDb {
    /// A place for state as `like` has it, for the operator `uid`.
    pub fn draft(&self, uid: &str, like: &Registered) -> Result<Draft<'_>> {
        let family = self.unused_family(uid);
        self.make_family(&family, "make room for an operator")?;
        Ok(Draft {
            store: self,
            batch: WriteBatch::default(),
            counters: vec![Counters::default(); like.partitions],
            notes_touches: notes_touches(&like.operator),
            schema: Registered { family, ..like.clone() },
        })
    }
}

impl Draft<'_> {
    /// Adds a record. What the operator notes of its own entries (their number, their last touches) is made anew; such
    /// records are not taken.
    pub fn put(&mut self, stored: &[u8], value: &[u8]) -> Result<()> {
        let (partition, kind, _) = split_key(stored)?;
        let Some(counters) = self.counters.get_mut(partition) else {
            return Err(Error::data(format!(
                "a record is in partition {partition}, but there are {} partitions",
                self.schema.partitions
            )));
        };
        let store = self.store;
        let family = store.family_named(&self.schema.family)?;
        match kind {
            kind::COUNTERS | kind::TOUCHED | kind::TOUCHED_COMPLETE => return Ok(()),
            kind::ENTRY => {
                counters.keys += 1;
                counters.bytes += (stored.len() + value.len()) as u64;
                if self.notes_touches {
                    let (at, _) = TouchedValue::decode::<serde::de::IgnoredAny>(value)?;
                    self.batch.put_cf(&family, touched_key(at, stored)?, []);
                }
            }
            _ => {}
        }
        self.batch.put_cf(&family, stored, value);
        if self.batch.size_in_bytes() >= PIECE_BYTES {
            store.write("write the state", std::mem::take(&mut self.batch), false)?;
        }
        Ok(())
    }

    /// What is to be registered; all of it is on disk when this returns.
    pub fn finish(mut self) -> Result<Registered> {
        let family = self.store.family_named(&self.schema.family)?;
        if self.schema.has_counters() {
            for (partition, counters) in self.counters.iter().enumerate() {
                self.batch.put_cf(&family, single_key(partition, kind::COUNTERS), encode_value(counters)?);
            }
        }
        if self.notes_touches {
            self.batch.put_cf(&family, single_key(0, kind::TOUCHED_COMPLETE), []);
        }
        self.store.write("write the state", self.batch, true)?;
        Ok(self.schema)
    }
}
