//! Reading slices: a trait, and the reader on librdkafka.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::Client;
use super::{Headers, Record, error_text};
use crate::error::{Error, Result};
use crate::rdd::{Flow, Runner};
use crate::source::OffsetRange;
use crate::time::Stopwatch;

/// Reads slices of partitions.
///
/// A slice may be read again, by the same task or another, and slices of different partitions may be
/// read at the same time.
pub trait SliceReader: Send + Sync {
    /// Pushes the records of `range`, in the order of their offsets, into `visit`, as many at once as are at hand: calls that nobody can
    /// inline cost as much as the rest of reading. Offsets may have gaps; an empty range gives nothing.
    ///
    /// # Errors
    /// If offsets of the range do not exist any more, with the range in the message. A broker that is away is
    /// waited for.
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow;

    /// Pushes the offsets and timestamps of the records of `range` into `visit`, before a slice of them is read: of the first one,
    /// and of all those that are not from before `since`; others may be left out. A reader that keeps what it saw need not
    /// fetch it twice.
    ///
    /// # Errors
    /// As [`read`](SliceReader::read).
    fn peek(
        &self,
        range: &OffsetRange,
        _since: i64,
        visit: &mut dyn FnMut(i64, Option<i64>) -> Flow,
    ) -> Flow {
        self.read(range, &mut |records| records.iter().try_for_each(|it| visit(it.offset, it.timestamp)))
    }

    /// Gets the records of `range` ready for a later [`peek`](SliceReader::peek), up to the first one, from `since` on or later, whose
    /// timestamp `is_enough`. What cannot be had at once, or kept, is left to that.
    fn fetch_ahead(&self, _range: &OffsetRange, _since: i64, _is_enough: &dyn Fn(Option<i64>) -> bool) {}

    /// Says that a batch begins with `range`: nobody reads what is before it any more, unless a batch is run again.
    fn begins_with(&self, _range: &OffsetRange) {}

    /// Whether several parts of a partition are read at the same time as well as one after the other. Only then is a large
    /// slice cut into parts.
    fn reads_in_parallel(&self) -> bool {
        false
    }
}

/// What it means that a broker gives no records.
pub(super) enum Answer {
    /// Leaders move, and connections come and go: it is asked again.
    Transient,
    /// The records do not exist any more.
    Gone,
    NoTopic,
    Denied,
    Other(i16),
}

/// What it is that does not exist any more, from which offset on: the source of a reader's error by which it is told from what its visitor
/// fails with. Up to there the reader has what it did not show, or there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    #[error("are gone")]
    Records(i64),
    #[error("is gone")]
    Topic(i64),
}

impl Missing {
    pub fn of(error: &Error) -> Option<Self> {
        std::error::Error::source(error)?.downcast_ref().copied()
    }
}

/// What Kafka's error `code` means.
pub(super) fn answer(code: i16) -> Answer {
    use kafka_protocol::ResponseError as E;
    match E::try_from_code(code) {
        Some(E::OffsetOutOfRange) => Answer::Gone,
        Some(E::UnknownTopicOrPartition) => Answer::NoTopic,
        Some(E::TopicAuthorizationFailed) => Answer::Denied,
        Some(
            E::NotLeaderOrFollower
            | E::LeaderNotAvailable
            | E::ReplicaNotAvailable
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::OffsetNotAvailable
            | E::RequestTimedOut
            | E::NetworkException
            | E::KafkaStorageError,
        ) => Answer::Transient,
        _ => Answer::Other(code),
    }
}

impl Answer {
    /// Why `range` cannot be read at offset `at`.
    pub fn error(self, range: &OffsetRange, at: i64) -> Error {
        match self {
            Self::Gone => Error::data(format!(
                "records of {range} are gone: the topic's retention has overtaken this application, or the topic was made \
                 anew; set `on_data_loss` to `earliest` or `latest` to go on without them"
            ))
            .with_source(Missing::Records(at)),
            Self::NoTopic => {
                Error::data(format!("topic `{}` or its partition {} is gone", range.topic, range.partition))
                    .with_source(Missing::Topic(at))
            }
            Self::Denied => Error::config(format!("not allowed to read topic `{}`", range.topic)),
            Self::Transient => Error::unavailable(format!("{range} cannot be read at offset {at} now")),
            Self::Other(code) => {
                let name = kafka_protocol::ResponseError::try_from_code(code)
                    .map_or_else(|| format!("Kafka's error {code}"), |error| error.to_string());
                Error::data(format!("{range} cannot be read at offset {at}: {name}"))
            }
        }
    }
}

