//! Initialized → active → stopped, and the two threads that live in between.

use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};

use parking_lot::{Condvar, Mutex};

use super::backlog::{backlog, check_ends, followed};
use super::due::{ByClock, ByRecords};
use super::{StreamingContext, inputs};
use crate::batch::{
    BatchInfo, BatchQueue, CLOCK_PATIENCE, DueBatch, Engine, Intervals, RateControllers, Scheduler, generate,
};
use crate::commit::{Committer, Parts, Planner, Recovered, check_interval};
use crate::error::{Error, ErrorKind, Result};
use crate::state::{StateDb, cache_share, check_names};
use crate::time::{Duration, Time};

/// Where a context is in its life (Spark's `StreamingContextState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextState {
    /// Operators may be added.
    Initialized,
    /// Batches run.
    Active,
    /// No batch will run any more.
    Stopped,
}

#[derive(Default)]
pub(crate) struct Lifecycle {
    phase: Mutex<Phase>,
    changed: Condvar,
    queue: Arc<BatchQueue>,
}

#[derive(Default)]
struct Phase {
    started: bool,
    stopping: bool,
    stopped: bool,
    failure: Option<(ErrorKind, String)>,
    /// Whether it ends as if the process had been killed: the outside is told nothing more.
    abandoned: bool,
    /// Operators that were made too late, or with wrong arguments.
    mistake: Option<(ErrorKind, String)>,
    threads: Vec<JoinHandle<()>>,
    /// Those that run batches: they cannot wait for their own end.
    engine: Vec<ThreadId>,
}

impl Phase {
    fn failure(&self) -> Result<()> {
        match (&self.failure, &self.mistake) {
            (Some((kind, message)), _) => Err(Error::new(*kind, message.clone())),
            (None, Some((kind, mistake))) => Err(Error::new(*kind, mistake.clone())),
            (None, None) => Ok(()),
        }
    }
}

impl Lifecycle {
    pub fn state(&self) -> ContextState {
        let phase = self.phase.lock();
        match (phase.started, phase.stopped) {
            (_, true) => ContextState::Stopped,
            (true, false) => ContextState::Active,
            (false, false) => ContextState::Initialized,
        }
    }

    /// Runs `add` if operators may still be added; else notes the mistake, which `start`, `stop` and
    /// `await_termination` then tell.
    pub fn admit(&self, operator: &str, add: impl FnOnce()) -> bool {
        let mut phase = self.phase.lock();
        if phase.started || phase.stopped {
            let state = if phase.stopped { "stopped" } else { "active" };
            let mistake =
                format!("`{operator}` was added to a context that is {state}: add operators before start");
            tracing::error!("{mistake}");
            phase.mistake.get_or_insert((ErrorKind::Usage, mistake));
            return false;
        }
        add();
        true
    }

    /// Notes that an operator got an argument that makes no sense, where it could give no error: `start` tells it.
    pub fn refuse(&self, mistake: String) {
        tracing::error!("{mistake}");
        self.phase.lock().mistake.get_or_insert((ErrorKind::Config, mistake));
    }

    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut phase = self.phase.lock();
        while !phase.stopped {
            match timeout {
                None => self.changed.wait(&mut phase),
                Some(timeout) => {
                    if self.changed.wait_for(&mut phase, timeout.to_std()).timed_out() && !phase.stopped {
                        return Ok(false);
                    }
                }
            }
        }
        // The threads have nothing left to do but to let go of the context, and of its checkpoint.
        let threads = std::mem::take(&mut phase.threads);
        let outcome = phase.failure();
        drop(phase);
        threads.into_iter().for_each(join);
        outcome.map(|()| true)
    }

    /// What stopped the context, if anything went wrong.
    pub fn failure(&self) -> Result<()> {
        self.phase.lock().failure()
    }

    /// From now on, the context ends as if the process had been killed.
    pub fn abandon(&self) {
        self.phase.lock().abandoned = true;
    }

    /// The batches that the clock gave.
    pub fn queue(&self) -> &BatchQueue {
        &self.queue
    }

    /// Whether the context is to stop.
    pub fn is_stopping(&self) -> bool {
        self.phase.lock().stopping
    }
}

pub(super) fn start(ssc: &StreamingContext) -> Result<()> {
    let lifecycle = &ssc.inner.lifecycle;
    {
        let mut phase = lifecycle.phase.lock();
        if phase.stopped || phase.stopping {
            return Err(Error::usage(
                "the context was stopped, and a stopped context cannot be started again",
            ));
        }
        if phase.started {
            return Ok(());
        }
        phase.failure()?;
        phase.started = true;
    }
    let prepared = prepare(ssc);
    match prepared.and_then(|(scheduler, recovered, by_time)| launch(ssc, scheduler, recovered, by_time)) {
        Ok(()) => {
            ssc.note_started();
            Ok(())
        }
        Err(error) => {
            // Those that had started already.
            ssc.inner.graph.inputs().iter().for_each(|input| input.stop(false));
            let mut phase = lifecycle.phase.lock();
            phase.stopped = true;
            phase.failure = Some((error.kind(), error.whole_text()));
            lifecycle.changed.notify_all();
            Err(error)
        }
    }
}

