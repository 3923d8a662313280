//! The input behind a Kafka stream: where it starts, what belongs to a batch, and what it commits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};

use super::client::Client;
use super::cluster::{Answers, Asker, Away, Cluster, Found};
use super::discovery::Discovery;
use super::end::Bounds;
use super::group::group_offsets;
use super::kept::KeptSlices;
use super::loss::Losses;
use super::native::Prefetcher;
use super::timestamp::Cuts;
use super::topic_ids::TopicIds;
use super::{End, KafkaSource, SliceReader, Slicing, Start};
use crate::batch::RateLimit;
use crate::error::{Error, Result};
use crate::rdd::{Runner, SliceStats};
use crate::source::{
    FollowedLog, GroupOffsets, Input, InputPlan, InputPosition, Marker, OffsetRange, PartitionLag,
    SlicedByTime,
};
use crate::state::StateDb;
use crate::time::{Clock, Duration, Time};

/// A slice is cut into parts of at least so many offsets, so that one large partition keeps several threads busy, and whoever is done first
/// has not long to wait for the last. Where it is cut depends on the offsets alone: a replay has the same tasks on any machine.
const PART: i64 = 1 << 16;
/// A new leader may answer with an old end for a while; after as many plans it is the truth.
const SHRUNK_FOR_GOOD: u32 = 10;
/// How long one question to the broker may take.
pub(super) const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);

/// A topic and the number of one of its partitions.
pub(super) type Place = (Arc<str>, i32);
pub(super) type Offsets = BTreeMap<Place, i64>;

pub(super) struct KafkaInput {
    pub(super) uid: String,
    pub(super) group: String,
    pub(super) config: Arc<KafkaSource>,
    pub(super) interval: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runner: Arc<Runner>,
    /// The checkpoint, if there is one.
    pub(super) db: Option<Arc<StateDb>>,
    /// What is known once the cluster was reached.
    pub(super) reached: RwLock<Option<Reached>>,
    pub(super) connection: RwLock<Option<Connection>>,
    /// Operators that read the slices.
    readers: AtomicUsize,
    current: RwLock<Option<Current>>,
    pub(super) progress: Mutex<Progress>,
    /// Where batches end, if the records' timestamps say it.
    pub(super) cuts: Option<Mutex<Cuts>>,
    /// Fetches what the next batch will be of.
    pub(super) ahead: Mutex<Option<JoinHandle<()>>>,
    /// Where the stream ends, if it does.
    pub(super) bounds: Mutex<Bounds>,
    /// The ids of the topics that are read, as far as they are known.
    pub(super) ids: Mutex<TopicIds>,
    pub(super) losses: Arc<Losses>,
    pub(super) discovery: Mutex<Option<Discovery>>,
    /// Since when the cluster has not answered, if it does not.
    pub(super) away: Arc<Away>,
    /// Whether it stays what it is: the batch before the next may be begun again.
    pub(super) held: AtomicBool,
}

/// A batch's ranges, and who reads them.
pub(super) struct Slices {
    pub reader: Arc<dyn SliceReader>,
    pub ranges: Arc<[OffsetRange]>,
    pub progress: Arc<SlicesRead>,
}

/// How many of a batch's slices were begun, and how many were read; more than there are, if some are read again.
#[derive(Default)]
pub(super) struct SlicesRead {
    begun: AtomicUsize,
    done: AtomicUsize,
}

/// What the batch that runs reads.
struct Current {
    time: Time,
    reader: Arc<dyn SliceReader>,
    ranges: Arc<[OffsetRange]>,
    read: Arc<SlicesRead>,
    /// The reader, if several operators read the slices.
    kept: Option<Arc<KeptSlices>>,
}

#[derive(Clone)]
pub(super) struct Reached {
    pub cluster: Cluster,
    pub found: Arc<Found>,
    /// The cluster's id.
    pub id: String,
}