/// Messages taken from librdkafka at once.
const BATCH: usize = 4096;
/// How long librdkafka may wait for as many messages as were asked for. Only gaps in the offsets make it wait.
const PATIENCE_MS: i32 = 5;
const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// The position of a partition in which no slice begins.
const NOWHERE: i64 = i64::MAX;

/// A reader on librdkafka's per-partition queues, which it fills ahead of us.
pub(super) struct RdKafkaReader {
    // Queues and messages must go before the client that they belong to.
    partitions: BTreeMap<(Arc<str>, i32), Mutex<Partition>>,
    consumer: Arc<Client>,
    runner: Arc<Runner>,
    /// Bytes that are kept of what was looked at in a partition and not yet read.
    kept_ahead: usize,
}

struct Partition {
    topic: Arc<str>,
    queue: Queue,
    /// The offset after the last record that was handed out.
    position: i64,
    /// Messages that were taken from the queue and not yet handed out.
    ahead: VecDeque<Message>,
}

/// A wait for records, which must end when the context does.
#[derive(Default, Clone, Copy)]
struct Wait {
    since: Option<Stopwatch>,
    /// No batch waits for it, so it ends with the context.
    looks_ahead: bool,
}

impl RdKafkaReader {
    /// Assigns the partitions to `consumer`, each from its offset on.
    pub fn assign(
        consumer: Arc<Client>,
        positions: &BTreeMap<(Arc<str>, i32), i64>,
        kept_ahead: usize,
        runner: Arc<Runner>,
    ) -> Result<Self> {
        let mut assignment = TopicPartitionList::new();
        let mut partitions = BTreeMap::new();
        for ((topic, partition), offset) in positions {
            // Before the assignment, so that nothing goes to the consumer's common queue.
            let queue = Queue::of(&consumer, topic, *partition)?;
            let state = Partition { topic: topic.clone(), queue, position: *offset, ahead: VecDeque::new() };
            partitions.insert((topic.clone(), *partition), Mutex::new(state));
            assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(internal)?;
        }
        consumer.assign(&assignment).map_err(internal)?;
        Ok(Self { partitions, consumer, runner, kept_ahead })
    }
}

impl SliceReader for RdKafkaReader {
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
        if range.is_empty() {
            return Ok(());
        }
        let mut partition = self.partition(range)?;
        if partition.position != range.from {
            self.seek(&mut partition, range)?;
        }
        let mut wait = Wait::default();
        loop {
            while let Some(message) = partition.ahead.pop_front() {
                match message.check(range).inspect_err(|_| partition.lose_track())? {
                    Delivered::End(offset) if offset >= range.until => {
                        partition.position = range.until;
                        return Ok(());
                    }
                    // An end that was noticed before the records of this slice had been written.
                    Delivered::End(_) => continue,
                    Delivered::Nothing => continue,
                    Delivered::Record(offset) if offset >= range.until => {
                        partition.ahead.push_front(message);
                        partition.position = range.until;
                        return Ok(());
                    }
                    Delivered::Record(offset) if offset < partition.position => continue,
                    Delivered::Record(offset) => {
                        partition.position = offset + 1;
                        wait = Wait::default();
                        visit(&[message.record(&partition.topic)])?;
                        if offset + 1 == range.until {
                            return Ok(());
                        }
                    }
                }
            }
            self.take(&mut partition, range, &mut wait)?;
        }
    }

    /// What was looked at stays ahead, up to a bound: a slice beyond it is fetched again when it is read.
    fn peek(&self, range: &OffsetRange, _: i64, visit: &mut dyn FnMut(i64, Option<i64>) -> Flow) -> Flow {
        if range.is_empty() {
            return Ok(());
        }
        let mut partition = self.partition(range)?;
        if range.from < partition.position {
            self.seek(&mut partition, range)?;
        }
        let looking = Wait { looks_ahead: true, ..Wait::default() };
        let (mut looked, mut bytes, mut wait) = (0, 0, looking);
        loop {
            while let Some(message) = partition.ahead.get(looked) {
                bytes += message.size();
                looked += 1;
                let found = match message.check(range) {
                    Ok(found) => found,
                    Err(error) => {
                        // Or it would be found again.
                        partition.lose_track();
                        return Err(error.into());
                    }
                };
                match found {
                    Delivered::End(offset) if offset >= range.until => return Ok(()),
                    Delivered::End(_) | Delivered::Nothing => {}
                    Delivered::Record(offset) if offset >= range.until => return Ok(()),
                    Delivered::Record(offset) if offset < range.from => {}
                    Delivered::Record(offset) => {
                        wait = looking;
                        visit(offset, message.timestamp())?;
                        if offset + 1 == range.until {
                            return Ok(());
                        }
                    }
                }
                if bytes > self.kept_ahead {
                    // The reader goes back for it.
                    partition.skip(looked);
                    (looked, bytes) = (0, 0);
                }
            }
            self.take(&mut partition, range, &mut wait)?;
        }
    }
}

