//! The Kafka direct stream: per batch and partition a range of offsets, each a slice that a task reads.

mod arrival;
mod changes;
mod client;
mod cluster;
mod discovery;
mod end;
mod group;
mod headers;
mod kept;
mod limits;
mod loss;
mod native;
mod reader;
mod rebootstrap;
mod record;
mod source;
mod start;
mod stream;
mod timestamp;
mod topic_ids;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::FollowedLog;
use crate::time::{Duration, Time};

pub use end::End;
pub use headers::Headers;
pub use loss::OnDataLoss;
pub use reader::SliceReader;
pub use record::{ConsumerRecord, Record};
pub use stream::KafkaStream;

#[cfg(feature = "service")]
pub(crate) use client::OWNED;
pub(crate) use client::{Client, ClientSettings, client_error, cluster_id, error_text, wait_for};
pub(crate) use group::{group_offsets, marked_list};
pub(crate) use rebootstrap::Rebootstrap;
pub(crate) use topics::Topics;

/// Records of one batch unless set otherwise: a backlog is read in slices that fit the memory.
pub(crate) const DEFAULT_MAX_RECORDS: u64 = 1_000_000;
/// Bytes of one batch unless set otherwise.
pub(crate) const DEFAULT_MAX_BYTES: u64 = 1 << 30;

/// Where a stream begins that has no checkpoint. The offsets that follow are logged, one line for each partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// At each partition's first offset.
    Earliest,
    /// At each partition's end.
    #[default]
    Latest,
    /// Where the consumer group stands; `Earliest` for partitions without a committed offset.
    Committed,
    /// At each partition's first record whose timestamp is at or past this time, or at its end if there is none.
    /// Under [`Slicing::Timestamp`] the first batch begins where the batches of a run that began earlier would.
    Timestamp(Time),
    /// As `Timestamp`, so long before the clock's time at start.
    Ago(Duration),
    /// At these offsets, by topic and partition; `Earliest` for partitions that are not named. An offset that the
    /// partition does not have, and is not its end, is an error.
    Offsets(BTreeMap<(String, i32), i64>),
}

/// What says which batch a record belongs to.
///
/// All sources of a context are sliced in the same way: it is either the clock or the records that say which batches there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slicing {
    /// When it was there to be read: a batch takes what the partitions hold when it begins, within the source's limits. After a
    /// downtime one batch takes up where the last one ended. What belongs to which batch depends on when the program runs.
    #[default]
    Arrival,
    /// Its timestamp: batch *t* is, in each partition, what stands before the first record whose timestamp is at or past
    /// *t*. Run again over the same topics, a program gives the same batches, at any pace.
    ///
    /// Intervals that were missed while the program was down are run as they would have been, one after another; so are
    /// those of a backlog that is there at the first start, from the interval of its first record on. A batch's time is never
    /// ahead of the clock.
    ///
    /// - Timestamps need not rise from record to record. An older record belongs to the batch in which its offset falls,
    ///   and is counted as *late* ([`SliceInfo::late`](crate::SliceInfo::late)).
    /// - A batch is run when each partition has shown a record at or past *t*. A partition that has not is waited for until
    ///   `grace` is over; what it shows then belongs to a later batch, and is late.
    /// - A record without a timestamp, or with one more than `max_future` ahead of the clock when it is first seen, takes
    ///   that of the record before it. The latter are counted ([`SliceInfo::future`](crate::SliceInfo::future)).
    /// - An interval without records is run if an operator with state or a window has something to do in it: a window that
    ///   slides and is not empty, a state that times out, any key of `update_state_by_key`; else there is no batch of that time
    ///   (but for one a day, which keeps the group's offsets from expiring), and so no empty RDD in `foreach_rdd`, and no 0 of a
    ///   `count`.
    /// - [Backpressure](crate::Backpressure), [`max_rate_per_partition`](KafkaSource::max_rate_per_partition),
    ///   [`max_records_per_batch`](KafkaSource::max_records_per_batch) and
    ///   [`max_bytes_per_batch`](KafkaSource::max_bytes_per_batch) do not apply: nothing cuts such a slice.
    /// - A stop ends after the batch that runs, and never waits for one that is open: what is not run then is run at the
    ///   next start, with the same records.
    Timestamp {
        /// How far ahead of the clock a record's timestamp is still believed.
        max_future: Duration,
        /// How long after its time a batch waits for partitions that have shown no record at or past it.
        grace: Duration,
    },
}

