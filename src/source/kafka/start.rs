//! How a Kafka input finds its cluster and its partitions, and where it begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use rdkafka::consumer::Consumer;

use super::client::{Client, Events, client_error, cluster_id};
use super::cluster::{Cluster, Found};
use super::discovery::{Discovery, Seen};
use super::group::group_offsets;
use super::loss::Surviving;
use super::native::{NativeReader, Prefetcher, Settings, needs_librdkafka};
use super::reader::RdKafkaReader;
use super::source::{Connection, KafkaInput, Offsets, Place, Progress, Reached};
use super::{ClientSettings, Reader, SliceReader, Slicing, Start, Topics};
use crate::error::{Error, Result};
use crate::rdd::Stop;
use crate::source::{InputPosition, OffsetRange};
use crate::time::{Duration, Time};

/// What is fetched ahead in all, in kilobytes of values.
const FETCHED_AHEAD_KB: usize = 64 << 10;

/// Below this batch interval what comes is fetched as it comes.
const PREFETCHED_BELOW: Duration = Duration::millis(500);
/// So many requests a batch, at the most, go to each leader for that.
const PAUSES_PER_BATCH: u32 = 4;

/// What reads the partitions.
struct Reading {
    reader: Arc<dyn SliceReader>,
    /// The native reader under it, if it is that one.
    native: Option<Arc<NativeReader>>,
    /// The client that fetches for it, if there is one.
    fetching: Option<Arc<Client>>,
}

/// Before all batches.
const EVER: Time = Time::from_millis(i64::MIN);

impl KafkaInput {
    /// What a client in the role `role` calls itself.
    fn client_id(&self, role: &str) -> String {
        format!("{}-{role}-{}", self.group, self.config.name())
    }

