//! The worker pool: runs one task per partition, tries a failed one again, and keeps the side
//! effects of successful attempts only.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indexmap::IndexMap;
use parking_lot::Mutex;
use rayon::prelude::*;

use super::blame::caught;
use super::counted::Weigh;
use super::letters::{BadRecords, Letters};
use super::{Disk, Flow, Rdd, Stop, StorageMemory};
use crate::batch::Turn;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::{Accumulators, Additions, add_to_attempt, in_attempt};
use crate::source::{DeadLetter, OffsetRange};
use crate::time::{Stopwatch, Time};

/// What has waited for less than this may just be slow, however long the stop takes.
const SLOW: Duration = Duration::from_secs(5);

/// What tasks leave behind besides their elements; merged once per successful attempt.
#[derive(Default, Clone)]
pub(crate) struct Effects {
    /// By place, so that a slice that was read twice in a batch counts once.
    pub slices: BTreeMap<(Arc<str>, i32, i64), SliceStats>,
    pub bad_records: BadRecords,
    /// How many records an operator gave in a partition of a batch, if that is counted.
    pub given: BTreeMap<(Time, usize, usize), u64>,
    /// What was added to accumulators, by address: a cached partition's may come in several times.
    additions: IndexMap<usize, Arc<Additions>, ahash::RandomState>,
}

/// What reading one slice showed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SliceStats {
    pub records: u64,
    pub bytes: u64,
    pub last_timestamp: Option<i64>,
    pub late: u64,
    pub future: u64,
}

impl Effects {
    /// Forgets what lies outside `ranges`, and lines of other batches than `time`: reading the slice of an earlier batch again is
    /// no news of this one.
    pub fn keep_within(&mut self, ranges: &[OffsetRange], time: Time) {
        let inside = |topic: &str, partition: i32, offset: i64| {
            ranges.iter().any(|r| {
                *r.topic == *topic && r.partition == partition && (r.from..r.until).contains(&offset)
            })
        };
        self.slices.retain(|(topic, partition, from), _| inside(topic, *partition, *from));
        self.bad_records.retain(|topic, partition, read_in| match read_in {
            Some(batch) if batch == time => std::iter::once(i64::MIN..i64::MAX).collect(),
            Some(_) => Vec::new(),
            None => {
                let own = ranges.iter().filter(|r| *r.topic == *topic && r.partition == partition);
                own.map(|r| r.from..r.until).collect()
            }
        });
    }

    fn merge(&mut self, other: Effects) {
        for (place, stats) in other.slices {
            // An operator that wanted little of a slice says less than one that read all of it.
            let kept = self.slices.entry(place).or_default();
            if stats.records >= kept.records {
                *kept = stats;
            }
        }
        self.bad_records.merge(other.bad_records);
        for (place, records) in other.given {
            // Likewise.
            let kept = self.given.entry(place).or_default();
            *kept = records.max(*kept);
        }
        self.additions.extend(other.additions);
    }

    fn add(&mut self, additions: Vec<Arc<Additions>>) {
        self.additions.extend(additions.into_iter().map(|a| (Arc::as_ptr(&a).addr(), a)));
    }
}

/// One attempt at computing one partition.
pub(crate) struct TaskContext {
    pub partition: usize,
    effects: RefCell<Effects>,
    letters: Arc<Letters>,
}

impl TaskContext {
    /// Runs `body` as an attempt at `partition`, and gives what it left behind beside its result.
    fn run<R>(
        partition: usize,
        letters: &Arc<Letters>,
        body: impl FnOnce(&TaskContext) -> R,
    ) -> (R, Effects) {
        let context = Self { partition, effects: RefCell::default(), letters: letters.clone() };
        let (result, additions) = in_attempt(|| body(&context));
        let mut effects = context.effects.into_inner();
        effects.add(additions);
        (result, effects)
    }

    /// Runs `body` with a context of its own, and gives what it left there beside its result.
    pub fn apart<R>(&self, body: impl FnOnce(&TaskContext) -> R) -> (R, Effects) {
        Self::run(self.partition, &self.letters, body)
    }

