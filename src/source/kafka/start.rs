//! How a Kafka input finds its cluster and its partitions, and where it begins.

use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Client, Events, client_error, cluster_id};
use super::group::group_offsets;
use super::native::{NativeReader, Settings, needs_librdkafka};
use super::reader::RdKafkaReader;
use super::source::{Connection, KafkaInput, Offsets, Place, Progress, REQUEST, Reached};
use super::{ClientSettings, Reader, SliceReader, Start, error_text, wait_for};
use crate::error::{Error, Result};
use crate::source::InputPosition;
use crate::time::Duration;

/// What is fetched ahead in all, in kilobytes of values.
const FETCHED_AHEAD_KB: usize = 64 << 10;

type ReaderAndClient = (Arc<dyn SliceReader>, Option<Arc<Client>>);

impl KafkaInput {
    /// A client in the role `role` that fetches up to `partitions` partitions.
    fn consumer(&self, role: &str, partitions: usize) -> Result<Client> {
        let settings = ClientSettings {
            brokers: self.config.brokers.clone(),
            client_id: format!("{}-{role}-{}", self.group, self.config.name()),
            options: self.config.options.clone(),
        };
        let mut config = settings.config()?;
        // What is fetched ahead is bounded for each partition, by bytes of values and by records. A partition that
        // reached a bound would not be fetched for a second if that were not set otherwise.
        let kilobytes = fetched_ahead_kb(partitions);
        let ahead = [
            ("queued.max.messages.kbytes", kilobytes.to_string()),
            ("queued.min.messages", (kilobytes * 4).to_string()),
            ("fetch.queue.backoff.ms", "5".to_owned()),
            // There is one fetch under way per broker: one that waits at the end of a partition keeps all others waiting.
            ("fetch.wait.max.ms", "10".to_owned()),
            ("fetch.message.max.bytes", "4194304".to_owned()),
        ];
        for (name, value) in ahead {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create_with_context(Events { group: self.group.clone() })
            .map_err(|e| client_error("consumer", e))
    }

    /// All partitions of all topics; waits for brokers and topics that are not there yet.
    fn partitions(&self, consumer: &Client) -> Result<Vec<Place>> {
        let brokers = &self.config.brokers;
        let mut partitions = Vec::new();
        for topic in &self.config.topics {
            let name: Arc<str> = topic.as_str().into();
            let count = wait_for(
                &self.runner,
                &format!("topic `{topic}` on {brokers}"),
                self.config.wait,
                || {
                    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).map_err(|e| {
                        Error::unavailable(format!(
                            "no answer from Kafka at {brokers}: {}; is it running, and is `brokers` right?",
                            error_text(&e)
                        ))
                        .with_source(e)
                    })?;
                    let found = metadata.topics().iter().find(|t| t.name() == topic);
                    match found.map(|t| (t.error(), t.partitions().len())) {
                        Some((None, count)) if count > 0 => Ok(count),
                        Some((Some(error), _)) if is_denied(error.into()) => {
                            Err(Error::config(format!("not allowed to read topic `{topic}` on {brokers}")))
                        }
                        _ => Err(Error::unavailable(format!(
                            "input topic `{topic}` does not exist on {brokers}: create it, or correct `topics`"
                        ))),
                    }
                },
            )?;
            partitions.extend((0..count).map(|p| (name.clone(), p as i32)));
        }
        Ok(partitions)
    }

    /// Where to begin without a checkpoint.
    fn fresh_start(&self, consumer: &Client, partitions: &[Place]) -> Result<Offsets> {
        match self.config.start {
            Start::Latest => self.ends(consumer, partitions, self.config.wait),
            Start::Earliest => self.beginnings(consumer, partitions),
            Start::Committed => {
                let group = group_offsets(&self.committed_offsets(consumer, partitions, self.config.wait)?);
                let committed: Offsets =
                    group.into_iter().map(|((t, p), at)| ((t.into(), p), at.offset)).collect();
                let missing: Vec<_> =
                    partitions.iter().filter(|p| !committed.contains_key(p)).cloned().collect();
                let mut offsets = self.beginnings(consumer, &missing)?;
                offsets.extend(committed);
                Ok(offsets)
            }
        }
    }

