//! The job scheduler: runs one batch after the other, from plan to commit.

use std::sync::Arc;

use super::{BatchInfo, DueBatch, ListenerBus, OutputOperationInfo, RateControllers};
use crate::commit::{Committer, Plan};
use crate::context::Graph;
use crate::error::{Error, ErrorKind, Result};
use crate::rdd::{Operator, Runner, caught};
use crate::source::InputPlan;
use crate::state::{Delta, StateDb};
use crate::time::{Clock, Duration, Stopwatch, Time};

/// How often a batch is run in all whose transaction is aborted.
const MAX_ATTEMPTS: u32 = 4;

/// Everything that a batch passes through.
pub(crate) struct Scheduler {
    pub graph: Arc<Graph>,
    pub committer: Committer,
    pub runner: Arc<Runner>,
    pub clock: Arc<dyn Clock>,
    pub listeners: Arc<ListenerBus>,
    /// The state of a context without a checkpoint.
    pub volatile: Option<Arc<StateDb>>,
    pub interval: Duration,
    pub rates: RateControllers,
    /// How long the last batch's operators and output operations took, by the clock.
    pub worked: Duration,
}

impl Scheduler {
    /// Runs the batches that `due` gives until it gives none, or one fails. Then one more, if a graceful stop left something
    /// that was received and is in no batch: it ends early. Without batches before it, it is the one at `first`.
    pub fn run(
        &mut self,
        unfinished: Option<Plan>,
        first: Time,
        mut due: impl FnMut() -> Result<Option<DueBatch>>,
    ) -> Result<()> {
        // A kill between a commit and its publication leaves the group behind.
        self.committer.publish(false)?;
        if let Some(plan) = unfinished {
            tracing::info!(batch_time = plan.time.as_millis(), "running an unfinished batch again");
            let (time, now) = (plan.time, self.clock.now());
            self.listeners.announce(move |l| l.batch_submitted(&BatchInfo::submitted(time, now), 1));
            self.run_batch(time, now, Some(plan), 0)?;
        }
        let mut next = first;
        while let Some(DueBatch { time, submitted, waiting }) = due()? {
            self.run_batch(time, submitted, None, waiting)?;
            next = time + self.interval;
        }
        if self.graph.inputs().iter().any(|input| input.has_unplanned()) {
            let now = self.clock.now();
            self.listeners.announce(move |l| l.batch_submitted(&BatchInfo::submitted(next, now), 1));
            self.run_batch(next, now, None, 0)?;
        }
        Ok(())
    }

    /// The last words to the outside after the last batch.
    pub fn finish(&self) -> Result<()> {
        self.committer.publish(true)
    }

    fn run_batch(
        &mut self,
        time: Time,
        submitted: Time,
        planned: Option<Plan>,
        waiting: usize,
    ) -> Result<()> {
        // Every line of the log that comes of this batch says so, also those of its tasks.
        let _span = tracing::info_span!("batch", batch_time = time.as_millis()).entered();
        let mut info = BatchInfo::submitted(time, submitted);
        info.processing_start_time = Some(self.clock.now());
        let watch = Stopwatch::start();
        let outcome = self.attempts(time, planned, waiting, &mut info);
        self.graph.clear(time);
        self.runner.letters().clear();
        if outcome.is_err()
            && let Err(error) = self.graph.forget(time)
        {
            tracing::error!(error = %error, "the state before the batch cannot be found again");
        }
        info.processing_end_time = Some(self.clock.now());
        info.processing_duration = Some(watch.elapsed());
        info.failure = outcome.as_ref().err().map(Error::whole_text);
        info.failure_kind = outcome.as_ref().err().map(Error::kind);
        info.rate_limits = self.rates.limits();
        if outcome.is_ok() {
            self.rates.completed(&info, self.worked);
        }
        let records = info.num_records;
        self.listeners.announce(move |l| l.batch_completed(&info));
        match &outcome {
            Ok(()) => tracing::debug!(
                batch_time = time.as_millis(),
                records,
                milliseconds = watch.elapsed().as_millis() as u64,
                "batch completed"
            ),
            Err(error) => tracing::error!(batch_time = time.as_millis(), error = %error, "batch failed"),
        }
        outcome.map_err(|e| e.within(format!("batch {time}")))
    }

    /// Runs the batch, again if its transaction was aborted for something that may pass.
    fn attempts(
        &mut self,
        time: Time,
        planned: Option<Plan>,
        waiting: usize,
        info: &mut BatchInfo,
    ) -> Result<()> {
        let watch = Stopwatch::start();
        let plan = self.plan(time, planned, info);
        info.phases.push(("plan", watch.elapsed()));
        // Planned or not, it has started.
        let started = info.clone();
        let submitted = info.clone();
        self.listeners.announce(move |l| l.batch_started(&started, waiting));
        let plan = plan?;
        let mut attempt = 1;
        loop {
            info.attempts = attempt;
            self.runner.accumulators().begin_batch();
            let error = match self.phases(&plan, info) {
                Ok(()) => {
                    self.runner.accumulators().commit_batch();
                    return Ok(());
                }
                Err(error) => error,
            };
            self.runner.accumulators().discard_batch();
            let may_pass = matches!(error.kind(), ErrorKind::Output | ErrorKind::Unavailable);
            match self.committer.abort() {
                Ok(true) if may_pass && attempt < MAX_ATTEMPTS && !self.runner.is_out_of_time() => {
                    tracing::warn!(
                        batch_time = time.as_millis(),
                        attempt,
                        error = %error,
                        "the batch's transaction was aborted, running the batch again"
                    );
                    self.graph.forget(time)?;
                    self.runner.take_effects();
                    *info = submitted.clone();
                    attempt += 1;
                }
                Ok(_) => return Err(error),
                Err(aborting) => {
                    return Err(Error::new(error.kind(), format!("{error}; {aborting}")).with_source(error));
                }
            }
        }
    }

