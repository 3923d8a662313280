//! Fetches what comes to the partitions as it comes. At short batch intervals a batch then has to ask for nothing: neither where the
//! partitions end nor for their records.
//!
//! One thread knows the leaders, and has one more for each of them, which keeps a request waiting there. What that brings is
//! kept for the slices to come, as far as the reader has room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use parking_lot::Mutex;

use super::Trouble;
use super::chunk::Chunk;
use super::connection::{Connection, Node, decode};
use super::fetch::{self, Asked};
use super::reader::NativeReader;
use crate::error::{Error, Result};
use crate::source::OffsetRange;
use crate::source::kafka::source::{Offsets, Place};
use crate::time::{Stopwatch, pause};

/// How long a broker that has nothing new may wait for something to come.
const WAIT: Duration = Duration::from_millis(250);
/// What was heard longer ago says nothing of now.
const FRESH: Duration = Duration::from_millis(500);
/// After a request that brought nothing to go on with.
const BACKOFF: Duration = Duration::from_millis(250);
/// Of one partition at a time.
const PARTITION_BYTES: usize = 1 << 20;
/// Of all partitions of a leader at a time.
const BYTES: usize = 8 << 20;

/// The threads that fetch ahead. They end when this is dropped.
pub(in super::super) struct Prefetcher(Arc<Shared>);

struct Shared {
    reader: Arc<NativeReader>,
    /// Between two requests, so that records that come one by one are fetched together.
    pause: Duration,
    partitions: Mutex<HashMap<Place, Followed>>,
    /// The leaders that have a thread.
    tended: Mutex<HashSet<Node>>,
    stopped: AtomicBool,
}

struct Followed {
    /// The next offset to fetch.
    at: i64,
    /// Where the partition ended, and when that was heard.
    end: Option<(i64, Stopwatch)>,
}

impl Prefetcher {
    /// Fetches for `reader` what comes to the partitions of `next` from there on, with a `pause` between any two requests.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(reader: Arc<NativeReader>, next: &Offsets, pause: Duration) -> Result<Self> {
        let followed = |(place, at): (&Place, &i64)| (place.clone(), Followed { at: *at, end: None });
        let shared = Arc::new(Shared {
            reader,
            pause,
            partitions: Mutex::new(next.iter().map(followed).collect()),
            tended: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let prefetcher = Self(shared.clone());
        spawn(move || shared.lead())?;
        Ok(prefetcher)
    }

    /// Where the partitions of `next` end, if that was heard of all of them just now and none ends before it.
    pub fn ends(&self, next: &Offsets) -> Option<Offsets> {
        if self.0.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let mut partitions = self.0.partitions.lock();
        let end = |(place, next): (&Place, &i64)| {
            let followed = partitions.get_mut(place)?;
            followed.at = followed.at.max(*next);
            let (end, heard) = followed.end?;
            (end >= *next && heard.elapsed() < FRESH).then(|| (place.clone(), end))
        };
        next.iter().map(end).collect()
    }

    /// Fetches no more.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    const NAME: &str = "tidemill-prefetch";
    std::thread::Builder::new()
        .name(NAME.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|e| Error::internal(format!("cannot start the thread {NAME}")).with_source(e))
}

impl Shared {
    fn has_ended(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.reader.is_cancelled()
    }

    /// Sees to it that each leader has a thread.
    fn lead(self: Arc<Self>) {
        while !self.has_ended() {
            let places: Vec<_> = self.partitions.lock().keys().cloned().collect();
            for place in places {
                let Ok(node) = self.reader.brokers.leader(&everything(&place, 0)) else { continue };
                if self.tended.lock().insert(node.clone()) {
                    let shared = self.clone();
                    if let Err(error) = spawn(move || shared.tend(&node)) {
                        tracing::warn!("{error}; batches ask for records themselves");
                        return;
                    }
                }
            }
            pause(BACKOFF);
        }
    }