impl Partition {
    /// Has the next slice sought for, wherever it begins: after an error nothing more comes by itself.
    fn lose_track(&mut self) {
        self.ahead.clear();
        self.position = NOWHERE;
    }

    /// Lets go of the first messages ahead.
    fn skip(&mut self, count: usize) {
        for message in self.ahead.drain(..count) {
            if message.raw().err == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                self.position = message.raw().offset + 1;
            }
        }
    }
}

impl RdKafkaReader {
    fn partition(&self, range: &OffsetRange) -> Result<MutexGuard<'_, Partition>> {
        match self.partitions.get(&(range.topic.clone(), range.partition)) {
            Some(partition) => Ok(partition.lock()),
            None => Err(Error::internal(format!("{range} is of a partition that was not assigned"))),
        }
    }

    /// Goes to where `range` begins.
    fn seek(&self, partition: &mut Partition, range: &OffsetRange) -> Result<()> {
        const SEEK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
        partition.ahead.clear();
        let offset = Offset::Offset(range.from);
        let sought = self.consumer.seek(&range.topic, range.partition, offset, SEEK_TIMEOUT);
        sought.or_else(|_| self.assign_again(range)).map_err(|e| {
            Error::unavailable(format!("cannot go to {range}: {}", error_text(&e))).with_source(e)
        })?;
        partition.position = range.from;
        Ok(())
    }

    /// After an offset that is gone librdkafka fetches nothing more of the partition until it is assigned anew.
    fn assign_again(&self, range: &OffsetRange) -> Result<(), rdkafka::error::KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&range.topic, range.partition, Offset::Offset(range.from))?;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&list)
    }

    /// Takes messages from the queue, if it has any soon.
    fn take(&self, partition: &mut Partition, range: &OffsetRange, wait: &mut Wait) -> Result<()> {
        let wanted = usize::try_from(range.until - partition.position).unwrap_or(BATCH).clamp(1, BATCH);
        let Partition { queue, ahead, .. } = partition;
        let before = ahead.len();
        queue.take(wanted, ahead);
        if ahead.len() > before {
            return Ok(());
        }
        self.consumer.context().rebootstrap.look(self.consumer.client());
        let waited = wait.since.get_or_insert_with(Stopwatch::start).elapsed();
        if (wait.looks_ahead && self.runner.is_stopping()) || self.runner.gives_up(waited) {
            return Err(Error::unavailable(format!(
                "reading {range} was given up at offset {}",
                partition.position
            )));
        }
        if waited >= SAY_EVERY {
            tracing::warn!("still waiting for records of {range}, at offset {}", partition.position);
            wait.since = None;
        }
        Ok(())
    }
}

fn internal(error: rdkafka::error::KafkaError) -> Error {
    Error::internal(format!("librdkafka refused an assignment: {error}")).with_source(error)
}

/// What the queue handed out.
enum Delivered {
    Record(i64),
    /// The partition has nothing more below this offset, at the time when that was noticed.
    End(i64),
    Nothing,
}

/// One message of librdkafka.
struct Message(*mut rd::rd_kafka_message_t);

// SAFETY: librdkafka's messages belong to no thread.
unsafe impl Send for Message {}

