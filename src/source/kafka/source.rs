//! The input behind a Kafka stream: where it starts, what belongs to a batch, and what it commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use parking_lot::{Mutex, RwLock};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Client, Events, client_error, cluster_id};
use super::group::{group_offsets, marked_list};
use super::kept::KeptSlices;
use super::reader::RdKafkaReader;
use super::{ClientSettings, KafkaSource, SliceReader, Start, error_text, wait_for};
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::source::{GroupOffsets, Input, InputPlan, InputPosition, OffsetRange, PartitionLag};
use crate::time::{Duration, Time};

/// A new leader may answer with an old end for a while; after as many plans it is the truth.
const SHRUNK_FOR_GOOD: u32 = 10;

type Offsets = BTreeMap<(Arc<str>, i32), i64>;

/// What is fetched ahead in all, in kilobytes of values.
const FETCHED_AHEAD_KB: usize = 64 << 10;
/// How long one question to the broker may take.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);
/// How long the last commit before a stop may take.
const LAST_COMMIT: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) struct KafkaInput {
    uid: String,
    group: String,
    config: KafkaSource,
    interval: Duration,
    runner: Arc<Runner>,
    /// What is known once the cluster was reached.
    reached: RwLock<Option<Reached>>,
    connection: RwLock<Option<Connection>>,
    /// Operators that read the slices.
    readers: AtomicUsize,
    current: RwLock<Option<Current>>,
    progress: Mutex<Progress>,
}

/// Ranges, and who reads them.
pub(super) type Slices = (Arc<dyn SliceReader>, Arc<[OffsetRange]>);

/// What the batch that runs reads.
struct Current {
    time: Time,
    reader: Arc<dyn SliceReader>,
    ranges: Arc<[OffsetRange]>,
    /// The reader, if several operators read the slices.
    kept: Option<Arc<KeptSlices>>,
}

#[derive(Clone)]
struct Reached {
    asking: Arc<Client>,
    partitions: Vec<(Arc<str>, i32)>,
    cluster: String,
}

struct Connection {
    reader: Arc<dyn SliceReader>,
    /// Fetches. A question on its connection would wait behind a fetch that waits for records.
    fetching: Arc<Client>,
    /// Asks, and commits.
    asking: Arc<Client>,
}

#[derive(Default)]
struct Progress {
    /// The next offsets to plan.
    next: Offsets,
    latest: Offsets,
    committed: Offsets,
    last_timestamps: BTreeMap<(Arc<str>, i32), i64>,
    /// For how many plans on end a partition has ended before the next offset to read.
    shrunk: BTreeMap<(Arc<str>, i32), u32>,
    /// The ends when the input was started.
    backlog: Offsets,
}

impl KafkaInput {
    pub fn new(
        uid: String,
        group: String,
        config: KafkaSource,
        interval: Duration,
        runner: Arc<Runner>,
    ) -> Self {
        Self {
            uid,
            group,
            config,
            interval,
            runner,
            reached: RwLock::new(None),
            connection: RwLock::new(None),
            readers: AtomicUsize::new(0),
            current: RwLock::new(None),
            progress: Mutex::default(),
        }
    }

    /// The slices of batch `time`, and who reads them.
    pub fn slices(&self, time: Time) -> Result<Slices> {
        match &*self.current.read() {
            Some(current) if current.time == time => Ok((current.reader.clone(), current.ranges.clone())),
            _ => Err(Error::internal(format!("input `{}` was not planned for batch {time}", self.uid))),
        }
    }

