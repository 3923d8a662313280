//! Where the elements of a partition are kept: in memory, or beyond a bound in a temporary file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::blame::{AtRecord, push_all_of};
use super::{Data, Flow};
use crate::codec::Stored;
use crate::error::{Error, Result};

/// Where a persisted RDD keeps its partitions (Spark's `StorageLevel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageLevel {
    /// In memory, as they are, however much it is.
    MemoryOnly,
    /// In memory as long as all that is persisted so in the context stays below
    /// [`storage_memory`](crate::StreamingContextBuilder::storage_memory), measured by what it would take on disk; a partition
    /// that does not fit goes to a temporary file as a whole, and is read from there at each use. The files have no
    /// name, so that nothing is left of them when the process ends, however it ends.
    MemoryAndDisk,
}

/// The elements of a partition, to be read any number of times.
pub(crate) trait Kept<T>: Send + Sync {
    fn read(&self, place: &dyn Fn() -> String, emit: &mut dyn FnMut(T) -> Flow) -> Flow;
}

impl<T: Data> Kept<T> for Vec<T> {
    fn read(&self, place: &dyn Fn() -> String, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        push_all_of(self, place, emit)
    }
}

/// How many bytes of partitions with the level [`StorageLevel::MemoryAndDisk`] are in memory, and may be.
#[derive(Debug)]
pub(crate) struct StorageMemory {
    used: AtomicU64,
    bound: u64,
}

impl StorageMemory {
    pub fn new(bound: u64) -> Self {
        Self { used: AtomicU64::new(0), bound }
    }

    /// So many bytes, if they are free.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let more = |used: u64| used.checked_add(bytes).filter(|all| *all <= self.bound);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Reservation { memory: self.clone(), bytes })
    }
}

/// A part of the storage memory, given back when it is dropped.
pub(crate) struct Reservation {
    memory: Arc<StorageMemory>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct InMemory<T> {
    elements: Vec<T>,
    _reservation: Reservation,
}

impl<T: Data> Kept<T> for InMemory<T> {
    fn read(&self, place: &dyn Fn() -> String, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        self.elements.read(place, emit)
    }
}

/// Keeps the partitions of one RDD with [`StorageLevel::MemoryAndDisk`].
pub(super) struct MemoryAndDisk {
    memory: Arc<StorageMemory>,
    /// One for all partitions, made for the first one that does not fit.
    file: Mutex<Option<Arc<Mutex<File>>>>,
}

impl MemoryAndDisk {
    pub fn new(memory: Arc<StorageMemory>) -> Self {
        Self { memory, file: Mutex::new(None) }
    }

    pub fn keep<T: Stored>(&self, elements: Vec<T>) -> Result<Arc<dyn Kept<T>>> {
        let mut size = Counter(0);
        write_elements(&elements, &mut size)?;
        match self.memory.reserve(size.0) {
            Some(reservation) => Ok(Arc::new(InMemory { elements, _reservation: reservation })),
            None => Ok(Arc::new(self.spill(&elements)?)),
        }
    }

    fn spill<T: Stored>(&self, elements: &[T]) -> Result<InFile<T>> {
        let file = {
            let mut file = self.file.lock();
            match &*file {
                Some(file) => file.clone(),
                None => {
                    file.insert(Arc::new(Mutex::new(tempfile::tempfile().map_err(cannot_spill)?))).clone()
                }
            }
        };
        let mut locked = file.lock();
        let at = locked.seek(SeekFrom::End(0)).map_err(cannot_spill)?;
        let mut writer = BufWriter::new(&mut *locked);
        write_elements(elements, &mut writer)?;
        writer.flush().map_err(cannot_spill)?;
        drop(writer);
        drop(locked);
        Ok(InFile { file, at, count: elements.len(), element: PhantomData })
    }
}

/// A run of elements in a file.
struct InFile<T> {
    file: Arc<Mutex<File>>,
    at: u64,
    count: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: Stored> Kept<T> for InFile<T> {
    fn read(&self, place: &dyn Fn() -> String, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let at = std::cell::Cell::new(0);
        let _record = AtRecord(|| format!("element {} of {}", at.get(), place()));
        let mut reader =
            BufReader::with_capacity(1 << 16, FileReader { file: self.file.clone(), at: self.at });
        for number in 0..self.count {
            at.set(number);
            emit(rmp_serde::from_read(&mut reader).map_err(|e| {
                Error::unavailable(format!(
                    "cannot read a {} back from a temporary file of a persisted RDD: {e}",
                    std::any::type_name::<T>()
                ))
                .with_source(e)
            })?)?;
        }
        Ok(())
    }
}

/// Reads from a place of its own in a file that others read and write too.
struct FileReader {
    file: Arc<Mutex<File>>,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file.lock();
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_elements<T: Stored>(elements: &[T], into: &mut impl Write) -> Result<()> {
    let mut serializer = rmp_serde::Serializer::new(into).with_struct_map();
    for element in elements {
        element.serialize(&mut serializer).map_err(|error| match error {
            rmp_serde::encode::Error::InvalidValueWrite(_) => cannot_spill(error),
            error => Error::task(format!(
                "a {} cannot be serialised, as the storage level MemoryAndDisk demands",
                std::any::type_name::<T>()
            ))
            .with_source(error),
        })?;
    }
    Ok(())
}

fn cannot_spill(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable(format!(
        "cannot write a persisted partition to a temporary file in {}: {error}; make room there, or name another folder \
         with TMPDIR",
        std::env::temp_dir().display()
    ))
    .with_source(error)
}