#[derive(Clone)]
pub(super) struct Connection {
    pub reader: Arc<dyn SliceReader>,
    /// Fetches, if librdkafka does. A question on its connection would wait behind a fetch that waits for records, so that
    /// another client asks.
    pub fetching: Option<Arc<Client>>,
    /// Fetches what comes as it comes, if batches come often.
    pub prefetcher: Option<Arc<Prefetcher>>,
}

#[derive(Default)]
pub(super) struct Progress {
    /// The next offsets to plan.
    pub next: Offsets,
    pub latest: Offsets,
    pub committed: Offsets,
    /// When the last records up to an offset had been written, of slices that were read and are not known to be committed, and of the last
    /// one that is.
    pub last_timestamps: BTreeMap<Place, VecDeque<(i64, i64)>>,
    /// How large the records were that were read last, on average.
    pub record_bytes: BTreeMap<Place, f64>,
    /// What backpressure allows.
    pub rate: Option<RateLimit>,
    /// When the last plan by arrival asked for the partitions' ends, or those of the stream, and what it was told.
    pub ends: Option<(Time, Offsets)>,
    /// When the last plan by arrival was made that took all there was.
    pub taken_all: Option<Time>,
    /// For how many plans on end a partition has ended before the next offset to read.
    pub shrunk: BTreeMap<Place, u32>,
    /// The ends when the input was started, of partitions that are read on from where they were then.
    pub backlog: Offsets,
    /// Topics that were found to be made anew, until the next batch is planned: a batch that was planned before has nothing of
    /// them.
    pub anew: BTreeSet<Arc<str>>,
}

impl Progress {
    /// Takes in the ends that a plan found; gives those of partitions that have ended before the next offset to read for
    /// so long that it is no old answer.
    pub fn found(&mut self, ends: Offsets) -> Offsets {
        let mut shrunk = Offsets::new();
        for (place, from) in &self.next {
            let end = ends.get(place).filter(|end| *end < from);
            let times = self.shrunk.entry(place.clone()).or_default();
            *times = if end.is_some() { *times + 1 } else { 0 };
            if let Some(end) = end.filter(|_| *times >= SHRUNK_FOR_GOOD) {
                shrunk.insert(place.clone(), *end);
                *times = 0;
            }
        }
        self.latest.extend(ends);
        shrunk
    }

    /// Has the partitions read from `next` on, and no others. What stood there at the start is no backlog any more where a
    /// partition is gone or is read again from further back: its end may never be reached.
    pub fn go_on_at(&mut self, next: Offsets) {
        self.ends = None;
        let before = std::mem::take(&mut self.next);
        self.backlog.retain(|place, _| {
            next.get(place).is_some_and(|next| before.get(place).is_none_or(|before| before <= next))
        });
        self.latest.retain(|place, _| next.contains_key(place));
        self.committed.retain(|place, _| next.contains_key(place));
        for (place, offset) in &next {
            self.committed.entry(place.clone()).or_insert(*offset);
        }
        self.next = next;
    }

    /// Whether all that stood there at the start was planned.
    pub fn is_caught_up(&self) -> bool {
        self.backlog.iter().all(|(place, end)| self.next.get(place).is_some_and(|next| next >= end))
    }
}

impl KafkaInput {
    pub fn new(
        uid: String,
        group: String,
        config: KafkaSource,
        (interval, clock): (Duration, Arc<dyn Clock>),
        runner: Arc<Runner>,
        db: Option<Arc<StateDb>>,
    ) -> Self {
        let last = match &config.end {
            Some(End::Timestamp(time)) => Some(*time),
            _ => None,
        };
        let cuts = match config.slicing {
            Slicing::Timestamp { max_future, grace } if config.follow.is_none() => {
                Some(Mutex::new(Cuts::new(max_future, grace, last)))
            }
            _ => None,
        };
        Self {
            uid,
            group,
            config: Arc::new(config),
            interval,
            clock,
            runner,
            db,
            reached: RwLock::new(None),
            connection: RwLock::new(None),
            readers: AtomicUsize::new(0),
            current: RwLock::new(None),
            progress: Mutex::default(),
            cuts,
            ahead: Mutex::default(),
            bounds: Mutex::default(),
            ids: Mutex::default(),
            losses: Arc::default(),
            discovery: Mutex::default(),
            away: Arc::default(),
            held: AtomicBool::new(false),
        }
    }

