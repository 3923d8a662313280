//! What the rows of a batch may take in memory, and the temporary files in which they go on beyond it.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder};
use datafusion::execution::spill_file::{SpillFile, SpillWriter, TempFileFactory};
use futures_util::Stream;

use crate::rdd::{Disk, Reservation, Runs, RunsWriter, SharedFile, StorageMemory};

/// Bytes at a time from a temporary file.
const READ: usize = 128 << 10;

/// Unless a pipeline says otherwise.
pub(crate) const DEFAULT_MEMORY: usize = 256 << 20;

/// The memory for a pipeline's batches. One half is the running query's, of which there is one at a time; the other is for rows
/// that wait to be read.
pub(crate) struct Memory {
    of_query: usize,
    waiting: Arc<StorageMemory>,
    /// For rows that wait, of however many tasks: each file that is open counts with the system.
    file: SharedFile,
}

impl Memory {
    /// So many bytes; what is beyond goes to temporary files.
    pub(crate) fn new(bytes: usize, disk: &Disk) -> Self {
        let of_query = bytes / 2;
        let waiting = Arc::new(StorageMemory::new((bytes - of_query) as u64));
        Self { of_query, waiting, file: SharedFile::new(disk) }
    }

    /// What a running query may hold.
    pub(super) fn of_query(&self) -> usize {
        self.of_query
    }

    /// So many bytes for rows that wait, if they are free.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        self.waiting.reserve(bytes as u64)
    }

    /// What takes rows that have no room.
    pub(super) fn writer(&self) -> io::Result<Rows> {
        let disk = self.file.disk();
        Ok(Rows { writer: self.file.writer().map_err(|error| failed(disk, &error))?, disk: disk.clone() })
    }

    /// What gives DataFusion its temporary files.
    pub(super) fn disk_manager(&self) -> Result<Arc<DiskManager>> {
        let factory = Arc::new(Factory(self.file.disk().clone()));
        let files = DiskManagerBuilder::default().with_temp_file_factory(factory);
        // How large the files may be is for the disk to say.
        Ok(Arc::new(files.with_max_temp_directory_size(u64::MAX).build()?))
    }
}

fn failed(disk: &Disk, error: &io::Error) -> io::Error {
    let folder = disk.folder().display();
    let message = format!(
        "cannot write rows that do not fit in memory to a temporary file in {folder}: {error}; make room there, or raise \
         `batch_memory_limit`"
    );
    io::Error::new(error.kind(), message)
}

/// Writes rows that have no room.
pub(super) struct Rows {
    writer: RunsWriter,
    disk: Disk,
}

impl Rows {
    pub(super) fn finish(self) -> io::Result<Runs> {
        self.writer.finish().map_err(|error| failed(&self.disk, &error))
    }
}

impl Write for Rows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|error| failed(&self.disk, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(|error| failed(&self.disk, &error))
    }
}

struct Factory(Disk);

impl TempFileFactory for Factory {
    fn create_temp_file(&self, _: &str) -> Result<Arc<dyn SpillFile>> {
        let file = self.0.file().map_err(|error| DataFusionError::IoError(failed(&self.0, &error)))?;
        Ok(Arc::new(TemporaryFile { file: Arc::new(file), disk: self.0.clone() }))
    }
}

/// A file of DataFusion's, which writes it once and reads it once.
#[derive(Clone)]
struct TemporaryFile {
    file: Arc<File>,
    disk: Disk,
}

impl SpillFile for TemporaryFile {
    fn size(&self) -> Option<u64> {
        self.file.metadata().ok().map(|file| file.len())
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let mut reader = At { file: Arc::clone(&self.file), offset: 0 };
        let pieces = std::iter::from_fn(move || {
            let mut piece = vec![0; READ];
            match reader.read(&mut piece) {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    Some(Ok(piece.into()))
                }
                Err(error) => Some(Err(DataFusionError::IoError(error))),
            }
        });
        Ok(Box::pin(futures_util::stream::iter(pieces)))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(Buffered(BufWriter::with_capacity(READ, Appending(self.clone())))))
    }
}

struct Appending(TemporaryFile);

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let TemporaryFile { file, disk } = &self.0;
        let written = (&**file).write(bytes).map_err(|error| failed(disk, &error))?;
        disk.count(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Buffered(BufWriter<Appending>);

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl SpillWriter for Buffered {
    fn finish(&mut self) -> Result<()> {
        self.0.flush().map_err(DataFusionError::IoError)
    }
}

/// Reads a file from a place of its own.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
