//! Records that cannot be used, from the task that finds them until their batch sends them: in memory up to a bound, beyond it in
//! a nameless file.
//!
//! How many of a batch's records are bad nobody knows before they are read, and under timestamp slicing nothing bounds a batch. So what
//! tasks hand on is where a letter stands, and the letter itself is read back when it is its turn.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use parking_lot::Mutex;
use rmp_serde::config::BytesMode;
use serde::Serialize as _;

use crate::error::{Error, Result};
use crate::rdd::Disk;
use crate::source::DeadLetter;
use crate::time::Time;

/// As many bytes of a batch's letters are in memory.
const MEMORY: usize = 16 << 20;

/// Memory is taken in pieces of this size.
const PIECE: usize = 1 << 20;

/// What a letter's length takes in front of it.
const LENGTH: usize = size_of::<u64>();

/// Where a letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(NonZeroU64);

/// A partition of a topic, with the batch that read it where offsets do not tell that.
type Source = (Arc<str>, i32, Option<Time>);

/// Which records could not be used, each by its place: one that several operators found bad counts once. Of those that become
/// dead letters it has where the letter stands.
#[derive(Default, Clone)]
pub(crate) struct BadRecords(BTreeMap<Source, BTreeMap<i64, Option<At>>>);

impl BadRecords {
    pub fn insert(&mut self, source: Source, offset: i64, letter: Option<At>) {
        self.0.entry(source).or_default().insert(offset, letter);
    }

    pub fn merge(&mut self, other: Self) {
        for (source, mut offsets) in other.0 {
            self.0.entry(source).or_default().append(&mut offsets);
        }
    }

    /// Forgets those that are not within the ranges of offsets that `kept` gives for their topic, partition and batch.
    pub fn retain(&mut self, kept: impl Fn(&str, i32, Option<Time>) -> Vec<Range<i64>>) {
        for ((topic, partition, read_in), offsets) in &mut self.0 {
            let kept = kept(topic, *partition, *read_in);
            offsets.retain(|offset, _| kept.iter().any(|range| range.contains(offset)));
        }
    }

    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Where the letters stand, in the order of topics, partitions and offsets.
    pub fn letters(&self) -> impl Iterator<Item = At> {
        self.0.values().flat_map(BTreeMap::values).flatten().copied()
    }
}

/// The letters of the running batch, those of attempts that failed among them. They stand one behind the other.
pub(crate) struct Letters {
    disk: Disk,
    log: Mutex<Log>,
}

struct Log {
    /// Where the batch's first letter stands: places are never given twice.
    start: u64,
    end: u64,
    memory: Vec<u8>,
    /// What follows, with the place of its first byte.
    file: Option<(Arc<File>, u64)>,
}

impl Letters {
    pub fn new(disk: &Disk) -> Self {
        Self { disk: disk.clone(), log: Mutex::new(Log { start: 1, end: 1, memory: Vec::new(), file: None }) }
    }

    /// Takes a letter, and tells where it stands.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be written.
    pub fn keep(&self, letter: &DeadLetter) -> Result<At> {
        let mut bytes = vec![0; LENGTH];
        letter
            .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_bytes(BytesMode::ForceIterables))
            .map_err(|e| Error::internal("a dead letter cannot be encoded").with_source(e))?;
        let length = (bytes.len() - LENGTH) as u64;
        bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());

        let mut log = self.log.lock();
        let (start, at) = (log.end, NonZeroU64::new(log.end));
        let at = At(at.ok_or_else(|| Error::internal("letters stand from 1 on"))?);
        if log.file.is_none() {
            if log.memory.len() + bytes.len() <= MEMORY {
                if log.memory.capacity() - log.memory.len() < bytes.len() {
                    log.memory.reserve_exact(bytes.len().max(PIECE));
                }
                log.memory.extend_from_slice(&bytes);
                log.end += bytes.len() as u64;
                return Ok(at);
            }
            log.file = Some((Arc::new(self.disk.file().map_err(|e| self.failed("written to", e))?), start));
        }
        log.end += bytes.len() as u64;
        let file = log.file.clone();
        drop(log);
        if let Some((file, first)) = file {
            file.write_all_at(&bytes, start - first).map_err(|e| self.failed("written to", e))?;
            self.disk.count(bytes.len());
        }
        Ok(at)
    }

    /// The letter that stands at `at`.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be read.
    pub fn read(&self, At(at): At) -> Result<DeadLetter> {
        let at = at.get();
        let log = self.log.lock();
        let in_memory = at.checked_sub(log.start).map(|from| from as usize);
        let from = in_memory.ok_or_else(|| Error::internal("a dead letter is of an earlier batch"))?;
        if from < log.memory.len() {
            let (length, rest) = log.memory[from..].split_at(LENGTH);
            return decode(&rest[..length_of(length)]);
        }
        let file = log.file.clone();
        drop(log);
        let (file, first) = file.ok_or_else(|| Error::internal("a dead letter stands nowhere"))?;
        let read =
            |bytes: &mut [u8], from| file.read_exact_at(bytes, from).map_err(|e| self.failed("read from", e));
        let mut length = [0; LENGTH];
        read(&mut length, at - first)?;
        let mut bytes = vec![0; length_of(&length)];
        read(&mut bytes, at - first + LENGTH as u64)?;
        decode(&bytes)
    }

    /// Forgets all letters: their batch is over.
    pub fn clear(&self) {
        let mut log = self.log.lock();
        *log = Log { start: log.end, end: log.end, memory: Vec::new(), file: None };
    }

    fn failed(&self, doing: &str, error: std::io::Error) -> Error {
        Error::unavailable(format!(
            "dead letters that do not fit in memory cannot be {doing} a temporary file in {}: {error}; make room there",
            self.disk.folder().display()
        ))
        .with_source(error)
    }
}