    /// A client in the role `role` that fetches up to `partitions` partitions.
    fn consumer(&self, role: &str, partitions: usize) -> Result<Client> {
        let settings = ClientSettings {
            brokers: self.config.brokers.clone(),
            client_id: self.client_id(role),
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
            .create_with_context(Events::new(&self.group, &self.config.brokers))
            .map_err(|e| client_error("consumer", e))
    }

    /// Finds the cluster and the partitions.
    pub(super) fn reach(&self) -> Result<()> {
        self.config.check()?;
        let client = Arc::new(self.consumer("offsets", 1)?);
        let (runner, config, away) = (self.runner.clone(), self.config.clone(), self.away.clone());
        let cluster = Cluster { client, runner, config, away };
        let found = cluster.find()?;
        let client = cluster.client.client();
        let id = cluster_id(&self.runner, &self.config.brokers, client, self.config.wait)?;
        *self.reached.write() = Some(Reached { cluster, found: Arc::new(found), id });
        Ok(())
    }

    /// Where to begin without a checkpoint.
    fn fresh_start(&self, cluster: &Cluster, partitions: &[Place]) -> Result<Offsets> {
        let wait = self.config.wait;
        match &self.config.start {
            Start::Latest => cluster.ends(partitions, wait),
            Start::Earliest => cluster.beginnings(partitions, wait),
            Start::Committed => {
                let group = group_offsets(&cluster.committed(partitions, wait)?);
                let committed = group.into_iter().map(|((t, p), at)| ((t.into(), p), at.offset));
                self.or_earliest(cluster, partitions, committed.collect())
            }
            Start::Timestamp(time) => self.start_at(cluster, partitions, *time),
            Start::Ago(ago) => self.start_at(cluster, partitions, self.clock.now() - *ago),
            Start::Offsets(offsets) => {
                let wanted: Offsets =
                    offsets.iter().map(|((t, p), offset)| ((t.as_str().into(), *p), *offset)).collect();
                let named: Vec<_> = wanted.keys().cloned().collect();
                if let Some((topic, partition)) = named.iter().find(|place| !partitions.contains(place)) {
                    return Err(Error::config(format!(
                        "`start` names {topic}-{partition}, which is not among the partitions that are read"
                    )));
                }
                let (first, end) = (cluster.beginnings(&named, wait)?, cluster.ends(&named, wait)?);
                for (place, offset) in &wanted {
                    let (first, end) = (first.get(place).unwrap_or(offset), end.get(place).unwrap_or(offset));
                    if !(first..=end).contains(&offset) {
                        return Err(Error::config(format!(
                            "`start` has offset {offset} for {}-{}, which has the offsets {first} to {end}",
                            place.0, place.1
                        )));
                    }
                }
                self.or_earliest(cluster, partitions, wanted)
            }
        }
    }

    /// `offsets`, and the first ones of all other partitions.
    fn or_earliest(&self, cluster: &Cluster, partitions: &[Place], offsets: Offsets) -> Result<Offsets> {
        let missing: Vec<_> = partitions.iter().filter(|p| !offsets.contains_key(p)).cloned().collect();
        let mut all = cluster.beginnings(&missing, self.config.wait)?;
        all.extend(offsets);
        Ok(all)
    }

    fn start_at(&self, cluster: &Cluster, partitions: &[Place], time: Time) -> Result<Offsets> {
        let mut offsets = cluster.ends(partitions, self.config.wait)?;
        offsets.extend(cluster.at_time(partitions, time, self.config.wait)?);
        Ok(offsets)
    }

    /// Where the restored `offsets` go on, by what has become of the topics since the batch `last`.
    fn take_up(&self, cluster: &Cluster, offsets: Offsets, last: Option<Time>) -> Result<Offsets> {
        let Reached { found, .. } = self.reached()?;
        let mut gone = BTreeSet::new();
        for (topic, partition) in offsets.keys().filter(|place| !found.partitions.contains(place)) {
            let is_there = found.partitions.iter().any(|(own, _)| own == topic);
            match &self.config.topics {
                // Made anew with fewer partitions: its id tells.
                _ if is_there => {}
                Topics::Pattern(_) if self.config.topics.contains(topic) => drop(gone.insert(topic.clone())),
                _ => {
                    return Err(Error::checkpoint(format!(
                        "the checkpoint of input `{}` stands at {topic}-{partition}, which is not among the partitions \
                         that it reads: give the changed source another name, or correct `topics`",
                        self.uid
                    )));
                }
            }
        }
        *self.ids.lock() = self.kept_ids(last)?;
        let beginnings = cluster.beginnings(&found.partitions, self.config.wait)?;
        let mut next = offsets.clone();
        let is_other =
            |(topic, id): &(&Arc<str>, &String)| found.ids.get(*topic).is_some_and(|now| now != *id);
        let anew: BTreeSet<Arc<str>> =
            self.ids.lock().iter().filter(is_other).map(|(topic, _)| topic.clone()).collect();
        let seen = Seen { found: Found::clone(&found), beginnings, gone };
        self.apply(&mut next, &seen, last.map_or(EVER, |last| last + Duration::millis(1)))?;
        self.progress.lock().anew = anew;
        if let Some((topic, partition)) = next.keys().find(|place| !seen.found.partitions.contains(place)) {
            return Err(Error::data(format!(
                "{topic}-{partition} is gone, and topic `{topic}` is still there: it was made anew with fewer partitions; \
                 start with another checkpoint folder to read it anew"
            )));
        }
        Ok(next)
    }

    /// Finds where to begin, and starts fetching. `last` is the last batch that was planned.
    pub(super) fn begin_fetching(&self, restored: Option<&InputPosition>, last: Option<Time>) -> Result<()> {
        let Reached { cluster, found, .. } = self.reached()?;
        let mut next = match (&self.config.follow, restored) {
            (Some(log), _) => log.beginnings(),
            (None, None) => {
                self.keep_ids(found.ids.clone(), EVER)?;
                self.fresh_start(&cluster, &found.partitions)?
            }
            (None, Some(InputPosition::Offsets(offsets))) => {
                let offsets = offsets.iter().map(|((t, p), offset)| ((t.as_str().into(), *p), *offset));
                self.take_up(&cluster, offsets.collect(), last)?
            }
            (None, Some(other)) => {
                return Err(Error::checkpoint(format!(
                    "input `{}` is a Kafka stream, but the checkpoint holds {other:?} for it",
                    self.uid
                )));
            }
        };
        // A batch that runs again is not planned, and its lag is to be told all the same.
        let partitions: Vec<_> = next.keys().cloned().collect();
        let ends = cluster.ends(&partitions, self.config.wait)?;
        self.find_end(&next, &ends)?;
        if restored.is_none() && self.cuts.is_some() {
            next = self.at_a_cut(next, &ends)?;
        }
        self.go_on_at(next.clone())?;
        let mut latest = next.clone();
        latest.extend(ends);
        let anew = std::mem::take(&mut self.progress.lock().anew);
        *self.progress.lock() = Progress {
            committed: next.clone(),
            backlog: latest.clone(),
            latest,
            next,
            anew,
            ..Progress::default()
        };
        let topics = found.partitions.iter().map(|(topic, _)| topic.clone()).collect();
        if self.config.follow.is_none() {
            *self.discovery.lock() = Some(Discovery::start(cluster, self.clock.clone(), topics)?);
        }
        Ok(())
    }

    /// Kafka finds an offset by a time in the log, where what is no record and what is not believed bear times, too: a run
    /// that had begun earlier may have cut later.
    fn at_a_cut(&self, mut next: Offsets, ends: &Offsets) -> Result<Offsets> {
        let now = self.clock.now();
        let time = match self.config.start {
            Start::Timestamp(time) => time,
            Start::Ago(ago) => now - ago,
            _ => return Ok(next),
        };
        let Slicing::Timestamp { max_future, .. } = self.config.slicing else { return Ok(next) };
        let Reading { reader, fetching: _fetching, .. } = self.reader(&next)?;
        for (place, from) in &mut next {
            let until = ends.get(place).copied().unwrap_or(*from).max(*from);
            let range = OffsetRange { topic: place.0.clone(), partition: place.1, from: *from, until };
            let mut cut = until;
            let looked =
                reader.peek(&range, time.as_millis(), &mut |offset, at| match at.map(Time::from_millis) {
                    Some(at) if (time..=now + max_future).contains(&at) => {
                        cut = offset;
                        Err(Stop::Enough)
                    }
                    _ => Ok(()),
                });
            if let Err(Stop::Failed(error)) = looked {
                return Err(*error);
            }
            *from = cut;
        }
        Ok(next)
    }

    /// Has the partitions read from `next` on, and no others.
    pub(super) fn go_on_at(&self, next: Offsets) -> Result<()> {
        let before = self.progress.lock().next.clone();
        for (place, offset) in next.iter().filter(|(place, offset)| before.get(place) != Some(offset)) {
            tracing::info!(topic = &*place.0, partition = place.1, offset, "reading on from here");
        }
        // A new client: the one before may hold on to what it knows of a topic that was made anew.
        let Reading { reader, native, fetching } = self.reader(&next)?;
        let prefetcher = native.filter(|_| self.prefetches()).map(|native| {
            let pause = self.interval.to_std() / PAUSES_PER_BATCH;
            Prefetcher::start(native, &next, pause).map(Arc::new)
        });
        let prefetcher = prefetcher.transpose()?;
        *self.connection.write() = Some(Connection { reader, fetching, prefetcher });
        if let Some(reached) = &mut *self.reached.write() {
            Arc::make_mut(&mut reached.found).partitions = next.keys().cloned().collect();
        }
        if let Some(cuts) = &self.cuts {
            cuts.lock().moved(&before, &next);
        }
        self.progress.lock().go_on_at(next);
        Ok(())
    }

    /// Whether batches come so often that to ask for each where the partitions end, and then for their records, would be most of
    /// what it costs.
    fn prefetches(&self) -> bool {
        let comes_by_arrival =
            self.cuts.is_none() && self.config.follow.is_none() && self.config.end.is_none();
        comes_by_arrival && self.interval < PREFETCHED_BELOW
    }

    /// What reads the partitions, each from where it stands in `next` on, and goes on behind what is gone.
    fn reader(&self, next: &Offsets) -> Result<Reading> {
        let cluster = self.reached()?.cluster;
        let reading = self.plain_reader(&cluster, next)?;
        let (on_data_loss, losses, reader) = (self.config.on_data_loss, self.losses.clone(), reading.reader);
        Ok(Reading { reader: Arc::new(Surviving { reader, cluster, on_data_loss, losses }), ..reading })
    }

    fn plain_reader(&self, cluster: &Cluster, next: &Offsets) -> Result<Reading> {
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
            let settings = Settings::new(self.client_id("consumer"), &self.config.options)?;
            let reader = NativeReader::new(cluster.client.clone(), settings, FETCHED_AHEAD_KB << 10, runner);
            let reader = Arc::new(reader);
            return Ok(Reading { reader: reader.clone(), native: Some(reader), fetching: None });
        }
        let fetching = Arc::new(self.consumer("consumer", next.len())?);
        let kept_ahead = fetched_ahead_kb(next.len()) << 10;
        let reader = RdKafkaReader::assign(fetching.clone(), next, kept_ahead, runner)?;
        Ok(Reading { reader: Arc::new(reader), native: None, fetching: Some(fetching) })
    }
}

/// What is fetched ahead of one of `partitions` partitions.
fn fetched_ahead_kb(partitions: usize) -> usize {
    (FETCHED_AHEAD_KB / partitions.max(1)).max(1_024)
}
