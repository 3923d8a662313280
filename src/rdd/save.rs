//! Actions that write an RDD to a folder, a file per partition.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::objects::{HEADER, write_element, write_end};
use super::runner::finished;
use super::{Data, Rdd};
use crate::codec::Stored;
use crate::error::{Error, Result};

/// How many bytes are gathered before they are written.
const BUFFER: usize = 1 << 16;

fn unwritten(path: &Path, error: std::io::Error) -> Error {
    Error::output(format!("cannot write `{}`: {error}", path.display())).with_source(error)
}

/// A part that is not complete yet: a file with a name that no reader looks at, gone unless it is finished.
struct Part {
    file: File,
    temporary: PathBuf,
}

impl Part {
    fn create(folder: &Path, name: &str) -> Result<Self> {
        let temporary = folder.join(format!(".{name}.tmp"));
        let file = File::create(&temporary).map_err(|e| unwritten(&temporary, e))?;
        Ok(Self { file, temporary })
    }

    fn write(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| unwritten(&self.temporary, e))?;
        bytes.clear();
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<()> {
        self.file.sync_all().and_then(|()| fs::rename(&self.temporary, path)).map_err(|e| unwritten(path, e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After `finish` there is nothing of that name; a part that cannot be removed is overwritten by the next attempt.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes `folder`, and what it lies in; in place of one that is there if it `replaces`.
fn create(folder: &Path, replaces: bool) -> Result<()> {
    if replaces && folder.is_dir() {
        fs::remove_dir_all(folder).map_err(|e| unwritten(folder, e))?;
    }
    let parents = folder.parent().map_or(Ok(()), fs::create_dir_all);
    parents.and_then(|()| fs::create_dir(folder)).map_err(|e| match e.kind() {
        IoErrorKind::AlreadyExists => Error::output(format!(
            "`{}` exists already: remove it, or save to another folder",
            folder.display()
        )),
        _ => unwritten(folder, e),
    })
}

impl<T: Data> Rdd<T> {
    /// Writes a file per partition: `start`, what `element` appends for each element, and what `end` appends.
    fn save(
        &self,
        folder: &Path,
        start: &[u8],
        element: impl Fn(&T, &mut Vec<u8>) -> Result<()> + Sync,
        end: impl Fn(u64, &mut Vec<u8>) + Sync,
    ) -> Result<()> {
        // A batch that is run again finds what it wrote before; it must not fail on that.
        create(folder, self.runner.accumulators().is_batch_here())?;
        self.runner.run(self, |p, context| {
            let name = format!("part-{p:05}");
            let mut part = Part::create(folder, &name)?;
            let mut bytes = start.to_vec();
            let mut count = 0;
            finished(self.node.compute(p, context, &mut |value| {
                element(&value, &mut bytes)?;
                count += 1;
                if bytes.len() < BUFFER { Ok(()) } else { Ok(part.write(&mut bytes)?) }
            }))?;
            end(count, &mut bytes);
            part.write(&mut bytes)?;
            part.finish(&folder.join(name))
        })?;
        let done = folder.join("_SUCCESS");
        // The folder's own entries are on disk before the file that vouches for them, and then that one is.
        let synced = || File::open(folder)?.sync_all();
        synced()
            .and_then(|()| File::create(&done)?.sync_all())
            .and_then(|()| synced())
            .map_err(|e| unwritten(&done, e))
    }

    /// Writes each element as a line of text to the new folder `path`, a file `part-00000`, `part-00001`, … for each
    /// partition, and an empty file `_SUCCESS` once all are complete (Spark's `saveAsTextFile`). An RDD without
    /// partitions gives a folder with `_SUCCESS` only.
    ///
    /// Each part is written under another name, brought to disk and renamed, so that a part is complete if it is there.
    /// [`text_file`](crate::StreamingContext::text_file) reads the folder again; an element that has line breaks comes
    /// back as several.
    ///
    /// In an output operation a folder that exists already is replaced, since it may be what the same batch wrote before it
    /// was run again (Spark does likewise). Name it by the batch time, or use
    /// [`save_as_text_files`](crate::DStream::save_as_text_files), whose folders have their names once the batch is committed.
    ///
    /// # Errors
    /// Of the kind [`Output`](crate::ErrorKind::Output) if the folder exists already or cannot be written; what is written
    /// by then stays, without `_SUCCESS`. If a task fails, as for every action.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// # let temporary = tempfile::tempdir().unwrap();
    /// # let folder = temporary.path().join("numbers");
    /// ssc.parallelize([1, 2, 3], 2).save_as_text_file(&folder)?;
    /// assert_eq!(std::fs::read_to_string(folder.join("part-00001")).unwrap(), "2\n3\n");
    /// assert_eq!(ssc.text_file(&folder)?.collect()?, ["1", "2", "3"]);
    /// # Ok(()) }
    /// ```
    pub fn save_as_text_file(&self, path: impl AsRef<Path>) -> Result<()>
    where
        T: Display,
    {
        let line = |element: &T, into: &mut Vec<u8>| {
            writeln!(into, "{element}")
                .map_err(|e| Error::task("an element cannot be shown as text").with_source(e))
        };
        self.save(path.as_ref(), b"", line, |_, _| ())
    }

    /// Writes the elements to the new folder `path` in a form that
    /// [`object_file`](crate::StreamingContext::object_file) reads again; the folder is made as by
    /// [`save_as_text_file`](Rdd::save_as_text_file) (Spark's `saveAsObjectFile`).
    ///
    /// The form is that of values in a checkpoint, with field names, so that a field with a default may be added later;
    /// each element has a checksum.
    ///
    /// # Errors
    /// As [`save_as_text_file`](Rdd::save_as_text_file), and if an element cannot be serialised.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// # let temporary = tempfile::tempdir().unwrap();
    /// # let folder = temporary.path().join("pairs");
    /// ssc.parallelize([('a', 1.5), ('b', 2.5)], 2).save_as_object_file(&folder)?;
    /// assert_eq!(ssc.object_file::<(char, f64)>(&folder)?.collect()?, [('a', 1.5), ('b', 2.5)]);
    /// # Ok(()) }
    /// ```
    pub fn save_as_object_file(&self, path: impl AsRef<Path>) -> Result<()>
    where
        T: Stored,
    {
        self.save(path.as_ref(), HEADER, write_element, write_end)
    }
}
