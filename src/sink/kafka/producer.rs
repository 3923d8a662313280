//! The application's one producer: idempotent, and transactional where delivery is exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::outbox::Outbox;
use super::partitioner::DefaultPartitioner;
use super::topics::{Admin, TopicLimits};
use super::transaction::{CALL, Calls, Trouble, persist};
use super::{
    Compression, KafkaSinkSettings, ProducerRecord, TRANSACTION_TIMEOUT, TopicSettings, dead_letter,
};
use crate::commit::Delivery;
use crate::error::{Error, Result};
use crate::rdd::{Runner, StorageMemory};
use crate::sink::{CommitTrouble, Sink, Transactions};
use crate::source::kafka::{ClientSettings, client_error, error_text, group_offsets, marked_list, wait_for};
use crate::source::{DeadLetter, GroupOffset, Marker, OnBadRecord, Place};
use crate::time::{Duration, Stopwatch, Time};

/// Instances of an application other than the first have other numbers; there is one so far.
const INSTANCE: u32 = 0;

/// What all handles of a sink share.
pub(super) struct Shared {
    pub app_name: String,
    pub runner: Arc<Runner>,
    pub settings: KafkaSinkSettings,
    pub delivery: Delivery,
    pub topics: Mutex<BTreeMap<Arc<str>, TopicSettings>>,
    /// For records that no task's failure can take back any more, until they are handed over.
    pub room: Arc<StorageMemory>,
    /// Where the batch log goes, if anywhere.
    pub batch_log: Mutex<Option<Arc<str>>>,
    producer: RwLock<Option<ThisProducer>>,
    /// What is known of the topics, if it matters.
    limits: RwLock<Limits>,
    group: Mutex<Option<Group>>,
    cluster: Mutex<Option<String>>,
    /// The age of the open transaction.
    open: Mutex<Option<Stopwatch>>,
    counts: Mutex<BTreeMap<Arc<str>, u64>>,
    transactions: Mutex<Transactions>,
    /// Records of the batch that were skipped or went to a dead-letter topic.
    bad: AtomicU64,
}

/// What topics and producer take.
#[derive(Default)]
struct Limits {
    topics: BTreeMap<Arc<str>, TopicLimits>,
    /// The producer takes no larger record.
    max_bytes: usize,
}

/// The application's consumer group, as a producer needs it.
struct Group {
    consumer: BaseConsumer,
    metadata: ConsumerGroupMetadata,
    /// Where the marker goes if no source's offsets do.
    marker_topic: Option<String>,
}

/// Learns what became of each record.
#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<String>>,
    partitioner: DefaultPartitioner,
}

type ThisProducer = ThreadedProducer<Deliveries, DefaultPartitioner>;

impl ClientContext for Deliveries {}

impl ProducerContext<DefaultPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn get_custom_partitioner(&self) -> Option<&DefaultPartitioner> {
        Some(&self.partitioner)
    }

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            // Records that an aborted transaction took back have not failed.
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue) {
                return;
            }
            let key = key_text(message.key());
            let text = format!("a record with {key} for topic `{}`: {}", message.topic(), error_text(error));
            self.failure.lock().get_or_insert(text);
        }
    }
}

