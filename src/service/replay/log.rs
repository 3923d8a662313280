//! Reads a batch log, which says what the batches of an application had.

use std::collections::{BTreeMap, BTreeSet};

use super::Range;
use crate::commit::log::{BatchLog, LoggedBatch, LoggedRecord};
use crate::error::{Error, Result};
use crate::service::check::Config;
use crate::service::topic_reader::TopicReader;
use crate::source::kafka::ClientSettings;
use crate::state::StateDb;
use crate::time::Time;

/// The batches of `range` that the log in `topic` has of the application, or else that of its checkpoint.
pub(super) fn batches(
    config: &Config,
    topic: Option<&str>,
    range: Range,
) -> Result<BTreeMap<Time, LoggedBatch>> {
    let (mut found, mut known) = (BTreeMap::new(), BTreeSet::new());
    let mut note = |time: Time, batch: LoggedBatch| {
        known.extend(batch.inputs.keys().cloned());
        if range.contains(time) {
            found.insert(time, batch);
        }
    };
    let place = match topic {
        Some(topic) => {
            in_topic(config, topic, &mut note)?;
            format!("topic `{topic}`")
        }
        None => {
            let db = StateDb::open_read_only(&config.checkpoint)?;
            let all = BatchLog::of(&db).range(Time::from_millis(i64::MIN), Time::from_millis(i64::MAX))?;
            all.into_iter().for_each(|(time, batch)| note(time, batch));
            config.checkpoint.display().to_string()
        }
    };
    if found.is_empty() {
        return Err(Error::config(format!(
            "the batch log in {place} has no batch of `{}` between `--from` and `--to`",
            config.app_id
        )));
    }
    // A source that it does not know would read nothing, and nobody would notice.
    let unknown = config.sources.iter().find(|source| !known.contains(&input_of(&source.name)));
    if let Some(source) = unknown {
        let names: Vec<_> = known.iter().map(|uid| uid.strip_prefix(KAFKA).unwrap_or(uid)).collect();
        return Err(Error::config(format!(
            "the batch log in {place} has nothing of the source `{}`; the sources that it names are: {}",
            source.name,
            names.join(", ")
        )));
    }
    Ok(found)
}

/// What the inputs of Kafka sources are called begins so.
const KAFKA: &str = "kafka:";

/// What a log calls the source `name`.
pub(super) fn input_of(name: &str) -> String {
    format!("{KAFKA}{name}")
}

/// Shows the batches that the log in `topic` has of the application.
fn in_topic(config: &Config, topic: &str, note: &mut dyn FnMut(Time, LoggedBatch)) -> Result<()> {
    let cluster = config
        .output_cluster
        .as_ref()
        .or(config.sources.iter().find_map(|source| source.kafka().map(|kafka| &kafka.cluster)))
        .ok_or_else(|| Error::config("a pipeline without a Kafka cluster has no batch log in a topic"))?;
    let settings = ClientSettings {
        brokers: cluster.brokers.clone(),
        client_id: format!("{}-replay-log", config.app_id),
        options: cluster.options.0.clone().into_iter().collect(),
    };
    let reader = TopicReader::new(&settings);
    if reader.partitions(topic)? == 0 {
        return Err(Error::config(format!(
            "there is no batch log in topic `{topic}` on {}",
            cluster.brokers
        )));
    }
    reader.read(topic, &mut |read| {
        let record: LoggedRecord = serde_json::from_slice(read.value.as_deref().unwrap_or_default())
            .map_err(|error| {
                Error::data(format!(
                    "record {topic}-{} at offset {} is no record of a batch log: {error}",
                    read.partition, read.offset
                ))
            })?;
        if record.app_id == config.app_id {
            note(record.batch_time, record.batch);
        }
        Ok(true)
    })
}
