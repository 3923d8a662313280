//! What a source asks its cluster: which topics there are, where partitions begin and end, and where the group stands.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaSource;
use super::client::{Client, error_text, wait_for};
use super::source::{Offsets, Place, REQUEST};
use super::topic_ids::{TopicIds, topic_ids};
use super::topics::{Topics, matching};
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::time::{Duration, Time};

/// A source's cluster, and the client that asks it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub client: Arc<Client>,
    pub runner: Arc<Runner>,
    pub config: Arc<KafkaSource>,
    pub away: Arc<Away>,
}

/// Since when a cluster has not answered, if it does not, and what is said of that. Plans ask it, and the thread that looks for
/// changes does while a batch waits for a commit.
#[derive(Default)]
pub(super) struct Away(Mutex<Option<Silence>>);

/// How often it is said that a cluster does not answer.
const SAY_EVERY: Duration = Duration::seconds(10);

struct Silence {
    since: Time,
    why: String,
    said: Option<Time>,
}

impl Away {
    /// Takes in the outcome of a question that was answered, or was not, at `now`.
    pub fn note<T>(&self, outcome: &Result<T>, now: Time) {
        let mut away = self.0.lock();
        match outcome {
            Ok(_) => *away = None,
            Err(error) => {
                let (since, said) = away.as_ref().map_or((now, None), |last| (last.since, last.said));
                *away = Some(Silence { since, why: error.to_string(), said });
            }
        }
    }

    /// Since when, and why.
    pub fn get(&self) -> Option<(Time, String)> {
        self.0.lock().as_ref().map(|silence| (silence.since, silence.why.clone()))
    }

    /// Whether it is to be said (again): at once, then every now and then as long as it lasts.
    pub fn is_to_be_said(&self, now: Time) -> bool {
        match &mut *self.0.lock() {
            Some(Silence { said: Some(at), .. }) if now - *at < SAY_EVERY => false,
            silence => {
                silence.iter_mut().for_each(|silence| silence.said = Some(now));
                true
            }
        }
    }
}

/// The partitions of a source, and the ids of its topics as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub partitions: Vec<Place>,
    pub ids: TopicIds,
}

impl Cluster {
    /// All partitions of all topics; waits for brokers and topics that are not there yet.
    pub fn find(&self) -> Result<Found> {
        let (brokers, wait) = (&self.config.brokers, self.config.wait);
        let partitions = match &self.config.topics {
            Topics::List(topics) => {
                let mut partitions = Vec::new();
                for topic in topics {
                    let what = format!("topic `{topic}` on {brokers}");
                    partitions.extend(wait_for(&self.runner, &what, wait, || {
                        let found = self.partitions_of(topic)?;
                        found.ok_or_else(|| {
                            Error::unavailable(format!(
                                "input topic `{topic}` does not exist on {brokers}: create it, or correct `topics`"
                            ))
                        })
                    })?);
                }
                partitions
            }
            Topics::Pattern(pattern) => {
                let what = format!("the topics on {brokers}");
                let found = wait_for(&self.runner, &what, wait, || self.partitions_matching(pattern))?;
                if found.is_empty() {
                    tracing::warn!("no topic on {brokers} matches `{pattern}` yet; there may be one later");
                }
                found
            }
        };
        let ids = self.ids_of(&partitions);
        Ok(Found { partitions, ids })
    }

    /// As [`find`](Cluster::find), but what is not there is left out.
    pub fn look(&self) -> Result<Found> {
        let partitions = match &self.config.topics {
            Topics::List(topics) => {
                let mut partitions = Vec::new();
                for topic in topics {
                    partitions.extend(self.partitions_of(topic)?.unwrap_or_default());
                }
                partitions
            }
            Topics::Pattern(pattern) => self.partitions_matching(pattern)?,
        };
        let ids = self.ids_of(&partitions);
        Ok(Found { partitions, ids })
    }

    /// Without ids a topic that is made anew is noticed by its offsets alone, if at all.
    fn ids_of(&self, partitions: &[Place]) -> TopicIds {
        let mut topics: Vec<_> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        topic_ids(&self.client, &topics, REQUEST).unwrap_or_else(|error| {
            tracing::debug!("{error}");
            TopicIds::new()
        })
    }

    /// The partitions of `topic`, if it exists.
    fn partitions_of(&self, topic: &str) -> Result<Option<Vec<Place>>> {
        let metadata = self.metadata(Some(topic))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        match found.and_then(|topic| topic.error()) {
            Some(error) if is_denied(error.into()) => {
                let brokers = &self.config.brokers;
                Err(Error::config(format!("not allowed to read topic `{topic}` on {brokers}")))
            }
            Some(_) => Ok(None),
            None => {
                let (name, count): (Arc<str>, _) =
                    (topic.into(), found.map_or(0, |topic| topic.partitions().len()));
                Ok((count > 0).then(|| (0..count).map(|p| (name.clone(), p as i32)).collect()))
            }
        }
    }