    /// Says that one more operator will read the slices.
    pub fn add_reader(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes when the last record of a slice had been written, for the lag in seconds.
    pub fn saw(&self, range: &OffsetRange, timestamp: i64) {
        self.progress.lock().last_timestamps.insert((range.topic.clone(), range.partition), timestamp);
    }

    /// An error led by where the source was written down.
    fn placed<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| match &self.config.place {
            Some(place) => error.within(place),
            None => error,
        })
    }

    /// A client in the role `role` that fetches up to `partitions` partitions.
    fn consumer(&self, role: &str, partitions: usize) -> Result<Client> {
        let settings = ClientSettings {
            brokers: self.config.brokers.clone(),
            client_id: format!("{}-{role}", self.group),
            options: self.config.options.clone(),
        };
        let mut config = settings.config()?;
        // What is fetched ahead is bounded for each partition, by bytes of values and by records. A partition that
        // reached a bound would not be fetched for a second if that were not set otherwise.
        let kilobytes = (FETCHED_AHEAD_KB / partitions.max(1)).max(1_024);
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
    fn partitions(&self, consumer: &Client) -> Result<Vec<(Arc<str>, i32)>> {
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
    fn fresh_start(&self, consumer: &Client, partitions: &[(Arc<str>, i32)]) -> Result<Offsets> {
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
    fn committed_offsets(
        &self,
        consumer: &Client,
        partitions: &[(Arc<str>, i32)],
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

    fn beginnings(&self, consumer: &Client, partitions: &[(Arc<str>, i32)]) -> Result<Offsets> {
        let first = |(topic, partition): &(Arc<str>, i32)| {
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
    fn ends(&self, consumer: &Client, partitions: &[(Arc<str>, i32)], wait: Duration) -> Result<Offsets> {
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

    /// How many records of each partition this batch may take.
    fn limits(&self, lag: &Offsets) -> Offsets {
        let total: i64 = lag.values().sum();
        let cap = i64::try_from(self.config.max_records_per_batch).unwrap_or(i64::MAX);
        let per_partition = self
            .config
            .max_rate_per_partition
            .map_or(i64::MAX, |rate| ((rate as f64 * self.interval.as_secs_f64()) as i64).max(1));
        lag.iter()
            .map(|(place, lag)| {
                let share =
                    if total <= cap { *lag } else { (*lag as f64 / total as f64 * cap as f64) as i64 };
                // A partition that has anything gets on, however small its share.
                (place.clone(), share.max(1).min(per_partition).min(*lag))
            })
            .collect()
    }

    /// Finds the cluster and the partitions.
    fn reach(&self) -> Result<()> {
        self.config.check()?;
        let asking = Arc::new(self.consumer("offsets", 1)?);
        let partitions = self.partitions(&asking)?;
        let cluster = cluster_id(&self.runner, &self.config.brokers, asking.client(), self.config.wait)?;
        *self.reached.write() = Some(Reached { asking, partitions, cluster });
        Ok(())
    }

    fn reached(&self) -> Result<Reached> {
        self.reached.read().clone().ok_or_else(|| {
            Error::internal(format!("input `{}` was started before it was connected", self.uid))
        })
    }

    /// Finds where to begin, and starts fetching.
    fn begin_fetching(&self, restored: Option<&InputPosition>) -> Result<()> {
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
                let known = |p: &&(Arc<str>, i32)| !offsets.contains_key(&(p.0.to_string(), p.1));
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
        let fetching = Arc::new(self.consumer("consumer", partitions.len())?);
        let reader = Arc::new(RdKafkaReader::assign(fetching.clone(), &next, self.runner.clone())?);
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

impl Input for KafkaInput {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn connect(&self) -> Result<()> {
        self.placed(self.reach())
    }

    fn group(&self, wait: bool) -> Result<Option<GroupOffsets>> {
        let Reached { asking, partitions, .. } = self.reached()?;
        let wait = if wait { self.config.wait } else { Duration::ZERO };
        self.placed(self.committed_offsets(&asking, &partitions, wait)).map(|list| Some(group_offsets(&list)))
    }

    fn cluster(&self) -> Option<String> {
        self.reached.read().as_ref().map(|reached| reached.cluster.clone())
    }

    fn starts_at_group(&self) -> bool {
        self.config.start == Start::Committed
    }

    fn start(&self, restored: Option<&InputPosition>) -> Result<()> {
        self.placed(self.begin_fetching(restored))
    }

    fn plan(&self, _: Time) -> Result<InputPlan> {
        let next = self.progress.lock().next.clone();
        let partitions: Vec<_> = next.keys().cloned().collect();
        let connection = self.connection.read();
        let Some(connection) = &*connection else {
            return Err(Error::internal(format!("input `{}` was planned before it was started", self.uid)));
        };
        // Nothing else asks the clients for what happened to them.
        for client in [&connection.fetching, &connection.asking] {
            while client.poll(std::time::Duration::ZERO).is_some() {}
        }
        let latest = match self.ends(&connection.asking, &partitions, Duration::ZERO) {
            Ok(latest) => latest,
            // The lag stays what it was: nobody knows better now.
            Err(error) if error.is_retryable() => {
                tracing::warn!("{error}; this batch reads nothing");
                Offsets::new()
            }
            Err(error) => return Err(error),
        };
        let mut progress = self.progress.lock();
        for (place, from) in &next {
            let shrunk = latest.get(place).is_some_and(|end| end < from);
            let times = progress.shrunk.entry(place.clone()).or_default();
            *times = if shrunk { *times + 1 } else { 0 };
            if *times >= SHRUNK_FOR_GOOD {
                let (topic, partition) = place;
                let end = latest.get(place).copied().unwrap_or_default();
                return Err(Error::data(format!(
                    "{topic}-{partition} ends at offset {end}, but this application has read up to {from}: the topic \
                     was made anew or has lost records; start with another checkpoint folder to read it anew"
                )));
            }
        }
        let lag = next.iter().map(|(place, from)| {
            let end = latest.get(place).copied().unwrap_or(*from);
            (place.clone(), (end - from).max(0))
        });
        let limits = self.limits(&lag.collect());
        progress.latest.extend(latest);
        drop(progress);
        let range = |((topic, partition), from): (&(Arc<str>, i32), &i64)| OffsetRange {
            topic: topic.clone(),
            partition: *partition,
            from: *from,
            until: from + limits.get(&(topic.clone(), *partition)).copied().unwrap_or(0),
        };
        Ok(InputPlan::Offsets(next.iter().map(range).collect()))
    }

    fn begin(&self, time: Time, plan: &InputPlan) -> Result<()> {
        let InputPlan::Offsets(ranges) = plan else {
            return Err(Error::checkpoint(format!(
                "input `{}` is a Kafka stream, but was planned as {plan:?}",
                self.uid
            )));
        };
        let mut progress = self.progress.lock();
        for range in ranges {
            progress.next.insert((range.topic.clone(), range.partition), range.until);
        }
        drop(progress);
        let Some(reader) = self.connection.read().as_ref().map(|c| c.reader.clone()) else {
            return Err(Error::internal(format!("input `{}` began a batch before it was started", self.uid)));
        };
        let shared = self.readers.load(Ordering::Relaxed) > 1;
        let kept = shared.then(|| Arc::new(KeptSlices::new(reader.clone())));
        let reader = kept.clone().map_or(reader, |kept| kept as Arc<dyn SliceReader>);
        let ranges = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
        let last = self.current.write().replace(Current { time, reader, ranges, kept });
        if let Some(kept) = last.and_then(|last| last.kept) {
            kept.release();
        }
        Ok(())
    }

    fn committed(&self, position: &InputPosition) {
        if let InputPosition::Offsets(offsets) = position {
            let mut progress = self.progress.lock();
            for ((topic, partition), offset) in offsets {
                progress.committed.insert((topic.as_str().into(), *partition), *offset);
            }
        }
    }

    fn publish(&self, position: &InputPosition, marker: Option<Time>, wait: bool) -> Result<()> {
        let (InputPosition::Offsets(offsets), Some(reached)) = (position, &*self.reached.read()) else {
            return Ok(());
        };
        let list = marked_list(offsets.iter().map(|((t, p), offset)| (t.as_str(), *p, *offset)), marker)?;
        self.committed(position);
        let failed = |e: rdkafka::error::KafkaError| {
            Error::unavailable(format!(
                "cannot commit the offsets of group `{}`: {}",
                self.group,
                error_text(&e)
            ))
        };
        if !wait {
            return reached.asking.commit(&list, CommitMode::Async).map_err(failed);
        }
        // librdkafka's own wait has no end, and a stop must have one.
        let (done, outcome) = mpsc::channel();
        let consumer = reached.asking.clone();
        std::thread::spawn(move || done.send(consumer.commit(&list, CommitMode::Sync)));
        match outcome.recv_timeout(LAST_COMMIT) {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(Error::unavailable(format!(
                "the last offsets of group `{}` could not be committed within {} s; the checkpoint has them, and the \
                 group follows at the next start",
                self.group,
                LAST_COMMIT.as_secs()
            ))),
        }
    }

    fn is_caught_up(&self) -> bool {
        let progress = self.progress.lock();
        progress.backlog.iter().all(|(place, end)| progress.next.get(place).is_some_and(|next| next >= end))
    }

    fn lag(&self) -> Vec<PartitionLag> {
        let progress = self.progress.lock();
        let lag = |(place, committed): (&(Arc<str>, i32), &i64)| PartitionLag {
            topic: place.0.clone(),
            partition: place.1,
            committed: *committed,
            latest: progress.latest.get(place).copied().unwrap_or(*committed).max(*committed),
            last_timestamp: progress.last_timestamps.get(place).copied(),
        };
        progress.committed.iter().map(lag).collect()
    }
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
