//! Entries of a partition that a batch writes as few large records.
//!
//! The pane that is not full yet changes with every batch, and mostly in the same keys: written one by one, each of them costs RocksDB a
//! way through its memtable per batch. So a batch adds a record with all of them, which is one copy, and the entries themselves are
//! written when the pane is full. Whoever reads the state sees entries and nothing else: the newest in such records comes before the
//! entry of its own.

use std::collections::BTreeMap;

use rocksdb::ReadOptions;
use serde::Serialize;

use super::db::Db;
use super::delta::{PREFIX, append_prefix, kind, prefix, single_key};
use super::entry::has_panes;
use super::{Change, StateDb};
use crate::codec::{append_value, encode_key};
use crate::error::{Error, Result};
use crate::rdd::Flow;

/// How large a record may grow before the next one is begun.
const RECORD_BYTES: usize = 256 << 10;
/// The lengths before an entry.
const LENGTHS: usize = 2 * size_of::<u32>();

/// The records of a partition, by their numbers, and how many entries are in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Gathered {
    first: u64,
    end: u64,
    entries: u64,
}

impl Gathered {
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// A key comes as often as there were batches that changed it.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Takes in a record that is in the store; `each` is called with the place of each entry, and its value.
    pub fn restore(
        &mut self,
        partition: usize,
        number: &[u8],
        record: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let number = number.try_into().map(u64::from_be_bytes).map_err(|_| damaged(partition))?;
        if self.is_empty() {
            self.first = number;
        }
        self.end = number + 1;
        read(partition, record, |place, value| {
            self.entries += 1;
            each(place, value)
        })
    }

    /// What deletes all records.
    pub fn deletions(&self, partition: usize) -> impl Iterator<Item = Change> + use<> {
        (self.first..self.end).map(move |number| Change::Delete(record_place(partition, number)))
    }
}

/// Puts entries into records.
pub(crate) struct Gatherer {
    partition: usize,
    gathered: Gathered,
    record: Vec<u8>,
    records: Vec<Change>,
}

impl Gatherer {
    /// Adds to what is there, or, with `anew`, begins behind it.
    pub fn new(partition: usize, gathered: Gathered, anew: bool) -> Self {
        let end = gathered.end;
        let gathered = if anew { Gathered { first: end, end, entries: 0 } } else { gathered };
        Self { partition, gathered, record: Vec::new(), records: Vec::new() }
    }

    /// Adds the entry of `key`; tells how many bytes it would take as one of its own.
    pub fn put<K: Serialize, V: Serialize>(&mut self, key: &K, value: &V) -> Result<usize> {
        let Self { partition, gathered, record, .. } = self;
        let start = record.len();
        record.extend_from_slice(&[0; LENGTHS]);
        append_prefix(*partition, kind::ENTRY, record);
        encode_key(key, record)?;
        let place = record.len() - start - LENGTHS;
        append_value(value, record)?;
        let length = record.len() - start - LENGTHS - place;
        let too_large = |_| Error::data("a key or a value of 4 GiB or more cannot be kept");
        let lengths = [u32::try_from(place).map_err(too_large)?, u32::try_from(length).map_err(too_large)?];
        for (at, length) in lengths.iter().enumerate() {
            record[start + 4 * at..][..4].copy_from_slice(&length.to_le_bytes());
        }
        gathered.entries += 1;
        if record.len() >= RECORD_BYTES {
            self.end_record();
        }
        Ok(place + length)
    }

    fn end_record(&mut self) {
        let place = record_place(self.partition, self.gathered.end);
        self.gathered.end += 1;
        // The next one will be as large.
        let next = Vec::with_capacity(self.record.capacity());
        self.records.push(Change::Put(place, std::mem::replace(&mut self.record, next)));
    }

    /// The records that were added, and what there is with them.
    pub fn finish(mut self) -> (Vec<Change>, Gathered) {
        if !self.record.is_empty() {
            self.end_record();
        }
        (self.records, self.gathered)
    }
}

