//! Reads a batch log, which says what the batches of an application had.

use std::collections::BTreeMap;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::Range;
use crate::commit::log::{BatchLog, LoggedBatch, LoggedRecord};
use crate::error::{Error, Result};
use crate::service::check::Config;
use crate::source::kafka::{ClientSettings, client_error, error_text};
use crate::state::StateDb;
use crate::time::Time;

/// How long the broker may take for an answer.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(30);

/// The batches of `range` that the log in `topic` has of the application, or else that of its checkpoint.
pub(super) fn batches(
    config: &Config,
    topic: Option<&str>,
    range: Range,
) -> Result<BTreeMap<Time, LoggedBatch>> {
    let (found, place) = match topic {
        Some(topic) => (in_topic(config, topic, range)?, format!("topic `{topic}`")),
        None => {
            let db = StateDb::open_read_only(&config.checkpoint)?;
            let all = BatchLog::of(&db).range(Time::from_millis(i64::MIN), Time::from_millis(i64::MAX))?;
            let found = all.into_iter().filter(|(time, _)| range.contains(*time)).collect();
            (found, config.checkpoint.display().to_string())
        }
    };
    if found.is_empty() {
        return Err(Error::config(format!(
            "the batch log in {place} has no batch of `{}` between `--from` and `--to`",
            config.app_id
        )));
    }
    Ok(found)
}

/// An end of a partition is no error here.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

fn in_topic(config: &Config, topic: &str, range: Range) -> Result<BTreeMap<Time, LoggedBatch>> {
    let cluster = config
        .output_cluster
        .as_ref()
        .or(config.sources.iter().find_map(|source| source.kafka().map(|kafka| &kafka.cluster)))
        .ok_or_else(|| Error::config("a pipeline without a Kafka cluster has no batch log in a topic"))?;
    let unavailable = |what: &str, error: KafkaError| {
        let (text, brokers) = (error_text(&error), &cluster.brokers);
        Error::unavailable(format!("cannot {what} the batch log in topic `{topic}` on {brokers}: {text}"))
            .with_source(error)
    };
    let settings = ClientSettings {
        brokers: cluster.brokers.clone(),
        client_id: format!("{}-replay-log", config.app_id),
        options: cluster.options.0.clone().into_iter().collect(),
    };
    let consumer: BaseConsumer<Quiet> = settings
        .config()?
        .set("group.id", format!("{}-replay", config.app_id))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create_with_context(Quiet)
        .map_err(|e| client_error("consumer", e))?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(|e| unavailable("find", e))?;
    let partitions = metadata.topics().first().map_or(&[][..], |found| found.partitions());
    if partitions.is_empty() {
        return Err(Error::config(format!(
            "there is no batch log in topic `{topic}` on {}",
            cluster.brokers
        )));
    }
    let mut unread = TopicPartitionList::new();
    for partition in partitions {
        unread
            .add_partition_offset(topic, partition.id(), Offset::Beginning)
            .map_err(|e| unavailable("read", e))?;
    }
    consumer.assign(&unread).map_err(|e| unavailable("read", e))?;
    let (mut found, mut ends) = (BTreeMap::new(), 0);
    while ends < partitions.len() {
        match consumer.poll(ANSWER) {
            None => {
                let message = format!(
                    "the batch log in topic `{topic}` was not read to its end in {} s",
                    ANSWER.as_secs()
                );
                return Err(Error::unavailable(message));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => return Err(unavailable("read", error)),
            Some(Ok(message)) => {
                let record: LoggedRecord = serde_json::from_slice(message.payload().unwrap_or_default())
                    .map_err(|error| {
                        Error::data(format!(
                            "record {topic}-{} at offset {} is no record of a batch log: {error}",
                            message.partition(),
                            message.offset()
                        ))
                    })?;
                if record.app_id == config.app_id && range.contains(record.batch_time) {
                    found.insert(record.batch_time, record.batch);
                }
            }
        }
    }
    Ok(found)
}