    /// The slices of batch `time`, and who reads them.
    pub fn slices(&self, time: Time) -> Result<Slices> {
        match &*self.current.read() {
            Some(current) if current.time == time => Ok(Slices {
                reader: current.reader.clone(),
                ranges: current.ranges.clone(),
                progress: current.read.clone(),
            }),
            _ => Err(Error::internal(format!("input `{}` was not planned for batch {time}", self.uid))),
        }
    }

    /// Says that one more operator will read the slices.
    pub fn add_reader(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    /// The timestamps that the records of batch `time` bear by rights, if timestamps say what belongs to a batch.
    pub fn due_in(&self, time: Time) -> Option<std::ops::Range<i64>> {
        let by_time = matches!(self.config.slicing, Slicing::Timestamp { .. });
        by_time.then(|| (time - self.interval).as_millis()..time.as_millis())
    }

    /// Notes that a slice of batch `time` is begun.
    pub fn begins(&self, time: Time, slices: &Slices) {
        slices.progress.begun.fetch_add(1, Ordering::Relaxed);
        self.look_ahead_if_idle(time, slices);
    }

    /// Notes that a slice of batch `time` was read.
    pub fn ends(&self, time: Time, slices: &Slices) {
        slices.progress.done.fetch_add(1, Ordering::Relaxed);
        self.look_ahead_if_idle(time, slices);
    }

    /// Where fewer slices are left than there are workers, some may have nothing to do.
    fn look_ahead_if_idle(&self, time: Time, slices: &Slices) {
        let SlicesRead { begun, done } = &*slices.progress;
        let (begun, done) = (begun.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
        let is_current = || self.current.read().as_ref().is_some_and(|current| current.time == time);
        if begun >= slices.ranges.len()
            && begun.saturating_sub(done) < self.runner.worker_threads()
            && is_current()
            && self.ahead.lock().is_none()
        {
            self.look_ahead(time + self.interval, self.clock.now());
        }
    }

    /// Notes what a slice was seen to hold: when its last record had been written, for the lag in seconds, and how large its
    /// records are, for the limit of the next batch.
    pub fn saw(&self, range: &OffsetRange, stats: &SliceStats) {
        let place = (range.topic.clone(), range.partition);
        let mut progress = self.progress.lock();
        if stats.records > 0 {
            progress.record_bytes.insert(place.clone(), stats.bytes as f64 / stats.records as f64);
        }
        // Of a slice that was cut into parts, the last one ends where the plan did.
        if let Some(at) = stats.last_timestamp
            && progress.next.get(&place) == Some(&range.until)
        {
            let committed = progress.committed.get(&place).copied().unwrap_or_default();
            let times = progress.last_timestamps.entry(place).or_default();
            // Read again, after it was given up.
            times.retain(|(until, _)| *until < range.until);
            while times.get(1).is_some_and(|(until, _)| *until <= committed) {
                times.pop_front();
            }
            times.push_back((range.until, at));
        }
    }

    /// An error led by where the source was written down.
    pub(super) fn placed<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| match &self.config.place {
            Some(place) => error.within(place),
            None => error,
        })
    }

    pub(super) fn reached(&self) -> Result<Reached> {
        self.reached.read().clone().ok_or_else(|| {
            Error::internal(format!("input `{}` was started before it was connected", self.uid))
        })
    }

    pub(super) fn connection(&self) -> Result<Connection> {
        self.connection
            .read()
            .clone()
            .ok_or_else(|| Error::internal(format!("input `{}` was used before it was started", self.uid)))
    }

