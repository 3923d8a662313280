//! Records that cannot be used, and what becomes of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kafka::{ConsumerRecord, Record};
use crate::error::{Error, Result};
use crate::rdd::TaskContext;
use crate::time::Time;

/// What becomes of a record that cannot be decoded, processed, or sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnBadRecord {
    /// The batch fails, and with it the context. The error names the record.
    #[default]
    Fail,
    /// It is left out, and counted ([`BatchInfo::bad_records`](crate::BatchInfo::bad_records)).
    Skip,
    /// It is counted, and goes to this topic of the [sink](crate::KafkaSink)'s cluster as it came, byte for byte, in the
    /// transaction of its batch. Headers are added that tell where it is from and what was wrong; each name begins with
    /// `__tidemill.errors.`:
    ///
    /// | header | |
    /// |---|---|
    /// | `topic`, `partition`, `offset`, `timestamp` | where the record stood, and when it was written; a record that could not be sent has only the topic that it was for |
    /// | `stage` | `decode`, `process` or `produce` |
    /// | `operator` | the source, stream or output operation |
    /// | `message` | what was wrong, up to 4 KiB of it |
    /// | `batch_time` | milliseconds since the epoch |
    /// | `app_id` | the application |
    /// | `left_out` | what of the record its topic has no room for (its `max.message.bytes`), if not all of it is there: the value, then the headers, then the key |
    ///
    /// `tidemill dead-letters` shows such a topic and sends records back.
    DeadLetter(String),
}

impl OnBadRecord {
    /// The topic that bad records go to, if they do.
    pub(crate) fn dead_letter_topic(&self) -> Option<&str> {
        match self {
            Self::DeadLetter(topic) => Some(topic),
            Self::Fail | Self::Skip => None,
        }
    }

    /// Does with `record` as this says. A line of an input without offsets is told by the batch that it was `read_in`, and by
    /// its number in the partition, which stands for an offset.
    ///
    /// # Errors
    /// `Data`, if the batch is to fail; `Unavailable`, if there is no room for the letter.
    pub(crate) fn apply(
        &self,
        task: &TaskContext,
        record: &Record<'_>,
        stage: Stage,
        operator: &Arc<str>,
        error: String,
        read_in: Option<Time>,
    ) -> Result<()> {
        if *self == Self::Fail {
            let Record { topic, partition, offset, .. } = record;
            return Err(Error::data(format!("record {topic}-{partition} at offset {offset}: {error}")));
        }
        // What is skipped is only counted.
        let letter = self.dead_letter_topic().map(|topic| DeadLetter {
            record: record.to_owned(),
            stage,
            operator: operator.to_string(),
            error: short(error),
            destination: topic.to_owned(),
        });
        task.bad_record((record.topic, record.partition, record.offset), read_in, letter.as_ref())
    }
}

/// Where in a batch a record turned out to be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Its bytes could not be read.
    Decode,
    /// An operator or expression failed for it.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipelines tell it from decoding"))]
    Process,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Process => "process",
        }
    }
}

/// What was wrong, as far as a header has room for it: there are errors that quote a whole record.
pub(crate) fn short(mut message: String) -> String {
    const LONGEST: usize = 4 << 10;
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.shrink_to_fit();
        message.push('…');
    }
    message
}

/// A record that was read and could not be used, as it came, with what was wrong.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    pub record: ConsumerRecord,
    pub stage: Stage,
    /// The stream (or operator) that could not use it.
    pub operator: String,
    pub error: String,
    /// The topic that it goes to.
    pub destination: String,
}