    /// Fetches from the leader `node`, until there is nothing that it leads.
    fn tend(&self, node: &Node) {
        let mut connection = None;
        while !self.has_ended() {
            let asked = self.led_by(node);
            if asked.is_empty() {
                break;
            }
            if self.reader.is_half_full() {
                pause(self.pause);
                continue;
            }
            match self.fetch(&mut connection, &asked) {
                Ok(()) => pause(self.pause),
                Err(Trouble::GivenUp) => break,
                // If it lasts, the batches find out as well, and say so.
                Err(trouble) => {
                    tracing::debug!("fetching ahead from {}:{}: {trouble:?}", node.host, node.port);
                    connection = None;
                    asked.iter().for_each(|asked| self.reader.brokers.forget(&asked.range.topic));
                    pause(BACKOFF);
                }
            }
        }
        self.tended.lock().remove(node);
    }

    fn led_by(&self, node: &Node) -> Vec<Asked> {
        let partitions = self.partitions.lock();
        let asked = partitions.iter().map(|(place, followed)| Asked {
            range: everything(place, followed.at),
            at: followed.at,
            bytes: PARTITION_BYTES.min(self.reader.fetch_bytes),
        });
        let mut led: Vec<_> = asked
            .filter(|asked| self.reader.brokers.known_leader(&asked.range).as_ref() == Some(node))
            .collect();
        // Partitions of one topic stand together in a request.
        led.sort_by(|a, b| (&a.range.topic, a.range.partition).cmp(&(&b.range.topic, b.range.partition)));
        led
    }

    fn fetch(&self, connection: &mut Option<Connection>, asked: &[Asked]) -> Result<(), Trouble> {
        let Some(first) = asked.first() else { return Ok(()) };
        let mut leased = match connection.take() {
            Some(connection) => connection,
            None => self.reader.brokers.lease(&first.range)?,
        };
        let mut buffer = Vec::new();
        fetch::send(&mut leased, &fetch::request_of(asked, BYTES, WAIT), &mut || self.has_ended())?;
        let version = leased.receive(&mut buffer, &mut || self.has_ended())?;
        *connection = Some(leased);
        let response = decode::<FetchRequest>(&mut Bytes::from(buffer), version)?;
        if response.error_code != 0 {
            return Err(Trouble::lost(format!("Kafka's error {}", response.error_code)));
        }
        pause(Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap_or(0)));
        let mut outcome = Ok(());
        for topic in response.responses {
            for data in topic.partitions {
                let is_it = |asked: &&Asked| {
                    *asked.range.topic == *topic.topic.0 && asked.range.partition == data.partition_index
                };
                if let Some(asked) = asked.iter().find(is_it)
                    && let Err(trouble) = self.take(asked, data)
                {
                    outcome = Err(trouble);
                }
            }
        }
        outcome
    }

    /// Takes in what came of one partition.
    fn take(&self, asked: &Asked, data: PartitionData) -> Result<(), Trouble> {
        let place: Place = (asked.range.topic.clone(), asked.range.partition);
        let mut next = asked.at;
        let mut end = None;
        let outcome = match data.error_code {
            0 => {
                end = Some(fetch::end(&data));
                self.chunk(asked, data).map(|chunk| {
                    if let Some(chunk) = chunk {
                        next = chunk.next;
                        self.reader.keep_of(&asked.range, Arc::new(chunk));
                    }
                })
            }
            // Records that are gone, or a leader that has moved.
            code => Err(Trouble::lost(format!("{}-{}: Kafka's error {code}", place.0, place.1))),
        };
        if let Some(followed) = self.partitions.lock().get_mut(&place) {
            followed.end = end.filter(|_| outcome.is_ok()).map(|end| (end, Stopwatch::start()));
            followed.at = followed.at.max(next);
        }
        outcome
    }

    fn chunk(&self, asked: &Asked, data: PartitionData) -> Result<Option<Chunk>, Trouble> {
        let aborted = fetch::aborted(&data);
        let records = data.records.unwrap_or_default();
        // In memory of its own: the partitions of a response are let go of one by one.
        let (buffer, all) = (Arc::new(records.to_vec()), 0..records.len());
        Chunk::new(buffer, all, asked.at, aborted).map_err(|why| {
            Trouble::lost(format!("a record batch past {} cannot be read: {why}", asked.range))
        })
    }
}

/// All of a partition from `at` on.
fn everything((topic, partition): &Place, at: i64) -> OffsetRange {
    OffsetRange { topic: topic.clone(), partition: *partition, from: at, until: i64::MAX }
}
