//! Programs that find themselves again: `get_or_create`, and the contexts that are active in this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{ContextState, Inner, StreamingContext};
use crate::error::{Error, ErrorKind, Result};

/// Contexts in the order in which they were started.
static STARTED: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl StreamingContext {
    /// The program that `create` makes, going on from the checkpoint in the folder `checkpoint` if there is one (Spark's
    /// `StreamingContext.getOrCreate`).
    ///
    /// `create` makes the context, with this folder as its checkpoint, and all its streams; it is called in any case, since a
    /// checkpoint holds state and offsets under the operators' uids and never the program. So the program may change
    /// between two runs, which in Spark it may not.
    ///
    /// # Errors
    /// If `create` fails, makes a context with another checkpoint folder or with none, or if the checkpoint cannot be read:
    /// see [`get_or_create_anew`](StreamingContext::get_or_create_anew).
    ///
    /// ```
    /// use tidemill::{Duration, RddQueue, StreamingContext, testing::TestContext, Time};
    /// # fn main() -> tidemill::Result<()> {
    /// let folder = tempfile::tempdir().unwrap();
    /// let lines = RddQueue::new();
    /// lines.push(["to be or not to be".to_owned()]);
    /// let ssc = StreamingContext::get_or_create(folder.path(), || {
    ///     let ssc = StreamingContext::builder("recoverable").checkpoint(folder.path()).build()?;
    ///     let words = ssc.queue_stream(&lines).flat_map(|l| l.split(' ').map(str::to_owned).collect::<Vec<_>>());
    ///     words.map(|w| (w, 1u64)).update_state_by_key(|new, n: Option<u64>| {
    ///         Some(n.unwrap_or(0) + new.iter().sum::<u64>())
    ///     }).print();
    ///     Ok(ssc)
    /// })?;
    /// assert_eq!(ssc.app_name(), "recoverable");
    /// # Ok(()) }
    /// ```
    pub fn get_or_create(
        checkpoint: impl AsRef<Path>,
        create: impl FnOnce() -> Result<StreamingContext>,
    ) -> Result<StreamingContext> {
        let wanted = checkpoint.as_ref();
        let ssc = create()?;
        match ssc.checkpoint_folder() {
            Some(found) if same(found, wanted) => Ok(ssc),
            found => Err(Error::config(format!(
                "get_or_create was asked for the checkpoint {}, but the context was made with {}: give the same folder to \
                 `StreamingContextBuilder::checkpoint`",
                wanted.display(),
                found.map_or("none".to_owned(), |folder| folder.display().to_string())
            ))),
        }
    }

    /// As [`get_or_create`](StreamingContext::get_or_create), but a checkpoint that cannot be read is moved aside, to a folder
    /// beside it whose name is logged, and the program starts anew (Spark's `createOnError`). State is lost by that, and
    /// the source begins where it does without a checkpoint.
    ///
    /// # Errors
    /// As there, except for a damaged checkpoint; and if it cannot be moved. One that another process has open, or that
    /// belongs to another application, is not damaged.
    pub fn get_or_create_anew(
        checkpoint: impl AsRef<Path>,
        create: impl Fn() -> Result<StreamingContext>,
    ) -> Result<StreamingContext> {
        let folder = checkpoint.as_ref();
        match Self::get_or_create(folder, &create) {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let aside = free_name(folder);
                std::fs::rename(folder, &aside).map_err(|e| {
                    Error::checkpoint(format!("{error}; and it cannot be moved to {}: {e}", aside.display()))
                        .with_source(e)
                })?;
                tracing::warn!("{error}; it was moved to {}, starting anew", aside.display());
                Self::get_or_create(folder, &create)
            }
            outcome => outcome,
        }
    }

    /// The context that was started last in this process and is still active; none until one is started (Spark's
    /// `StreamingContext.getActive`). Several may be active here.
    pub fn get_active() -> Option<StreamingContext> {
        let started = STARTED.lock();
        let mut contexts =
            started.iter().rev().filter_map(Weak::upgrade).map(|inner| StreamingContext { inner });
        contexts.find(|ssc| ssc.state() == ContextState::Active)
    }

    /// The [active](StreamingContext::get_active) context, else what [`get_or_create`](StreamingContext::get_or_create) gives.
    ///
    /// # Errors
    /// As there.
    pub fn get_active_or_create(
        checkpoint: impl AsRef<Path>,
        create: impl FnOnce() -> Result<StreamingContext>,
    ) -> Result<StreamingContext> {
        Self::get_active().map_or_else(|| Self::get_or_create(checkpoint, create), Ok)
    }

    /// The folder for state and offsets, if there is one.
    pub fn checkpoint_folder(&self) -> Option<&Path> {
        self.inner.settings.checkpoint.as_deref()
    }

    /// Lets [`get_active`](StreamingContext::get_active) find this context.
    pub(super) fn note_started(&self) {
        let mut started = STARTED.lock();
        started.retain(|context| context.strong_count() > 0);
        started.push(Arc::downgrade(&self.inner));
    }
}

fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    a == b || (whole(a).is_some() && whole(a) == whole(b))
}

/// `folder.damaged`, or with a number behind it.
fn free_name(folder: &Path) -> PathBuf {
    let named = |suffix: String| {
        let mut name = folder.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut aside = named(".damaged".to_owned());
    for number in 2.. {
        if !aside.exists() {
            break;
        }
        aside = named(format!(".damaged-{number}"));
    }
    aside
}
