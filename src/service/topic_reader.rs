//! Reading topics from their beginning to the end that they have when it begins, whoever writes on meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::error::{Error, Result};
use crate::source::kafka::{ClientSettings, ConsumerRecord, client_error, error_text};

/// How long the broker may take for an answer, and for the next record.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct TopicReader {
    settings: ClientSettings,
}

/// An end of a partition is no error here.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

impl TopicReader {
    pub fn new(settings: &ClientSettings) -> Self {
        Self { settings: settings.clone() }
    }

    /// The number of partitions of `topic`; none if there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        self.partitions_by(&self.consumer()?, topic)
    }

    fn partitions_by(&self, consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<i32> {
        let metadata =
            consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|e| self.unavailable("its topics", &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        Ok(found.map_or(0, |t| i32::try_from(t.partitions().len()).unwrap_or(i32::MAX)))
    }

    fn consumer(&self) -> Result<BaseConsumer<Quiet>> {
        let mut config = self.settings.config()?;
        config
            .set("group.id", &self.settings.client_id)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create_with_context(Quiet)
            .map_err(|e| client_error("consumer", e))
    }

    /// Shows the committed records that `topic` has now, from its beginning on, until `visit` has enough. A topic that is not
    /// there has none.
    pub fn read(&self, topic: &str, visit: &mut dyn FnMut(ConsumerRecord) -> Result<bool>) -> Result<()> {
        let consumer = self.consumer()?;
        let mut open = self.ends(&consumer, topic)?;
        let mut all = TopicPartitionList::new();
        for partition in open.keys() {
            all.add_partition_offset(topic, *partition, Offset::Beginning).map_err(refused)?;
        }
        consumer.assign(&all).map_err(|e| self.unavailable(topic, &e))?;
        while !open.is_empty() {
            match consumer.poll(PATIENCE) {
                None => {
                    return Err(Error::unavailable(format!(
                        "no more of topic `{topic}` on {} came for {} s",
                        self.settings.brokers,
                        PATIENCE.as_secs()
                    )));
                }
                // It is past the end that was asked for, though perhaps not for the first time: that of one partition says
                // nothing of another.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => return Err(self.unavailable(&format!("topic `{topic}`"), &error)),
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(end) = open.get(&partition).copied() else { continue };
                    if offset >= end - 1 {
                        open.remove(&partition);
                    }
                    if offset < end && !visit(owned(&message))? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the partitions of `topic` end now that hold anything: behind their last transaction that is over.
    fn ends(&self, consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions_by(consumer, topic)? {
            list.add_partition_offset(topic, partition, Offset::End).map_err(refused)?;
        }
        if list.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let unavailable = |e: KafkaError| self.unavailable(&format!("the ends of topic `{topic}`"), &e);
        let found = consumer.offsets_for_times(list, PATIENCE).map_err(unavailable)?;
        let mut ends = BTreeMap::new();
        for element in found.elements() {
            element.error().map_err(unavailable)?;
            if let Offset::Offset(end @ 1..) = element.offset() {
                ends.insert(element.partition(), end);
            }
        }
        Ok(ends)
    }

    fn unavailable(&self, what: &str, error: &KafkaError) -> Error {
        let (brokers, text) = (&self.settings.brokers, error_text(error));
        Error::unavailable(format!("cannot ask Kafka at {brokers} for {what}: {text}"))
    }
}

fn refused(error: KafkaError) -> Error {
    Error::internal("librdkafka refused an offset").with_source(error)
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
