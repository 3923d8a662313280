//! Temporary files for what does not fit in memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 128 << 10;

/// A file that has become so large gets nothing more. What is written later may be needed for longer.
const LARGE: u64 = 1 << 30;

/// Where temporary files are made. They have no name, so that nothing is left of them when the process ends, however it ends.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: Arc<PathBuf>,
    spilled: Arc<AtomicU64>,
}

impl Disk {
    /// In this folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: Arc::new(folder.into()), spilled: Arc::default() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many bytes went to temporary files.
    pub fn spilled(&self) -> &Arc<AtomicU64> {
        &self.spilled
    }

    /// A file for one alone.
    pub fn file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&*self.folder)
    }

    /// So many bytes were written.
    pub fn count(&self, bytes: usize) {
        self.spilled.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A file for many, however many write at once: each has runs of bytes of its own. The file is there as long as anybody has what
/// was written to it, so what is needed for about as long should share one.
#[derive(Debug)]
pub(crate) struct SharedFile {
    disk: Disk,
    current: Mutex<Weak<Growing>>,
}

#[derive(Debug)]
struct Growing {
    file: File,
    end: AtomicU64,
}

impl SharedFile {
    /// None yet.
    pub fn new(disk: &Disk) -> Self {
        Self { disk: disk.clone(), current: Mutex::default() }
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Takes bytes for the file, which is made now if there is none.
    pub fn writer(&self) -> io::Result<RunsWriter> {
        let mut current = self.current.lock();
        let growing = current.upgrade().filter(|file| file.end.load(Ordering::Relaxed) < LARGE);
        let file = match growing {
            Some(file) => file,
            None => {
                let file = Arc::new(Growing { file: self.disk.file()?, end: AtomicU64::new(0) });
                *current = Arc::downgrade(&file);
                file
            }
        };
        Ok(RunsWriter { disk: self.disk.clone(), file, runs: Vec::new(), buffer: Vec::new() })
    }
}

/// Writes runs of bytes to a shared file.
pub(crate) struct RunsWriter {
    disk: Disk,
    file: Arc<Growing>,
    runs: Vec<Range<u64>>,
    buffer: Vec<u8>,
}

impl RunsWriter {
    /// What was written, to be read.
    pub fn finish(mut self) -> io::Result<Runs> {
        self.flush()?;
        Ok(Runs { file: self.file, runs: self.runs.into() })
    }

    /// Has all that was written in the file, and nothing in memory.
    pub fn settle(&mut self) -> io::Result<()> {
        self.flush()?;
        self.buffer = Vec::new();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let at = self.file.end.fetch_add(length, Ordering::Relaxed);
        self.file.file.write_all_at(bytes, at)?;
        self.disk.count(bytes.len());
        match self.runs.last_mut() {
            Some(last) if last.end == at => last.end += length,
            _ => self.runs.push(at..at + length),
        }
        Ok(())
    }
}

impl Write for RunsWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        match bytes.len() > BUFFER {
            true => self.append(bytes)?,
            false => self.buffer.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.append(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }
}

/// What one writer wrote. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    file: Arc<Growing>,
    runs: Arc<[Range<u64>]>,
}

impl Runs {
    /// Reads it from its beginning, whoever else reads it.
    pub fn reader(&self) -> impl Read + Send + use<> {
        RunsReader { runs: self.clone(), next: 0, read: 0 }
    }
}

struct RunsReader {
    runs: Runs,
    /// Which of the runs is read, and how many bytes of it were.
    next: usize,
    read: u64,
}

impl Read for RunsReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(run) = self.runs.runs.get(self.next) {
            let left = run.end - run.start - self.read;
            if left == 0 {
                (self.next, self.read) = (self.next + 1, 0);
                continue;
            }
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.runs.file.file.read_at(&mut buffer[..most], run.start + self.read)?;
            if read == 0 && most > 0 {
                // Or what is left would pass for all there was.
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a temporary file was cut short"));
            }
            self.read += read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(runs: &Runs) -> Vec<u8> {
        let mut bytes = Vec::new();
        runs.reader().read_to_end(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn each_reads_what_it_wrote_however_they_take_turns(
            writes in proptest::collection::vec((0..3_usize, any::<u8>(), 0..200_000_usize), 0..20),
        ) {
            let file = SharedFile::new(&Disk::new(&std::env::temp_dir()));
            let mut writers: Vec<_> = (0..3).map(|_| file.writer().unwrap()).collect();
            let mut expected = vec![Vec::new(); 3];
            for (of, byte, length) in writes {
                writers[of].write_all(&vec![byte; length]).unwrap();
                expected[of].extend(vec![byte; length]);
            }
            let runs: Vec<_> = writers.into_iter().map(|writer| writer.finish().unwrap()).collect();
            prop_assert!(runs.iter().all(|of| Arc::ptr_eq(&of.file, &runs[0].file)));
            prop_assert!(runs.iter().map(read).eq(expected.iter().cloned()));
            let written: usize = expected.iter().map(Vec::len).sum();
            prop_assert_eq!(file.disk().spilled().load(Ordering::Relaxed), written as u64);
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let file = SharedFile::new(&Disk::new(&std::env::temp_dir()));
        let mut writer = file.writer().unwrap();
        writer.write_all(&[7; 10]).unwrap();
        let runs = writer.finish().unwrap();
        runs.file.file.set_len(4).unwrap();
        let mut bytes = Vec::new();
        let error = runs.reader().read_to_end(&mut bytes).unwrap_err();
        assert_eq!((error.kind(), bytes), (io::ErrorKind::UnexpectedEof, vec![7; 4]));
    }

    #[test]
    fn a_file_ends_with_what_was_last_read_of_it_and_when_it_is_large() {
        let file = SharedFile::new(&Disk::new(&std::env::temp_dir()));
        let first = file.writer().unwrap().finish().unwrap();
        let weak = Arc::downgrade(&first.file);
        drop(first);
        assert!(weak.upgrade().is_none());
        let second = file.writer().unwrap();
        second.file.end.store(LARGE, Ordering::Relaxed);
        assert!(!Arc::ptr_eq(&second.file, &file.writer().unwrap().file));
    }
}
