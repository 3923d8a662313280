//! The job scheduler: one batch after the other, and while one is committed the next one already, if its records are waiting.

use std::sync::Arc;

use super::beside::Beside;
use super::engine::{Batch, Engine};
use super::{BatchInfo, Due, DueBatch};
use crate::commit::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

/// How often a batch is run in all whose transaction is aborted.
const MAX_ATTEMPTS: u32 = 4;

/// What became of a batch's work, if it could begin at all.
type Ran = Result<Result<()>>;

/// Has batches pass through the engine.
pub(crate) struct Scheduler {
    engine: Arc<Engine>,
    beside: Beside,
}

impl Scheduler {
    pub fn new(engine: Engine) -> Self {
        let engine = Arc::new(engine);
        Self { beside: Beside::new(engine.clone()), engine }
    }

    /// Runs the batches that `due` gives until it gives none, or one fails. Then one more, if a graceful stop left something
    /// that was received and is in no batch: it ends early. Without batches before it, it is the one at `first`.
    pub fn run(&mut self, unfinished: Option<Plan>, first: Time, mut due: impl Due) -> Result<()> {
        // A kill between a commit and its publication leaves the group behind.
        self.engine.committer.lock().publish(false)?;
        if let Some(plan) = unfinished {
            tracing::info!(batch_time = plan.time.as_millis(), "running an unfinished batch again");
            let batch = self.submit(plan.time);
            self.run_batch(batch, Some(plan))?;
        }
        let mut next = first;
        while let Some(batch) = self.next(&mut due)? {
            next = batch.time + self.engine.interval;
            self.run_batch(batch, None)?;
        }
        if self.engine.graph.inputs().iter().any(|input| input.has_unplanned()) {
            let batch = self.submit(next);
            self.run_batch(batch, None)?;
            self.wait()?;
        }
        Ok(())
    }

    /// The next batch. Unless it can begin at once, the one before it is committed then.
    fn next(&mut self, due: &mut impl Due) -> Result<Option<DueBatch>> {
        if self.beside.is_busy() {
            if let Some(batch) = due.next_now() {
                return Ok(Some(batch));
            }
            self.wait()?;
        }
        due.next()
    }

    fn submit(&self, time: Time) -> DueBatch {
        let submitted = self.engine.clock.now();
        self.engine.listeners.announce(move |l| l.batch_submitted(&BatchInfo::submitted(time, submitted), 1));
        DueBatch { time, submitted, waiting: 0 }
    }

    /// The last words to the outside after the last batch.
    pub fn finish(&self) -> Result<()> {
        self.engine.committer.lock().publish(true)
    }

    /// Runs a batch. It is committed when this returns; or its commit has begun, if the next batch can make use of that time.
    fn run_batch(&mut self, due: DueBatch, planned: Option<Plan>) -> Result<()> {
        let mut info = BatchInfo::submitted(due.time, due.submitted);
        info.processing_start_time = Some(self.engine.clock.now());
        info.rate_limits = self.engine.rates.lock().limits();
        let mut batch = Batch::new(info, planned);
        let mut ran = batch.span().in_scope(|| self.start(&mut batch, due.waiting));
        match self.before()? {
            Some((before, error)) => ran = self.run_both_again(before, error, &mut batch)?,
            // Its turn has come, whatever became of its work.
            None => ran = self.engine.note(&mut batch).and(ran),
        }
        if matches!(ran, Ok(Ok(()))) && self.may_run_ahead(&batch) {
            self.engine.put_down(&batch);
            self.engine.runner.accumulators().commit_batch();
            if let Some(mut batch) = self.beside.commit(batch) {
                return self.settle(&mut batch, Ok(Ok(())), true);
            }
            self.hold_inputs(true);
            return Ok(());
        }
        self.settle(&mut batch, ran, false)
    }

    /// Whether the next batch may begin before this one is committed. It is worth it only if it is due and records wait for it: what
    /// it would have to wait for, a batch that is planned later takes with it. What accumulators are given is the running batch's.
    fn may_run_ahead(&self, batch: &Batch) -> bool {
        let Engine { planner, runner, clock, interval, .. } = &*self.engine;
        planner.may_run_ahead()
            && planner.has_left_some()
            && batch.time() + *interval <= clock.now()
            && runner.accumulators().is_empty()
            && !runner.is_stopping()
    }