    /// Adds what was left by work that this task makes use of.
    pub fn adopt(&self, effects: Effects) {
        self.effects.borrow_mut().merge(effects);
    }

    pub fn slice_read(&self, range: &OffsetRange, stats: SliceStats) {
        let place = (range.topic.clone(), range.partition, range.from);
        self.effects.borrow_mut().slices.insert(place, stats);
    }

    /// An operator gave so many records in a partition of a batch.
    pub fn gave(&self, place: (Time, usize, usize), records: u64) {
        let mut effects = self.effects.borrow_mut();
        let kept = effects.given.entry(place).or_default();
        *kept = records.max(*kept);
    }

    /// A record could not be used: the one at `offset`, which the batch `read_in` has read if offsets do not tell that. What is to
    /// become of it is in its `letter`; without one it is only counted.
    ///
    /// # Errors
    /// `Unavailable` if the letter can be kept nowhere.
    pub fn bad_record(
        &self,
        (topic, partition, offset): (&Arc<str>, i32, i64),
        read_in: Option<Time>,
        letter: Option<&DeadLetter>,
    ) -> Result<()> {
        let letter = letter.map(|letter| self.letters.keep(letter)).transpose()?;
        let source = (topic.clone(), partition, read_in);
        self.effects.borrow_mut().bad_records.insert(source, offset, letter);
        Ok(())
    }
}

/// A fixed pool of worker threads.
pub(crate) struct Runner {
    pool: rayon::ThreadPool,
    max_attempts: u32,
    effects: Mutex<Effects>,
    accumulators: Accumulators,
    turn: Arc<Turn>,
    cancelled: AtomicBool,
    /// Since when the context is to stop.
    stopping: OnceLock<Stopwatch>,
    caught_up: AtomicBool,
    storage_memory: Arc<StorageMemory>,
    disk: Disk,
    letters: Arc<Letters>,
    weigh: OnceLock<Weigh>,
}

impl Runner {
    /// How long a stop lets the running batch wait for something outside that does not answer. It is run again at the next start.
    pub const STOP_PATIENCE: Duration = Duration::from_secs(20);

