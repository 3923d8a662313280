//! The application's one producer: idempotent, and transactional where delivery is exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::limits::Limits;
use super::outbox::Outbox;
use super::partitioner::DefaultPartitioner;
use super::sender::{Sender, key_text};
use super::topics::Admin;
use super::transaction::{CALL, Calls, Failed, Trouble, persist, within};
use super::{
    Compression, KafkaSinkSettings, ProducerRecord, TRANSACTION_TIMEOUT, TopicSettings, dead_letter,
};
use crate::commit::Delivery;
use crate::error::{Error, Result};
use crate::rdd::{Runner, SharedFile, StorageMemory};
use crate::sink::{CommitTrouble, Sink, Transactions};
use crate::source::kafka::{
    ClientSettings, Rebootstrap, client_error, error_text, group_offsets, marked_list, wait_for,
};
use crate::source::{DeadLetter, GroupOffset, Marker, OnBadRecord, Place};
use crate::time::{Clock, Duration, Stopwatch, Time};

/// Instances of an application other than the first have other numbers; there is one so far.
const INSTANCE: u32 = 0;

/// What all handles of a sink share.
pub(super) struct Shared {
    pub app_name: String,
    pub runner: Arc<Runner>,
    pub clock: Arc<dyn Clock>,
    pub settings: KafkaSinkSettings,
    pub delivery: Delivery,
    pub topics: Mutex<BTreeMap<Arc<str>, TopicSettings>>,
    /// For records that no task's failure can take back any more, until they are handed over.
    room: Arc<StorageMemory>,
    /// For those of them that have no room.
    spill: Arc<SharedFile>,
    /// Where the batch log goes, if anywhere.
    pub batch_log: Mutex<Option<Arc<str>>>,
    producer: RwLock<Option<Arc<ThisProducer>>>,
    /// What the producer was made with.
    config: Mutex<ClientConfig>,
    /// What is known of what the topics take.
    limits: RwLock<Limits>,
    group: Mutex<Option<Group>>,
    cluster: Mutex<Option<String>>,
    /// The age of the open transaction.
    open: Mutex<Option<Stopwatch>>,
    counts: Mutex<BTreeMap<Arc<str>, u64>>,
    transactions: Mutex<Transactions>,
    /// Records of the batch that were skipped or went to a dead-letter topic.
    bad: AtomicU64,
    /// The batch whose records were handed over last.
    taking: Mutex<Option<Time>>,
}

/// The application's consumer group, as a producer needs it.
struct Group {
    consumer: BaseConsumer,
    metadata: Arc<ConsumerGroupMetadata>,
    /// Where the marker goes if no source's offsets do.
    marker_topic: Option<String>,
}

/// Learns what became of each record.
pub(super) struct Deliveries {
    failure: Mutex<Option<String>>,
    partitioner: DefaultPartitioner,
    rebootstrap: Rebootstrap,
}

pub(super) type ThisProducer = ThreadedProducer<Deliveries, DefaultPartitioner>;

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