impl Slicing {
    /// By timestamp, believed up to 10 seconds ahead of the clock, with a grace of 5 seconds.
    pub fn timestamp() -> Self {
        Self::Timestamp { max_future: Duration::seconds(10), grace: Duration::seconds(5) }
    }
}

/// Who reads a source's slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reader {
    /// The native one, unless one of the source's [options](KafkaSource::option) is understood by librdkafka alone (Kerberos,
    /// OAuth, an encrypted key, …).
    #[default]
    Auto,
    /// Tidemill's own: several times as quick, since its records are views into what the broker sent. It speaks TLS, SASL PLAIN
    /// and SCRAM, and reads what Kafka 0.11 and later have written. An option that it does not understand is an error at start.
    Native,
    /// librdkafka, with all of its options.
    RdKafka,
}

/// What to read, and from where (Spark's `LocationStrategies` and `ConsumerStrategies` in one).
///
/// The consumer group is the context's app name. The stream is no member of the group: it assigns its
/// partitions itself, so nothing can rebalance it; the group only holds its offsets.
#[derive(Clone)]
pub struct KafkaSource {
    pub(crate) brokers: String,
    pub(crate) topics: Topics,
    pub(crate) start: Start,
    pub(crate) end: Option<End>,
    pub(crate) on_data_loss: OnDataLoss,
    pub(crate) discovery_interval: Duration,
    /// Whether the group is told where the stream stands.
    pub(crate) in_group: bool,
    pub(crate) follow: Option<Arc<FollowedLog>>,
    pub(crate) slicing: Slicing,
    pub(crate) wait: Duration,
    pub(crate) max_rate_per_partition: Option<u64>,
    pub(crate) min_rate_per_partition: u64,
    pub(crate) max_records_per_batch: u64,
    pub(crate) max_bytes_per_batch: u64,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) reader: Reader,
    pub(crate) place: Option<String>,
    pub(crate) name: Option<String>,
}

impl KafkaSource {
    /// `topics` of the cluster at `brokers` (`host:port,…`).
    pub fn new<S: Into<String>>(brokers: impl Into<String>, topics: impl IntoIterator<Item = S>) -> Self {
        Self::of(brokers.into(), Topics::List(topics.into_iter().map(Into::into).collect()))
    }

    /// All topics of the cluster at `brokers` whose whole name the regular expression `pattern` matches, those included that
    /// come later (Spark's `SubscribePattern`). Kafka's own topics (`__consumer_offsets`) are never read.
    ///
    /// ```
    /// let logs = tidemill::KafkaSource::matching("localhost:9092", r"logs\..*");
    /// ```
    pub fn matching(brokers: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self::of(brokers.into(), Topics::Pattern(pattern.into()))
    }

    fn of(brokers: String, topics: Topics) -> Self {
        Self {
            brokers,
            topics,
            start: Start::default(),
            end: None,
            on_data_loss: OnDataLoss::default(),
            discovery_interval: Duration::seconds(10),
            in_group: true,
            follow: None,
            slicing: Slicing::default(),
            wait: Duration::seconds(30),
            max_rate_per_partition: None,
            min_rate_per_partition: 1,
            max_records_per_batch: DEFAULT_MAX_RECORDS,
            max_bytes_per_batch: DEFAULT_MAX_BYTES,
            options: Vec::new(),
            reader: Reader::default(),
            place: None,
            name: None,
        }
    }

