//! Files that appear in a folder: a batch is the files that came since the last one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Input, InputPlan, InputPosition, lines};
use crate::dstream::DStreamNode;
use crate::error::{Error, Result};
use crate::rdd::{Data, Flow, Operator, Rdd, RddNode, Runner, TaskContext, hand_on, numbered};
use crate::time::{Clock, Duration, Time};

/// Which files of a folder a [`file_stream`](crate::StreamingContext::file_stream) takes.
///
/// ```
/// use tidemill::{Duration, FileOptions};
/// let options = FileOptions::new().names("*.csv").new_files_only(false).remember(Duration::minutes(10));
/// # drop(options);
/// ```
#[derive(Debug, Clone)]
pub struct FileOptions {
    names: String,
    hidden: bool,
    new_files_only: bool,
    remember: Duration,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { names: "*".to_owned(), hidden: false, new_files_only: true, remember: Duration::minutes(1) }
    }
}

impl FileOptions {
    /// As Spark has them: all but hidden files that are newer than the stream, if they are seen within a minute.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only files whose names match this glob pattern (`*.csv`); all unless set.
    pub fn names(mut self, pattern: impl Into<String>) -> Self {
        self.names = pattern.into();
        self
    }

    /// Whether to take files that look hidden or unfinished, too: names that begin with `.` or `_` or end in `.tmp` or
    /// `._COPYING_`. Not unless set.
    pub fn hidden(mut self, hidden: bool) -> Self {
        self.hidden = hidden;
        self
    }

    /// Whether files that were last modified before the stream's very first start are ignored; they are unless this is set
    /// to false (Spark's `newFilesOnly`). Then those are taken that are within the [window](FileOptions::remember).
    pub fn new_files_only(mut self, new_files_only: bool) -> Self {
        self.new_files_only = new_files_only;
        self
    }

    /// How old a file may be when it is first seen, by its modification time; older ones are ignored. One minute unless set,
    /// rounded up to whole batch intervals (Spark's `minRememberDuration`). A file that is written anew within as long after
    /// it was taken is not taken again.
    pub fn remember(mut self, window: impl Into<Duration>) -> Self {
        self.remember = window.into();
        self
    }
}

/// Where a file stream stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FilesPosition {
    /// Files that were modified up to then are ignored.
    ignored: Time,
    /// The last batch time. Files that came while the program was down are as new as if it had not been.
    last: Option<Time>,
    /// The files that were taken within the last two windows, with their batch times.
    taken: BTreeMap<String, Time>,
    /// How long that window was.
    #[serde(default)]
    window: Option<Duration>,
}

/// That time has passed without a new file is not worth a write that waits for the disk.
impl PartialEq for FilesPosition {
    fn eq(&self, other: &Self) -> bool {
        (self.ignored, &self.taken) == (other.ignored, &other.taken)
    }
}

impl Eq for FilesPosition {}

/// Pushes the elements of a file.
type ReadFile<T> = dyn Fn(&Path, &mut dyn FnMut(T) -> Flow) -> Flow + Send + Sync;

pub(crate) struct FileInput<T> {
    uid: String,
    folder: String,
    options: FileOptions,
    interval: Duration,
    clock: Arc<dyn Clock>,
    runner: Arc<Runner>,
    read: Arc<ReadFile<T>>,
    /// None before the start.
    watch: Mutex<Option<Watch>>,
    current: Mutex<BTreeMap<Time, Vec<String>>>,
}

struct Watch {
    names: glob::Pattern,
    position: FilesPosition,
}

impl<T: Data> FileInput<T> {
    pub fn new(
        uid: String,
        folder: String,
        options: FileOptions,
        context: (Duration, Arc<dyn Clock>, Arc<Runner>),
        read: Arc<ReadFile<T>>,
    ) -> Self {
        let (interval, clock, runner) = context;
        let (watch, current) = (Mutex::new(None), Mutex::default());
        Self { uid, folder, options, interval, clock, runner, read, watch, current }
    }

    /// The window in whole batch intervals.
    fn window(&self) -> Duration {
        let (window, interval) = (self.options.remember.as_millis(), self.interval.as_millis());
        self.interval * (window.saturating_add(interval - 1) / interval).max(1)
    }

