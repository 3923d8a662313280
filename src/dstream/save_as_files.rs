//! `save_as_text_files`, `save_as_json_files`, `save_as_object_files`

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::DStream;
use crate::codec::Stored;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd};
use crate::time::Time;

impl<T: Data> DStream<T> {
    /// Writes each batch to a folder `prefix-TIME_IN_MS[.suffix]`, a line of text per element, a file per partition and an
    /// empty file `_SUCCESS` (Spark's `saveAsTextFiles`). An empty batch gives a folder too.
    ///
    /// A folder has its name once its batch is committed; until then it is hidden and brought to disk. A batch that is run
    /// again replaces what it wrote before, so each batch is there once, whatever is killed.
    ///
    /// # Errors
    /// The batch fails if the folder cannot be written.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let folder = tempfile::tempdir().unwrap();
    /// let prefix = folder.path().join("words");
    /// run_batches(vec![vec!["to", "be"]], |words| {
    ///     words.save_as_text_files(&prefix, "txt");
    ///     words.clone()
    /// }).unwrap();
    /// let part = folder.path().join("words-1000.txt/part-00000");
    /// assert_eq!(std::fs::read_to_string(part).unwrap(), "to\nbe\n");
    /// ```
    pub fn save_as_text_files(&self, prefix: impl AsRef<Path>, suffix: &str)
    where
        T: Display,
    {
        self.save_as("save_as_text_files", prefix.as_ref(), suffix, |rdd, folder| {
            rdd.save_as_text_file(folder)
        });
    }

    /// As [`save_as_text_files`](DStream::save_as_text_files), each element as a line of JSON.
    ///
    /// # Errors
    /// As there, and if an element cannot be serialised.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let folder = tempfile::tempdir().unwrap();
    /// let prefix = folder.path().join("pairs");
    /// run_batches(vec![vec![("a", 1)]], |pairs| {
    ///     pairs.save_as_json_files(&prefix, "");
    ///     pairs.clone()
    /// }).unwrap();
    /// let part = folder.path().join("pairs-1000/part-00000");
    /// assert_eq!(std::fs::read_to_string(part).unwrap(), "[\"a\",1]\n");
    /// ```
    pub fn save_as_json_files(&self, prefix: impl AsRef<Path>, suffix: &str)
    where
        T: Serialize,
    {
        self.save_as("save_as_json_files", prefix.as_ref(), suffix, |rdd, folder| {
            let lines = rdd.try_flat_map(|element| {
                let line = serde_json::to_string(&element)
                    .map_err(|e| Error::task("an element cannot be written as JSON").with_source(e))?;
                Ok(vec![line])
            });
            lines.save_as_text_file(folder)
        });
    }

    /// As [`save_as_text_files`](DStream::save_as_text_files), in the form that
    /// [`object_file`](crate::StreamingContext::object_file) reads again (Spark's `saveAsObjectFiles`).
    ///
    /// # Errors
    /// As there, and if an element cannot be serialised.
    ///
    /// ```
    /// use tidemill::{StreamingContext, testing::run_batches};
    /// let folder = tempfile::tempdir().unwrap();
    /// let prefix = folder.path().join("pairs");
    /// run_batches(vec![vec![('a', 1), ('b', 2)]], |pairs| {
    ///     pairs.save_as_object_files(&prefix, "");
    ///     pairs.clone()
    /// }).unwrap();
    /// let ssc = StreamingContext::builder("reader").build().unwrap();
    /// let pairs = ssc.object_file::<(char, i32)>(folder.path().join("pairs-1000")).unwrap();
    /// assert_eq!(pairs.collect().unwrap(), [('a', 1), ('b', 2)]);
    /// ```
    pub fn save_as_object_files(&self, prefix: impl AsRef<Path>, suffix: &str)
    where
        T: Stored,
    {
        self.save_as("save_as_object_files", prefix.as_ref(), suffix, |rdd, folder| {
            rdd.save_as_object_file(folder)
        });
    }

    fn save_as(
        &self,
        operator: &str,
        prefix: &Path,
        suffix: &str,
        write: impl Fn(&Rdd<T>, &Path) -> Result<()> + Send + Sync + 'static,
    ) {
        let (prefix, suffix) = (prefix.to_owned(), suffix.to_owned());
        let sink = self.ssc.inner.graph.file_sink();
        self.output(operator, move |rdd, time| {
            sink.stage(&folder_of(&prefix, time, &suffix), |folder| write(&rdd, folder))
        });
    }
}

/// `prefix-TIME_IN_MS[.suffix]`
fn folder_of(prefix: &Path, time: Time, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!("-{}", time.as_millis()));
    if !suffix.is_empty() {
        name.push(format!(".{suffix}"));
    }
    name.into()
}
