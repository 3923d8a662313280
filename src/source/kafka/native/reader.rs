//! Reads slices by Fetch requests, the next one under way while the records of the last one are computed with.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Trouble;
use super::brokers::Brokers;
use super::chunk::Chunk;
use super::connection::Connection;
use super::fetch::{self, Fetched};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::rdd::{Flow, Runner, Stop};
use crate::source::OffsetRange;
use crate::source::kafka::reader::Answer;
use crate::source::kafka::source::Place;
use crate::source::kafka::{Client, Record, SliceReader};
use crate::time::{Stopwatch, pause};

/// A broker that does not know what it is asked is asked again after this.
const BACKOFF: Duration = Duration::from_millis(50);
/// A topic that a broker has not heard of for so long does not exist.
const UNHEARD_FOR_GOOD: Duration = Duration::from_secs(10);
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Asked for beyond what a slice is expected to have, so that one request more is seldom needed.
const SLACK: usize = 64 << 10;
/// What only fetches ahead waits no longer than this: whoever needs the records asks for them again, and says so.
const AHEAD_PATIENCE: Duration = Duration::from_millis(500);

pub(in super::super) struct NativeReader {
    pub(super) brokers: Brokers,
    runner: Arc<Runner>,
    pub(super) fetch_bytes: usize,
    partitions: Mutex<HashMap<Place, Arc<Partition>>>,
    /// Bytes kept of all partitions, and the most that may be.
    kept: AtomicUsize,
    most_kept: usize,
    /// What the responses may have that wait in sockets.
    parked: AtomicUsize,
    /// Buffers of responses that nobody needs any more.
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// What is known of a partition.
#[derive(Default)]
struct Partition {
    /// What was fetched and not read yet: by looking ahead, or with the last records of a slice.
    ahead: Mutex<VecDeque<Arc<Chunk>>>,
    /// A request for what comes after that, whose response waits in the socket.
    parked: Mutex<Option<Parked>>,
    /// How many bytes an offset took when it was fetched last, in 256ths.
    bytes_per_offset: AtomicU64,
    /// How many bytes the largest record batch had of what was fetched last.
    largest_batch: AtomicUsize,
    /// Where committed records ended when it was fetched last.
    end: AtomicI64,
    /// The last first offset of a slice that was begun.
    begun: AtomicI64,
    /// Whether what comes behind the slices is being fetched.
    is_fetched_ahead: AtomicBool,
}

/// True as long as it lives.
struct Marked<'a>(&'a AtomicBool);

impl<'a> Marked<'a> {
    fn new(mark: &'a AtomicBool) -> Self {
        mark.store(true, Ordering::Relaxed);
        Self(mark)
    }
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A request that is under way for whoever reads on.
struct Parked {
    at: i64,
    connection: Connection,
}

impl NativeReader {
    /// A reader of any partition of the cluster that `asking` knows, which keeps at most `most_kept` bytes between slices.
    pub fn new(asking: Arc<Client>, settings: Settings, most_kept: usize, runner: Arc<Runner>) -> Self {
        Self {
            fetch_bytes: settings.fetch_bytes,
            brokers: Brokers::new(asking, settings, runner.clone()),
            runner,
            partitions: Mutex::default(),
            kept: AtomicUsize::new(0),
            most_kept,
            parked: AtomicUsize::new(0),
            buffers: Mutex::default(),
        }
    }

    fn partition(&self, range: &OffsetRange) -> Arc<Partition> {
        self.partitions.lock().entry((range.topic.clone(), range.partition)).or_default().clone()
    }

    /// Whether the context ends.
    pub(super) fn is_cancelled(&self) -> bool {
        self.runner.is_cancelled()
    }

    /// Whether so much is kept that nothing more should be fetched ahead.
    pub(super) fn is_half_full(&self) -> bool {
        self.kept.load(Ordering::Relaxed) > self.most_kept / 2
    }

    /// Keeps `chunk`, which is of the partition of `range`, for a slice to come, if there is room.
    pub(super) fn keep_of(&self, range: &OffsetRange, chunk: Arc<Chunk>) {
        self.keep(&self.partition(range), chunk);
    }

