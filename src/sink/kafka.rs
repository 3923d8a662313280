//! Results into Kafka topics: an idempotent producer, delivery confirmed before a batch counts as done.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::Sink;
use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::source::DeadLetter;
use crate::source::kafka::{ClientSettings, ConsumerRecord, client_error, error_text, wait_for};
use crate::time::{Duration, Stopwatch, Time};

/// Partitions of an output topic that has to be made, unless stated.
pub(crate) const DEFAULT_PARTITIONS: i32 = 4;

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
    options: Vec<(String, String)>,
}

impl KafkaSinkSettings {
    /// A sink on the cluster at `brokers` (`host:port,…`).
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), wait: Duration::seconds(30), options: Vec::new() }
    }

    /// How long to wait at start for the brokers to answer; 30 seconds unless set.
    pub fn wait(mut self, wait: impl Into<Duration>) -> Self {
        self.wait = wait.into();
        self
    }

    /// Sets one of librdkafka's properties (`compression.type`, `security.protocol`, …).
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }
}

/// The one producer of an application.
///
/// Output timestamps are batch times. A topic that is missing at start is made, with 4 partitions unless
/// [`create_topic`](KafkaSink::create_topic) says otherwise.
#[derive(Clone)]
pub struct KafkaSink {
    shared: Arc<Shared>,
    ssc: StreamingContext,
}

struct Shared {
    app_name: String,
    runner: Arc<Runner>,
    settings: KafkaSinkSettings,
    /// Partitions to make a missing topic with.
    topics: Mutex<BTreeMap<Arc<str>, i32>>,
    producer: RwLock<Option<ThreadedProducer<Deliveries>>>,
    counts: Mutex<BTreeMap<Arc<str>, u64>>,
}

/// Learns what became of each record.
#[derive(Clone, Default)]
struct Deliveries {
    failure: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let key = message
                .key()
                .map_or("no key".to_owned(), |k| format!("key `{}`", String::from_utf8_lossy(k)));
            let text = format!("a record with {key} for topic `{}`: {}", message.topic(), error_text(error));
            self.failure.lock().get_or_insert(text);
        }
    }
}

impl StreamingContext {
    /// A sink for this context's results; streams write to it by
    /// [`save_to_kafka`](crate::DStream::save_to_kafka).
    pub fn kafka_sink(&self, settings: KafkaSinkSettings) -> KafkaSink {
        let shared = Arc::new(Shared {
            app_name: self.app_name().to_owned(),
            runner: self.inner.runner.clone(),
            settings,
            topics: Mutex::default(),
            producer: RwLock::new(None),
            counts: Mutex::default(),
        });
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

impl Shared {
    fn settings(&self, role: &str) -> ClientSettings {
        ClientSettings {
            brokers: self.settings.brokers.clone(),
            client_id: format!("{}-{role}", self.app_name),
            options: self.settings.options.clone(),
        }
    }

    fn send<'a>(
        &self,
        topic: &Arc<str>,
        time: Time,
        records: impl Iterator<Item = &'a ProducerRecord>,
    ) -> Result<()> {
        let guard = self.producer.read();
        let Some(producer) = &*guard else {
            return Err(Error::internal("the Kafka sink was used before it was started"));
        };
        let mut count = 0;
        for record in records {
            count += 1;
            let mut message = BaseRecord::<[u8], [u8]>::to(topic).timestamp(time.as_millis());
            if let Some(key) = &record.key {
                message = message.key(key.as_slice());
            }
            if let Some(value) = &record.value {
                message = message.payload(value.as_slice());
            }
            if !record.headers.is_empty() {
                let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
                    headers.insert(Header { key: name, value: value.as_ref() })
                });
                message = message.headers(headers);
            }
            self.enqueue(producer, message)?;
        }
        if count > 0 {
            *self.counts.lock().entry(topic.clone()).or_default() += count;
        }
        Ok(())
    }

    fn enqueue(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        mut message: BaseRecord<'_, [u8], [u8]>,
    ) -> Result<()> {
        loop {
            match producer.send(message) {
                Ok(()) => return Ok(()),
                // The queue is bounded: wait until the broker has taken some of it.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    producer.poll(std::time::Duration::from_millis(5));
                    self.check(producer)?;
                }
                Err((error, message)) => {
                    let topic = message.topic;
                    return Err(Error::output(format!(
                        "cannot send to topic `{topic}`: {}",
                        error_text(&error)
                    ))
                    .with_source(error));
                }
            }
        }
    }

    fn check(&self, producer: &ThreadedProducer<Deliveries>) -> Result<()> {
        if self.runner.is_cancelled() {
            let left = producer.in_flight_count();
            return Err(Error::unavailable(format!("the delivery of {left} records was given up")));
        }
        match &*producer.context().failure.lock() {
            Some(failure) => Err(Error::output(format!("not delivered: {failure}"))),
            None => Ok(()),
        }
    }

    /// Makes the topics that are missing.
    fn create_topics(&self) -> Result<()> {
        let topics = self.topics.lock().clone();
        let config = self.settings("admin").config()?;
        let admin: AdminClient<DefaultClientContext> =
            config.create().map_err(|e| client_error("client", e))?;
        let request = std::time::Duration::from_secs(5);
        let metadata = wait_for(
            &self.runner,
            &format!("Kafka at {}", self.settings.brokers),
            self.settings.wait,
            || {
                admin.inner().fetch_metadata(None, request).map_err(|e| {
                    Error::unavailable(format!(
                        "no answer from Kafka at {}: {}",
                        self.settings.brokers,
                        error_text(&e)
                    ))
                })
            },
        )?;
        let missing: Vec<_> = topics
            .iter()
            .filter(|(topic, _)| !metadata.topics().iter().any(|t| t.name() == &***topic))
            .map(|(topic, partitions)| NewTopic::new(topic, *partitions, TopicReplication::Fixed(-1)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|t| t.name).collect();
        tracing::info!("creating output topics: {}", names.join(", "));
        let options = AdminOptions::new().operation_timeout(Some(request)).request_timeout(Some(request * 2));
        let outcome = futures_executor::block_on(admin.create_topics(&missing, &options)).map_err(|e| {
            Error::unavailable(format!("cannot create topics: {}", error_text(&e))).with_source(e)
        })?;
        for result in outcome {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(Error::output(format!("cannot create topic `{topic}`: {code}")));
                }
            }
        }
        Ok(())
    }
}

