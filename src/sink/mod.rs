//! Where results go. A sink delivers; it never decides what belongs to a batch, nor whether the batch happened.

pub(crate) mod files;
pub mod kafka;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::commit::StagedFile;
use crate::error::{Error, Result};
use crate::source::{DeadLetter, GroupOffset, Marker, Place};
use crate::time::Time;

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum CommitTrouble {
    /// It was not, and can be aborted.
    NotCommitted(Error),
    /// Perhaps it was. Only the next start can tell.
    Unknown(Error),
}

/// How many transactions ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    pub committed: u64,
    pub aborted: u64,
}

/// A destination that takes output while a batch runs, and vouches for it when the batch is committed.
pub(crate) trait Sink: Send + Sync {
    /// Connects, and makes what is missing; fences an older instance. `source_clusters` are the Kafka clusters that the
    /// program reads from; `left_open` says that an earlier run may have left a transaction open.
    fn start(&self, _source_clusters: &BTreeSet<String>, _left_open: bool) -> Result<()> {
        Ok(())
    }

    /// Waits until everything that was handed over is delivered (in a transaction: to be seen once that is committed),
    /// or says what is not.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Whether anything was handed over since the last batch.
    fn has_output(&self) -> bool {
        false
    }

    /// Takes the batch log's `record` of batch `time`, if it keeps one, after all other records of the batch; tells whether it
    /// has taken it.
    fn log_batch(&self, _time: Time, _record: &dyn Fn() -> Result<String>) -> Result<bool> {
        Ok(false)
    }

    /// The files that get their names when the batch is committed; they are on disk when this returns.
    fn staged(&self) -> Result<Vec<StagedFile>> {
        Ok(Vec::new())
    }

    /// Whether its output becomes visible with [`commit`](Sink::commit), and only then.
    fn is_transactional(&self) -> bool {
        false
    }

    /// The id of the Kafka cluster that it writes to.
    fn cluster(&self) -> Option<String> {
        None
    }

    /// Where its transactions leave their marker if they hold no source's offsets, and what stands there.
    fn marker(&self) -> Result<Option<(Place, Option<GroupOffset>)>> {
        Ok(None)
    }

    /// Puts the group's next `offsets` (topic, partition, offset), marked with the batch, beside what was handed over. Nobody
    /// sees either before [`commit`](Sink::commit).
    fn send_offsets(&self, _offsets: &[(String, i32, i64)], _marker: Marker) -> Result<(), CommitTrouble> {
        Ok(())
    }

    /// Commits all that was handed over.
    fn commit(&self) -> Result<(), CommitTrouble> {
        Ok(())
    }

    /// The batch is final.
    fn committed(&self) {}

    /// Takes back what was handed over, as far as that is possible.
    ///
    /// # Errors
    /// If it is not certain that a transaction was aborted.
    fn abort(&self) -> Result<()> {
        Ok(())
    }

    /// Has a topic ready for records that cannot be used.
    fn add_dead_letter_topic(&self, _topic: &str) {}

    /// Records that it did not take since the last call, and was not to fail for.
    fn take_bad_records(&self) -> u64 {
        0
    }

    /// Takes records that could not be used, each with the topic that it goes to, as they are read from where they were kept.
    /// Like all that takes something of a batch, it waits until that has [the turn](crate::batch::Turn).
    fn dead_letters(
        &self,
        _time: Time,
        _letters: &mut dyn Iterator<Item = Result<DeadLetter>>,
    ) -> Result<()> {
        Err(Error::internal("this sink takes no dead letters"))
    }

    /// How its transactions ended since the start; none where it has no transactions.
    fn transactions(&self) -> Transactions {
        Transactions::default()
    }

    /// Records handed over since the last call, by topic.
    fn take_counts(&self) -> Vec<(Arc<str>, u64)> {
        Vec::new()
    }
}
