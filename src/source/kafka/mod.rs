//! The Kafka direct stream: per batch and partition a range of offsets, each a slice that a task reads.

mod client;
mod group;
mod headers;
mod kept;
mod reader;
mod record;
mod source;
mod stream;

use crate::error::{Error, Result};
use crate::time::Duration;

pub use headers::Headers;
pub use reader::SliceReader;
pub use record::{ConsumerRecord, Record};
pub use stream::KafkaStream;

pub(crate) use client::{ClientSettings, client_error, cluster_id, error_text, wait_for};
pub(crate) use group::{group_offsets, marked_list};

/// Where a stream begins that has no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At each partition's first offset.
    Earliest,
    /// At each partition's end.
    #[default]
    Latest,
    /// Where the consumer group stands; `earliest` for partitions without a committed offset.
    Committed,
}

/// What to read, and from where (Spark's `LocationStrategies` and `ConsumerStrategies` in one).
///
/// The consumer group is the context's app name. The stream is no member of the group: it assigns its
/// partitions itself, so nothing can rebalance it; the group only holds its offsets.
#[derive(Clone)]
pub struct KafkaSource {
    pub(crate) brokers: String,
    pub(crate) topics: Vec<String>,
    pub(crate) start: Start,
    pub(crate) wait: Duration,
    pub(crate) max_rate_per_partition: Option<u64>,
    pub(crate) max_records_per_batch: u64,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) place: Option<String>,
    pub(crate) name: Option<String>,
}

impl KafkaSource {
    /// `topics` of the cluster at `brokers` (`host:port,…`).
    pub fn new<S: Into<String>>(brokers: impl Into<String>, topics: impl IntoIterator<Item = S>) -> Self {
        Self {
            brokers: brokers.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            start: Start::default(),
            wait: Duration::seconds(30),
            max_rate_per_partition: None,
            max_records_per_batch: 1_000_000,
            options: Vec::new(),
            place: None,
            name: None,
        }
    }

    /// Where to begin without a checkpoint; [`Start::Latest`] unless set.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How long to wait at start for the brokers to answer and the topics to exist; 30 seconds unless set.
    pub fn wait(mut self, wait: impl Into<Duration>) -> Self {
        self.wait = wait.into();
        self
    }

    /// At most this many records per second and partition (Spark's `maxRatePerPartition`); no limit unless set.
    pub fn max_rate_per_partition(mut self, records_per_second: u64) -> Self {
        self.max_rate_per_partition = Some(records_per_second);
        self
    }

    /// At most about this many records in a batch, shared out in proportion to the partitions' lag;
    /// 1,000,000 unless set. Keeps the first batch after a long stop from swallowing the whole backlog.
    pub fn max_records_per_batch(mut self, records: u64) -> Self {
        self.max_records_per_batch = records;
        self
    }

    /// Sets one of librdkafka's properties (`security.protocol`, `sasl.password`, …).
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Names the source's position in the checkpoint. Its topics name it unless set, so a program that reads
    /// other topics starts with these as with a new source.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.name = Some(uid.into());
        self
    }

    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let mut topics = self.topics.clone();
            topics.sort();
            topics.join(",")
        })
    }

    /// Where the source was written down; leads the messages of errors at its start.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipeline files have places"))]
    pub(crate) fn place(mut self, place: String) -> Self {
        self.place = Some(place);
        self
    }

    fn check(&self) -> Result<()> {
        if self.topics.is_empty() {
            return Err(Error::config("a Kafka source needs at least one topic"));
        }
        if self.max_records_per_batch == 0 || self.max_rate_per_partition == Some(0) {
            return Err(Error::config("a Kafka source's limits must be at least 1"));
        }
        Ok(())
    }
}