    /// Those of `ranges`, which were planned before, that still stand for what they stood for: a topic may have been deleted since, or
    /// made anew.
    fn still(&self, ranges: &[OffsetRange]) -> Vec<OffsetRange> {
        let reached = self.reached.read();
        let known = reached.as_ref().map(|reached| reached.found.partitions.iter().collect::<BTreeSet<_>>());
        let progress = self.progress.lock();
        let is_there = |range: &&OffsetRange| {
            known.as_ref().is_none_or(|known| known.contains(&(range.topic.clone(), range.partition)))
                && !progress.anew.contains(&range.topic)
        };
        ranges.iter().filter(is_there).cloned().collect()
    }

    /// The ends of the partitions that are read, or why nobody knows them now.
    pub(super) fn ends_now(&self, connection: &Connection) -> Result<Offsets> {
        let cluster = self.reached()?.cluster;
        // Nothing else asks the clients for what happened to them.
        for client in connection.fetching.iter().chain([&cluster.client]) {
            while client.poll(std::time::Duration::ZERO).is_some() {}
        }
        let next = self.progress.lock().next.clone();
        let found = match connection.prefetcher.as_ref().and_then(|prefetcher| prefetcher.ends(&next)) {
            Some(known) => Ok(Answers { known, unknown: Vec::new() }),
            None => cluster.ends_known(&next.into_keys().collect::<Vec<_>>()),
        };
        self.tell_of_gaps(&found);
        found.map(|found| found.known)
    }

    /// Notes for who asks whether the cluster answers, and says now and then for which partitions nobody does.
    fn tell_of_gaps(&self, found: &Result<Answers>) {
        let now = self.clock.now();
        let gaps = found.as_ref().map(|found| found.gaps(&self.config.brokers));
        let outcome: Result<(), &dyn std::fmt::Display> = match &gaps {
            Ok(None) => Ok(()),
            Ok(Some(gaps)) => Err(gaps),
            Err(error) => Err(error),
        };
        self.away.note(Asker::Plan, outcome, now);
        if let Ok(Some(gaps)) = gaps
            && self.away.is_to_be_said(now)
        {
            tracing::warn!("{gaps}; nothing more is read of it before there is one");
        }
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
        if !self.config.in_group {
            return Ok(None);
        }
        let Reached { cluster, found, .. } = self.reached()?;
        let wait = if wait { self.config.wait } else { Duration::ZERO };
        self.placed(cluster.committed(&found.partitions, wait)).map(|list| Some(group_offsets(&list)))
    }

    fn cluster(&self) -> Option<String> {
        self.reached.read().as_ref().filter(|_| self.config.in_group).map(|reached| reached.id.clone())
    }

    fn topics(&self) -> Vec<String> {
        let reached = self.reached.read();
        let partitions = reached.iter().flat_map(|reached| &reached.found.partitions);
        let mut topics: Vec<_> = partitions.map(|(topic, _)| topic.to_string()).collect();
        topics.dedup();
        topics
    }

    fn starts_at_group(&self) -> bool {
        self.config.start == Start::Committed
    }

    fn start(&self, restored: Option<&InputPosition>, last: Option<Time>) -> Result<()> {
        self.placed(self.begin_fetching(restored, last))
    }

    fn plan(&self, time: Time) -> Result<InputPlan> {
        self.progress.lock().anew.clear();
        match (&self.config.follow, &self.cuts) {
            (Some(log), _) => Ok(InputPlan::Offsets(log.ranges(time).to_vec())),
            (None, Some(cuts)) => cuts.lock().plan(time),
            (None, None) => {
                self.placed(self.adopt_changes(time))?;
                self.plan_by_arrival(time)
            }
        }
    }

    fn followed(&self) -> Option<&FollowedLog> {
        self.config.follow.as_deref()
    }

    fn by_time(&self) -> Option<&dyn SlicedByTime> {
        self.cuts.is_some().then_some(self as &dyn SlicedByTime)
    }

