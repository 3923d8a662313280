//! The application's one producer: idempotent, and transactional where delivery is exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::dead_letter::dead_letter_record;
use super::topics::Admin;
use super::transaction::{CALL, Calls, Trouble, persist};
use super::{KafkaSinkSettings, ProducerRecord, TRANSACTION_TIMEOUT};
use crate::commit::Delivery;
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::sink::{CommitTrouble, Sink};
use crate::source::kafka::{ClientSettings, client_error, error_text, group_offsets, marked_list, wait_for};
use crate::source::{DeadLetter, GroupOffset, Marker, Place};
use crate::time::{Duration, Stopwatch, Time};

/// Instances of an application other than the first have other numbers; there is one so far.
const INSTANCE: u32 = 0;

/// What all handles of a sink share.
pub(super) struct Shared {
    pub app_name: String,
    pub runner: Arc<Runner>,
    pub settings: KafkaSinkSettings,
    pub delivery: Delivery,
    /// Partitions to make a missing topic with.
    pub topics: Mutex<BTreeMap<Arc<str>, i32>>,
    producer: RwLock<Option<ThreadedProducer<Deliveries>>>,
    group: Mutex<Option<Group>>,
    cluster: Mutex<Option<String>>,
    /// The age of the open transaction.
    open: Mutex<Option<Stopwatch>>,
    counts: Mutex<BTreeMap<Arc<str>, u64>>,
}

/// The application's consumer group, as a producer needs it.
struct Group {
    consumer: BaseConsumer,
    metadata: ConsumerGroupMetadata,
    /// Where the marker goes if no source's offsets do.
    marker_topic: Option<String>,
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
            // Records that an aborted transaction took back have not failed.
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue) {
                return;
            }
            let key = message
                .key()
                .map_or("no key".to_owned(), |k| format!("key `{}`", String::from_utf8_lossy(k)));
            let text = format!("a record with {key} for topic `{}`: {}", message.topic(), error_text(error));
            self.failure.lock().get_or_insert(text);
        }
    }
}