impl Message {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the pointer is valid until this is dropped.
        unsafe { &*self.0 }
    }

    fn check(&self, range: &OffsetRange) -> Result<Delivered> {
        use rd::rd_kafka_resp_err_t as code;
        let raw = self.raw();
        match raw.err {
            code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Delivered::Record(raw.offset)),
            code::RD_KAFKA_RESP_ERR__PARTITION_EOF => Ok(Delivered::End(raw.offset)),
            code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => Err(Answer::Gone.error(range, raw.offset)),
            code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => Err(Answer::NoTopic.error(range, raw.offset)),
            // Connections come and go, and so do leaders; librdkafka goes on by itself.
            code::RD_KAFKA_RESP_ERR__TRANSPORT
            | code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | code::RD_KAFKA_RESP_ERR__RESOLVE
            | code::RD_KAFKA_RESP_ERR__WAIT_COORD => {
                tracing::debug!("reading {range}: {:?}", raw.err);
                Ok(Delivered::Nothing)
            }
            other => match i16::try_from(other as i32).map(answer) {
                Ok(Answer::Transient) => {
                    tracing::debug!("reading {range}: {other:?}");
                    Ok(Delivered::Nothing)
                }
                Ok(known @ (Answer::Gone | Answer::NoTopic | Answer::Denied)) => {
                    Err(known.error(range, raw.offset))
                }
                // It would be skipped, or asked for again without end.
                _ => Err(Error::data(format!(
                    "{range} cannot be read at offset {}: {}",
                    raw.offset,
                    rdkafka::error::RDKafkaErrorCode::from(other)
                ))),
            },
        }
    }

    /// When it was written, in milliseconds since the epoch, if Kafka knows.
    fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        let timestamp = unsafe { rd::rd_kafka_message_timestamp(self.0, &mut kind) };
        (timestamp >= 0).then_some(timestamp)
    }

    /// About how many bytes it takes.
    fn size(&self) -> usize {
        const OVERHEAD: usize = 256;
        self.raw().len + self.raw().key_len + OVERHEAD
    }

    fn record<'a>(&'a self, topic: &'a Arc<str>) -> Record<'a> {
        let raw = self.raw();
        let bytes = |start: *const std::ffi::c_void, len| {
            // SAFETY: librdkafka gives null, or as many bytes as it says, for as long as the message lives.
            (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
        };
        Record {
            topic,
            partition: raw.partition,
            offset: raw.offset,
            timestamp: self.timestamp(),
            key: bytes(raw.key, raw.key_len),
            value: bytes(raw.payload, raw.len),
            headers: Headers::of(self.0),
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message came from librdkafka and is destroyed once.
        unsafe { rd::rd_kafka_message_destroy(self.0) }
    }
}

/// The queue of one partition, cut off from the consumer's common one.
struct Queue(*mut rd::rd_kafka_queue_t);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    fn of(consumer: &Client, topic: &str, partition: i32) -> Result<Self> {
        let name = CString::new(topic)
            .map_err(|e| Error::config(format!("topic `{topic}` has a NUL")).with_source(e))?;
        // SAFETY: the client is alive and the name is a C string; null is checked.
        let queue = unsafe {
            rd::rd_kafka_queue_get_partition(consumer.client().native_ptr(), name.as_ptr(), partition)
        };
        if queue.is_null() {
            return Err(Error::internal(format!("librdkafka has no queue for {topic}-{partition}")));
        }
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_forward(queue, std::ptr::null_mut()) };
        Ok(Self(queue))
    }

    /// Appends up to `wanted` messages to `into`.
    fn take(&mut self, wanted: usize, into: &mut VecDeque<Message>) {
        let mut messages = [std::ptr::null_mut(); BATCH];
        // SAFETY: the array has room for `wanted`, which is at most BATCH.
        let taken = unsafe {
            rd::rd_kafka_consume_batch_queue(self.0, PATIENCE_MS, messages.as_mut_ptr(), wanted.min(BATCH))
        };
        into.extend(messages.iter().take(usize::try_from(taken).unwrap_or(0)).map(|m| Message(*m)));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue came from librdkafka and is given back once.
        unsafe { rd::rd_kafka_queue_destroy(self.0) }
    }
}