    /// A pool of `worker_threads`, and `storage_memory` bytes for persisted partitions. Letters that do not fit in memory go to a
    /// file in `folder`; in that of the system for temporary files, if none is given.
    pub fn new(
        worker_threads: usize,
        max_attempts: u32,
        storage_memory: u64,
        folder: Option<PathBuf>,
    ) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(worker_threads)
            .thread_name(|i| format!("tidemill-worker-{i}"))
            .build()
            .map_err(|e| Error::internal("cannot start the worker threads").with_source(e))?;
        let disk = Disk::new(&folder.unwrap_or_else(std::env::temp_dir));
        Ok(Self {
            pool,
            max_attempts,
            effects: Mutex::default(),
            accumulators: Accumulators::default(),
            turn: Arc::default(),
            cancelled: AtomicBool::new(false),
            stopping: OnceLock::new(),
            caught_up: AtomicBool::new(true),
            storage_memory: Arc::new(StorageMemory::new(storage_memory)),
            letters: Arc::new(Letters::new(&disk)),
            disk,
            weigh: OnceLock::new(),
        })
    }

    /// Has the records that operators give counted from now on. Costs a few nanoseconds per record and operator.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "the streaming page asks for it"))]
    pub fn count_records(&self, weigh: Weigh) {
        // Whoever comes second finds it done.
        let _ = self.weigh.set(weigh);
    }

    pub fn weigh(&self) -> Option<Weigh> {
        self.weigh.get().copied()
    }

    pub fn storage_memory(&self) -> &Arc<StorageMemory> {
        &self.storage_memory
    }

    /// How many bytes did not fit in memory and went to temporary files.
    pub fn spilled(&self) -> &Arc<AtomicU64> {
        self.disk.spilled()
    }

    /// Where temporary files are.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What the running batch's tasks leave behind for dead-letter topics.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// The accumulators that tasks add to.
    pub fn accumulators(&self) -> &Accumulators {
        &self.accumulators
    }

    /// The running batch's turn to change state and hand over output.
    pub fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    /// How many threads run tasks.
    pub fn worker_threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Whether this thread is one of those that run tasks.
    pub fn is_worker(&self) -> bool {
        self.pool.current_thread_index().is_some()
    }

    /// Takes what the tasks left behind since the last call.
    pub fn take_effects(&self) -> Effects {
        std::mem::take(&mut self.effects.lock())
    }

    /// Makes tasks that wait for something outside give up.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Says whether the running batch has read what stood in the inputs at start.
    pub fn set_caught_up(&self, caught_up: bool) {
        self.caught_up.store(caught_up, Ordering::Relaxed);
    }

    /// Whether all that stood in the inputs at start has been read. Until then nothing times out: a waiting record
    /// may be what keeps a key alive.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Says that the context is to stop: what waits for something outside has no more than [`STOP_PATIENCE`](Self::STOP_PATIENCE) left.
    pub fn stop(&self) {
        self.stopping.get_or_init(Stopwatch::start);
    }

    /// Whether the context is to stop. What only looks ahead need not wait then.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get().is_some()
    }

    /// Whether what failed is not to be tried again, for want of time.
    pub fn is_out_of_time(&self) -> bool {
        self.is_cancelled() || self.stopping.get().is_some_and(|since| since.elapsed() >= Self::STOP_PATIENCE)
    }

    /// Whether what has waited for an answer for so long is to give up.
    pub fn gives_up(&self, waited: Duration) -> bool {
        self.is_cancelled() || (waited >= SLOW && self.is_out_of_time())
    }

    /// Runs `task`, which works on the elements alone, for each partition of `rdd` in parallel; the results stand in partition
    /// order.
    pub fn run<T, R, F>(&self, rdd: &Rdd<T>, task: F) -> Result<Vec<R>>
    where
        R: Send,
        F: Fn(usize, &TaskContext) -> Result<R> + Sync,
    {
        rdd.node.prepare(self)?;
        let partitions = rdd.node.num_partitions();
        if !rdd.node.has_nothing() {
            return self.run_tasks(partitions, task);
        }
        // To wake other threads would take longer.
        let done: Result<Vec<_>> = (0..partitions).map(|partition| self.attempt(partition, &task)).collect();
        Ok(self.kept(done?))
    }

    /// Runs `task` for 0, 1, … `count` - 1 in parallel, each up to the allowed number of attempts. If one fails at its last,
    /// nothing of the others shows either.
    pub fn run_tasks<R, F>(&self, count: usize, task: F) -> Result<Vec<R>>
    where
        R: Send,
        F: Fn(usize, &TaskContext) -> Result<R> + Sync,
    {
        self.run_some(0..count, task)
    }

    /// As [`run_tasks`](Runner::run_tasks), for these partitions only.
    pub fn run_some<R, F>(&self, partitions: Range<usize>, task: F) -> Result<Vec<R>>
    where
        R: Send,
        F: Fn(usize, &TaskContext) -> Result<R> + Sync,
    {
        // What tasks log is of the batch and operator that made them run.
        let span = tracing::Span::current();
        let attempt = |i| span.in_scope(|| self.attempt(i, &task));
        let done: Result<Vec<_>> = match partitions.len() {
            0 => return Ok(Vec::new()),
            // A single task needs no hand-over to another thread when this is a worker already.
            1 => self.pool.install(|| attempt(partitions.start)).map(|r| vec![r]),
            // One by one: whoever has nothing left takes over what another one has not begun.
            _ => self.pool.install(|| partitions.into_par_iter().with_max_len(1).map(attempt).collect()),
        };
        Ok(self.kept(done?))
    }

    /// Keeps what successful tasks left behind, in their order, and gives their results.
    fn kept<R>(&self, done: Vec<(R, Effects)>) -> Vec<R> {
        let mut left = Effects::default();
        let mut results = Vec::with_capacity(done.len());
        for (result, effects) in done {
            results.push(result);
            left.merge(effects);
        }
        self.count(std::mem::take(&mut left.additions).into_values().collect());
        self.effects.lock().merge(left);
        results
    }

    /// Counts what was added to accumulators, unless an attempt is under way here that may still fail.
    fn count(&self, additions: Vec<Arc<Additions>>) {
        self.accumulators.count(add_to_attempt(additions));
    }

    /// Runs `first`, then `second` for 0, 1, … `count` - 1 in parallel, which takes what `first` made and so cannot
    /// be tried again by itself: when one fails, all is run again, up to the allowed number of attempts.
    pub fn run_two_stages<A: Sync, R: Send>(
        &self,
        count: usize,
        first: impl Fn() -> Result<A>,
        second: impl Fn(&A, usize) -> R + Sync,
    ) -> Result<Vec<R>> {
        let mut attempt = 1;
        loop {
            let (outcome, additions) = in_attempt(|| {
                let made = first().map_err(Err)?;
                let task = |partition| {
                    let (result, effects) = TaskContext::run(partition, &self.letters, |_| {
                        caught(|| Ok(second(&made, partition)))
                    });
                    let place = || format!("task of partition {partition}, attempt {attempt}");
                    Ok((result.map_err(|error| error.within(place()))?, effects))
                };
                let done: Result<Vec<_>> =
                    self.pool.install(|| (0..count).into_par_iter().map(task).collect());
                done.map(|done| self.kept(done)).map_err(Ok)
            });
            // Tasks of the first stage have had their own attempts.
            let outcome = match outcome {
                Err(Err(of_first)) => return Err(of_first),
                Err(Ok(error)) => Err(error),
                Ok(results) => Ok(results),
            };
            match outcome {
                Err(error) if attempt < self.max_attempts && !self.is_out_of_time() => {
                    tracing::warn!(attempt, error = %error, "task failed, running its stage again");
                    attempt += 1;
                }
                outcome => {
                    self.count(additions);
                    return outcome;
                }
            }
        }
    }

    fn attempt<R>(
        &self,
        partition: usize,
        task: &(impl Fn(usize, &TaskContext) -> Result<R> + Sync),
    ) -> Result<(R, Effects)> {
        let mut attempt = 1;
        loop {
            let (result, effects) =
                TaskContext::run(partition, &self.letters, |context| caught(|| task(partition, context)));
            match result {
                Ok(result) => return Ok((result, effects)),
                Err(error)
                    if error.kind() == ErrorKind::Task
                        && attempt < self.max_attempts
                        && !self.is_out_of_time() =>
                {
                    tracing::warn!(partition, attempt, error = %error, "task failed, trying it again");
                    attempt += 1;
                }
                Err(error) => {
                    return Err(error.within(format!("task of partition {partition}, attempt {attempt}")));
                }
            }
        }
    }
}

/// The result of a partition's computation, told apart from a consumer that had enough.
pub(crate) fn finished(flow: Flow) -> Result<()> {
    match flow {
        Ok(()) | Err(Stop::Enough) => Ok(()),
        Err(Stop::Failed(error)) => Err(*error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_of_another_batchs_slices_is_no_effect_of_this_one() {
        let range = |partition, from, until| OffsetRange { topic: "t".into(), partition, from, until };
        let letters = Arc::new(Letters::new(&Disk::new(&std::env::temp_dir())));
        let ((), mut effects) = TaskContext::run(0, &letters, |context| {
            for read in [range(0, 5, 9), range(0, 9, 12), range(1, 9, 12)] {
                context.slice_read(&read, SliceStats::default());
            }
        });
        effects.keep_within(&[range(0, 9, 12), range(1, 0, 9)], Time::from_millis(1_000));
        let kept: Vec<_> = effects.slices.keys().map(|(_, partition, from)| (*partition, *from)).collect();
        assert_eq!(kept, [(0, 9)]);
    }
}
