//! Reading topics from their beginning to their end.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{Error, Result};
use crate::source::kafka::{ClientSettings, ConsumerRecord, client_error, error_text};

/// How long the broker may take for an answer, and for the next record.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Reader {
    settings: ClientSettings,
}

impl Reader {
    pub fn new(settings: &ClientSettings) -> Result<Self> {
        Ok(Self { settings: settings.clone() })
    }

    /// The number of partitions of `topic`; none if there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        let consumer = self.consumer()?;
        self.partitions_by(&consumer, topic)
    }

    fn partitions_by(&self, consumer: &BaseConsumer, topic: &str) -> Result<i32> {
        let metadata =
            consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|e| self.unavailable("its topics", &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        Ok(found.map_or(0, |t| i32::try_from(t.partitions().len()).unwrap_or(i32::MAX)))
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        let mut config = self.settings.config()?;
        config
            .set("group.id", &self.settings.client_id)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()
            .map_err(|e| client_error("consumer", e))
    }

    /// Shows the committed records of `topic` from its beginning to its present end, until `visit` has enough. A topic that is
    /// not there has none.
    pub fn read(&self, topic: &str, visit: &mut dyn FnMut(ConsumerRecord) -> Result<bool>) -> Result<()> {
        let consumer = self.consumer()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..self.partitions_by(&consumer, topic)? {
            all.add_partition_offset(topic, partition, Offset::Beginning)
                .map_err(|e| Error::internal("librdkafka refused an offset").with_source(e))?;
        }
        let mut open = all.count();
        consumer.assign(&all).map_err(|e| self.unavailable(topic, &e))?;
        while open > 0 {
            match consumer.poll(PATIENCE) {
                None => {
                    let waited = PATIENCE.as_secs();
                    return Err(Error::unavailable(format!(
                        "no more of topic `{topic}` came for {waited} s"
                    )));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => return Err(self.unavailable(&format!("topic `{topic}`"), &error)),
                Some(Ok(message)) => {
                    if !visit(owned(&message))? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The marks of those that were sent back.
    pub fn resent(&self, topic: &str) -> Result<BTreeSet<String>> {
        let mut marks = BTreeSet::new();
        self.read(topic, &mut |record| {
            marks.extend(record.key.and_then(|key| String::from_utf8(key).ok()));
            Ok(true)
        })?;
        Ok(marks)
    }

    fn unavailable(&self, what: &str, error: &KafkaError) -> Error {
        let (brokers, text) = (&self.settings.brokers, error_text(error));
        Error::unavailable(format!("cannot ask Kafka at {brokers} for {what}: {text}"))
    }
}

fn owned<M: Message>(message: &M) -> ConsumerRecord {
    let headers = message.headers().into_iter().flat_map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect::<Vec<_>>()
    });
    ConsumerRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.collect(),
    }
}