impl Shared {
    pub fn new(
        app_name: String,
        (runner, clock): (Arc<Runner>, Arc<dyn Clock>),
        settings: KafkaSinkSettings,
        delivery: Delivery,
    ) -> Self {
        Self {
            app_name,
            spill: Arc::new(SharedFile::new(runner.disk())),
            runner,
            clock,
            room: Arc::new(StorageMemory::new(settings.buffer_memory)),
            settings,
            delivery,
            topics: Mutex::default(),
            batch_log: Mutex::default(),
            producer: RwLock::new(None),
            config: Mutex::default(),
            limits: RwLock::default(),
            group: Mutex::new(None),
            cluster: Mutex::new(None),
            open: Mutex::default(),
            counts: Mutex::default(),
            transactions: Mutex::default(),
            bad: AtomicU64::new(0),
            taking: Mutex::default(),
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

    /// An empty outbox, which shares the memory and the file of all.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.room.clone(), self.spill.clone())
    }

    /// Begins to take what batch `time` has, if it is not doing so.
    fn take_from(&self, time: Time) {
        let before = self.taking.lock().replace(time);
        if before != Some(time)
            && let Some(producer) = self.producer()
        {
            producer.context().partitioner.begin(time);
        }
    }

    /// Hands over what an output operation has for `topic`.
    pub fn send(&self, topic: &Arc<str>, time: Time, operator: &str, outboxes: Vec<Outbox>) -> Result<()> {
        self.runner.turn().wait()?;
        self.take_from(time);
        let policy = self.topics.lock().get(topic).map(|settings| settings.on_bad_record.clone());
        let policy = policy.unwrap_or_default();
        let limits = match policy {
            // The broker says it, and the batch fails.
            OnBadRecord::Fail => None,
            _ => self.limits.read().topics.get(topic).copied(),
        };
        let (max_bytes, times) = (self.limits.read().max_bytes, (time, self.clock.now()));
        let (mut letters, mut sender) = (self.outbox(), Sender::new(self, topic, time));
        for outbox in outboxes {
            outbox.drain(|record| {
                match limits.and_then(|limits| limits.refuse(record, times, max_bytes)) {
                    None => sender.send(record),
                    Some(why) => {
                        self.bad.fetch_add(1, Ordering::Relaxed);
                        if policy != OnBadRecord::Skip {
                            let place = (&**topic, operator);
                            letters.push(dead_letter::of_unsent(&self.app_name, time, place, record, why))?;
                        }
                        Ok(())
                    }
                }
            })?;
        }
        sender.finish();
        match policy.dead_letter_topic() {
            Some(destination) => {
                let topic = destination.into();
                let mut sender = Sender::new(self, &topic, time);
                letters.drain(|letter| self.send_letter(&mut sender, &topic, letter))?;
                sender.finish();
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn send_all(&self, topic: &Arc<str>, time: Time, records: &[ProducerRecord]) -> Result<()> {
        self.take_from(time);
        let mut sender = Sender::new(self, topic, time);
        records.iter().try_for_each(|record| sender.send(record))?;
        sender.finish();
        Ok(())
    }

    /// Sends a dead letter to `topic`, which is the sender's, as far as it fits.
    fn send_letter(&self, sender: &mut Sender<'_>, topic: &str, letter: &ProducerRecord) -> Result<()> {
        let most = self.limits.read().largest(topic);
        let Some((less, left_out)) = dead_letter::fitting(letter, most) else { return sender.send(letter) };
        tracing::warn!(
            topic,
            "a dead letter is larger than the {most} bytes that its topic takes, and goes there without {left_out}"
        );
        sender.send(&less)
    }

    /// The producer, once it was started.
    pub fn producer(&self) -> Option<Arc<ThisProducer>> {
        self.producer.read().clone()
    }

    /// Notes that the batch has `count` more records for `topic`.
    pub fn count(&self, topic: &Arc<str>, count: u64) {
        *self.counts.lock().entry(topic.clone()).or_default() += count;
    }

    /// Opens a transaction, unless one is open or none is wanted.
    pub fn open(&self, producer: &ThisProducer) -> Result<()> {
        if self.delivery == Delivery::ExactlyOnce && self.open.lock().is_none() {
            self.persist(producer, "begin a transaction", || producer.begin_transaction())
                .map_err(Trouble::into_error)?;
            *self.open.lock() = Some(Stopwatch::start());
        }
        Ok(())
    }

    fn persist<E: Into<Failed>>(
        &self,
        producer: &ThisProducer,
        doing: &str,
        mut call: impl FnMut() -> Result<(), E>,
    ) -> Result<(), Trouble> {
        let timeout = self.settings.transaction_timeout;
        let open = self.open.lock().map(|age| (age, timeout));
        persist(&Calls { open, ..self.calls(timeout) }, doing, || {
            call().inspect_err(|_| producer.context().rebootstrap.look(producer.client()))
        })
    }

    fn calls(&self, patience: Duration) -> Calls<'_> {
        Calls { runner: &self.runner, app: &self.app_name, patience, open: None }
    }

    /// Whether all that was handed over may still be delivered; `waiting` runs since the broker took something last.
    pub fn check(&self, producer: &ThisProducer, waiting: Stopwatch) -> Result<()> {
        producer.context().rebootstrap.look(producer.client());
        if self.runner.gives_up(waiting.elapsed()) {
            let left = producer.in_flight_count();
            return Err(Error::unavailable(format!("the delivery of {left} records was given up")));
        }
        match &*producer.context().failure.lock() {
            Some(failure) => Err(Error::output(format!("not delivered: {failure}"))),
            None => Ok(()),
        }
    }

    /// The transactional producer: fences an older instance, and settles what it left open. Kafka is waited for up to `patience`.
    fn take_over(&self, patience: Duration) -> Result<ThisProducer> {
        let mut config = self.config.lock().clone();
        config.set("transactional.id", format!("{}-{INSTANCE}", self.app_name));
        // There it would be no number, which librdkafka tells.
        if config.get(TRANSACTION_TIMEOUT).is_none() {
            config.set(TRANSACTION_TIMEOUT, self.settings.transaction_timeout.as_millis().to_string());
        }
        let producer = self.create(&config)?;
        self.connect(&producer);
        let (doing, taking) = ("take over the application's transactions", Stopwatch::start());
        persist(&self.calls(patience), doing, || producer.init_transactions(CALL))
            .map_err(Trouble::into_error)?;
        tracing::info!(took_ms = taking.elapsed().as_millis() as u64, "transactions taken over");
        Ok(producer)
    }

    /// Waits a moment for a connection: without one librdkafka asks for the transactions' coordinator half a second later. If there is
    /// none yet, whoever needs it waits and tells.
    fn connect(&self, producer: &ThisProducer) {
        const MOMENT: std::time::Duration = std::time::Duration::from_secs(1);
        let topic = self.topics.lock().keys().next().cloned();
        if let Some(topic) = topic
            && let Err(error) = producer.client().fetch_metadata(Some(&topic), MOMENT)
        {
            tracing::debug!(%error, "the producer has no connection yet");
        }
    }

    /// Has a new producer in the place of one that does not come back from a call. The new one's first call has Kafka abort
    /// the transaction that is open; the old one goes when its call returns, if ever.
    fn replace_producer(&self) -> Result<()> {
        let producer = self.take_over(self.settings.transaction_timeout)?;
        *self.producer.write() = Some(Arc::new(producer));
        *self.open.lock() = None;
        self.transactions.lock().aborted += 1;
        Ok(())
    }

    /// Asks what the topics take, and has the producer go by it.
    fn learn_limits(
        &self,
        admin: &Admin,
        topics: &BTreeMap<Arc<str>, TopicSettings>,
        config: &mut ClientConfig,
    ) {
        let limits = Limits::apply(admin.limits(topics.keys().cloned()), self.settings.buffer_memory, config);
        let letters = TopicSettings::dead_letters().largest().unwrap_or_default();
        for (topic, settings) in topics.iter().filter(|(_, settings)| settings.is_for_dead_letters()) {
            let most = limits.largest(topic);
            if most < letters && settings.largest().is_none_or(|wanted| most < wanted) {
                tracing::warn!(
                    topic = &**topic,
                    "dead letters of more than {most} bytes will be without their value: give their topic a `max.message.bytes` of \
                     {letters}"
                );
            }
        }
        *self.limits.write() = limits;
    }

    fn create(&self, config: &ClientConfig) -> Result<ThisProducer> {
        let deliveries = Deliveries {
            failure: Mutex::default(),
            partitioner: DefaultPartitioner::default(),
            rebootstrap: Rebootstrap::new(&self.settings.brokers),
        };
        config.create_with_context(deliveries).map_err(|e| client_error("producer", e))
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
        Ok(Group { consumer, metadata: Arc::new(metadata), marker_topic })
    }
}

impl Sink for Shared {
    fn start(&self, source_clusters: &BTreeSet<String>, left_open: bool) -> Result<()> {
        self.settings.check()?;
        let mut topics = self.topics.lock().clone();
        let admin = Admin::new(&self.client("admin"))?;
        admin.create(&self.runner, &topics, self.settings.wait)?;
        *self.cluster.lock() = Some(admin.cluster(&self.runner, self.settings.wait)?);

        let mut config = self.client("producer").config()?;
        for (name, value) in [
            ("linger.ms", "5"),
            ("queue.buffering.max.messages", "500000"),
            ("compression.type", Compression::default().name()),
            // librdkafka may miss that a group's coordinator is back. It looks again when any connection changes, as one does that is
            // closed for being idle.
            ("connections.max.idle.ms", "10000"),
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
        *self.config.lock() = config.clone();
        let mut producer = None;
        if self.delivery == Delivery::ExactlyOnce || left_open {
            producer = Some(self.take_over(self.settings.wait)?);
        }
        let producer = match producer.filter(|_| self.delivery == Delivery::ExactlyOnce) {
            Some(producer) => producer,
            None => self.create(&config)?,
        };
        *self.producer.write() = Some(Arc::new(producer));
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
        const LOOK_EVERY_MS: i32 = 100;
        let Some(producer) = &self.producer() else { return Ok(()) };
        let (mut watch, mut waiting) = (Stopwatch::start(), Stopwatch::start());
        let mut left = producer.in_flight_count();
        // librdkafka gives up on a record after `delivery.timeout.ms`, so this ends.
        while producer.in_flight_count() > 0 {
            self.check(producer, waiting)?;
            // rust-rdkafka's own looks only every 100 ms; this one wakes up with the last delivery, and has nothing linger.
            // SAFETY: the client is alive.
            unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), LOOK_EVERY_MS) };
            if producer.in_flight_count() < left {
                (left, waiting) = (producer.in_flight_count(), Stopwatch::start());
            }
            if watch.elapsed() >= SAY_EVERY {
                tracing::warn!("still waiting for the delivery of {} records", producer.in_flight_count());
                watch = Stopwatch::start();
            }
        }
        self.check(producer, waiting)
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
        let (producer, group) = (self.producer(), self.group.lock());
        let (Some(producer), Some(group)) = (&producer, &*group) else {
            return Err(not_begun(Error::internal("the Kafka sink was used before it was started")));
        };
        self.open(producer).map_err(not_begun)?;
        let marker_place = group.marker_topic.iter().map(|topic| (topic.as_str(), 0, 0));
        let of_sources = offsets.iter().map(|(topic, p, offset)| (topic.as_str(), *p, *offset));
        let list = marked_list(of_sources.chain(marker_place), Some(marker)).map_err(not_begun)?;
        self.persist(producer, "put the offsets into the transaction", || {
            let (list, producer, group) = (list.clone(), producer.clone(), group.metadata.clone());
            within(&self.runner, "send-offsets", move || {
                fail::fail_point!("sink::send_offsets");
                producer.send_offsets_to_transaction(&list, &group, CALL)
            })
        })
        .or_else(|trouble| match trouble {
            // Nothing was asked of the coordinator that could have committed it.
            Trouble::Abortable(error) | Trouble::Patience(error) => Err(CommitTrouble::NotCommitted(error)),
            Trouble::Fatal(error) => Err(CommitTrouble::Unknown(error)),
            Trouble::Stuck(error) => {
                tracing::warn!("{error}: a new producer takes over");
                self.replace_producer().map_err(CommitTrouble::Unknown)?;
                Err(CommitTrouble::NotCommitted(error))
            }
        })
    }

    fn commit(&self) -> Result<(), CommitTrouble> {
        let Some(producer) = &self.producer() else {
            let error = Error::internal("the Kafka sink was used before it was started");
            return Err(CommitTrouble::NotCommitted(error));
        };
        fail::fail_point!("commit::refused", |_| Err(CommitTrouble::NotCommitted(Error::output(
            "the transaction was refused by a fail point"
        ))));
        self.persist(producer, "commit the transaction", || producer.commit_transaction(CALL))
            .map_err(Trouble::of_commit)?;
        *self.open.lock() = None;
        self.transactions.lock().committed += 1;
        Ok(())
    }

    fn abort(&self) -> Result<()> {
        self.counts.lock().clear();
        self.taking.lock().take();
        self.bad.store(0, Ordering::Relaxed);
        let Some(producer) = &self.producer() else { return Ok(()) };
        if self.open.lock().is_some() {
            self.persist(producer, "abort the transaction", || producer.abort_transaction(CALL))
                .map_err(Trouble::into_error)?;
            *self.open.lock() = None;
            self.transactions.lock().aborted += 1;
            producer.context().failure.lock().take();
        }
        Ok(())
    }

    fn add_dead_letter_topic(&self, topic: &str) {
        self.add_dead_letters(topic);
    }

    fn dead_letters(&self, time: Time, letters: &mut dyn Iterator<Item = Result<DeadLetter>>) -> Result<()> {
        self.runner.turn().wait()?;
        self.take_from(time);
        for letter in letters {
            let letter = letter?;
            let topic = letter.destination.as_str().into();
            let mut sender = Sender::new(self, &topic, time);
            self.send_letter(&mut sender, &topic, &dead_letter::of_read(&self.app_name, time, letter))?;
            sender.finish();
        }
        Ok(())
    }

    fn take_bad_records(&self) -> u64 {
        self.bad.swap(0, Ordering::Relaxed)
    }

    fn transactions(&self) -> Transactions {
        *self.transactions.lock()
    }

    fn take_counts(&self) -> Vec<(Arc<str>, u64)> {
        std::mem::take(&mut *self.counts.lock()).into_iter().collect()
    }
}