impl Sink for Shared {
    fn start(&self) -> Result<()> {
        self.create_topics()?;
        let mut config = self.settings("producer").config()?;
        for (name, value) in
            [("linger.ms", "5"), ("queue.buffering.max.messages", "500000"), ("compression.type", "lz4")]
        {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let producer = config
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .create_with_context(Deliveries::default())
            .map_err(|e| client_error("producer", e))?;
        *self.producer.write() = Some(producer);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
        let guard = self.producer.read();
        let Some(producer) = &*guard else { return Ok(()) };
        let mut watch = Stopwatch::start();
        // librdkafka gives up on a record after `delivery.timeout.ms`, so this ends.
        while producer.in_flight_count() > 0 {
            self.check(producer)?;
            crate::time::pause(std::time::Duration::from_micros(200));
            if watch.elapsed() >= SAY_EVERY {
                tracing::warn!("still waiting for the delivery of {} records", producer.in_flight_count());
                watch = Stopwatch::start();
            }
        }
        self.check(producer)
    }

    fn dead_letters(&self, time: Time, letters: Vec<DeadLetter>) -> Result<()> {
        for letter in letters {
            let Some(destination) = letter.destination.clone() else { continue };
            self.send(&destination, time, std::iter::once(&dead_letter_record(&self.app_name, letter)))?;
        }
        Ok(())
    }

    fn take_counts(&self) -> Vec<(Arc<str>, u64)> {
        std::mem::take(&mut *self.counts.lock()).into_iter().collect()
    }
}

/// The original record, byte for byte, with headers that tell where it came from (as KIP-1034 does).
fn dead_letter_record(app_name: &str, letter: DeadLetter) -> ProducerRecord {
    let ConsumerRecord { topic, partition, offset, timestamp, key, value, mut headers } = letter.record;
    let mut add = |name: &str, value: String| {
        headers.push((format!("__tidemill.errors.{name}"), Some(value.into_bytes())));
    };
    add("topic", topic);
    add("partition", partition.to_string());
    add("offset", offset.to_string());
    if let Some(timestamp) = timestamp {
        add("timestamp", timestamp.to_string());
    }
    add("stage", "decode".into());
    add("operator", letter.operator.to_string());
    add("message", letter.error);
    add("app_id", app_name.into());
    ProducerRecord { key, value, headers }
}
