//! The block generator: what a receiver stores becomes numbered blocks, written to the checkpoint if there is one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::codec::{Stored, decode_value, encode_value};
use crate::error::{Error, Result};
use crate::state::{StateDb, StoredBlock};

/// A run of elements that becomes one partition of a batch.
#[derive(Clone)]
pub(super) struct Block<T> {
    pub number: u64,
    pub count: u64,
    /// None if it is only on disk.
    pub elements: Option<Arc<Vec<T>>>,
    bytes: usize,
}

/// The blocks of one receiver. Locks are taken in the order queue, current.
pub(super) struct Blocks<T> {
    pub uid: String,
    pub db: Option<Arc<StateDb>>,
    /// How many bytes of blocks that are on disk are held in memory, too.
    memory: usize,
    /// What was stored one by one and is in no block yet.
    current: Mutex<Elements<T>>,
    queue: Mutex<Queue<T>>,
}

struct Queue<T> {
    /// The number of the next block.
    next: u64,
    /// The first block that was not planned.
    planned: u64,
    held: usize,
    /// Blocks whose batch is not committed.
    blocks: BTreeMap<u64, Block<T>>,
}

/// Elements, and if there is a checkpoint, what will be written of them: each is encoded when it is stored, so that whoever
/// stores it hears if that cannot be done.
struct Elements<T> {
    elements: Vec<T>,
    encoded: Vec<u8>,
}

impl<T> Default for Elements<T> {
    fn default() -> Self {
        Self { elements: Vec::new(), encoded: Vec::new() }
    }
}

impl<T> Elements<T> {
    fn append(&mut self, mut later: Elements<T>) {
        self.elements.append(&mut later.elements);
        self.encoded.append(&mut later.encoded);
    }
}

impl<T: Stored> Blocks<T> {
    pub fn new(uid: String, db: Option<Arc<StateDb>>, memory: usize) -> Self {
        let queue = Queue { next: 0, planned: 0, held: 0, blocks: BTreeMap::new() };
        Self { uid, db, memory, current: Mutex::default(), queue: Mutex::new(queue) }
    }

    /// Goes on at block `position`, with those that an earlier run wrote and did not commit. Without a position they are all
    /// of that kind: nothing was committed, or by a program that did not have this input.
    pub fn recover(&self, position: Option<u64>) -> Result<()> {
        let stored = match &self.db {
            Some(db) => db.recover_blocks(&self.uid, position.unwrap_or(0))?,
            None => Vec::new(),
        };
        let first = position.or(stored.first().map(|block| block.number)).unwrap_or(0);
        let mut queue = self.queue.lock();
        (queue.next, queue.planned) = (first, first);
        for StoredBlock { number, elements } in stored {
            queue.next = number + 1;
            queue.blocks.insert(number, Block { number, count: elements, elements: None, bytes: 0 });
        }
        Ok(())
    }

    /// Adds to the current block; false if `closed` is set.
    pub fn add(&self, element: T, closed: &AtomicBool) -> Result<bool> {
        let element = self.encoded(vec![element])?;
        let mut current = self.current.lock();
        let open = !closed.load(Ordering::Relaxed);
        if open {
            current.append(element);
        }
        Ok(open)
    }

    /// Makes a block of `elements`, which comes after all that was stored before; false if `closed` is set.
    pub fn add_block(&self, elements: Vec<T>, closed: &AtomicBool) -> Result<bool> {
        let elements = self.encoded(elements)?;
        let mut queue = self.queue.lock();
        if closed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.cut_current(&mut queue)?;
        self.append(&mut queue, elements).map_err(|(_, error)| error)?;
        Ok(true)
    }

    /// Ends the current block. If it cannot be written, its elements stay in the current block.
    pub fn cut(&self) -> Result<()> {
        self.cut_current(&mut self.queue.lock())
    }

    /// Sets `closed` and ends the last block: nothing is added between the two.
    pub fn close(&self, closed: &AtomicBool) -> Result<()> {
        let mut queue = self.queue.lock();
        {
            let _current = self.current.lock();
            closed.store(true, Ordering::Relaxed);
        }
        self.cut_current(&mut queue)
    }

    /// The blocks that are in no batch yet, the current one included, and how many elements they have.
    pub fn plan(&self) -> Result<(Range<u64>, u64)> {
        let mut queue = self.queue.lock();
        self.cut_current(&mut queue)?;
        let range = queue.planned..queue.next;
        let records = queue.blocks.range(range.clone()).map(|(_, block)| block.count).sum();
        Ok((range, records))
    }

    /// The blocks of a batch.
    pub fn begin(&self, range: Range<u64>) -> Result<Vec<Block<T>>> {
        let mut queue = self.queue.lock();
        let block = |number| {
            queue.blocks.get(&number).cloned().ok_or_else(|| {
                Error::checkpoint(format!(
                    "block {number} of input `{}` was planned, but the checkpoint does not have it",
                    self.uid
                ))
            })
        };
        let blocks = range.clone().map(block).collect::<Result<_>>()?;
        queue.planned = range.end;
        Ok(blocks)
    }