/// Connects everything and restores what the checkpoint holds.
fn prepare(ssc: &StreamingContext) -> Result<(Scheduler, Recovered, Option<Intervals>)> {
    let inner = &ssc.inner;
    inner.graph.freeze();
    if inner.graph.outputs().is_empty() {
        return Err(Error::config(
            "no output operation was registered, so there is nothing to run: add `print`, `foreach_rdd`, …",
        ));
    }
    inner.graph.announce_dead_letter_topics()?;
    let wanted = inner.graph.wanted();
    check_names(&wanted, &inner.settings.removed_state)?;
    if inner.graph.sinks().iter().filter(|sink| sink.is_transactional()).count() > 1 {
        return Err(Error::config(
            "two Kafka sinks under exactly-once delivery: an application has one producer, whose transaction holds all \
             outputs; use one sink for all topics",
        ));
    }
    check_ends(&inner.graph.inputs())?;
    inputs::check_uids(&inner.graph.inputs())?;
    let intervals = Intervals::of(inner.graph.inputs(), inner.clock.clone(), ssc.batch_interval())?;
    let outputs = inner.graph.outputs();
    let parts = Arc::new(Parts {
        app: ssc.app_name().to_owned(),
        db: inner.db.clone(),
        inputs: inner.graph.inputs(),
        sinks: inner.graph.sinks(),
        clock: inner.clock.clone(),
        offsets: inner.settings.offsets,
        has_external_outputs: outputs.iter().any(|output| output.is_external),
    });
    let mut committer = Committer::new(parts.clone());
    let operators = inner.graph.stateful();
    let settings = &inner.settings;
    let volatile = match &inner.db {
        None if !operators.is_empty() => {
            let (partitions, memory) = (settings.state_partitions, settings.state_memory_limit);
            Some(Arc::new(StateDb::in_memory(&settings.app_name, partitions, memory)?))
        }
        _ => None,
    };
    let store = inner.db.as_ref().or(volatile.as_ref());
    // Before anything is changed, or an older instance fenced.
    let comparison = store.map(|store| store.compare(&wanted, &settings.removed_state));
    if let (Some(db), Some(comparison)) = (&inner.db, &comparison) {
        comparison.tell();
        comparison.check(db)?;
        inputs::tell_of_orphaned_blocks(db, &inner.graph.inputs())?;
    }
    // A batch whose transaction was committed becomes part of the state here, as the former program had it.
    let recovered = committer.recover()?;
    check_interval(recovered.unfinished.as_ref(), ssc.batch_interval())?;
    if let (Some(store), Some(comparison)) = (store, &comparison) {
        store.adopt(comparison, wanted)?;
        let cache = cache_share(settings.state_memory_limit) / operators.len().max(1);
        operators.iter().try_for_each(|operator| operator.restore(store, recovered.last, cache))?;
    }
    let scheduler = Scheduler::new(Engine {
        graph: inner.graph.clone(),
        planner: Planner::new(parts),
        committer: Mutex::new(committer),
        runner: inner.runner.clone(),
        clock: inner.clock.clone(),
        listeners: inner.listeners.clone(),
        volatile,
        interval: ssc.batch_interval(),
        rates: Mutex::new(RateControllers::new(
            &inner.graph.inputs(),
            ssc.batch_interval(),
            &settings.backpressure,
        )),
    });
    Ok((scheduler, recovered, intervals))
}