/// A record's key for a message.
fn key_text(key: Option<&[u8]>) -> String {
    const LONGEST: usize = 200;
    match key {
        None => "no key".to_owned(),
        Some(key) if key.len() > LONGEST => {
            format!("key `{}…` of {} bytes", String::from_utf8_lossy(&key[..LONGEST]), key.len())
        }
        Some(key) => format!("key `{}`", String::from_utf8_lossy(key)),
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
            room: Arc::new(StorageMemory::new(settings.buffer_memory)),
            settings,
            delivery,
            topics: Mutex::default(),
            batch_log: Mutex::default(),
            producer: RwLock::new(None),
            limits: RwLock::default(),
            group: Mutex::new(None),
            cluster: Mutex::new(None),
            open: Mutex::default(),
            counts: Mutex::default(),
            transactions: Mutex::default(),
            bad: AtomicU64::new(0),
        }
    }

    fn client(&self, role: &str) -> ClientSettings {
        ClientSettings {
            brokers: self.settings.brokers.clone(),
            client_id: format!("{}-{role}-{INSTANCE}", self.app_name),
            options: self.settings.options.clone(),
        }
    }

    /// Has `topic` made at start, if it is missing, for records that cannot be used.
    pub fn add_dead_letters(&self, topic: &str) {
        self.topics.lock().entry(topic.into()).or_insert_with(TopicSettings::dead_letters);
    }

    /// Hands over what an output operation has for `topic`.
    pub fn send(&self, topic: &Arc<str>, time: Time, operator: &str, outboxes: Vec<Outbox>) -> Result<()> {
        let policy = self.topics.lock().get(topic).map(|settings| settings.on_bad_record.clone());
        let policy = policy.unwrap_or_default();
        let limits = match policy {
            // The broker says it, and the batch fails.
            OnBadRecord::Fail => None,
            _ => self.limits.read().topics.get(topic).copied(),
        };
        let max_bytes = self.limits.read().max_bytes;
        let (mut bad, mut sender) = (Vec::new(), self.sender(topic, time));
        for outbox in outboxes {
            outbox.drain(|record| match limits.and_then(|limits| limits.refuse(record, max_bytes)) {
                None => sender.send(record),
                Some(why) => {
                    self.bad.fetch_add(1, Ordering::Relaxed);
                    if policy != OnBadRecord::Skip {
                        let place = (&**topic, operator);
                        bad.push(dead_letter::of_unsent(&self.app_name, time, place, record, &why));
                    }
                    Ok(())
                }
            })?;
        }
        sender.finish();
        match policy.dead_letter_topic() {
            Some(destination) if !bad.is_empty() => self.send_all(&destination.into(), time, &bad),
            _ => Ok(()),
        }
    }

    pub fn send_all(&self, topic: &Arc<str>, time: Time, records: &[ProducerRecord]) -> Result<()> {
        let mut sender = self.sender(topic, time);
        records.iter().try_for_each(|record| sender.send(record))?;
        sender.finish();
        Ok(())
    }

    fn sender<'a>(&'a self, topic: &'a Arc<str>, time: Time) -> Sender<'a> {
        Sender { shared: self, producer: self.producer.read(), topic, time, count: 0 }
    }

    /// Opens a transaction, unless one is open or none is wanted.
    fn open(&self, producer: &ThisProducer) -> Result<()> {
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

    fn enqueue(&self, producer: &ThisProducer, mut message: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
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
                    let key = key_text(message.key);
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

    fn check(&self, producer: &ThisProducer) -> Result<()> {
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
    fn take_over(&self, mut config: ClientConfig) -> Result<ThisProducer> {
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

    /// Asks what the topics take, if a record that they do not take is not to fail its batch, or dead letters may be large.
    fn learn_limits(
        &self,
        admin: &Admin,
        topics: &BTreeMap<Arc<str>, TopicSettings>,
        config: &mut ClientConfig,
    ) {
        const LARGEST: &str = "message.max.bytes";
        /// librdkafka's own.
        const DEFAULT: usize = 1_000_000;
        let matters = |settings: &TopicSettings| {
            settings.on_bad_record != OnBadRecord::Fail || *settings == TopicSettings::dead_letters()
        };
        let mut limits = Limits { max_bytes: DEFAULT, ..Limits::default() };
        if topics.values().any(matters) {
            limits.topics = admin.limits(topics.keys().cloned());
        }
        match config.get(LARGEST).map(str::parse) {
            Some(Ok(given)) => limits.max_bytes = given,
            // Wrong: librdkafka tells.
            Some(Err(_)) => {}
            None => {
                let largest = limits.topics.values().map(|limits| limits.max_bytes).max();
                limits.max_bytes = largest.unwrap_or(DEFAULT).max(DEFAULT);
                config.set(LARGEST, limits.max_bytes.to_string());
            }
        }
        *self.limits.write() = limits;
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

/// Hands records over for one topic.
struct Sender<'a> {
    shared: &'a Shared,
    producer: RwLockReadGuard<'a, Option<ThisProducer>>,
    topic: &'a Arc<str>,
    time: Time,
    count: u64,
}

impl Sender<'_> {
    fn send(&mut self, record: &ProducerRecord) -> Result<()> {
        let Some(producer) = &*self.producer else {
            return Err(Error::internal("the Kafka sink was used before it was started"));
        };
        if self.count == 0 {
            self.shared.open(producer)?;
        }
        self.count += 1;
        let at = record.timestamp.unwrap_or(self.time);
        let mut message = BaseRecord::<[u8], [u8]>::to(self.topic).timestamp(at.as_millis());
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
        self.shared.enqueue(producer, message)
    }

    fn finish(self) {
        if self.count > 0 {
            *self.shared.counts.lock().entry(self.topic.clone()).or_default() += self.count;
        }
    }
}

fn create(config: &ClientConfig) -> Result<ThisProducer> {
    config.create_with_context(Deliveries::default()).map_err(|e| client_error("producer", e))
}

impl Sink for Shared {
    fn start(&self, source_clusters: &BTreeSet<String>, left_open: bool) -> Result<()> {
        self.settings.check()?;
        let mut topics = self.topics.lock().clone();
        let admin = Admin::new(&self.client("admin"))?;
        admin.create(&self.runner, &topics, self.settings.wait)?;
        *self.cluster.lock() = Some(admin.cluster(&self.runner, self.settings.wait)?);

        let mut config = self.client("producer").config()?;
        let buffer = (self.settings.buffer_memory >> 10).to_string();
        for (name, value) in [
            ("linger.ms", "5"),
            ("queue.buffering.max.messages", "500000"),
            ("queue.buffering.max.kbytes", &buffer),
            ("compression.type", Compression::default().name()),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        self.learn_limits(&admin, &topics, &mut config);
        // A property of topics, too: without any, rust-rdkafka has no place for the partitioner, and crashes.
        config.set("enable.idempotence", "true").set("acks", "all");
        // Or librdkafka would place records without a key by itself.
        config.set("sticky.partitioning.linger.ms", "0");
        if self.delivery == Delivery::ExactlyOnce {
            let group = self.join_group(source_clusters)?;
            if let Some(topic) = &group.marker_topic {
                topics.clear();
                topics.insert(topic.as_str().into(), TopicSettings::new().partitions(1));
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
        const LOOK_EVERY_MS: i32 = 100;
        let guard = self.producer.read();
        let Some(producer) = &*guard else { return Ok(()) };
        let mut watch = Stopwatch::start();
        // librdkafka gives up on a record after `delivery.timeout.ms`, so this ends.
        while producer.in_flight_count() > 0 {
            self.check(producer)?;
            // rust-rdkafka's own looks only every 100 ms; this one wakes up with the last delivery, and has nothing linger.
            // SAFETY: the client is alive.
            unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), LOOK_EVERY_MS) };
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

    fn log_batch(&self, time: Time, record: &dyn Fn() -> Result<String>) -> Result<bool> {
        self.send_log(time, record)
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

    fn send_offsets(&self, offsets: &[(String, i32, i64)], marker: Marker) -> Result<(), CommitTrouble> {
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
        })
    }

    fn commit(&self) -> Result<(), CommitTrouble> {
        let guard = self.producer.read();
        let Some(producer) = &*guard else {
            let error = Error::internal("the Kafka sink was used before it was started");
            return Err(CommitTrouble::NotCommitted(error));
        };
        fail::fail_point!("commit::refused", |_| Err(CommitTrouble::NotCommitted(Error::output(
            "the transaction was refused by a fail point"
        ))));
        self.persist("commit the transaction", || producer.commit_transaction(CALL))
            .map_err(Trouble::of_commit)?;
        *self.open.lock() = None;
        self.transactions.lock().committed += 1;
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
            self.transactions.lock().aborted += 1;
            producer.context().failure.lock().take();
        }
        Ok(())
    }

    fn begin(&self, time: Time) {
        self.bad.store(0, Ordering::Relaxed);
        if let Some(producer) = &*self.producer.read() {
            producer.context().partitioner.begin(time);
        }
    }

    fn add_dead_letter_topic(&self, topic: &str) {
        self.add_dead_letters(topic);
    }

    fn dead_letters(&self, time: Time, letters: Vec<DeadLetter>) -> Result<()> {
        for letter in letters {
            let Some(destination) = letter.destination.clone() else { continue };
            self.send_all(&destination, time, &[dead_letter::of_read(&self.app_name, time, letter)])?;
        }
        Ok(())
    }

    fn bad_records(&self) -> u64 {
        self.bad.load(Ordering::Relaxed)
    }

    fn transactions(&self) -> Transactions {
        *self.transactions.lock()
    }

    fn take_counts(&self) -> Vec<(Arc<str>, u64)> {
        std::mem::take(&mut *self.counts.lock()).into_iter().collect()
    }
}