impl Shared {
    pub fn new(
        app_name: String,
        runner: Arc<Runner>,
        settings: KafkaSinkSettings,
        delivery: Delivery,
    ) -> Self {
        Self {
            app_name,
            runner,
            settings,
            delivery,
            topics: Mutex::default(),
            producer: RwLock::new(None),
            group: Mutex::new(None),
            cluster: Mutex::new(None),
            open: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    fn client(&self, role: &str) -> ClientSettings {
        ClientSettings {
            brokers: self.settings.brokers.clone(),
            client_id: format!("{}-{role}", self.app_name),
            options: self.settings.options.clone(),
        }
    }

    /// Hands `records` over for `topic`.
    pub fn send<'a>(
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
            if count == 0 {
                self.open(producer)?;
            }
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

    /// Opens a transaction, unless one is open or none is wanted.
    fn open(&self, producer: &ThreadedProducer<Deliveries>) -> Result<()> {
        if self.delivery == Delivery::ExactlyOnce && self.open.lock().is_none() {
            self.persist("begin a transaction", || producer.begin_transaction())
                .map_err(Trouble::into_error)?;
            *self.open.lock() = Some(Stopwatch::start());
        }
        Ok(())
    }

    fn persist(&self, doing: &str, call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), Trouble> {
        let timeout = self.settings.transaction_timeout;
        let open = self.open.lock().map(|age| (age, timeout));
        persist(&Calls { open, ..self.calls(timeout) }, doing, call)
    }

    fn calls(&self, patience: Duration) -> Calls<'_> {
        Calls { runner: &self.runner, app: &self.app_name, patience, open: None }
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
                    let key = message
                        .key
                        .map_or("no key".to_owned(), |k| format!("key `{}`", String::from_utf8_lossy(k)));
                    return Err(Error::output(format!(
                        "cannot send a record with {key} to topic `{}`: {}",
                        message.topic,
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

    /// The transactional producer: fences an older instance, and settles what it left open.
    fn take_over(&self, mut config: ClientConfig) -> Result<ThreadedProducer<Deliveries>> {
        config.set("transactional.id", format!("{}-{INSTANCE}", self.app_name));
        // There it would be no number, which librdkafka tells.
        if config.get(TRANSACTION_TIMEOUT).is_none() {
            config.set(TRANSACTION_TIMEOUT, self.settings.transaction_timeout.as_millis().to_string());
        }
        let producer = create(&config)?;
        let doing = "take over the application's transactions";
        persist(&self.calls(self.settings.wait), doing, || producer.init_transactions(CALL))
            .map_err(Trouble::into_error)?;
        Ok(producer)
    }

    /// A client of the application's group that fetches nothing.
    fn join_group(&self, source_clusters: &BTreeSet<String>) -> Result<Group> {
        let mut config = self.client("group").config()?;
        let consumer: BaseConsumer = config
            .set("group.id", &self.app_name)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()
            .map_err(|e| client_error("consumer", e))?;
        let metadata = consumer
            .group_metadata()
            .ok_or_else(|| Error::internal("a consumer with a group has no group metadata"))?;
        let holds_offsets = self.cluster.lock().as_ref().is_some_and(|id| source_clusters.contains(id));
        let marker_topic = (!holds_offsets).then(|| format!("{}-commits", self.app_name));
        Ok(Group { consumer, metadata, marker_topic })
    }
}

fn create(config: &ClientConfig) -> Result<ThreadedProducer<Deliveries>> {
    config.create_with_context(Deliveries::default()).map_err(|e| client_error("producer", e))
}

impl Sink for Shared {
    fn start(&self, source_clusters: &BTreeSet<String>, left_open: bool) -> Result<()> {
        let mut topics = self.topics.lock().clone();
        let admin = Admin::new(&self.client("admin"))?;
        admin.create(&self.runner, &topics, self.settings.wait)?;
        *self.cluster.lock() = Some(admin.cluster(&self.runner, self.settings.wait)?);

        let mut config = self.client("producer").config()?;
        for (name, value) in
            [("linger.ms", "5"), ("queue.buffering.max.messages", "500000"), ("compression.type", "lz4")]
        {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
        if self.delivery == Delivery::ExactlyOnce {
            let group = self.join_group(source_clusters)?;
            if let Some(topic) = &group.marker_topic {
                topics.clear();
                topics.insert(topic.as_str().into(), 1);
                admin.create(&self.runner, &topics, self.settings.wait)?;
            }
            *self.group.lock() = Some(group);
        }
        let mut producer = None;
        if self.delivery == Delivery::ExactlyOnce || left_open {
            producer = Some(self.take_over(config.clone())?);
        }
        let producer = match producer.filter(|_| self.delivery == Delivery::ExactlyOnce) {
            Some(producer) => producer,
            None => create(&config)?,
        };
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

    fn has_output(&self) -> bool {
        !self.counts.lock().is_empty()
    }

    fn is_transactional(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce
    }

    fn cluster(&self) -> Option<String> {
        self.cluster.lock().clone()
    }

    fn marker(&self) -> Result<Option<(Place, Option<GroupOffset>)>> {
        let group = self.group.lock();
        let Some((group, topic)) = group.as_ref().and_then(|g| Some((g, g.marker_topic.clone()?))) else {
            return Ok(None);
        };
        let place = (topic, 0);
        let mut list = TopicPartitionList::new();
        list.add_partition(&place.0, place.1);
        let found = wait_for(&self.runner, "the consumer group's coordinator", self.settings.wait, || {
            group.consumer.committed_offsets(list.clone(), CALL).map_err(|e| {
                Error::unavailable(format!("cannot ask Kafka for the group's marker: {}", error_text(&e)))
                    .with_source(e)
            })
        })?;
        let at = group_offsets(&found).remove(&place);
        Ok(Some((place, at)))
    }

    fn commit(&self, offsets: &[(String, i32, i64)], marker: Marker) -> Result<(), CommitTrouble> {
        let not_begun = |error| CommitTrouble::NotCommitted(error);
        let guard = self.producer.read();
        let group = self.group.lock();
        let (Some(producer), Some(group)) = (&*guard, &*group) else {
            return Err(not_begun(Error::internal("the Kafka sink was used before it was started")));
        };
        self.open(producer).map_err(not_begun)?;
        let marker_place = group.marker_topic.iter().map(|topic| (topic.as_str(), 0, 0));
        let of_sources = offsets.iter().map(|(topic, p, offset)| (topic.as_str(), *p, *offset));
        let list = marked_list(of_sources.chain(marker_place), Some(marker)).map_err(not_begun)?;
        self.persist("put the offsets into the transaction", || {
            producer.send_offsets_to_transaction(&list, &group.metadata, CALL)
        })
        .map_err(|trouble| match trouble {
            // Nothing was asked of the coordinator that could have committed it.
            Trouble::Abortable(error) | Trouble::Patience(error) => CommitTrouble::NotCommitted(error),
            Trouble::Fatal(error) => CommitTrouble::Unknown(error),
        })?;
        fail::fail_point!("commit::offsets_sent", |_| std::process::abort());
        self.persist("commit the transaction", || producer.commit_transaction(CALL))
            .map_err(Trouble::of_commit)?;
        *self.open.lock() = None;
        Ok(())
    }

    fn abort(&self) -> Result<()> {
        self.counts.lock().clear();
        let guard = self.producer.read();
        let Some(producer) = &*guard else { return Ok(()) };
        if self.open.lock().is_some() {
            self.persist("abort the transaction", || producer.abort_transaction(CALL))
                .map_err(Trouble::into_error)?;
            *self.open.lock() = None;
            producer.context().failure.lock().take();
        }
        Ok(())
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