    /// Where to begin without a checkpoint; [`Start::Latest`] unless set.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where the stream ends; without it, it never does. The context stops by itself once all of its sources have ended, so
    /// that [`await_termination`](crate::StreamingContext::await_termination) returns. Either all sources of a context
    /// have an end or none has.
    ///
    /// ```
    /// use tidemill::{End, KafkaSource, Start};
    /// let once = KafkaSource::new("localhost:9092", ["clicks"]).start(Start::Earliest).end(End::Latest);
    /// ```
    pub fn end(mut self, end: End) -> Self {
        self.end = Some(end);
        self
    }

    /// What to do about records that are gone before they were read; [`OnDataLoss::Fail`] unless set.
    pub fn on_data_loss(mut self, on_data_loss: OnDataLoss) -> Self {
        self.on_data_loss = on_data_loss;
        self
    }

    /// How often to look for new partitions, new topics and topics that were deleted or made anew, by the clock on the wall;
    /// every 10 seconds unless set. What is new is read from its first offset.
    pub fn discovery_interval(mut self, interval: impl Into<Duration>) -> Self {
        self.discovery_interval = interval.into();
        self
    }

    /// Leaves the consumer group alone: its offsets are neither read nor written.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "replays are a service"))]
    pub(crate) fn outside_the_group(mut self) -> Self {
        self.in_group = false;
        self
    }

    /// Has the batches of `log`, with the ranges that they had.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "replays are a service"))]
    pub(crate) fn follow(mut self, log: Arc<FollowedLog>) -> Self {
        self.follow = Some(log);
        self
    }

    /// What says which batch a record belongs to; [`Slicing::Arrival`] unless set.
    ///
    /// ```
    /// use tidemill::{Duration, KafkaSource, Slicing, Start};
    /// let replayed = KafkaSource::new("localhost:9092", ["clicks"])
    ///     .start(Start::Earliest)
    ///     .slicing(Slicing::Timestamp { max_future: Duration::seconds(10), grace: Duration::seconds(2) });
    /// ```
    pub fn slicing(mut self, slicing: Slicing) -> Self {
        self.slicing = slicing;
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

    /// At least this many records of each partition that has them in every batch, whatever backpressure and
    /// `max_rate_per_partition` say; 1 unless set. As in Spark's `minRatePerPartition`, it is a number per batch, not per
    /// second.
    pub fn min_rate_per_partition(mut self, records_per_batch: u64) -> Self {
        self.min_rate_per_partition = records_per_batch;
        self
    }

    /// At most about this many bytes of keys and values in a batch, of all partitions together; 1 GiB unless set. How
    /// many records that is follows from how large those of the last batches were; before any was seen they are taken to
    /// have 16 KiB, so that the first batch of a backlog is a small one.
    pub fn max_bytes_per_batch(mut self, bytes: u64) -> Self {
        self.max_bytes_per_batch = bytes;
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

    /// Who reads the slices; [`Reader::Auto`] unless set. All give the same records.
    pub fn reader(mut self, reader: Reader) -> Self {
        self.reader = reader;
        self
    }

    /// Names the source's position in the checkpoint. Its topics name it unless set, so a program that reads
    /// other topics starts with these as with a new source.
    pub fn uid(mut self, uid: impl Into<String>) -> Self {
        self.name = Some(uid.into());
        self
    }

    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.topics.name())
    }

    /// Where the source was written down; leads the messages of errors at its start.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipeline files have places"))]
    pub(crate) fn place(mut self, place: String) -> Self {
        self.place = Some(place);
        self
    }

    fn check(&self) -> Result<()> {
        self.topics.check()?;
        if self.discovery_interval < Duration::millis(1) {
            return Err(Error::config(
                "a Kafka source's `discovery_interval` must be at least a millisecond",
            ));
        }
        let limits = [self.max_records_per_batch, self.max_bytes_per_batch, self.min_rate_per_partition];
        if limits.contains(&0) || self.max_rate_per_partition == Some(0) {
            return Err(Error::config("a Kafka source's limits must be at least 1"));
        }
        if let Slicing::Timestamp { max_future, grace } = self.slicing
            && max_future.min(grace) < Duration::ZERO
        {
            return Err(Error::config("a Kafka source's `max_future` and `grace` must not be negative"));
        }
        Ok(())
    }
}
