//! Results into Kafka topics: one producer per application, whose records count once the batch is committed.

mod dead_letter;
mod producer;
mod topics;
mod transaction;

use std::sync::Arc;

use producer::Shared;

use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::time::Duration;

/// Partitions of an output topic that has to be made, unless stated.
pub(crate) const DEFAULT_PARTITIONS: i32 = 4;

/// librdkafka's name for the time that a transaction may stay open.
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// A record for an output topic (Kafka's `ProducerRecord`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerRecord {
    /// The key; records of one key go to one partition, chosen as Kafka's own default partitioner does.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl ProducerRecord {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), headers: Vec::new() }
    }
}

/// Settings of a [`KafkaSink`].
#[derive(Clone)]
pub struct KafkaSinkSettings {
    brokers: String,
    wait: Duration,
    transaction_timeout: Duration,
    options: Vec<(String, String)>,
}

impl KafkaSinkSettings {
    /// A sink on the cluster at `brokers` (`host:port,…`).
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            wait: Duration::seconds(30),
            transaction_timeout: Duration::minutes(10),
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

    /// Sets one of librdkafka's properties (`compression.type`, `security.protocol`, …). `transaction.timeout.ms` is the
    /// [`transaction_timeout`](KafkaSinkSettings::transaction_timeout).
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
}

/// The one producer of an application.
///
/// Under [`Delivery::ExactlyOnce`](crate::Delivery::ExactlyOnce) a batch's records are in one transaction with the source's
/// offsets, and readers with `isolation.level=read_committed` see them once the batch is committed. Output timestamps are
/// batch times. A topic that is missing at start is made, with 4 partitions unless
/// [`create_topic`](KafkaSink::create_topic) says otherwise.
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
        let shared = Arc::new(Shared::new(self.app_name().to_owned(), runner, settings, delivery));
        self.inner.lifecycle.admit("kafka_sink", || {
            self.inner.graph.add_sink(shared.clone());
            self.inner.graph.set_dead_letters(shared.clone());
        });
        KafkaSink { shared, ssc: self.clone() }
    }
}

impl KafkaSink {
    /// Has `topic` made with `partitions` at start, if it does not exist; call it before a stream is saved to the topic.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.ssc.inner.lifecycle.admit("create_topic", || {
            self.shared.topics.lock().insert(topic.into(), partitions);
        });
    }
}

impl DStream<ProducerRecord> {
    /// Sends the records of each batch to `topic`, in their order, once all of a partition's records could be
    /// computed. The batch is done when all were delivered. An empty batch sends nothing.
    pub fn save_to_kafka(&self, sink: &KafkaSink, topic: &str) {
        let topic: Arc<str> = topic.into();
        let shared = sink.shared.clone();
        shared.topics.lock().entry(topic.clone()).or_insert(DEFAULT_PARTITIONS);
        self.output(&format!("save_to_kafka({topic})"), move |rdd, time| {
            // Nothing is handed over before every task has succeeded: an attempt that fails sends nothing.
            for records in rdd.run_partitions(|records, _| Ok(records))? {
                shared.send(&topic, time, records.iter())?;
            }
            Ok(())
        });
    }
}
