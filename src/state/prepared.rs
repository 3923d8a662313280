//! A delta that is on disk beside the state, and not yet part of it.
//!
//! It is kept as the very write batches that will apply it, in pieces of bounded size, sealed by one small record that is
//! written last. The seal is synced, and with it everything before it.

use rocksdb::WriteBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Delta, StateDb};
use crate::codec::encode_value;
use crate::error::{Error, Result};

const SEAL: &[u8] = b"prepared";
const PIECES: &[u8] = b"prepared/";
/// There from the first piece that is applied to the last: the batch is committed, whatever becomes of what else would tell.
const DECIDED: &[u8] = b"prepared-decided";
/// The byte after `/`.
const PIECES_END: &[u8] = b"prepared0";
/// How large a piece may grow.
const PIECE_BYTES: usize = 4 << 20;

/// The pieces of a prepared delta, in the order in which they are applied.
pub(crate) struct Pieces(Vec<WriteBatch>);

impl StateDb {
    /// Writes `delta` beside the state and seals it with `record`; all of it is on disk when this returns.
    pub fn prepare<T: Serialize>(&self, delta: &Delta, record: &T) -> Result<Pieces> {
        let pieces = self.pieces(delta)?;
        for (number, piece) in pieces.iter().enumerate() {
            let mut write = WriteBatch::default();
            if number == 0 {
                // What a crash in the middle of an earlier one left is no part of this one.
                write.delete_range(PIECES, PIECES_END);
            }
            write.put(piece_key(number), piece.data());
            self.write("write down a batch", write, false)?;
        }
        let mut seal = WriteBatch::default();
        if pieces.is_empty() {
            seal.delete_range(PIECES, PIECES_END);
        }
        seal.put(SEAL, encode_value(&(pieces.len(), record))?);
        self.write("seal a batch", seal, true)?;
        Ok(Pieces(pieces))
    }

    /// The sealed record, if a batch is prepared.
    pub fn sealed<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Ok(self.get::<(usize, T)>(SEAL)?.map(|(_, record)| record))
    }

    /// The sealed record and its pieces, if a batch is prepared.
    pub fn prepared<T: DeserializeOwned>(&self) -> Result<Option<(T, Pieces)>> {
        let Some((count, record)) = self.get::<(usize, T)>(SEAL)? else { return Ok(None) };
        let mut pieces = Vec::new();
        self.scan_between(PIECES, PIECES_END, |_, value| {
            pieces.push(WriteBatch::from_data(value));
            Ok(true)
        })?;
        if pieces.len() != count {
            return Err(Error::damaged(format!(
                "the prepared batch of the checkpoint {} has {} pieces, but {count} were sealed: restore a backup",
                self.path().display(),
                pieces.len()
            )));
        }
        Ok(Some((record, Pieces(pieces))))
    }

    /// Makes a prepared delta part of the state, then writes `record` under `name` in its place. Must be repeated after a
    /// crash in the middle, which [`is_decided`](Self::is_decided) tells.
    pub fn apply_prepared<T: Serialize>(&self, pieces: Pieces, name: &[u8], record: &T) -> Result<()> {
        let _applying = self.applying.lock();
        for (number, mut piece) in pieces.0.into_iter().enumerate() {
            if number == 0 {
                piece.put(DECIDED, []);
            }
            self.write("write the state", piece, false)?;
            fail::fail_point!("commit::mid_apply", |_| std::process::abort());
        }
        let mut last = self.forgetting();
        last.put(name, encode_value(record)?);
        self.write("write the state", last, false)
    }

    /// Whether some of what is prepared is part of the state already, and all of it must become so.
    pub fn is_decided(&self) -> Result<bool> {
        let found = self.db.get(DECIDED).map_err(|e| self.error("read the checkpoint", e))?;
        Ok(found.is_some())
    }

    /// Forgets what was prepared.
    pub fn drop_prepared(&self) -> Result<()> {
        self.write("drop a prepared batch", self.forgetting(), true)
    }

    fn forgetting(&self) -> WriteBatch {
        let mut write = WriteBatch::default();
        write.delete_range(PIECES, PIECES_END);
        write.delete(SEAL);
        write.delete(DECIDED);
        write
    }

    /// The write batches that apply `delta`.
    fn pieces(&self, delta: &Delta) -> Result<Vec<WriteBatch>> {
        let mut pieces = Vec::new();
        let last = self.batch_of(delta, |piece| {
            if piece.size_in_bytes() >= PIECE_BYTES {
                pieces.push(std::mem::take(piece));
            }
        })?;
        if !last.is_empty() {
            pieces.push(last);
        }
        Ok(pieces)
    }
}

