//! What a batch changed of the state in memory, until that is taken in.

use std::mem;

use crate::error::{Error, Result};

/// What the last batch changed: it may still be discarded, or it is committed, and so in the store, and the next
/// batch takes it in.
#[derive(Default)]
pub(crate) enum Pending<B> {
    #[default]
    Nothing,
    /// Of a batch that may still fail.
    Running(B),
    /// In the store already.
    Committed(B),
}

impl<B> Pending<B> {
    /// A batch begins: gives what it has to take in first.
    ///
    /// # Errors
    /// If the batch before has not ended.
    pub fn begin(&mut self) -> Result<Option<B>> {
        match mem::take(self) {
            Self::Nothing => Ok(None),
            Self::Committed(batch) => Ok(Some(batch)),
            running @ Self::Running(_) => {
                *self = running;
                Err(Error::internal("the batch before was neither committed nor discarded"))
            }
        }
    }

    /// The running batch is in the store now.
    pub fn committed(&mut self) {
        *self = match mem::take(self) {
            Self::Running(batch) => Self::Committed(batch),
            other => other,
        };
    }

    /// The running batch did not happen: gives what it would have changed.
    pub fn discard(&mut self) -> Option<B> {
        match mem::take(self) {
            Self::Running(batch) => Some(batch),
            other => {
                *self = other;
                None
            }
        }
    }
}
