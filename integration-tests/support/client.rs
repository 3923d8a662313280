//! Clients of a broker: topics, records in, records out, committed offsets.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::process::output;
use super::{Broker, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(60);
/// How long one question may take before it is asked anew, by another client.
const ANSWER: Duration = Duration::from_secs(5);

/// A record to produce: `"value"`, `("key", "value")`, or step by step.
#[derive(Debug, Clone, Default)]
pub struct Record {
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// A record without a value: in a compacted topic, the end of its key.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), ..Record::default() }
    }

    pub fn bytes(value: impl Into<Vec<u8>>) -> Record {
        Record { value: Some(value.into()), ..Record::default() }
    }

    pub fn key(self, key: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), ..self }
    }

    pub fn partition(self, partition: i32) -> Record {
        Record { partition: Some(partition), ..self }
    }

    /// Milliseconds since 1970.
    pub fn timestamp(self, timestamp: i64) -> Record {
        Record { timestamp: Some(timestamp), ..self }
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Record {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl From<&str> for Record {
    fn from(value: &str) -> Record {
        Record::bytes(value)
    }
}

impl From<String> for Record {
    fn from(value: String) -> Record {
        Record::bytes(value)
    }
}

impl From<(&str, &str)> for Record {
    fn from((key, value): (&str, &str)) -> Record {
        Record::bytes(value).key(key)
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Row {
    /// The key as text, empty if there is none.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as text, empty if there is none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// What a dead letter's header of this name says, without what all these names begin with.
    pub fn noted_if_any(&self, name: &str) -> Option<String> {
        let name = format!("__tidemill.errors.{name}");
        let found = self.headers.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| String::from_utf8(value.clone()).expect("the header is text"))
    }

    /// The same of a header that must be there.
    #[track_caller]
    pub fn noted(&self, name: &str) -> String {
        self.noted_if_any(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }
}

impl Broker {
    /// Creates a topic and waits until its partitions have leaders.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[]);
    }

    /// The same, with settings of the topic.
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let client: AdminClient<DefaultClientContext> =
            config(self.bootstrap()).create().expect("a sound configuration");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let options = AdminOptions::new().operation_timeout(Some(LIMIT));
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        let results = runtime.block_on(client.create_topics(&[topic], &options));
        for result in results.expect("the broker answers") {
            result.unwrap_or_else(|(topic, error)| panic!("cannot create {topic}: {error}"));
        }
        eventually(LIMIT, "a new topic's leaders", || {
            let metadata =
                client.inner().fetch_metadata(Some(name), LIMIT).map_err(|error| error.to_string())?;
            has_leaders(&metadata).then_some(()).ok_or_else(|| format!("topic {name} has none"))
        });
    }

    /// Creates a topic that no other test uses and returns its name.
    pub fn unique_topic(&self, prefix: &str, partitions: i32) -> String {
        let name = unique_name(prefix);
        self.create_topic(&name, partitions);
        name
    }

    /// Produces records and waits until the broker has them all.
    pub fn produce<R: Into<Record>>(&self, topic: &str, records: impl IntoIterator<Item = R>) {
        let producer: BaseProducer<Deliveries> = config(self.bootstrap())
            .create_with_context(Deliveries::default())
            .expect("a sound configuration");
        for record in records {
            let record = record.into();
            while let Err(error) = enqueue(&producer, topic, &record) {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::QueueFull),
                    "cannot produce: {error}"
                );
                producer.poll(Duration::from_millis(20));
            }
        }
        eventually(LIMIT, "the delivery of records", || {
            producer.poll(Duration::ZERO);
            match producer.in_flight_count() {
                0 => Ok(()),
                count => Err(format!("{count} are in flight")),
            }
        });
        let failure = producer.context().failure.lock().expect("no thread panicked").take();
        assert!(failure.is_none(), "cannot produce to {topic}: {failure:?}");
    }

    /// Runs kcat against this broker; `-P` reads `input`, one record a line.
    pub fn kcat(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("kcat");
        command.args(["-b", self.bootstrap()]).args(arguments);
        output(command, input)
    }

    /// The committed records of a topic from its beginning to its present end, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Row> {
        let consumer: BaseConsumer = config(self.bootstrap())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a sound configuration");
        let mut unfinished = TopicPartitionList::new();
        let partitions = eventually(LIMIT, "the topic's partitions", || self.partitions(&consumer, topic));
        for partition in partitions {
            unfinished.add_partition_offset(topic, partition, Offset::Beginning).expect("a sound offset");
        }
        consumer.assign(&unfinished).expect("partitions can be assigned");
        let mut ends = unfinished.count();
        let mut rows = Vec::new();
        while ends > 0 {
            match consumer.poll(LIMIT) {
                None => panic!("{topic} was not read to its end within {LIMIT:?}"),
                Some(Ok(message)) => rows.push(row(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ends -= 1,
                Some(Err(error)) => panic!("cannot read {topic}: {error}"),
            }
        }
        rows.sort_by_key(|row| (row.partition, row.offset));
        rows
    }

    /// The offsets that a group has committed, by partition: the quick way to what `group_lag` asks of the stock tool.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let offsets = eventually(LIMIT, "the broker's answer", || {
            // Otherwise it waits for the transaction of a program that was killed, which nobody ends before its timeout.
            let consumer: BaseConsumer = config(self.bootstrap())
                .set("group.id", group)
                .set("isolation.level", "read_uncommitted")
                .create()
                .expect("a sound configuration");
            let mut partitions = TopicPartitionList::new();
            for partition in self.partitions(&consumer, topic)? {
                partitions.add_partition(topic, partition);
            }
            consumer.committed_offsets(partitions, ANSWER).map_err(|error| error.to_string())
        });
        let offset = |offset| {
            if let Offset::Offset(offset) = offset { Some(offset) } else { None }
        };
        offsets.elements().iter().filter_map(|it| Some((it.partition(), offset(it.offset())?))).collect()
    }

    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, String> {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(|error| error.to_string())?;
        let topic = metadata.topics().first().expect("metadata names the topic it was asked for");
        match topic.error() {
            None => Ok(topic.partitions().iter().map(|partition| partition.id()).collect()),
            Some(error) => Err(format!("no metadata of {}: {error:?}", topic.name())),
        }
    }
}

/// What every client sets.
pub(super) fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // A broker that restarts is found again at once.
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "100");
    config
}

pub(super) fn has_leaders(metadata: &Metadata) -> bool {
    let topics = metadata.topics();
    topics.iter().all(|topic| topic.error().is_none() && topic.partitions().iter().all(|it| it.leader() >= 0))
}

#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.failure.lock().expect("no thread panicked") = Some(error.clone());
        }
    }
}

fn enqueue(producer: &BaseProducer<Deliveries>, topic: &str, record: &Record) -> Result<(), KafkaError> {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    let message = BaseRecord::<[u8], [u8]> {
        partition: record.partition,
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        payload: record.value.as_deref(),
        headers: Some(headers),
        ..BaseRecord::to(topic)
    };
    producer.send(message).map_err(|(error, _)| error)
}

fn row(message: &impl Message) -> Row {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Row {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|it| (it.key.to_owned(), it.value.unwrap_or_default().to_vec())).collect(),
    }
}