    /// Keeps `chunk` for a slice to come; tells whether there was room.
    fn keep(&self, partition: &Partition, chunk: Arc<Chunk>) -> bool {
        let mut ahead = partition.ahead.lock();
        if ahead.iter().any(|kept| kept.covers(chunk.from)) {
            return true;
        }
        let size = chunk.size();
        if self.kept.fetch_add(size, Ordering::Relaxed) + size > self.most_kept {
            self.kept.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        let place = ahead.partition_point(|kept| kept.from < chunk.from);
        ahead.insert(place, chunk);
        true
    }

    /// Whether there is room to keep `chunk`, for now.
    fn has_room_for(&self, chunk: &Chunk) -> bool {
        self.kept.load(Ordering::Relaxed) + chunk.size() <= self.most_kept
    }

    /// Whether one response more may wait in its socket: together they have at most a quarter of what may be kept.
    fn may_park(&self) -> bool {
        self.parked.load(Ordering::Relaxed) + self.fetch_bytes <= self.most_kept / 4
    }

    /// Leaves the request for `at`, which was sent on `connection`, to whoever reads on there.
    fn park(&self, partition: &Partition, at: i64, connection: Connection) {
        let mut parked = partition.parked.lock();
        if parked.is_none() && connection.is_fresh() && self.may_park() {
            self.parked.fetch_add(self.fetch_bytes, Ordering::Relaxed);
            *parked = Some(Parked { at, connection });
        } else {
            self.brokers.give_back(connection);
        }
    }

    /// The connection on which a request is under way for an offset that `is_it`, if there is one.
    fn unpark(&self, partition: &Partition, is_it: impl FnOnce(i64) -> bool) -> Option<Connection> {
        let parked = partition.parked.lock().take_if(|parked| is_it(parked.at))?;
        self.parked.fetch_sub(self.fetch_bytes, Ordering::Relaxed);
        Some(parked.connection)
    }

    /// Lets go of what was kept of `partition` that ends behind `from` and not behind `until`: what is before a part of a slice may be of
    /// another one, which is still to be read.
    fn drop_between(&self, partition: &Partition, from: i64, until: i64) {
        if let Some(connection) = self.unpark(partition, |at| (from..until).contains(&at)) {
            self.brokers.give_back(connection);
        }
        let mut done = Vec::new();
        partition.ahead.lock().retain(|chunk| {
            let is_done = from < chunk.next && chunk.next <= until;
            done.extend(is_done.then(|| chunk.clone()));
            !is_done
        });
        for chunk in done {
            self.kept.fetch_sub(chunk.size(), Ordering::Relaxed);
            self.reuse(chunk);
        }
    }

    fn reuse(&self, chunk: Arc<Chunk>) {
        if let Some(buffer) = Arc::into_inner(chunk).and_then(Chunk::into_buffer) {
            let mut buffers = self.buffers.lock();
            if buffers.len() < 8 {
                buffers.push(buffer);
            }
        }
    }
}

impl SliceReader for NativeReader {
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
        let mut reading = Reading::new(self, range, Purpose::Slice);
        reading.partition.begun.fetch_max(range.from, Ordering::Relaxed);
        let (mut unpacked, ever) = (Vec::new(), Cell::new(i64::MIN));
        let mut at = range.from;
        while at < range.until {
            let Some(chunk) = reading.chunk(at)? else { break };
            at = chunk.visit(at, range, &ever, &mut unpacked, visit)?;
            reading.done(chunk);
        }
        // First, so that a request for what is done with goes with the rest of it.
        reading.leave();
        self.drop_between(&reading.partition, range.from, range.until);
        Ok(())
    }

    fn begins_with(&self, range: &OffsetRange) {
        self.drop_between(&self.partition(range), i64::MIN, range.from);
    }

