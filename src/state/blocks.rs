//! Received blocks in the checkpoint: on disk before they can be planned, gone when their batch is committed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rocksdb::{BoundColumnFamily, Direction, IteratorMode, WriteBatch};

use super::StateDb;
use crate::error::{Error, Result};

/// A column family of its own: blocks come and go at another pace than state.
const FAMILY: &str = "blocks";

/// What is known of a block without reading its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredBlock {
    pub number: u64,
    pub elements: u64,
}

impl StateDb {
    /// Makes room for blocks; deletes those of the input `uid` below `position`, which are committed, and gives the others.
    pub fn recover_blocks(&self, uid: &str, position: u64) -> Result<Vec<StoredBlock>> {
        self.make_family(FAMILY, "make room for received blocks")?;
        let family = self.block_family()?;
        let prefix = block_prefix(uid);
        let (mut blocks, mut done) = (Vec::new(), WriteBatch::default());
        for entry in self.db.iterator_cf(&family, IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = entry.map_err(|e| self.error("read received blocks", e))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let number = number_of(&key[prefix.len()..])?;
            if number < position {
                done.delete_cf(&family, &key);
            } else {
                blocks.push(StoredBlock { number, elements: split_block(&value)?.0 });
            }
        }
        self.write("delete received blocks", done, false)?;
        Ok(blocks)
    }

    /// Writes block `number` of the input `uid`, on disk when this returns.
    pub fn put_block(&self, uid: &str, number: u64, elements: u64, encoded: &[u8]) -> Result<()> {
        let value = [&elements.to_be_bytes(), encoded].concat();
        let mut batch = WriteBatch::default();
        batch.put_cf(&self.block_family()?, block_key(uid, number), value);
        self.write("write a received block", batch, true)
    }

    /// The encoded elements of block `number` of the input `uid`, if it is there.
    pub fn block(&self, uid: &str, number: u64) -> Result<Option<Vec<u8>>> {
        let found = self
            .db
            .get_cf(&self.block_family()?, block_key(uid, number))
            .map_err(|e| self.error("read a received block", e))?;
        found.map(|value| Ok(split_block(&value)?.1.to_vec())).transpose()
    }

    /// Deletes blocks whose batch is committed. What a failing machine brings back is deleted at the next start.
    pub fn delete_blocks(&self, uid: &str, numbers: Range<u64>) -> Result<()> {
        let family = self.block_family()?;
        let mut batch = WriteBatch::default();
        numbers.for_each(|number| batch.delete_cf(&family, block_key(uid, number)));
        self.write("delete received blocks", batch, false)
    }

    /// The inputs that have blocks here.
    pub fn block_uids(&self) -> Result<BTreeSet<String>> {
        let mut uids = BTreeSet::new();
        let Some(family) = self.db.cf_handle(FAMILY) else { return Ok(uids) };
        let mut from = Vec::new();
        // From one input's blocks to the next one's, not through them.
        loop {
            let next = self.db.iterator_cf(&family, IteratorMode::From(&from, Direction::Forward)).next();
            let Some(entry) = next else { return Ok(uids) };
            let (key, _) = entry.map_err(|e| self.error("read received blocks", e))?;
            let uid = uid_of(&key)?;
            from = block_key(&uid, u64::MAX);
            from.push(0);
            uids.insert(uid);
        }
    }

    fn block_family(&self) -> Result<Arc<BoundColumnFamily<'_>>> {
        self.db.cf_handle(FAMILY).ok_or_else(|| Error::internal("no room was made for received blocks"))
    }
}

/// The uid, led by its length, so that none is the beginning of another.
fn block_prefix(uid: &str) -> Vec<u8> {
    let mut key = (uid.len() as u32).to_be_bytes().to_vec();
    key.extend_from_slice(uid.as_bytes());
    key
}

fn block_key(uid: &str, number: u64) -> Vec<u8> {
    let mut key = block_prefix(uid);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn number_of(bytes: &[u8]) -> Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged("key"))
}

fn uid_of(key: &[u8]) -> Result<String> {
    let (length, rest) = key.split_first_chunk().ok_or_else(|| damaged("key"))?;
    let uid = rest.get(..u32::from_be_bytes(*length) as usize).ok_or_else(|| damaged("key"))?;
    String::from_utf8(uid.to_vec()).map_err(|_| damaged("key"))
}

/// How many elements a block has, and the elements.
fn split_block(value: &[u8]) -> Result<(u64, &[u8])> {
    let (count, elements) = value.split_first_chunk().ok_or_else(|| damaged("value"))?;
    Ok((u64::from_be_bytes(*count), elements))
}

fn damaged(what: &str) -> Error {
    Error::damaged(format!("a received block in the checkpoint has a damaged {what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn blocks_below_the_position_are_gone_and_the_others_are_in_order_and_by_input() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(folder.path(), "test", 4, crate::state::DEFAULT_MEMORY_LIMIT).unwrap();
        assert!(db.block_uids().unwrap().is_empty());
        assert!(db.recover_blocks("a", 0).unwrap().is_empty());
        for (uid, number) in [("a", 300), ("a", 2), ("ab", 7), ("a", 1), ("b", 0)] {
            db.put_block(uid, number, number * 10, uid.as_bytes()).unwrap();
        }
        assert_eq!(db.block_uids().unwrap(), ["a", "ab", "b"].map(String::from).into());
        let left = db.recover_blocks("a", 2).unwrap();
        assert_eq!(
            left,
            [StoredBlock { number: 2, elements: 20 }, StoredBlock { number: 300, elements: 3_000 }]
        );
        assert_eq!(db.block("a", 1).unwrap(), None);
        assert_eq!(db.block("a", 300).unwrap().unwrap(), b"a");
        db.delete_blocks("a", 2..301).unwrap();
        assert!(db.recover_blocks("a", 0).unwrap().is_empty());
        assert_eq!(db.recover_blocks("ab", 0).unwrap(), [StoredBlock { number: 7, elements: 70 }]);
    }
}