type Records<'a> = rocksdb::DBRawIteratorWithThreadMode<'a, Db>;

/// The entries of gathered records by their places.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

impl StateDb {
    /// Calls `each` with every entry and every record of bookkeeping of the operator `uid`, in key order, whether gathered or not.
    pub fn scan_until(&self, uid: &str, each: &mut dyn FnMut(&[u8], &[u8]) -> Flow) -> Flow {
        // What is read through once must not push out what batches read.
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut iterator = self.db.raw_iterator_cf_opt(&self.family(uid)?, options);
        let schema = self.registered(uid);
        let Some(schema) = schema.filter(|schema| has_panes(&schema.operator)) else {
            return self.walk(iterator, each);
        };
        // By one iterator, which sees one state of things, whatever is written meanwhile.
        for partition in 0..schema.partitions {
            let gathered = self.gathered(&mut iterator, uid, partition)?;
            self.scan_partition(&mut iterator, partition, gathered, each)?;
        }
        // What is behind them is damage, which is for the reader to tell.
        let behind = u16::try_from(schema.partitions).map(u16::to_be_bytes);
        behind.map_or(Ok(()), |behind| self.walk_from(iterator, &behind, each))
    }

    /// What is gathered in `partition`, each key's newest.
    fn gathered(&self, iterator: &mut Records<'_>, uid: &str, partition: usize) -> Result<Entries> {
        let mut gathered = Entries::new();
        let records = single_key(partition, kind::GATHERED);
        iterator.seek(&records);
        while let Some((_, record)) = iterator.item().filter(|(place, _)| place.starts_with(&records)) {
            let read = read(partition, record, |place, value| {
                gathered.insert(place.to_vec(), value.to_vec());
                Ok(())
            });
            read.map_err(|e| e.within(format!("operator `{uid}`")))?;
            iterator.next();
        }
        // An iterator also ends where it cannot read on.
        iterator.status().map_err(|e| self.error("read the state", e))?;
        Ok(gathered)
    }

    fn scan_partition(
        &self,
        iterator: &mut Records<'_>,
        partition: usize,
        gathered: Entries,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Flow,
    ) -> Flow {
        let mut gathered = gathered.into_iter().peekable();
        let start = (partition as u16).to_be_bytes();
        iterator.seek(start);
        while let Some((place, value)) = iterator.item().filter(|(place, _)| place.starts_with(&start)) {
            while let Some((place, value)) = gathered.next_if(|(gathered, _)| **gathered < *place) {
                each(&place, &value)?;
            }
            match gathered.next_if(|(gathered, _)| *gathered == place) {
                Some((_, newer)) => each(place, &newer)?,
                None if place.get(2) == Some(&kind::GATHERED) => {}
                None => each(place, value)?,
            }
            iterator.next();
        }
        iterator.status().map_err(|e| self.error("read the state", e))?;
        gathered.try_for_each(|(place, value)| each(&place, &value))
    }
}

fn record_place(partition: usize, number: u64) -> Vec<u8> {
    let mut place = prefix(partition, kind::GATHERED, PREFIX + size_of::<u64>());
    // Byte order is the order of the numbers.
    place.extend_from_slice(&number.to_be_bytes());
    place
}

fn read(partition: usize, mut record: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    while !record.is_empty() {
        let split = || {
            let (place, rest) = record.split_first_chunk()?;
            let (value, rest) = rest.split_first_chunk()?;
            let (place, rest) = rest.split_at_checked(u32::from_le_bytes(*place) as usize)?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value) as usize)?;
            Some((place, value, rest))
        };
        let (place, value, rest) = split().ok_or_else(|| damaged(partition))?;
        each(place, value)?;
        record = rest;
    }
    Ok(())
}

fn damaged(partition: usize) -> Error {
    Error::damaged(format!("partition {partition}: a record of gathered entries is damaged"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
#[path = "gathered_tests.rs"]
mod tests;