    fn partitions_matching(&self, pattern: &str) -> Result<Vec<Place>> {
        let metadata = self.metadata(None)?;
        let there = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let names = matching(pattern, there.clone().map(|topic| topic.name()))?;
        let mut partitions = Vec::new();
        for name in names {
            let count = there.clone().find(|t| t.name() == name).map_or(0, |t| t.partitions().len());
            let name: Arc<str> = name.into();
            partitions.extend((0..count).map(|p| (name.clone(), p as i32)));
        }
        Ok(partitions)
    }

    fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        let brokers = &self.config.brokers;
        self.client.fetch_metadata(topic, REQUEST).map_err(|e| {
            Error::unavailable(match self.refusal() {
                Some((_, why)) => format!("Kafka at {brokers} does not serve this client: {why}"),
                None => format!(
                    "no answer from Kafka at {brokers}: {}; is it running, and is `brokers` right?",
                    error_text(&e)
                ),
            })
            .with_source(e)
        })
    }

    /// What a broker has refused: the question itself just gets no answer.
    fn refusal(&self) -> Option<(RDKafkaErrorCode, String)> {
        while self.client.poll(std::time::Duration::ZERO).is_some() {}
        self.client.context().take_refusal()
    }

    /// What the group holds. Under `read_committed` the broker answers only once no transaction that could change it is open.
    pub fn committed(&self, partitions: &[Place], wait: Duration) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        if partitions.is_empty() {
            return Ok(list);
        }
        wait_for(&self.runner, "the consumer group's coordinator", wait, || {
            self.client
                .committed_offsets(list.clone(), REQUEST)
                .map_err(|e| self.unavailable("the group's committed offsets", e))
        })
    }

    /// The first offsets of `partitions`, all of them.
    pub fn beginnings(&self, partitions: &[Place], wait: Duration) -> Result<Offsets> {
        wait_for(&self.runner, "the partitions' first offsets", wait, || {
            let found = self.offsets(partitions, Offset::Beginning, "the partitions' first offsets")?;
            match partitions.iter().find(|place| !found.contains_key(place)) {
                None => Ok(found),
                Some((topic, partition)) => Err(Error::unavailable(format!(
                    "Kafka at {} does not tell the first offset of {topic}-{partition}",
                    self.config.brokers
                ))),
            }
        })
    }

    /// The ends of `partitions` (under `read_committed` the last stable offsets); those that nobody knows are left out.
    pub fn ends(&self, partitions: &[Place], wait: Duration) -> Result<Offsets> {
        let what = "the partitions' ends";
        wait_for(&self.runner, what, wait, || self.offsets(partitions, Offset::End, what))
    }

    /// Where `partitions` have the first record of `time` or later; those that have none are left out.
    pub fn at_time(&self, partitions: &[Place], time: Time, wait: Duration) -> Result<Offsets> {
        let what = "the offsets of a time";
        // Kafka takes negative numbers for questions of another kind.
        let at = Offset::Offset(time.as_millis().max(0));
        wait_for(&self.runner, what, wait, || self.offsets(partitions, at, what))
    }

    /// One request per broker.
    fn offsets(&self, partitions: &[Place], at: Offset, what: &str) -> Result<Offsets> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, at)
                .map_err(|e| Error::internal("librdkafka refused an offset").with_source(e))?;
        }
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let found = self.client.offsets_for_times(list, REQUEST).map_err(|e| self.unavailable(what, e))?;
        let elements = found.elements();
        let offsets = elements.iter().filter(|element| element.error().is_ok());
        Ok(offsets
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some(((element.topic().into(), element.partition()), offset)),
                _ => None,
            })
            .collect())
    }

    fn unavailable(&self, what: &str, error: KafkaError) -> Error {
        let brokers = &self.config.brokers;
        match self.refusal() {
            Some((RDKafkaErrorCode::GroupAuthorizationFailed, _)) => Error::config(format!(
                "not allowed to ask Kafka at {brokers} for {what}: let this client Read and Describe its consumer group"
            )),
            Some((_, why)) => Error::unavailable(format!("cannot ask Kafka at {brokers} for {what}: {why}")),
            None => Error::unavailable(format!(
                "cannot ask Kafka at {brokers} for {what}: {}",
                error_text(&error)
            )),
        }
        .with_source(error)
    }
}

fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)
}