    fn phases(&mut self, plan: &Plan, info: &mut BatchInfo) -> Result<()> {
        let time = plan.time;
        let began = self.clock.now();
        let mut watch = Stopwatch::start();
        let mut lap = |info: &mut BatchInfo, phase| {
            info.phases.push((phase, watch.elapsed()));
            watch = Stopwatch::start();
        };
        self.graph.sinks().iter().for_each(|sink| sink.begin(time));
        let mut delta = Delta::default();
        let mut failed: Option<Error> = None;
        for operator in self.graph.stateful().iter() {
            let _span = tracing::info_span!("operator", operator = &*operator.uid()).entered();
            match caught(|| Operator::named(operator.uid()).make(|| operator.evaluate(time))) {
                Ok(changes) => delta.add(operator.uid(), changes),
                // What does not read it goes on.
                Err(error) => {
                    tracing::error!(error = %error, "operator failed");
                    let error = error.within(format!("operator `{}`", operator.uid()));
                    self.graph.fail(operator, time, &error);
                    failed.get_or_insert(error);
                }
            }
        }
        lap(info, "process");

        let outcome = self.output(time, info);
        let mut effects = self.runner.take_effects();
        effects.keep_within(&info.offset_ranges, time);
        info.read(&plan.inputs, &effects);
        failed.map_or(outcome, Err)?;
        let kept = self.runner.letters();
        let mut letters = effects.bad_records.letters().map(|at| kept.read(at)).peekable();
        if letters.peek().is_some() {
            self.graph
                .dead_letters()
                .ok_or_else(|| Error::internal("dead letters have no sink"))?
                .dead_letters(time, &mut letters)?;
        }
        info.bad_records += self.graph.sinks().iter().map(|sink| sink.bad_records()).sum::<u64>();
        lap(info, "output");
        self.worked = self.clock.now() - began;
        fail::fail_point!("commit::ran", |_| std::process::abort());

        // A commit waits for the disk and the broker most of the time.
        for input in self.graph.inputs().iter() {
            if let Some(input) = input.by_time() {
                input.look_ahead(time + self.interval, self.clock.now());
            }
        }
        self.committer.commit(plan, &info.slices, &mut delta)?;
        if let Some(store) = &self.volatile {
            store.apply_changes(&delta)?;
        }
        self.graph.stateful().iter().for_each(|operator| operator.committed());
        lap(info, "commit");
        info.output_records = self.graph.sinks().iter().flat_map(|s| s.take_counts()).collect();
        info.lost_ranges = self.graph.inputs().iter().flat_map(|i| i.take_lost()).collect();
        info.lag = self.graph.inputs().iter().flat_map(|i| i.lag()).collect();
        info.state = self.graph.stateful().iter().map(|s| (s.uid(), s.stats())).collect();
        Ok(())
    }

    /// Decides what belongs to the batch, unless that was decided before, and makes it what the inputs' streams give.
    fn plan(&mut self, time: Time, planned: Option<Plan>, info: &mut BatchInfo) -> Result<Plan> {
        let plan = match planned {
            Some(plan) => plan,
            None => self.committer.plan(time)?,
        };
        let ranges = |plan: &InputPlan| match plan {
            InputPlan::Offsets(ranges) => ranges.clone(),
            _ => Vec::new(),
        };
        info.offset_ranges = plan.inputs.values().flat_map(ranges).collect();
        self.committer.begin(&plan)?;
        self.graph.begin(time, self.interval);
        let inputs = self.graph.inputs();
        self.runner.set_caught_up(inputs.iter().all(|input| input.is_caught_up()));
        info.planned(inputs.iter().filter_map(|i| Some(i.info(plan.inputs.get(i.uid())?))));
        Ok(plan)
    }

    /// Runs all output operations; one that fails does not keep the others from running.
    fn output(&self, time: Time, info: &mut BatchInfo) -> Result<()> {
        let mut first: Option<Error> = None;
        for (id, operation) in self.graph.outputs().iter().enumerate() {
            // Between its slides a stream has nothing, and there is no operation.
            if !time.is_multiple_of(operation.slide) {
                continue;
            }
            let mut told = OutputOperationInfo {
                batch_time: time,
                id,
                name: operation.name.clone(),
                description: operation.description.clone(),
                start_time: Some(self.clock.now()),
                end_time: None,
                duration: None,
                failure: None,
            };
            let started = told.clone();
            self.listeners.announce(move |l| l.output_operation_started(&started));
            let watch = Stopwatch::start();
            let span =
                tracing::info_span!("output_operation", output_operation = id, operator = &*operation.name);
            let outcome = span.in_scope(|| caught(|| operation.run(time)));
            told.duration = Some(watch.elapsed());
            told.end_time = Some(self.clock.now());
            told.failure = outcome.as_ref().err().map(Error::whole_text);
            info.output_operations.push(told.clone());
            self.listeners.announce(move |l| l.output_operation_completed(&told));
            if let Err(error) = outcome {
                // The batch tells of the first that failed; there may be others.
                span.in_scope(|| tracing::error!(error = %error, "output operation failed"));
                first.get_or_insert(error.within(format!("output operation {id} `{}`", operation.name)));
            }
        }
        first.map_or(Ok(()), Err)
    }
}
