//! Where the elements of a partition are kept: in memory, or beyond a bound in a temporary file.

use std::io::{self, BufReader, Write};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blame::{AtRecord, push_all_of};
use super::{Data, Disk, Flow, Runs, SharedFile};
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
    /// One for all partitions that do not fit.
    file: SharedFile,
}

impl MemoryAndDisk {
    pub fn new(memory: Arc<StorageMemory>, disk: &Disk) -> Self {
        Self { memory, file: SharedFile::new(disk) }
    }

    pub fn keep<T: Stored>(&self, elements: Vec<T>) -> Result<Arc<dyn Kept<T>>> {
        let mut size = Counter(0);
        let cannot_spill = |error: BoxedError| cannot_spill(self.file.disk(), error);
        write_elements(&elements, &mut size, &cannot_spill)?;
        if let Some(reservation) = self.memory.reserve(size.0) {
            return Ok(Arc::new(InMemory { elements, _reservation: reservation }));
        }
        let mut writer = self.file.writer().map_err(|e| cannot_spill(e.into()))?;
        write_elements(&elements, &mut writer, &cannot_spill)?;
        let runs = writer.finish().map_err(|e| cannot_spill(e.into()))?;
        Ok(Arc::new(InFile { runs, count: elements.len(), element: PhantomData }))
    }
}

/// A run of elements in a file.
struct InFile<T> {
    runs: Runs,
    count: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: Stored> Kept<T> for InFile<T> {
    fn read(&self, place: &dyn Fn() -> String, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let at = std::cell::Cell::new(0);
        let _record = AtRecord(|| format!("element {} of {}", at.get(), place()));
        let mut reader = BufReader::with_capacity(1 << 16, self.runs.reader());
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

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

fn write_elements<T: Stored>(
    elements: &[T],
    into: &mut impl Write,
    cannot_spill: &dyn Fn(BoxedError) -> Error,
) -> Result<()> {
    let mut serializer = rmp_serde::Serializer::new(into).with_struct_map();
    for element in elements {
        element.serialize(&mut serializer).map_err(|error| match error {
            rmp_serde::encode::Error::InvalidValueWrite(_) => cannot_spill(error.into()),
            error => Error::task(format!(
                "a {} cannot be serialised, as the storage level MemoryAndDisk demands",
                std::any::type_name::<T>()
            ))
            .with_source(error),
        })?;
    }
    Ok(())
}

fn cannot_spill(disk: &Disk, error: BoxedError) -> Error {
    Error::unavailable(format!(
        "cannot write a persisted partition to a temporary file in {}: {error}; make room there",
        disk.folder().display()
    ))
    .with_source(error)
}