fn length_of(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, u64::from_le_bytes) as usize
}

fn decode(bytes: &[u8]) -> Result<DeadLetter> {
    rmp_serde::from_slice(bytes)
        .map_err(|e| Error::internal("a dead letter cannot be read back").with_source(e))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::source::Stage;
    use crate::source::kafka::ConsumerRecord;

    fn letter(offset: i64, value: Option<Vec<u8>>) -> DeadLetter {
        DeadLetter {
            record: ConsumerRecord {
                topic: "numbers".to_owned(),
                partition: 3,
                offset,
                timestamp: (offset % 2 == 0).then_some(offset),
                key: Some((0..=255).rev().collect()),
                value,
                headers: vec![("h".to_owned(), None), ("h".to_owned(), Some(vec![0xff, 0]))],
            },
            stage: Stage::Process,
            operator: "parts".to_owned(),
            error: "divide by zero".to_owned(),
            destination: "dlq".to_owned(),
        }
    }

    /// Letters of 100 kB, and some without a value.
    fn large(offset: i64) -> DeadLetter {
        letter(offset, (offset % 10 > 0).then(|| vec![offset as u8; 100_000]))
    }

    #[test]
    fn letters_come_back_as_they_were_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        let (letters, spilled) = (Letters::new(&disk), disk.spilled());
        for batch in 0..2 {
            spilled.store(0, Ordering::Relaxed);
            // 36 MB from four threads.
            let places: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|thread| {
                        let keep = |n| (n, letters.keep(&large(n)).unwrap());
                        scope.spawn(move || (thread * 100..(thread + 1) * 100).map(keep).collect::<Vec<_>>())
                    })
                    .collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            let memory = letters.log.lock().memory.capacity();
            assert!((MEMORY / 2..=MEMORY + PIECE).contains(&memory), "{memory}");
            assert!((19_000_000..22_000_000).contains(&spilled.load(Ordering::Relaxed)), "{spilled:?}");
            // The file has no name.
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            for (n, at) in places.iter().rev() {
                assert_eq!(letters.read(*at).unwrap(), large(*n), "batch {batch}");
            }
            letters.clear();
            assert_eq!(letters.log.lock().memory.capacity(), 0);
            letters.keep(&large(1)).unwrap();
            // A place of an earlier batch shows nothing of a later one.
            assert!(letters.read(places[0].1).is_err());
            letters.clear();
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_named() {
        let letters = Letters::new(&Disk::new("no such folder".as_ref()));
        letters.keep(&letter(1, Some(vec![1; MEMORY / 2]))).unwrap();
        let error = letters.keep(&letter(2, Some(vec![1; MEMORY / 2]))).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
        assert!(error.to_string().contains("no such folder"), "{error}");
    }

    #[test]
    fn a_record_counts_once_however_often_it_is_found() {
        let letters = Letters::new(&Disk::new(&std::env::temp_dir()));
        let place = |topic: &str, partition, read_in| (Arc::from(topic), partition, read_in);
        let keep = |n| Some(letters.keep(&letter(n, None)).unwrap());
        let (mut one, mut other) = (BadRecords::default(), BadRecords::default());
        one.insert(place("b", 0, None), 7, keep(7));
        one.insert(place("b", 0, None), 3, keep(3));
        other.insert(place("b", 0, None), 7, keep(70));
        other.insert(place("a", 1, None), 9, keep(9));
        // Skipped, and lines of two batches.
        other.insert(place("a", 1, None), 10, None);
        other.insert(place("a", 1, Some(Time::from_millis(5))), 10, keep(10));
        one.merge(other);
        assert_eq!(one.len(), 5);
        let offsets = |bad: &BadRecords| {
            bad.letters().map(|at| letters.read(at).unwrap().record.offset).collect::<Vec<_>>()
        };
        assert_eq!(offsets(&one), [9, 10, 3, 70]);
        one.retain(|topic, partition, read_in| match (topic, partition, read_in) {
            ("a", 1, None) => vec![0..1, 9..11],
            ("a", 1, _) => vec![0..5, 7..10],
            _ => Vec::new(),
        });
        assert_eq!((one.len(), offsets(&one)), (2, vec![9]));
    }
}
