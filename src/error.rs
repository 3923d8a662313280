//! One error type for the whole library: what went wrong, and what its reader can do about it.

use std::error::Error as StdError;

/// The result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the person (or supervisor) who reads an error has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program or the pipeline file is wrong: change it. Nothing was consumed.
    Config,
    /// The library was called in a state that does not allow it (an operator added after `start`,
    /// a context started twice after a stop): change the calling code.
    Usage,
    /// A broker, a topic or a file could not be reached: it may be there later.
    Unavailable,
    /// A record could not be decoded, or asked-for records are gone: look at the data, or change the policy.
    Data,
    /// The checkpoint is locked, belongs to another application, or does not fit the program: see the message.
    Checkpoint,
    /// The checkpoint cannot be read: its bytes are not what was written. Restore a backup.
    Damaged,
    /// A user's function failed or panicked.
    Task,
    /// Output could not be delivered.
    Output,
    /// A fault of Tidemill itself: please report it.
    Internal,
}

impl ErrorKind {
    /// The kind as metrics and logs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Usage => "usage",
            Self::Unavailable => "unavailable",
            Self::Data => "data",
            Self::Checkpoint => "checkpoint",
            Self::Damaged => "damaged",
            Self::Task => "task",
            Self::Output => "output",
            Self::Internal => "internal",
        }
    }
}

/// An error with its kind, a message that names the place, and the error below it, if any.
///
/// The message's wording is no part of the API; the kind is.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A [`ErrorKind::Config`] error.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// A [`ErrorKind::Usage`] error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// A [`ErrorKind::Unavailable`] error.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// A [`ErrorKind::Data`] error.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// A [`ErrorKind::Checkpoint`] error.
    pub fn checkpoint(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Checkpoint, message)
    }

    /// A [`ErrorKind::Damaged`] error.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, message)
    }

    /// A [`ErrorKind::Task`] error.
    pub fn task(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Task, message)
    }

    /// A [`ErrorKind::Output`] error.
    pub fn output(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Output, message)
    }

    /// A [`ErrorKind::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with the one that caused it.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, its message led by where it happened: `context: message`.
    pub fn within(mut self, context: impl std::fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The message, and after it those of the errors that caused it, as far as it does not repeat them.
    pub fn whole_text(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            cause = error.source();
        }
        text
    }

    /// What the reader has to do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later, with nothing changed.
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}