    fn start(&self, batch: &mut Batch, waiting: usize) -> Ran {
        let runs_ahead = self.beside.is_busy();
        if runs_ahead {
            tracing::debug!("the batch begins while the one before it is being committed");
        }
        let began = self.engine.begin(batch, runs_ahead);
        batch.info.phases.push(("plan", batch.watch.elapsed()));
        // Planned or not, it has started.
        batch.submitted = batch.info.clone();
        let started = batch.info.clone();
        self.engine.listeners.announce(move |l| l.batch_started(&started, waiting));
        began.map(|()| self.engine.work(batch))
    }

    /// Waits for the end of the batch before, if it is being committed. Gives it with what went wrong, if it was not.
    fn before(&mut self) -> Result<Option<(Batch, Error)>> {
        if !self.beside.is_busy() {
            return Ok(None);
        }
        let (before, committed) = self.beside.wait()?;
        self.hold_inputs(false);
        if committed.is_ok() {
            // Here, since these are the user's elements, and what is done when they go is the user's, too.
            self.engine.graph.clear(before.time());
        }
        Ok(committed.err().map(|error| (before, error)))
    }

    fn hold_inputs(&self, held: bool) {
        self.engine.graph.inputs().iter().for_each(|input| input.hold(held));
    }

    /// Has the batch before end, while no other has begun.
    fn wait(&mut self) -> Result<()> {
        let Some((mut before, error)) = self.before()? else { return Ok(()) };
        self.engine.runner.turn().reset();
        self.settle(&mut before, Ok(Err(error)), true)
    }

    /// The batch `before` was not committed. It is run again, and after it `batch`, which began meanwhile.
    ///
    /// # Errors
    /// If the batch before failed for good.
    fn run_both_again(&self, mut before: Batch, error: Error, batch: &mut Batch) -> Result<Ran> {
        let engine = &self.engine;
        engine.graph.close();
        if let Err(error) = engine.give_up(batch) {
            tracing::error!(%error, "the state before the batch cannot be found again");
        }
        engine.runner.turn().reset();
        if let Err(error) = self.settle(&mut before, Ok(Err(error)), true) {
            let text = format!("given up, since the one before it failed: {}", error.whole_text());
            engine.finish(batch, &Err(Error::new(error.kind(), text)));
            return Err(error);
        }
        Ok(batch.span().in_scope(|| engine.begin(batch, false).map(|()| engine.work(batch))))
    }

    /// Commits a batch that `ran`, and runs it again if need be. `has_moved_on` says that the next one has begun since.
    fn settle(&self, batch: &mut Batch, ran: Ran, has_moved_on: bool) -> Result<()> {
        let _span = batch.span().entered();
        let outcome = ran.and_then(|outcome| self.attempts(batch, outcome, has_moved_on));
        self.engine.put_down(batch);
        self.engine.graph.clear(batch.time());
        self.engine.finish(batch, &outcome);
        outcome.map_err(|e| e.within(format!("batch {}", batch.time())))
    }

    /// Commits the batch, whose work had this `outcome`; runs it again if its transaction was aborted for something that may pass.
    fn attempts(&self, batch: &mut Batch, mut outcome: Result<()>, mut has_moved_on: bool) -> Result<()> {
        let Engine { runner, committer, .. } = &*self.engine;
        loop {
            let error = match outcome.and_then(|()| self.engine.commit(batch)) {
                Ok(()) => {
                    runner.accumulators().commit_batch();
                    return Ok(());
                }
                Err(error) => error,
            };
            runner.accumulators().discard_batch();
            let may_pass = matches!(error.kind(), ErrorKind::Output | ErrorKind::Unavailable);
            let aborted = committer.lock().abort();
            match aborted {
                Ok(true) if may_pass && batch.attempt < MAX_ATTEMPTS && !runner.is_out_of_time() => {
                    tracing::warn!(
                        batch_time = batch.time().as_millis(),
                        attempt = batch.attempt,
                        error = %error,
                        "the batch's transaction was aborted, running the batch again"
                    );
                    self.engine.give_up(batch)?;
                    batch.attempt += 1;
                    if std::mem::take(&mut has_moved_on) {
                        self.engine.begin(batch, false)?;
                    }
                    outcome = self.engine.work(batch);
                }
                Ok(_) => return Err(error),
                Err(aborting) => {
                    return Err(Error::new(error.kind(), format!("{error}; {aborting}")).with_source(error));
                }
            }
        }
    }
}