    /// Files that were modified up to then are too old for batch `time`.
    fn too_old(&self, position: &FilesPosition, time: Time) -> Time {
        let seen_from = position.last.map_or(time, |last| time.min(last + self.interval));
        position.ignored.max(seen_from - self.window())
    }

    /// A position of an earlier run. With a longer window than that one had, files would be new again whose names it has
    /// forgotten.
    fn kept(&self, position: &FilesPosition) -> FilesPosition {
        let mut kept = position.clone();
        if let (Some(last), Some(window)) = (kept.last, kept.window.filter(|window| *window < self.window()))
        {
            kept.ignored = kept.ignored.max(last + self.interval - window);
        }
        kept
    }

    /// The folders that are watched.
    fn folders(&self) -> Result<Vec<PathBuf>> {
        let folder = Path::new(&self.folder);
        if !self.folder.contains(['*', '?', '[']) || folder.is_dir() {
            return Ok(vec![folder.to_owned()]);
        }
        let paths = glob::glob(&self.folder).map_err(|e| {
            Error::config(format!("the folder `{}` is no glob pattern: {e}", self.folder)).with_source(e)
        })?;
        let mut folders = Vec::new();
        for path in paths {
            let path = path.map_err(|e| {
                let at = e.path().to_path_buf();
                unreadable("look into", &at, e.into())
            })?;
            if path.is_dir() {
                folders.push(path);
            }
        }
        Ok(folders)
    }

    fn is_wanted(&self, names: &glob::Pattern, name: &str) -> bool {
        let hidden = name.starts_with(['.', '_']) || name.ends_with(".tmp") || name.ends_with("._COPYING_");
        (self.options.hidden || !hidden) && names.matches(name)
    }

    /// The files that are new at `time`, the oldest first.
    fn new_files(&self, watch: &Watch, time: Time) -> Result<Vec<String>> {
        let (too_old, window) = (self.too_old(&watch.position, time), self.window());
        let mut files = Vec::new();
        for folder in self.folders()? {
            let entries = std::fs::read_dir(&folder).map_err(|e| unreadable("look into", &folder, e))?;
            for entry in entries {
                let path = entry.map_err(|e| unreadable("look into", &folder, e))?.path();
                if !path.file_name().is_some_and(|n| self.is_wanted(&watch.names, &n.to_string_lossy())) {
                    continue;
                }
                let Some(modified) = modified(&path)? else { continue };
                if modified <= too_old || modified > time {
                    continue;
                }
                let Some(name) = path.to_str() else {
                    return Err(Error::data(format!(
                        "the name of the file {} is no UTF-8: name it otherwise, or leave it out by a pattern",
                        path.display()
                    )));
                };
                if watch.position.taken.get(name).is_none_or(|taken| modified > *taken + window) {
                    files.push((modified, name.to_owned()));
                }
            }
        }
        files.sort();
        files.dedup();
        Ok(files.into_iter().map(|(_, name)| name).collect())
    }

    fn other_kind(&self, what: &str) -> Error {
        Error::checkpoint(format!(
            "input `{}` is a folder, but the checkpoint holds another input's {what} for it",
            self.uid
        ))
    }

    fn not_started(&self) -> Error {
        Error::internal(format!("input `{}` was not started", self.uid))
    }
}

impl<T: Data> Input for FileInput<T> {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn start(&self, restored: Option<&InputPosition>, _: Option<Time>) -> Result<()> {
        let names = glob::Pattern::new(&self.options.names).map_err(|e| {
            Error::config(format!("`{}` is no glob pattern for names of files: {e}", self.options.names))
                .with_source(e)
        })?;
        if self.options.remember < Duration::ZERO {
            return Err(Error::config(format!(
                "a window of {} for files is negative",
                self.options.remember
            )));
        }
        for folder in self.folders()? {
            std::fs::read_dir(&folder).map_err(|e| unreadable("look into", &folder, e))?;
        }
        let position = match restored {
            None => FilesPosition {
                ignored: if self.options.new_files_only {
                    self.clock.now()
                } else {
                    Time::from_millis(i64::MIN)
                },
                last: None,
                taken: BTreeMap::new(),
                window: None,
            },
            Some(InputPosition::Files(position)) => self.kept(position),
            Some(_) => return Err(self.other_kind("position")),
        };
        *self.watch.lock() = Some(Watch { names, position });
        Ok(())
    }

