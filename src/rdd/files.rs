//! RDDs that are read from files, a partition per file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::objects::Reader;
use super::{Data, Flow, Rdd, RddNode, Runner, TaskContext, numbered};
use crate::codec::Stored;
use crate::error::{Error, Result};

/// Files whose elements `read` pushes.
struct Files<R> {
    files: Vec<PathBuf>,
    read: R,
}

impl<T, R> RddNode<T> for Files<R>
where
    T: Data,
    R: Fn(&Path, BufReader<File>, &mut dyn FnMut(T) -> Flow) -> Flow + Send + Sync,
{
    fn num_partitions(&self) -> usize {
        self.files.len()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let path = &self.files[partition];
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        (self.read)(path, BufReader::new(file), emit)
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot read `{}`: {error}", path.display())).with_source(error)
}

/// An RDD of what `read` finds in the files that `path` stands for.
pub(crate) fn read_files<T: Data>(
    runner: &Arc<Runner>,
    path: &Path,
    read: impl Fn(&Path, BufReader<File>, &mut dyn FnMut(T) -> Flow) -> Flow + Send + Sync + 'static,
) -> Result<Rdd<T>> {
    Ok(Rdd::new(runner, Files { files: files_of(path)?, read }))
}

/// The lines of a file of UTF-8 text, without `\n` or `\r\n`.
pub(crate) fn lines(path: &Path, mut file: BufReader<File>, emit: &mut dyn FnMut(String) -> Flow) -> Flow {
    numbered("line", path, emit, |emit| {
        for number in 1.. {
            let mut line = Vec::new();
            if file.read_until(b'\n', &mut line).map_err(|e| unreadable(path, e))? == 0 {
                break;
            }
            if line.pop_if(|last| *last == b'\n').is_some() {
                line.pop_if(|last| *last == b'\r');
            }
            let line = String::from_utf8(line).map_err(|e| {
                Error::data(format!("line {number} of `{}` is not UTF-8 text", path.display())).with_source(e)
            })?;
            emit(line)?;
        }
        Ok(())
    })
}

/// The elements of an object file.
pub(crate) fn objects<T: Stored>(
    path: &Path,
    file: BufReader<File>,
    emit: &mut dyn FnMut(T) -> Flow,
) -> Flow {
    let in_file = |e: Error| e.within(format!("`{}`", path.display()));
    let mut reader = Reader::new(file).map_err(in_file)?;
    numbered("element", path, emit, |emit| {
        while let Some(element) = reader.next().map_err(in_file)? {
            emit(element)?;
        }
        Ok(())
    })
}

/// The files that `path` names: itself, those of a folder, or what a pattern with `*`, `?` and `[…]` matches; sorted.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if path.try_exists().map_err(|e| unreadable(path, e))? {
        add(path, &mut files)?;
        return Ok(files);
    }
    let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']));
    let Some(pattern) = pattern else {
        return Err(Error::unavailable(format!("there is no file or folder `{}`", path.display())));
    };
    let found = glob::glob(pattern)
        .map_err(|e| Error::config(format!("`{pattern}` is no pattern for files: {e}")).with_source(e))?;
    let mut any = false;
    for path in found {
        let path = path.map_err(|e| {
            Error::unavailable(format!("cannot read `{}`: {}", e.path().display(), e.error())).with_source(e)
        })?;
        if !is_hidden(&path) {
            any = true;
            add(&path, &mut files)?;
        }
    }
    if any { Ok(files) } else { Err(Error::unavailable(format!("no file or folder matches `{pattern}`"))) }
}

/// Adds `path`, or the files in it.
fn add(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|e| unreadable(path, e))?;
    let mut inside: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(|e| unreadable(path, e))?;
    inside.retain(|file| !is_hidden(file));
    inside.sort();
    if let Some(folder) = inside.iter().find(|file| file.is_dir()) {
        return Err(Error::config(format!(
            "`{}` is a folder within the folder that is read: name the files by a pattern",
            folder.display()
        )));
    }
    files.append(&mut inside);
    Ok(())
}

/// Whether it is no data: `_SUCCESS`, or a part that is being written.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        name.as_encoded_bytes().starts_with(b"_") || name.as_encoded_bytes().starts_with(b".")
    })
}
