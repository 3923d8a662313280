//! What is said about a sink and its topics.

use std::collections::BTreeMap;

use super::TRANSACTION_TIMEOUT;
use crate::error::{Error, Result};
use crate::source::OnBadRecord;
use crate::time::Duration;

/// Partitions of an output topic that has to be made, unless stated.
const DEFAULT_PARTITIONS: i32 = 4;
/// Bytes of records on their way, unless stated.
const DEFAULT_BUFFER_MEMORY: u64 = 64 << 20;
/// A dead letter is larger than the record that it was, and that may be as large as its own topic allows.
const DEAD_LETTER_BYTES: &str = "16777216";

/// How records are compressed on their way to the broker, and there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// The smallest of the old ones, and slow.
    Gzip,
    /// Quick.
    Snappy,
    /// The quickest.
    #[default]
    Lz4,
    /// The smallest; costs more than `Lz4`.
    Zstd,
}

impl Compression {
    /// As Kafka writes it: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Settings of a [`KafkaSink`](super::KafkaSink).
#[derive(Clone)]
pub struct KafkaSinkSettings {
    pub(super) brokers: String,
    pub(super) wait: Duration,
    pub(super) transaction_timeout: Duration,
    pub(super) buffer_memory: u64,
    pub(super) options: Vec<(String, String)>,
}

impl KafkaSinkSettings {
    /// A sink on the cluster at `brokers` (`host:port,…`).
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            wait: Duration::seconds(30),
            transaction_timeout: Duration::minutes(10),
            buffer_memory: DEFAULT_BUFFER_MEMORY,
            options: Vec::new(),
        }
    }

    /// How long to wait at start for the brokers to answer; 30 seconds unless set.
    pub fn wait(mut self, wait: impl Into<Duration>) -> Self {
        self.wait = wait.into();
        self
    }

    /// How long a batch's transaction may stay open, and how long its commit is tried while the brokers are away; 10 minutes
    /// unless set. At most the broker's `transaction.max.timeout.ms` (15 minutes by default). A batch that hands over its
    /// output for longer is lost to it: lower `max_records_per_batch` then.
    pub fn transaction_timeout(mut self, timeout: impl Into<Duration>) -> Self {
        self.transaction_timeout = timeout.into();
        self
    }

    /// How many bytes of records may be in memory on their way out (Kafka's `buffer.memory`); 64 MiB unless set, at least 1 MiB.
    /// It holds twice: for what tasks have made and the batch has not yet handed over, where more goes to a temporary
    /// file; and for what was handed over and the broker does not have yet, where the batch waits.
    pub fn buffer_memory(mut self, bytes: u64) -> Self {
        self.buffer_memory = bytes;
        self
    }

    /// How records are compressed; [`Compression::Lz4`] unless set.
    pub fn compression(self, compression: Compression) -> Self {
        self.option("compression.type", compression.name())
    }

    /// Sets one of librdkafka's properties (`linger.ms`, `security.protocol`, …). `transaction.timeout.ms` is the
    /// [`transaction_timeout`](KafkaSinkSettings::transaction_timeout). Those that Tidemill sets itself are an error at start, which
    /// says what to use instead.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        if name == TRANSACTION_TIMEOUT
            && let Ok(milliseconds) = value.parse()
        {
            return self.transaction_timeout(Duration::millis(milliseconds));
        }
        self.options.push((name, value));
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.buffer_memory < 1 << 20 {
            return Err(Error::config("a Kafka sink's buffer memory must be at least 1 MiB"));
        }
        Ok(())
    }
}

/// What a [`KafkaSink`](super::KafkaSink) is to know of one of its topics.
///
/// ```
/// use tidemill::{OnBadRecord, TopicSettings};
/// let totals = TopicSettings::new()
///     .partitions(12)
///     .replication(3)
///     .config("cleanup.policy", "compact")
///     .on_bad_record(OnBadRecord::DeadLetter("totals.dlq".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    pub(super) create: bool,
    pub(super) partitions: i32,
    pub(super) replication: Option<i32>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) on_bad_record: OnBadRecord,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            create: true,
            partitions: DEFAULT_PARTITIONS,
            replication: None,
            config: BTreeMap::new(),
            on_bad_record: OnBadRecord::Fail,
        }
    }
}

impl TopicSettings {
    /// A topic that is made at start if it is missing, with 4 partitions and the broker's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A topic for records that cannot be used: large enough for whatever another topic took.
    pub(crate) fn dead_letters() -> Self {
        Self::new().config("max.message.bytes", DEAD_LETTER_BYTES)
    }

    /// Whether it is one for records that cannot be used, and nothing else was said of it.
    pub(super) fn is_for_dead_letters(&self) -> bool {
        *self == Self::dead_letters()
    }

    /// How large records it is made for, if that is said.
    pub(super) fn largest(&self) -> Option<usize> {
        self.config.get("max.message.bytes").and_then(|bytes| bytes.parse().ok())
    }

    /// A topic that must be there: if it is missing at start, that is an error.
    pub fn existing(mut self) -> Self {
        self.create = false;
        self
    }

    /// What was said about records that it cannot take.
    #[cfg(feature = "service")]
    pub(crate) fn bad_records(&self) -> &OnBadRecord {
        &self.on_bad_record
    }

    /// How many partitions it is made with; 4 unless set.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many copies it is made with; what the broker has as its default unless set.
    pub fn replication(mut self, copies: i32) -> Self {
        self.replication = Some(copies);
        self
    }

    /// One of Kafka's settings of a topic (`cleanup.policy`, `retention.ms`, …) that it is made with. A topic that exists keeps
    /// its own.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(name.into(), value.into());
        self
    }

    /// What becomes of a record that the topic cannot take: one that is larger than its `max.message.bytes` allows (as in
    /// Kafka's own producer, before compression), without a key where it is compacted, or of a time that is further from the
    /// clock's than `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` allow (an hour ahead, unless set), or
    /// not after 1970 began, which Kafka's client cannot send. [`OnBadRecord::Fail`] unless set. What the topic takes is asked at start.
    pub fn on_bad_record(mut self, policy: OnBadRecord) -> Self {
        self.on_bad_record = policy;
        self
    }
}
