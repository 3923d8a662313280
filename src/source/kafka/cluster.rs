//! What a source asks its cluster: which topics there are, where partitions begin and end, and where the group stands.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
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

/// Who asks a cluster: plans do, and the thread that looks for changes does while a batch waits for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Plan,
    Look,
}

/// Since when a cluster has not answered, if it does not, and what is said of that, to each of those who ask.
#[derive(Default)]
pub(super) struct Away(Mutex<[Option<Silence>; 2]>);

/// How often it is said that a cluster does not answer.
const SAY_EVERY: Duration = Duration::seconds(10);

struct Silence {
    since: Time,
    why: String,
    said: Option<Time>,
}

impl Away {
    /// Takes in the outcome of a question that was answered, or was not, at `now`.
    pub fn note<T>(&self, asker: Asker, outcome: Result<T, &dyn std::fmt::Display>, now: Time) {
        let away = &mut self.0.lock()[asker as usize];
        match outcome {
            Ok(_) => *away = None,
            Err(error) => {
                let (since, said) = away.as_ref().map_or((now, None), |last| (last.since, last.said));
                *away = Some(Silence { since, why: error.to_string(), said });
            }
        }
    }

    /// Since when, and why: as it is told to who has been waiting longest.
    pub fn get(&self) -> Option<(Time, String)> {
        let away = self.0.lock();
        let first = away.iter().flatten().min_by_key(|silence| silence.since);
        first.map(|silence| (silence.since, silence.why.clone()))
    }

    /// Whether a plan is to say (again) that it got no answer: at once, then every now and then as long as it lasts.
    pub fn is_to_be_said(&self, now: Time) -> bool {
        match &mut self.0.lock()[Asker::Plan as usize] {
            Some(Silence { said: Some(at), .. }) if now - *at < SAY_EVERY => false,
            silence => {
                silence.iter_mut().for_each(|silence| silence.said = Some(now));
                true
            }
        }
    }
}

/// What partitions answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub known: Offsets,
    /// Those for which nobody answers: they have no leader now, or are gone.
    pub unknown: Vec<Place>,
}

impl Answers {
    /// What is said of those for which nobody answers, if there are any.
    pub fn gaps(&self, brokers: &str) -> Option<String> {
        const NAMED: usize = 5;
        if self.unknown.is_empty() {
            return None;
        }
        let named = self.unknown.iter().take(NAMED).map(|(topic, partition)| format!("{topic}-{partition}"));
        let named = named.collect::<Vec<_>>().join(", ");
        let others = self.unknown.len().saturating_sub(NAMED);
        let others = if others > 0 { format!(" and {others} others") } else { String::new() };
        Some(format!("Kafka at {brokers} has no leader now for {named}{others}"))
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
        self.served(self.client.fetch_metadata(topic, REQUEST)).map_err(|e| {
            Error::unavailable(match self.refusal() {
                Some(why) => format!("Kafka at {brokers} does not serve this client: {why}"),
                None => format!(
                    "no answer from Kafka at {brokers}: {}; is it running, and is `brokers` right?",
                    error_text(&e)
                ),
            })
            .with_source(e)
        })
    }

    /// The outcome of a question; if it was answered, brokers serve this client (again).
    fn served<T>(&self, outcome: KafkaResult<T>) -> KafkaResult<T> {
        match &outcome {
            Ok(_) => self.client.context().is_served(),
            Err(_) => self.client.context().rebootstrap.look(self.client.client()),
        }
        outcome
    }

    /// Why the brokers do not serve this client, if they refuse to: the question itself just gets no answer.
    fn refusal(&self) -> Option<String> {
        while self.client.poll(std::time::Duration::ZERO).is_some() {}
        self.client.context().refusal()
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
            let what = "the group's committed offsets";
            let committed = self.served(self.client.committed_offsets(list.clone(), REQUEST));
            committed.map_err(|e| {
                let unavailable = self.unavailable(what, &e);
                match self.client.context().take_refusal_of_group() {
                    Some(_) => Error::config(format!(
                        "not allowed to ask Kafka at {} for {what}: let this client Read and Describe its consumer group",
                        self.config.brokers
                    )),
                    None => unavailable,
                }
                .with_source(e)
            })
        })
    }

    /// The first offsets of `partitions`, all of them.
    pub fn beginnings(&self, partitions: &[Place], wait: Duration) -> Result<Offsets> {
        self.all(partitions, Offset::Beginning, "the partitions' first offsets", wait)
    }

    /// The first offsets of those of `partitions` for which somebody answers.
    pub fn beginnings_known(&self, partitions: &[Place]) -> Result<Answers> {
        self.offsets(partitions, Offset::Beginning, "the partitions' first offsets")
    }

    /// The ends of `partitions` (under `read_committed` the last stable offsets), all of them.
    pub fn ends(&self, partitions: &[Place], wait: Duration) -> Result<Offsets> {
        self.all(partitions, Offset::End, "the partitions' ends", wait)
    }

    /// The ends of those of `partitions` for which somebody answers.
    pub fn ends_known(&self, partitions: &[Place]) -> Result<Answers> {
        self.offsets(partitions, Offset::End, "the partitions' ends")
    }

    /// Where `partitions` have the first record of `time` or later; those that have none, as is known for sure, are left out.
    pub fn at_time(&self, partitions: &[Place], time: Time, wait: Duration) -> Result<Offsets> {
        // Kafka takes negative numbers for questions of another kind.
        self.all(partitions, Offset::Offset(time.as_millis().max(0)), "the offsets of a time", wait)
    }

    /// Asks until there is somebody who answers for each of `partitions`.
    fn all(&self, partitions: &[Place], at: Offset, what: &str, wait: Duration) -> Result<Offsets> {
        wait_for(&self.runner, what, wait, || {
            let found = self.offsets(partitions, at, what)?;
            match found.gaps(&self.config.brokers) {
                None => Ok(found.known),
                Some(gaps) => Err(Error::unavailable(format!("cannot ask for {what}: {gaps}"))),
            }
        })
    }

    /// One request per broker.
    fn offsets(&self, partitions: &[Place], at: Offset, what: &str) -> Result<Answers> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, at)
                .map_err(|e| Error::internal("librdkafka refused an offset").with_source(e))?;
        }
        if partitions.is_empty() {
            return Ok(Answers::default());
        }
        let mut answers = Answers::default();
        match self.served(self.client.offsets_for_times(list, REQUEST)) {
            Ok(found) => {
                for element in found.elements() {
                    let place = (element.topic().into(), element.partition());
                    match (element.error(), element.offset()) {
                        (Ok(()), Offset::Offset(offset)) => drop(answers.known.insert(place, offset)),
                        // Of the time that was asked for, or a later one, there is no record.
                        (Ok(()), _) => {}
                        (Err(_), _) => answers.unknown.push(place),
                    }
                }
            }
            // So says the client if there is nobody to ask at all.
            Err(e) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) => {
                answers.unknown = partitions.to_vec();
            }
            Err(e) => return Err(self.unavailable(what, &e).with_source(e)),
        }
        // The client remembers who leads, and by itself does not ask again for a while.
        let mut topics: Vec<_> = answers.unknown.iter().map(|(topic, _)| topic).collect();
        topics.dedup();
        for topic in topics {
            self.metadata(Some(topic))?;
        }
        Ok(answers)
    }

    fn unavailable(&self, what: &str, error: &KafkaError) -> Error {
        let why = self.refusal().unwrap_or_else(|| error_text(error));
        Error::unavailable(format!("cannot ask Kafka at {} for {what}: {why}", self.config.brokers))
    }
}

fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)
}