    fn plan(&self, time: Time) -> Result<InputPlan> {
        let watch = self.watch.lock();
        let watch = watch.as_ref().ok_or_else(|| self.not_started())?;
        let files = self.new_files(watch, time)?;
        let window = self.window();
        let mut end = FilesPosition { last: Some(time), window: Some(window), ..watch.position.clone() };
        end.taken.extend(files.iter().map(|file| (file.clone(), time)));
        // From then on its age keeps out whatever the name would.
        let too_old = self.too_old(&end, time + self.interval);
        end.taken.retain(|_, taken| *taken + window > too_old);
        Ok(InputPlan::Files { files, end })
    }

    fn begin(&self, time: Time, plan: &InputPlan) -> Result<()> {
        let InputPlan::Files { files, end } = plan else { return Err(self.other_kind("plan")) };
        self.watch.lock().as_mut().ok_or_else(|| self.not_started())?.position = end.clone();
        *self.current.lock() = BTreeMap::from([(time, files.clone())]);
        Ok(())
    }
}

impl<T: Data> DStreamNode<T> for FileInput<T> {
    fn slide(&self) -> Duration {
        self.interval
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<T>>> {
        let files = self.current.lock().get(&time).cloned().unwrap_or_default();
        Ok(Some(Rdd::new(
            &self.runner,
            FilesRdd { files, read: self.read.clone(), operator: Operator::current() },
        )))
    }
}

/// One partition per file.
struct FilesRdd<T> {
    files: Vec<String>,
    read: Arc<ReadFile<T>>,
    operator: Operator,
}

impl<T: Data> RddNode<T> for FilesRdd<T> {
    fn num_partitions(&self) -> usize {
        self.files.len()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let emit = &mut |element| hand_on(emit, element);
        self.operator.run(|| (self.read)(Path::new(&self.files[partition]), emit))
    }
}

/// The lines of a file.
pub(crate) fn read_lines(path: &Path, emit: &mut dyn FnMut(String) -> Flow) -> Flow {
    let file = File::open(path).map_err(|e| unreadable("read", path, e))?;
    let mut lines = lines(BufReader::new(file));
    numbered("line", path, emit, |emit| {
        lines.try_for_each(|line| emit(line.map_err(|e| unreadable("read", path, e))?))
    })
}

/// The file's name and all its bytes, as one element.
pub(crate) fn read_whole(path: &Path, emit: &mut dyn FnMut((String, Vec<u8>)) -> Flow) -> Flow {
    let bytes = std::fs::read(path).map_err(|e| unreadable("read", path, e))?;
    numbered("element", path, emit, |emit| emit((path.to_string_lossy().into_owned(), bytes)))
}

/// The file's bytes, `length` an element.
pub(crate) fn read_records(length: usize, path: &Path, emit: &mut dyn FnMut(Vec<u8>) -> Flow) -> Flow {
    let mut reader = BufReader::new(File::open(path).map_err(|e| unreadable("read", path, e))?);
    numbered("record", path, emit, |emit| {
        loop {
            let mut record = Vec::with_capacity(length);
            reader
                .by_ref()
                .take(length as u64)
                .read_to_end(&mut record)
                .map_err(|e| unreadable("read", path, e))?;
            match record.len() {
                0 => return Ok(()),
                n if n == length => emit(record)?,
                n => {
                    return Err(Error::data(format!(
                        "the file {} ends with {n} bytes of a record of {length} bytes",
                        path.display()
                    ))
                    .into());
                }
            }
        }
    })
}

/// When the file was modified; none for what is no file, or is gone since it was listed.
fn modified(path: &Path) -> Result<Option<Time>> {
    let modified = match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Ok(None),
        Ok(found) => found.modified(),
        Err(error) => Err(error),
    };
    match modified {
        Ok(modified) => Ok(Some(match modified.duration_since(UNIX_EPOCH) {
            Ok(since) => Time::ZERO + Duration::from(since),
            Err(before) => Time::ZERO - Duration::from(before.duration()),
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable("look at", path, error)),
    }
}

fn unreadable(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {doing} {}: {error}", path.display())).with_source(error)
}