    /// What the group holds. Under `read_committed` the broker answers only once no transaction that could change it is open.
    pub(super) fn committed_offsets(
        &self,
        consumer: &Client,
        partitions: &[Place],
        wait: Duration,
    ) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        wait_for(&self.runner, "the consumer group's coordinator", wait, || {
            consumer
                .committed_offsets(list.clone(), REQUEST)
                .map_err(|e| self.unavailable("the group's committed offsets", e))
        })
    }

    fn beginnings(&self, consumer: &Client, partitions: &[Place]) -> Result<Offsets> {
        let first = |(topic, partition): &Place| {
            let (low, _) = wait_for(&self.runner, "the first offsets", self.config.wait, || {
                consumer
                    .fetch_watermarks(topic, *partition, REQUEST)
                    .map_err(|e| self.unavailable(&format!("the offsets of {topic}-{partition}"), e))
            })?;
            Ok(((topic.clone(), *partition), low))
        };
        partitions.iter().map(first).collect()
    }

    /// The ends of `partitions` (under `read_committed` the last stable offsets), in one request per broker.
    pub(super) fn ends(&self, consumer: &Client, partitions: &[Place], wait: Duration) -> Result<Offsets> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, Offset::End)
                .map_err(|e| Error::internal("librdkafka refused an offset").with_source(e))?;
        }
        let found = wait_for(&self.runner, "the partitions' ends", wait, || {
            consumer
                .offsets_for_times(list.clone(), REQUEST)
                .map_err(|e| self.unavailable("the partitions' ends", e))
        })?;
        Ok(absolute(&found))
    }

    fn unavailable(&self, what: &str, error: rdkafka::error::KafkaError) -> Error {
        let text = error_text(&error);
        Error::unavailable(format!("cannot ask Kafka at {} for {what}: {text}", self.config.brokers))
            .with_source(error)
    }

    /// Finds the cluster and the partitions.
    pub(super) fn reach(&self) -> Result<()> {
        self.config.check()?;
        let asking = Arc::new(self.consumer("offsets", 1)?);
        let partitions = self.partitions(&asking)?;
        let cluster = cluster_id(&self.runner, &self.config.brokers, asking.client(), self.config.wait)?;
        *self.reached.write() = Some(Reached { asking, partitions, cluster });
        Ok(())
    }

    /// Who reads the partitions, each from where it stands in `next` on, and the client that fetches for it, if there is one.
    fn reader(&self, asking: &Arc<Client>, next: &Offsets) -> Result<ReaderAndClient> {
        let other = needs_librdkafka(&self.config.options);
        let native = match (self.config.reader, other) {
            (Reader::RdKafka, _) => false,
            (Reader::Native, Some(option)) => {
                return Err(Error::config(format!(
                    "Kafka option `{option}`, as it is set, is understood by librdkafka alone: set `reader: rdkafka`"
                )));
            }
            (Reader::Auto, Some(option)) => {
                tracing::info!("librdkafka reads `{}`, because of the option `{option}`", self.config.name());
                false
            }
            (_, None) => true,
        };
        let runner = self.runner.clone();
        if native {
            let settings = Settings::new(format!("{}-consumer", self.group), &self.config.options)?;
            let reader = NativeReader::new(asking.clone(), settings, FETCHED_AHEAD_KB << 10, runner);
            return Ok((Arc::new(reader), None));
        }
        let fetching = Arc::new(self.consumer("consumer", next.len())?);
        let kept_ahead = fetched_ahead_kb(next.len()) << 10;
        let reader = RdKafkaReader::assign(fetching.clone(), next, kept_ahead, runner)?;
        Ok((Arc::new(reader), Some(fetching)))
    }

    /// Finds where to begin, and starts fetching.
    pub(super) fn begin_fetching(&self, restored: Option<&InputPosition>) -> Result<()> {
        let Reached { asking: consumer, partitions, .. } = self.reached()?;
        let next = match restored {
            None => self.fresh_start(&consumer, &partitions)?,
            Some(InputPosition::Offsets(offsets)) => {
                let gone = offsets
                    .keys()
                    .find(|(topic, p)| !partitions.iter().any(|(t, n)| **t == **topic && n == p));
                if let Some((topic, partition)) = gone {
                    return Err(Error::checkpoint(format!(
                        "the checkpoint of input `{}` stands at {topic}-{partition}, which is not among the partitions \
                         that it reads: give the changed source another name, or correct `topics`",
                        self.uid
                    )));
                }
                let known = |p: &&Place| !offsets.contains_key(&(p.0.to_string(), p.1));
                let new: Vec<_> = partitions.iter().filter(known).cloned().collect();
                let mut next = self.beginnings(&consumer, &new)?;
                for (topic, partition) in &partitions {
                    if let Some(offset) = offsets.get(&(topic.to_string(), *partition)) {
                        next.insert((topic.clone(), *partition), *offset);
                    }
                }
                next
            }
            Some(other) => {
                return Err(Error::checkpoint(format!(
                    "input `{}` is a Kafka stream, but the checkpoint holds {other:?} for it",
                    self.uid
                )));
            }
        };
        for ((topic, partition), offset) in &next {
            tracing::info!(topic = &**topic, partition, offset, "reading on from here");
        }
        // A batch that runs again is not planned, and its lag is to be told all the same.
        let mut latest = next.clone();
        latest.extend(self.ends(&consumer, &partitions, self.config.wait)?);
        let (reader, fetching) = self.reader(&consumer, &next)?;
        *self.connection.write() = Some(Connection { reader, fetching, asking: consumer });
        *self.progress.lock() = Progress {
            committed: next.clone(),
            backlog: latest.clone(),
            latest,
            next,
            ..Progress::default()
        };
        Ok(())
    }
}

/// What is fetched ahead of one of `partitions` partitions.
fn fetched_ahead_kb(partitions: usize) -> usize {
    (FETCHED_AHEAD_KB / partitions.max(1)).max(1_024)
}

/// The absolute offsets of `list`; partitions that have none are left out.
fn absolute(list: &TopicPartitionList) -> Offsets {
    let elements = list.elements();
    let offsets = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some(((element.topic().into(), element.partition()), offset)),
        _ => None,
    });
    offsets.collect()
}

fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)
}