    fn peek(&self, range: &OffsetRange, since: i64, visit: &mut dyn FnMut(i64, Option<i64>) -> Flow) -> Flow {
        let mut reading = Reading::new(self, range, Purpose::Look);
        let mut unpacked = Vec::new();
        // The first record is of interest whatever its time is.
        let wanted = Cell::new(i64::MIN);
        let mut at = range.from;
        while at < range.until {
            let Some(chunk) = reading.chunk(at)? else { break };
            self.keep(&reading.partition, chunk.clone());
            at = chunk.visit(at, range, &wanted, &mut unpacked, &mut |records| {
                wanted.set(since);
                records.iter().try_for_each(|record| visit(record.offset, record.timestamp))
            })?;
        }
        Ok(())
    }

    fn fetch_ahead(&self, range: &OffsetRange, since: i64, is_enough: &dyn Fn(Option<i64>) -> bool) {
        let mut reading = Reading::new(self, range, Purpose::Ahead(Stopwatch::start()));
        let partition = reading.partition.clone();
        let _marked = Marked::new(&partition.is_fetched_ahead);
        let (mut unpacked, since) = (Vec::new(), Cell::new(since));
        let mut at = range.from;
        // Without room, all of it would be fetched for nobody.
        while at < range.until
            && let Ok(Some(chunk)) = reading.chunk(at)
            && self.keep(&reading.partition, chunk.clone())
        {
            let found = chunk.visit(at, range, &since, &mut unpacked, &mut |records| {
                if records.iter().any(|it| is_enough(it.timestamp)) { Err(Stop::Enough) } else { Ok(()) }
            });
            let Ok(next) = found else { break };
            at = next;
        }
    }

    fn reads_in_parallel(&self) -> bool {
        true
    }
}

/// What records are fetched for.
#[derive(Clone, Copy)]
enum Purpose {
    /// To be computed with.
    Slice,
    /// To see where a batch ends. No batch waits for it, so it ends with the context.
    Look,
    /// To be there when they are wanted: whatever is in the way ends it.
    Ahead(Stopwatch),
}

/// One slice being read.
struct Reading<'a> {
    reader: &'a NativeReader,
    range: &'a OffsetRange,
    purpose: Purpose,
    partition: Arc<Partition>,
    connection: Option<Connection>,
    /// The offset that a request is under way for.
    asked: Option<i64>,
    waiting: Option<Stopwatch>,
    /// Since when the broker says that there is no such topic.
    unheard: Option<Stopwatch>,
}

impl<'a> Reading<'a> {
    fn new(reader: &'a NativeReader, range: &'a OffsetRange, purpose: Purpose) -> Self {
        let (partition, connection) = (reader.partition(range), None);
        Self { reader, range, purpose, partition, connection, asked: None, waiting: None, unheard: None }
    }

    fn gives_up(&self) -> bool {
        let runner = &self.reader.runner;
        let waited = self.waiting.map_or(Duration::ZERO, Stopwatch::elapsed);
        let ends = match self.purpose {
            Purpose::Slice => false,
            Purpose::Look => runner.is_stopping(),
            Purpose::Ahead(since) => runner.is_stopping() || since.elapsed() > AHEAD_PATIENCE,
        };
        ends || runner.gives_up(waited)
    }

    /// The chunk with the records at `at`; none if there is nothing more in the range.
    fn chunk(&mut self, at: i64) -> Result<Option<Arc<Chunk>>> {
        if let Some(kept) = self.kept(at) {
            if matches!(self.purpose, Purpose::Slice) {
                self.ask_behind(&kept);
            }
            return Ok(Some(kept));
        }
        (self.waiting, self.unheard) = (None, None);
        loop {
            match self.fetch(at) {
                Ok(Fetched::Chunk(chunk, end)) => {
                    self.learn(&chunk, end);
                    self.ask_behind(&chunk);
                    return Ok(Some(Arc::new(chunk)));
                }
                _ if matches!(self.purpose, Purpose::Ahead(_)) => {
                    self.connection = None;
                    return Ok(None);
                }
                Ok(Fetched::Nothing(end)) if end >= self.range.until => return Ok(None),
                Ok(Fetched::Nothing(_)) => self.say(at, "the broker has no more yet"),
                Ok(Fetched::Throttled(time)) => self.rest(time, at)?,
                Ok(Fetched::Unheard) | Err(Trouble::Unheard) => {
                    if self.unheard.get_or_insert_with(Stopwatch::start).elapsed() > UNHEARD_FOR_GOOD {
                        return Err(Answer::NoTopic.error(self.range, at));
                    }
                    self.look_elsewhere(at, "the broker does not know the topic")?;
                }
                Ok(Fetched::Elsewhere(why)) => self.look_elsewhere(at, why)?,
                Err(Trouble::Lost(why)) => self.look_elsewhere(at, &why)?,
                Err(Trouble::Fatal(error)) => {
                    self.connection = None;
                    return Err(error);
                }
                Err(Trouble::GivenUp) => {
                    self.connection = None;
                    return Err(self.given_up(at));
                }
            }
            if self.gives_up() {
                return Err(self.given_up(at));
            }
        }
    }