    /// Forgets the blocks of a committed batch.
    pub fn finished(&self, range: Range<u64>) -> Result<()> {
        let mut queue = self.queue.lock();
        for number in range.clone() {
            if let Some(Block { elements: Some(_), bytes, .. }) = queue.blocks.remove(&number) {
                queue.held -= bytes;
            }
        }
        drop(queue);
        match &self.db {
            Some(db) if !range.is_empty() => db.delete_blocks(&self.uid, range),
            _ => Ok(()),
        }
    }

    /// Whether something is in no batch yet.
    pub fn has_unplanned(&self) -> bool {
        let queue = self.queue.lock();
        queue.planned < queue.next || !self.current.lock().elements.is_empty()
    }

    /// Each element led by its length.
    fn encoded(&self, elements: Vec<T>) -> Result<Elements<T>> {
        let mut encoded = Vec::new();
        if self.db.is_some() {
            for element in &elements {
                let bytes = encode_value(element)?;
                let length = u32::try_from(bytes.len()).map_err(|_| {
                    Error::data(format!("an element of {} bytes is too long to be stored", bytes.len()))
                })?;
                encoded.extend_from_slice(&length.to_be_bytes());
                encoded.extend_from_slice(&bytes);
            }
        }
        Ok(Elements { elements, encoded })
    }

    fn cut_current(&self, queue: &mut Queue<T>) -> Result<()> {
        let elements = std::mem::take(&mut *self.current.lock());
        self.append(queue, elements).map_err(|(elements, error)| {
            let mut current = self.current.lock();
            let later = std::mem::replace(&mut *current, elements);
            current.append(later);
            error
        })
    }

    /// Writes `block` and numbers it, unless it is empty; gives it back if it cannot be written.
    fn append(&self, queue: &mut Queue<T>, block: Elements<T>) -> Result<(), (Elements<T>, Error)> {
        let (number, count, bytes) = (queue.next, block.elements.len() as u64, block.encoded.len());
        if count == 0 {
            return Ok(());
        }
        if let Some(db) = &self.db
            && let Err(error) = db.put_block(&self.uid, number, count, &block.encoded)
        {
            return Err((block, error));
        }
        // Without a checkpoint there is no other place, and its bytes are not known.
        let holds = queue.held.saturating_add(bytes) <= self.memory || self.db.is_none();
        if holds {
            queue.held += bytes;
        }
        let elements = holds.then(|| Arc::new(block.elements));
        queue.blocks.insert(number, Block { number, count, elements, bytes });
        queue.next = number + 1;
        Ok(())
    }
}

/// The elements of a block that was written.
pub(super) fn decode_block<T: Stored>(mut encoded: &[u8]) -> impl Iterator<Item = Result<T>> {
    std::iter::from_fn(move || {
        if encoded.is_empty() {
            return None;
        }
        let element = encoded.split_first_chunk().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let Some((element, rest)) = element else {
            encoded = &[];
            return Some(Err(Error::checkpoint("its elements are cut off")));
        };
        encoded = rest;
        Some(decode_value(element))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn elements(block: &Block<i64>, blocks: &Blocks<i64>) -> Vec<i64> {
        assert!(block.elements.is_none());
        let encoded = blocks.db.as_ref().unwrap().block(&blocks.uid, block.number).unwrap().unwrap();
        decode_block(&encoded).map(|element| element.unwrap()).collect()
    }

    #[test]
    fn what_cannot_be_written_stays_and_comes_before_what_is_stored_later() {
        let folder = tempfile::tempdir().unwrap();
        let db =
            Arc::new(StateDb::open(folder.path(), "test", 4, crate::state::DEFAULT_MEMORY_LIMIT).unwrap());
        let blocks = Blocks::<i64>::new("a".to_owned(), Some(db), 0);
        let open = AtomicBool::new(false);
        // There is no room for blocks before `recover`, so that nothing can be written.
        assert!(blocks.add(1, &open).unwrap());
        blocks.cut().unwrap_err();
        assert!(blocks.add(2, &open).unwrap());
        blocks.plan().unwrap_err();
        blocks.add_block(vec![9], &open).unwrap_err();
        assert!(blocks.has_unplanned());
        blocks.recover(None).unwrap();
        assert!(blocks.add_block(vec![3], &open).unwrap());
        let (range, records) = blocks.plan().unwrap();
        assert_eq!((range.clone(), records), (0..2, 3));
        let planned = blocks.begin(range).unwrap();
        assert_eq!(planned.iter().map(|b| elements(b, &blocks)).collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
        assert!(!blocks.has_unplanned());
    }

    #[test]
    fn a_block_that_is_missing_is_an_error_with_its_number() {
        let blocks = Blocks::<i64>::new("a".to_owned(), None, 0);
        let error = blocks.begin(4..5).err().unwrap();
        assert!(error.to_string().starts_with("block 4 of input `a` was planned"), "{error}");
    }

    #[test]
    fn a_block_that_is_cut_off_is_an_error() {
        let outcome: Result<Vec<i64>> = decode_block(&[0, 0, 0, 9, 1]).collect();
        assert_eq!(outcome.unwrap_err().to_string(), "its elements are cut off");
    }
}
