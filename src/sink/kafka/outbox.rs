//! Records between the task that made them and the producer: in memory up to a bound, beyond it in a nameless file.
//!
//! Nothing may be handed over before every task has succeeded, so a batch's records are somewhere until then.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use super::ProducerRecord;
use crate::error::{Error, Result};
use crate::rdd::{Reservation, RunsWriter, SharedFile, StorageMemory};
use crate::time::Time;

/// Memory is taken in pieces of this size.
const PIECE: u64 = 256 << 10;

/// Bytes at a time from the file.
const READ: usize = 128 << 10;

/// What one task has for a topic.
pub(super) struct Outbox {
    room: Arc<StorageMemory>,
    file: Arc<SharedFile>,
    taken: Vec<Reservation>,
    /// Bytes that are left of what was taken.
    left: u64,
    records: Vec<ProducerRecord>,
    /// What came after these.
    spilled: Option<(RunsWriter, u64)>,
}

impl Outbox {
    /// An empty one, which shares `room`, and `file` beyond it, with others.
    pub fn new(room: Arc<StorageMemory>, file: Arc<SharedFile>) -> Self {
        Self { room, file, taken: Vec::new(), left: 0, records: Vec::new(), spilled: None }
    }

    pub fn push(&mut self, record: ProducerRecord) -> Result<()> {
        if self.spilled.is_none() {
            let size = record.size() as u64;
            if self.has_room(size) {
                self.left -= size;
                self.records.push(record);
                return Ok(());
            }
            tracing::debug!("the records of a batch exceed the buffer memory, and go to a temporary file");
            self.spilled = Some((self.file.writer().map_err(|e| no_file(&self.file, e))?, 0));
        }
        if let Some((file, count)) = &mut self.spilled {
            write_record(file, &record).map_err(|e| no_file(&self.file, e))?;
            *count += 1;
        }
        Ok(())
    }

    fn has_room(&mut self, size: u64) -> bool {
        if self.left < size {
            let more = PIECE.max(size);
            // The rest may do where a whole piece does not.
            let reserved =
                [more, size].into_iter().find_map(|bytes| Some((self.room.reserve(bytes)?, bytes)));
            match reserved {
                Some((piece, bytes)) => {
                    self.taken.push(piece);
                    self.left += bytes;
                }
                None => return false,
            }
        }
        true
    }

    /// The same when its task is done: what was gathered for the file is in it, and takes no memory.
    pub fn finish(mut self) -> Result<Self> {
        if let Some((file, _)) = &mut self.spilled {
            file.settle().map_err(|e| no_file(&self.file, e))?;
        }
        Ok(self)
    }

    /// Hands the records to `each`, in the order in which they came.
    pub fn drain(self, mut each: impl FnMut(&ProducerRecord) -> Result<()>) -> Result<()> {
        self.records.iter().try_for_each(&mut each)?;
        let Some((file, count)) = self.spilled else { return Ok(()) };
        let no_file = |e| no_file(&self.file, e);
        let runs = file.finish().map_err(no_file)?;
        let mut file = BufReader::with_capacity(READ, runs.reader());
        (0..count).try_for_each(|_| each(&read_record(&mut file).map_err(no_file)?))
    }
}

fn no_file(file: &SharedFile, error: io::Error) -> Error {
    Error::output(format!(
        "records that exceed the sink's buffer memory cannot be kept in a temporary file in {}: {error}",
        file.disk().folder().display()
    ))
    .with_source(error)
}

/// The length of what is not there.
const NONE: u64 = u64::MAX;

fn write_record(file: &mut impl Write, record: &ProducerRecord) -> io::Result<()> {
    write_bytes(file, record.key.as_deref())?;
    write_bytes(file, record.value.as_deref())?;
    let timestamp = record.timestamp.map(|at| at.as_millis().to_le_bytes());
    write_bytes(file, timestamp.as_ref().map(|at| &at[..]))?;
    file.write_all(&(record.headers.len() as u64).to_le_bytes())?;
    for (name, value) in &record.headers {
        write_bytes(file, Some(name.as_bytes()))?;
        write_bytes(file, value.as_deref())?;
    }
    Ok(())
}

fn write_bytes(file: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    file.write_all(&bytes.map_or(NONE, |bytes| bytes.len() as u64).to_le_bytes())?;
    file.write_all(bytes.unwrap_or_default())
}

fn read_record(file: &mut impl Read) -> io::Result<ProducerRecord> {
    let key = read_bytes(file)?;
    let value = read_bytes(file)?;
    let timestamp = read_bytes(file)?.and_then(|at| Some(i64::from_le_bytes(at.try_into().ok()?)));
    let headers = (0..read_number(file)?).map(|_| {
        let name = read_bytes(file)?.unwrap_or_default();
        Ok((String::from_utf8(name).map_err(io::Error::other)?, read_bytes(file)?))
    });
    let headers = headers.collect::<io::Result<_>>()?;
    Ok(ProducerRecord { key, value, headers, timestamp: timestamp.map(Time::from_millis) })
}

fn read_bytes(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let length = read_number(file)?;
    if length == NONE {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn read_number(file: &mut impl Read) -> io::Result<u64> {
    let mut number = [0; 8];
    file.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rdd::Disk;

    fn file() -> Arc<SharedFile> {
        Arc::new(SharedFile::new(&Disk::new(&std::env::temp_dir())))
    }

    fn drained(outbox: Outbox) -> Vec<ProducerRecord> {
        let mut all = Vec::new();
        outbox
            .drain(|record| {
                all.push(record.clone());
                Ok(())
            })
            .unwrap();
        all
    }

    fn records() -> impl Strategy<Value = Vec<ProducerRecord>> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let header = (".{0,5}", bytes());
        let record = (bytes(), bytes(), proptest::collection::vec(header, 0..3), any::<Option<i64>>());
        let record = record.prop_map(|(key, value, headers, at)| ProducerRecord {
            key,
            value,
            headers,
            timestamp: at.map(Time::from_millis),
        });
        proptest::collection::vec(record, 0..30)
    }

    proptest! {
        #[test]
        fn all_records_come_out_as_they_came_whatever_fits(records in records(), room in 0..3_000_u64) {
            let mut outbox = Outbox::new(Arc::new(StorageMemory::new(room)), file());
            for record in &records {
                outbox.push(record.clone()).unwrap();
            }
            prop_assert!(outbox.records.iter().map(|r| r.size() as u64).sum::<u64>() <= room);
            prop_assert_eq!(drained(outbox), records);
        }
    }

    #[test]
    fn memory_is_shared_and_given_back() {
        let room = Arc::new(StorageMemory::new(2 * PIECE));
        let large = ProducerRecord::new("k", vec![1; PIECE as usize]);
        let (mut first, mut second) = (Outbox::new(room.clone(), file()), Outbox::new(room.clone(), file()));
        first.push(large.clone()).unwrap();
        // One and a bit is taken, so another does not fit; a small one does, but comes after it.
        second.push(large.clone()).unwrap();
        second.push(ProducerRecord::new("k", "small")).unwrap();
        assert_eq!((first.records.len(), second.records.len()), (1, 0));
        assert_eq!(drained(second), [large.clone(), ProducerRecord::new("k", "small")]);
        drop(first);
        let mut third = Outbox::new(room, file());
        third.push(large).unwrap();
        assert_eq!(third.records.len(), 1);
    }
}