    /// Has the leader asked for anew, in a while.
    fn look_elsewhere(&mut self, at: i64, why: &str) -> Result<()> {
        tracing::debug!("reading {} at offset {at}: {why}", self.range);
        self.reader.brokers.forget(&self.range.topic);
        self.connection = None;
        self.say(at, why);
        self.rest(BACKOFF, at)
    }

    fn kept(&self, at: i64) -> Option<Arc<Chunk>> {
        self.partition.ahead.lock().iter().find(|chunk| chunk.covers(at)).cloned()
    }

    /// Says that a chunk's records were all computed with.
    fn done(&self, chunk: Arc<Chunk>) {
        if chunk.next > self.range.until {
            self.reader.keep(&self.partition, chunk);
        } else {
            self.reader.reuse(chunk);
        }
    }

    /// Notes how large records are here, and where they end.
    fn learn(&self, chunk: &Chunk, end: i64) {
        self.partition.end.fetch_max(end, Ordering::Relaxed);
        let offsets = u64::try_from(chunk.next - chunk.from).unwrap_or(1).max(1);
        self.partition.bytes_per_offset.store((chunk.len() as u64 * 256) / offsets, Ordering::Relaxed);
        self.partition.largest_batch.store(chunk.largest_batch, Ordering::Relaxed);
    }

    /// How much to ask for at `at`, to read on up to `until`: also the rest of the batch that goes on there.
    fn wanted(&self, at: i64, until: i64) -> usize {
        let most = self.reader.fetch_bytes;
        let slack = SLACK.saturating_add(self.partition.largest_batch.load(Ordering::Relaxed));
        self.size_of(at, until).map_or(most, |size| size.saturating_add(slack).min(most))
    }

    /// How many bytes stand from `at` to `until`, judged by what was fetched last.
    fn size_of(&self, at: i64, until: i64) -> Option<usize> {
        let each = self.partition.bytes_per_offset.load(Ordering::Relaxed);
        let offsets = u64::try_from(until - at).unwrap_or(0);
        (each > 0).then(|| usize::try_from(offsets.saturating_mul(each) / 256).unwrap_or(usize::MAX))
    }

    /// Has a request under way for what comes behind `chunk` while the records of `chunk` are computed with. Whatever becomes of it is told
    /// when that is wanted.
    fn ask_behind(&mut self, chunk: &Chunk) {
        if self.asked.is_some() {
            return;
        }
        // Nobody reads on from there any more.
        if let Some(connection) = self.reader.unpark(&self.partition, |at| chunk.covers(at)) {
            self.reader.brokers.give_back(connection);
        }
        let is_slice = matches!(self.purpose, Purpose::Slice);
        let at = chunk.next;
        if at < self.range.until {
            let is_there = || {
                self.kept(at).is_some() || self.partition.parked.lock().as_ref().is_some_and(|it| it.at == at)
            };
            if (is_slice || self.reader.may_park()) && !is_there() {
                let _ = self.ask(at);
            }
        } else if is_slice {
            // What the chunk has behind the slice is there only if it can be kept.
            self.ask_beyond(if self.reader.has_room_for(chunk) { at } else { self.range.until });
        }
    }