fn piece_key(number: usize) -> Vec<u8> {
    // Byte order is the order of the numbers.
    [PIECES, &(number as u64).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::{Change, OperatorSchema};

    fn open(folder: &std::path::Path) -> StateDb {
        let db = StateDb::open(folder, "test", 4, crate::state::DEFAULT_MEMORY_LIMIT).unwrap();
        let text = |s: &str| s.to_owned();
        let schema = OperatorSchema {
            operator: text("map_with_state"),
            key_type: text("K"),
            value_type: text("V"),
            exact: false,
            partitions: 4,
        };
        db.register("totals", schema).unwrap();
        db
    }

    fn delta(changes: Vec<Change>) -> Delta {
        Delta { operators: vec![(Arc::from("totals"), changes)], records: Vec::new() }
    }

    fn state(db: &StateDb) -> Vec<(Vec<u8>, usize)> {
        let mut all = Vec::new();
        db.scan("totals", |key, value| {
            all.push((key.to_vec(), value.len()));
            Ok(())
        })
        .unwrap();
        all
    }

    fn put(key: u8, bytes: usize) -> Change {
        Change::Put(vec![key], vec![0; bytes])
    }

    #[test]
    fn a_prepared_delta_shows_only_once_it_is_applied() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let pieces = db.prepare(&delta(vec![put(1, 3), put(2, 4)]), &"two").unwrap();
        assert_eq!(state(&db), []);
        db.apply_prepared(pieces, b"done", &"two").unwrap();
        assert_eq!(state(&db), [(vec![1], 3), (vec![2], 4)]);
        assert!(db.prepared::<String>().unwrap().is_none());
        assert_eq!(db.get::<String>(b"done").unwrap().as_deref(), Some("two"));
    }

    #[test]
    fn records_of_the_checkpoint_are_applied_with_the_delta() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let records = vec![(b"log/1".to_vec(), crate::codec::encode_value(&"one").unwrap())];
        let pieces = db.prepare(&Delta { records, ..delta(vec![put(1, 3)]) }, &"one").unwrap();
        assert_eq!(db.get::<String>(b"log/1").unwrap(), None);
        db.apply_prepared(pieces, b"done", &"one").unwrap();
        assert_eq!(db.get::<String>(b"log/1").unwrap().as_deref(), Some("one"));
    }

    #[test]
    fn a_delta_of_many_pieces_outlives_the_process_and_can_be_applied_twice() {
        let folder = tempfile::tempdir().unwrap();
        let large = (1..=5).map(|key| put(key, 2 << 20)).chain([Change::Delete(vec![1])]).collect();
        drop(open(folder.path()).prepare(&delta(large), &"large").unwrap());
        for _ in 0..2 {
            let db = open(folder.path());
            let (record, pieces) = db.prepared::<String>().unwrap().unwrap();
            assert_eq!(record, "large");
            assert!(pieces.0.len() > 1);
            // A crash in the middle: the pieces were written, the last word was not.
            for piece in pieces.0 {
                db.write("test", piece, false).unwrap();
            }
            assert_eq!(state(&db), (2..=5).map(|key| (vec![key], 2 << 20)).collect::<Vec<_>>());
        }
        let db = open(folder.path());
        let (_, pieces) = db.prepared::<String>().unwrap().unwrap();
        db.apply_prepared(pieces, b"done", &"large").unwrap();
        assert!(db.prepared::<String>().unwrap().is_none());
        assert_eq!(state(&db).len(), 4);
    }

    #[test]
    fn what_a_crash_before_the_seal_left_is_no_part_of_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let large = (1..=5).map(|key| put(key, 2 << 20)).collect();
        db.prepare(&delta(large), &"never sealed").unwrap();
        let mut crashed = WriteBatch::default();
        crashed.delete(SEAL);
        db.write("test", crashed, false).unwrap();
        for again in [vec![put(9, 3)], vec![]] {
            db.prepare(&delta(again.clone()), &"again").unwrap();
            let (_, pieces) = db.prepared::<String>().unwrap().unwrap();
            assert_eq!(pieces.0.len(), again.len());
        }
    }

    #[test]
    fn what_was_dropped_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        db.prepare(&delta(vec![put(1, 3)]), &"one").unwrap();
        db.drop_prepared().unwrap();
        assert!(db.prepared::<String>().unwrap().is_none());
        // Nothing of it turns up under the next one.
        db.prepare(&delta(vec![]), &"none").unwrap();
        let (record, pieces) = db.prepared::<String>().unwrap().unwrap();
        assert_eq!((record.as_str(), pieces.0.len()), ("none", 0));
        assert_eq!(state(&db), []);
    }
}