fn launch(
    ssc: &StreamingContext,
    mut scheduler: Scheduler,
    recovered: Recovered,
    intervals: Option<Intervals>,
) -> Result<()> {
    let interval = ssc.batch_interval();
    let last = recovered.unfinished.as_ref().map(|p| p.time).max(recovered.last);
    let now = ssc.inner.clock.now();
    let mut first = match (&intervals, last) {
        (None, _) => now.floor(interval) + interval,
        (Some(intervals), None) => intervals.first()?,
        // The intervals that were missed are run, too.
        (Some(_), Some(last)) => last.floor(interval) + interval,
    };
    if let Some(last) = last
        && now.floor(interval) + interval <= last
    {
        let behind = last - now;
        // The last batch of a graceful stop is up to an interval early.
        if behind > CLOCK_PATIENCE.max(interval) {
            return Err(Error::checkpoint(format!(
                "the clock is {behind} behind the last batch of the checkpoint ({last}): set the clock right"
            )));
        }
        if behind > interval {
            tracing::warn!("the clock is {behind} behind the last batch of the checkpoint, waiting");
        }
        first = last.floor(interval) + interval;
    }
    tracing::info!(
        app = ssc.app_name(),
        interval = %interval,
        first_batch = first.as_millis(),
        recovered = recovered.last.map(|time| time.as_millis()),
        "streaming started"
    );
    ssc.inner.listeners.announce(move |l| l.streaming_started(now, interval));

    let mut phase = ssc.inner.lifecycle.phase.lock();
    if phase.stopping {
        // Stopped while it was starting: nothing has run, and what was started since then was not told.
        drop(phase);
        ssc.inner.graph.inputs().iter().for_each(|input| input.stop(false));
        ssc.inner.lifecycle.phase.lock().stopped = true;
        ssc.inner.lifecycle.changed.notify_all();
        return Ok(());
    }
    let inputs = ssc.inner.graph.inputs();
    let log = followed(&inputs, last);
    if intervals.is_none() && log.is_none() {
        let generator = ssc.clone();
        phase.threads.push(spawn("tidemill-generator", move || {
            let inner = &generator.inner;
            let queue = &inner.lifecycle.queue;
            let stopping = || inner.lifecycle.is_stopping();
            let submit = |time| submit(&generator, queue, time);
            if let Err(error) = generate(&*inner.clock, first, interval, &stopping, submit) {
                tracing::error!("{error}");
                let mut phase = inner.lifecycle.phase.lock();
                phase.failure.get_or_insert((error.kind(), error.to_string()));
                phase.stopping = true;
                drop(phase);
                // The scheduler ends the context after the batches that wait.
                queue.close(false);
            }
        })?);
    }
    let context = ssc.clone();
    phase.threads.push(spawn("tidemill-scheduler", move || {
        let lifecycle = &context.inner.lifecycle;
        let submit = |time| submitted(&context, time);
        let outcome = match (log, intervals) {
            (Some(times), _) => {
                let mut times = times.into_iter();
                scheduler.run(recovered.unfinished, first, || {
                    let time = times.next().filter(|_| !lifecycle.is_stopping());
                    Ok(time.map(submit))
                })
            }
            (None, None) => {
                let backlog = backlog(&inputs, last, now, interval);
                scheduler.run(recovered.unfinished, first, ByClock::new(&inputs, backlog, lifecycle, &submit))
            }
            (None, Some(intervals)) => {
                let is_first = recovered.last.is_none() && recovered.unfinished.is_none();
                let due = ByRecords::new(&context, intervals, (first, is_first), &submit);
                scheduler.run(recovered.unfinished, first, due)
            }
        };
        // After a failure, too, nothing is received any more.
        context.inner.graph.inputs().iter().for_each(|input| input.stop(false));
        // After a failed batch the positions of the last good one are published all the same.
        let published = if lifecycle.phase.lock().abandoned { Ok(()) } else { scheduler.finish() };
        let mut phase = lifecycle.phase.lock();
        if let Err(error) = outcome.and(published) {
            phase.failure.get_or_insert((error.kind(), error.whole_text()));
        }
        phase.stopping = true;
        phase.stopped = true;
        lifecycle.changed.notify_all();
        drop(phase);
        lifecycle.queue.close(true);
        context.inner.clock.wake();
    })?);
    phase.engine = phase.threads.iter().map(|thread| thread.thread().id()).collect();
    Ok(())
}

/// The batch `time`, which nothing keeps waiting.
fn submitted(ssc: &StreamingContext, time: Time) -> DueBatch {
    let submitted = ssc.inner.clock.now();
    ssc.inner.listeners.announce(move |l| l.batch_submitted(&BatchInfo::submitted(time, submitted), 1));
    DueBatch { time, submitted, waiting: 0 }
}

fn submit(ssc: &StreamingContext, queue: &BatchQueue, time: Time) {
    let now = ssc.inner.clock.now();
    // Announced first: once it is in the queue it may start, and even complete.
    let waiting = queue.waiting() + 1;
    let info = BatchInfo::submitted(time, now);
    ssc.inner.listeners.announce(move |l| l.batch_submitted(&info, waiting));
    queue.push(time, now);
}

pub(super) fn stop(ssc: &StreamingContext, gracefully: bool) -> Result<()> {
    let lifecycle = &ssc.inner.lifecycle;
    let mut threads = {
        refuse_inside_a_batch(ssc, "stop")?;
        let mut phase = lifecycle.phase.lock();
        phase.stopping = true;
        if !phase.started {
            phase.stopped = true;
        }
        std::mem::take(&mut phase.threads)
    };
    if !gracefully {
        lifecycle.queue.close(true);
    }
    // A broker that is away is not waited for for ever.
    ssc.inner.runner.stop();
    ssc.inner.graph.inputs().iter().for_each(|input| input.stop(gracefully));
    ssc.inner.clock.wake();
    if !threads.is_empty() {
        // The generator first, if there is one: it may still have due batches to hand over.
        join(threads.remove(0));
        lifecycle.queue.close(false);
        threads.into_iter().for_each(join);
    }
    lifecycle.changed.notify_all();
    lifecycle.wait(None).map(|_| ())
}

/// # Errors
/// If this is called by what a batch runs, on whichever of its threads: it would wait for itself.
pub(super) fn refuse_inside_a_batch(ssc: &StreamingContext, what: &str) -> Result<()> {
    let own = std::thread::current().id();
    if ssc.inner.lifecycle.phase.lock().engine.contains(&own) || ssc.inner.runner.is_worker() {
        return Err(Error::usage(format!(
            "a batch cannot {what} the context that waits for it: {what} from another thread"
        )));
    }
    Ok(())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|e| Error::internal(format!("cannot start the thread {name}")).with_source(e))
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the engine panicked");
    }
}
