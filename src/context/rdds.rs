//! RDDs that are made by the program or read from files, for joins with streams and for tests.

use std::path::Path;

use super::StreamingContext;
use crate::codec::Stored;
use crate::error::Result;
use crate::rdd::{Data, MemoryRdd, Rdd, lines, objects, read_files};

impl StreamingContext {
    /// An RDD of `elements` in their order, cut into `partitions` (at least one) of about the same length; some are empty
    /// if there are fewer elements. It may be made and used before the context starts, as all of these.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let numbers = ssc.parallelize([1, 2, 3], 2);
    /// assert_eq!(numbers.glom().collect()?, [vec![1], vec![2, 3]]);
    /// # Ok(()) }
    /// ```
    pub fn parallelize<T: Data>(&self, elements: impl IntoIterator<Item = T>, partitions: usize) -> Rdd<T> {
        Rdd::new(&self.inner.runner, MemoryRdd::split(elements.into_iter().collect(), partitions))
    }

    /// An RDD without elements and without partitions.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert!(ssc.empty_rdd::<i32>().is_empty()?);
    /// # Ok(()) }
    /// ```
    pub fn empty_rdd<T: Data>(&self) -> Rdd<T> {
        Rdd::new(&self.inner.runner, MemoryRdd::new(Vec::new()))
    }

    /// The lines of a file, of all files in a folder, or of those that a pattern matches (`logs/2026-*/part-*`), in the
    /// order of their names; a partition per file.
    ///
    /// In folders, and among what a pattern matches, names that begin with `_` or `.` are left out. A folder without other
    /// files gives an RDD without partitions. Lines end with `\n` or `\r\n`, which are no part of them. Which files there
    /// are is settled at once; they are read by each action.
    ///
    /// # Errors
    /// If there is no such file or folder, nothing matches the pattern, or a folder holds a folder. The action fails if a
    /// file cannot be read or a line is not UTF-8; the error names both.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let file = folder.path().join("stations.csv");
    /// std::fs::write(&file, "1,North\n2,South\n").unwrap();
    /// assert_eq!(ssc.text_file(&file)?.collect()?, ["1,North", "2,South"]);
    /// # Ok(()) }
    /// ```
    pub fn text_file(&self, path: impl AsRef<Path>) -> Result<Rdd<String>> {
        read_files(&self.inner.runner, path.as_ref(), lines)
    }

    /// The elements that [`save_as_object_file`](Rdd::save_as_object_file) wrote, from a file, the files in a folder, or
    /// those that a pattern matches; see [`text_file`](StreamingContext::text_file). Partitions and their order are those
    /// that were written.
    ///
    /// # Errors
    /// As [`text_file`](StreamingContext::text_file). The action fails with an error of the kind
    /// [`Data`](crate::ErrorKind::Data), which names the file and the element, if a file is damaged, was cut off, or holds
    /// another type of elements.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// # let temporary = tempfile::tempdir().unwrap();
    /// # let folder = temporary.path().join("stations");
    /// let stations = ssc.parallelize([(1, "North".to_owned()), (2, "South".to_owned())], 1);
    /// stations.save_as_object_file(&folder)?;
    /// assert_eq!(ssc.object_file::<(i32, String)>(&folder)?.collect()?, stations.collect()?);
    /// # Ok(()) }
    /// ```
    pub fn object_file<T: Stored>(&self, path: impl AsRef<Path>) -> Result<Rdd<T>> {
        read_files(&self.inner.runner, path.as_ref(), objects)
    }
}
