//! Results into Kafka topics: one producer per application, whose records count once the batch is committed.

mod batch_log;
mod dead_letter;
mod limits;
mod outbox;
mod partitioner;
mod producer;
mod sender;
mod settings;
mod topics;
mod transaction;

use std::sync::Arc;

#[cfg(feature = "service")]
pub(crate) use dead_letter::HEADERS as DEAD_LETTER_HEADERS;
use outbox::Outbox;
use producer::Shared;
pub use settings::{Compression, KafkaSinkSettings, TopicSettings};
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "the bridge makes topics, too"))]
pub(crate) use topics::Admin;

use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::time::Time;

/// librdkafka's name for the time that a transaction may stay open.
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// A record for an output topic (Kafka's `ProducerRecord`).
///
/// ```
/// use tidemill::{ProducerRecord, Time};
/// let total = ProducerRecord::new("ann", "12").header("currency", "EUR").timestamp(Time::from_millis(1_000));
/// let gone = ProducerRecord::tombstone("bob");
/// assert_eq!((total.timestamp, gone.value), (Some(Time::from_millis(1_000)), None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerRecord {
    /// The key; records of one key go to one partition, chosen as Kafka's own default partitioner does: by murmur2. Records
    /// without a key fill one partition for a while, then another.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its timestamp, from 1 ms after the epoch on; the batch time if there is none.
    pub timestamp: Option<Time>,
}

impl ProducerRecord {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    /// A record without a value: in a compacted topic, the end of its key. What a removed state should leave there.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// The same with one more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The same with a timestamp of its own.
    pub fn timestamp(mut self, timestamp: Time) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// At least as many bytes as Kafka takes for it in a batch of its own, uncompressed.
    pub(crate) fn size(&self) -> usize {
        const OVERHEAD: usize = 128;
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + of(value) + 10).sum();
        of(&self.key) + of(&self.value) + headers + OVERHEAD
    }
}

/// The one producer of an application.
///
/// Under [`Delivery::ExactlyOnce`](crate::Delivery::ExactlyOnce) a batch's records are in one transaction with the source's
/// offsets, and readers with `isolation.level=read_committed` see them once the batch is committed. Output timestamps are
/// batch times, unless a record has one of its own. A topic that is missing at start is made, with 4 partitions unless
/// [`create_topic`](KafkaSink::create_topic) or [`topic`](KafkaSink::topic) says otherwise.
///
/// A record that cannot be delivered fails its batch with an error that names its key.
#[derive(Clone)]
pub struct KafkaSink {
    shared: Arc<Shared>,
    ssc: StreamingContext,
}

impl StreamingContext {
    /// A sink for this context's results; streams write to it by
    /// [`save_to_kafka`](crate::DStream::save_to_kafka).
    pub fn kafka_sink(&self, settings: KafkaSinkSettings) -> KafkaSink {
        let (runner, delivery) = (self.inner.runner.clone(), self.inner.settings.delivery);
        let running = (runner, self.inner.clock.clone());
        let shared = Arc::new(Shared::new(self.app_name().to_owned(), running, settings, delivery));
        self.inner.lifecycle.admit("kafka_sink", || {
            self.inner.graph.add_sink(shared.clone());
            self.inner.graph.set_dead_letters(shared.clone());
        });
        KafkaSink { shared, ssc: self.clone() }
    }
}

impl KafkaSink {
    /// Has `topic` made with `partitions` at start, if it does not exist.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.topic(topic, TopicSettings::new().partitions(partitions));
    }

    /// Says all that is to be known of `topic`.
    pub fn topic(&self, topic: &str, settings: TopicSettings) {
        self.ssc.inner.lifecycle.admit("topic", || {
            if let Some(topic) = settings.on_bad_record.dead_letter_topic() {
                self.shared.add_dead_letters(topic);
            }
            self.shared.topics.lock().insert(topic.into(), settings);
        });
    }
}

impl DStream<ProducerRecord> {
    /// Sends the records of each batch to `topic`, in their order, once all of a partition's records could be
    /// computed. The batch is done when all were delivered. An empty batch sends nothing.
    ///
    /// Until they are handed over, records are in memory up to the sink's
    /// [`buffer_memory`](KafkaSinkSettings::buffer_memory), and beyond that in a temporary file.
    pub fn save_to_kafka(&self, sink: &KafkaSink, topic: &str) {
        let topic: Arc<str> = topic.into();
        let shared = sink.shared.clone();
        shared.topics.lock().entry(topic.clone()).or_default();
        let name = format!("save_to_kafka({topic})");
        let operator = name.clone();
        self.output(&name, move |rdd, time| {
            // Nothing is handed over before every task has succeeded: an attempt that fails sends nothing.
            let outboxes = rdd.fold_partitions_into(|| shared.outbox(), Outbox::push, Outbox::finish)?;
            shared.send(&topic, time, &operator, outboxes)
        });
    }
}