    fn begin(&self, time: Time, plan: &InputPlan) -> Result<()> {
        let InputPlan::Offsets(ranges) = plan else {
            return Err(Error::checkpoint(format!(
                "input `{}` is a Kafka stream, but was planned as {plan:?}",
                self.uid
            )));
        };
        let ranges = self.still(ranges);
        let mut progress = self.progress.lock();
        for range in &ranges {
            progress.next.insert((range.topic.clone(), range.partition), range.until);
        }
        drop(progress);
        let reader = self.connection()?.reader;
        ranges.iter().for_each(|range| reader.begins_with(range));
        let shared = self.readers.load(Ordering::Relaxed) > 1;
        let kept = shared.then(|| Arc::new(KeptSlices::new(reader.clone(), self.config.max_bytes_per_batch)));
        let reader = kept.clone().map_or(reader, |kept| kept as Arc<dyn SliceReader>);
        let parallel = reader.reads_in_parallel();
        let parts = |range: &OffsetRange| if parallel { range.parts(PART) } else { range.parts(i64::MAX) };
        let ranges = ranges.iter().flat_map(parts).collect();
        let last = self.current.write().replace(Current { time, reader, ranges, read: Arc::default(), kept });
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
            // Topics that are gone have no lag.
            progress
                .committed
                .retain(|(topic, partition), _| offsets.contains_key(&(topic.to_string(), *partition)));
        }
    }

    fn publish(&self, position: &InputPosition, marker: Option<Marker>, wait: bool) -> Result<()> {
        if self.config.in_group {
            self.commit_to_group(position, marker, wait)
        } else {
            self.committed(position);
            Ok(())
        }
    }

    fn stop(&self, _: bool) {
        *self.discovery.lock() = None;
        if let Some(prefetcher) =
            self.connection.read().as_ref().and_then(|connection| connection.prefetcher.as_ref())
        {
            prefetcher.stop();
        }
        // No client is let go of after the context has ended.
        if let Err(error) = self.end_looking_ahead() {
            tracing::error!("{error}");
        }
    }

    fn has_end(&self) -> bool {
        self.config.end.is_some() || self.config.follow.is_some()
    }

    fn is_at_end(&self) -> bool {
        KafkaInput::is_at_end(self)
    }

    fn up_to_end(&self) -> Option<u64> {
        match &self.config.follow {
            Some(log) => Some(log.after(self.current.read().as_ref().map(|current| current.time))),
            None => KafkaInput::up_to_end(self),
        }
    }

    fn batches_of_backlog(&self) -> u64 {
        KafkaInput::batches_of_backlog(self)
    }

    fn take_lost(&self) -> Vec<OffsetRange> {
        self.losses.take()
    }

    fn away(&self) -> Option<(Time, String)> {
        self.away.get()
    }

    /// Under `timestamp` no batch is ahead of the records that are read, however late it runs.
    fn is_caught_up(&self) -> bool {
        if self.cuts.is_some() || self.config.follow.is_some() {
            return true;
        }
        self.progress.lock().is_caught_up()
    }

    fn may_run_ahead(&self) -> bool {
        self.config.follow.is_none() && !self.has_changes()
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    fn has_left_some(&self) -> bool {
        let progress = self.progress.lock();
        match &self.cuts {
            None => progress.taken_all.is_none(),
            Some(_) => progress.next.iter().any(|(place, next)| progress.latest.get(place) > Some(next)),
        }
    }

    /// Nothing cuts a slice by timestamp.
    fn obeys_rate(&self) -> bool {
        self.cuts.is_none()
    }

    fn limit_rate(&self, limit: RateLimit) {
        self.progress.lock().rate = Some(limit);
    }

    fn lag(&self) -> Vec<PartitionLag> {
        let progress = self.progress.lock();
        let lag = |(place, committed): (&Place, &i64)| PartitionLag {
            topic: place.0.clone(),
            partition: place.1,
            committed: *committed,
            latest: progress.latest.get(place).copied().unwrap_or(*committed).max(*committed),
            last_timestamp: progress.last_timestamps.get(place).and_then(|times| {
                let of_committed = times.iter().rev().find(|(until, _)| until <= committed);
                of_committed.map(|(_, at)| *at)
            }),
        };
        progress.committed.iter().map(lag).collect()
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