    /// Asks for what comes after the slice, and after `at`, if a backlog stands there that nobody has begun to read: the next slice finds
    /// it in the socket.
    fn ask_beyond(&mut self, mut at: i64) {
        let Partition { begun, end, parked, is_fetched_ahead, .. } = &*self.partition;
        let (begun, end) = (begun.load(Ordering::Relaxed), end.load(Ordering::Relaxed));
        let is_asked_for = begun >= self.range.until || is_fetched_ahead.load(Ordering::Relaxed);
        if is_asked_for || parked.lock().is_some() || !self.reader.may_park() {
            return;
        }
        while let Some(kept) = self.kept(at) {
            at = kept.next;
        }
        if self.size_of(at, end).is_some_and(|size| size >= self.reader.fetch_bytes) {
            let _ = self.ask_up_to(at, end);
            self.leave();
        }
    }

    /// Leaves the connection to others, and what is under way on it to whoever reads on there.
    fn leave(&mut self) {
        match (self.connection.take(), self.asked.take()) {
            (Some(connection), Some(at)) => self.reader.park(&self.partition, at, connection),
            (Some(connection), None) => self.reader.brokers.give_back(connection),
            (None, _) => {}
        }
    }

    /// Sends a request for what stands at `at`.
    fn ask(&mut self, at: i64) -> Result<(), Trouble> {
        self.ask_up_to(at, self.range.until)
    }

    fn ask_up_to(&mut self, at: i64, until: i64) -> Result<(), Trouble> {
        self.asked = None;
        let bytes = self.wanted(at, until);
        let brokers = &self.reader.brokers;
        let mut connection = match (self.connection.take(), self.purpose) {
            (Some(connection), _) => connection,
            // To connect may take long.
            (None, Purpose::Ahead(_)) => brokers.lease_idle(self.range).ok_or(Trouble::GivenUp)?,
            (None, _) => brokers.lease(self.range)?,
        };
        fetch::send(&mut connection, &fetch::request(self.range, at, bytes), &mut || self.gives_up())?;
        self.connection = Some(connection);
        self.asked = Some(at);
        Ok(())
    }

    fn fetch(&mut self, at: i64) -> Result<Fetched, Trouble> {
        if self.asked != Some(at) {
            if let Some(connection) = self.reader.unpark(&self.partition, |parked| parked == at) {
                if let Some(other) = self.connection.replace(connection) {
                    self.reader.brokers.give_back(other);
                }
                // Anything else was true when it was asked, and need not be now.
                if let Ok(chunk @ Fetched::Chunk(..)) = self.receive(at) {
                    return Ok(chunk);
                }
                self.connection = None;
            }
            self.ask(at)?;
        }
        self.receive(at)
    }

    /// The response to the request for `at`, which was sent last.
    fn receive(&mut self, at: i64) -> Result<Fetched, Trouble> {
        self.asked = None;
        let Some(mut connection) = self.connection.take() else {
            return Err(Trouble::lost("no connection"));
        };
        let mut buffer = self.reader.buffers.lock().pop().unwrap_or_default();
        let version = connection.receive(&mut buffer, &mut || {
            self.say(at, "no answer yet");
            self.gives_up()
        })?;
        self.connection = Some(connection);
        let (fetched, buffer) = fetch::interpret(buffer, version, self.range, at)?;
        if let Some(buffer) = buffer {
            self.reader.buffers.lock().push(buffer);
        }
        Ok(fetched)
    }

    fn say(&mut self, at: i64, why: &str) {
        if self.waiting.get_or_insert_with(Stopwatch::start).elapsed() >= SAY_EVERY {
            tracing::warn!("still waiting for records of {}, at offset {at}: {why}", self.range);
            self.waiting = None;
        }
    }

    /// Lets `time` pass, unless the context ends.
    fn rest(&self, time: Duration, at: i64) -> Result<()> {
        let watch = Stopwatch::start();
        while watch.elapsed() < time {
            if self.gives_up() {
                return Err(self.given_up(at));
            }
            pause(time.saturating_sub(watch.elapsed()).min(BACKOFF));
        }
        Ok(())
    }

    fn given_up(&self, at: i64) -> Error {
        Error::unavailable(format!("reading {} was given up at offset {at}", self.range))
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
