//! What a batch passes through: operators, output operations, the commit, the last words to listeners.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{BatchInfo, ListenerBus, OutputOperationInfo, RateControllers};
use crate::commit::{Committer, Plan, Planner};
use crate::context::Graph;
use crate::error::{Error, Result};
use crate::rdd::{Operator, Runner, caught};
use crate::source::InputPlan;
use crate::state::{Delta, StateDb};
use crate::time::{Clock, Duration, Stopwatch, Time};

/// All that batches need. Two may be in it: one that is being committed, and one that runs ahead.
pub(crate) struct Engine {
    pub graph: Arc<Graph>,
    pub planner: Planner,
    pub committer: Mutex<Committer>,
    pub runner: Arc<Runner>,
    pub clock: Arc<dyn Clock>,
    pub listeners: Arc<ListenerBus>,
    /// The state of a context without a checkpoint.
    pub volatile: Option<Arc<StateDb>>,
    pub interval: Duration,
    pub rates: Mutex<RateControllers>,
}

/// A batch on its way.
pub(super) struct Batch {
    plan: Plan,
    pub info: BatchInfo,
    /// The same as it was before anything ran.
    pub submitted: BatchInfo,
    pub watch: Stopwatch,
    /// Whether it is decided what belongs to it.
    is_planned: bool,
    /// Whether its plan is written down: that of a batch that runs ahead is, once the one before it is committed.
    is_noted: bool,
    pub attempt: u32,
    /// What it changes in the state.
    delta: Delta,
    /// How long its operators and output operations took, by the clock.
    worked: Duration,
}

impl Batch {
    pub fn new(info: BatchInfo, planned: Option<Plan>) -> Self {
        let is_planned = planned.is_some();
        let nothing = Plan { time: info.batch_time, inputs: BTreeMap::new() };
        Self {
            plan: planned.unwrap_or(nothing),
            submitted: info.clone(),
            info,
            watch: Stopwatch::start(),
            is_planned,
            is_noted: is_planned,
            attempt: 1,
            delta: Delta::default(),
            worked: Duration::ZERO,
        }
    }

    pub fn time(&self) -> Time {
        self.plan.time
    }

    /// Every line of the log that comes of the batch says so, also those of its tasks.
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!("batch", batch_time = self.time().as_millis())
    }
}

impl Engine {
    /// Decides what belongs to the batch, unless that was decided before, and makes it what the inputs' streams give.
    /// `runs_ahead` says that the one before it is still being committed.
    pub(super) fn begin(&self, batch: &mut Batch, runs_ahead: bool) -> Result<()> {
        if !batch.is_planned {
            batch.plan = self.planner.plan(batch.time())?;
            batch.is_planned = true;
        }
        if !runs_ahead {
            self.note(batch)?;
        }
        let (plan, info) = (&batch.plan, &mut batch.info);
        let ranges = |plan: &InputPlan| match plan {
            InputPlan::Offsets(ranges) => ranges.clone(),
            _ => Vec::new(),
        };
        info.offset_ranges = plan.inputs.values().flat_map(ranges).collect();
        self.planner.begin(plan)?;
        self.graph.begin(plan.time, self.interval);
        let inputs = self.graph.inputs();
        self.runner.set_caught_up(inputs.iter().all(|input| input.is_caught_up()));
        info.planned(inputs.iter().filter_map(|i| Some(i.info(plan.inputs.get(i.uid())?))));
        Ok(())
    }

    /// Writes the batch's plan down, if there is one, and it is not.
    pub(super) fn note(&self, batch: &mut Batch) -> Result<()> {
        if batch.is_planned && !batch.is_noted {
            self.planner.write(&batch.plan)?;
            batch.is_noted = true;
        }
        Ok(())
    }

    /// Runs the batch's operators and output operations.
    pub(super) fn work(&self, batch: &mut Batch) -> Result<()> {
        let (time, info) = (batch.plan.time, &mut batch.info);
        info.attempts = batch.attempt;
        let began = self.clock.now();
        let mut watch = Stopwatch::start();
        let mut lap = |info: &mut BatchInfo, phase| {
            info.phases.push((phase, watch.elapsed()));
            watch = Stopwatch::start();
        };
        self.runner.turn().take_waited();
        self.runner.accumulators().begin_batch();
        let mut failed: Option<Error> = None;
        for operator in self.graph.stateful().iter() {
            // Nothing of it will be of use.
            if self.runner.turn().is_lost() {
                break;
            }
            let _span = tracing::info_span!("operator", operator = &*operator.uid()).entered();
            match caught(|| Operator::named(operator.uid()).make(|| operator.evaluate(time))) {
                Ok(changes) => batch.delta.add(operator.uid(), changes),
                // What does not read it goes on.
                Err(error) => {
                    self.tell(&error, "operator failed");
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
        info.read(&batch.plan.inputs, &effects);
        failed.map_or(outcome, Err)?;
        let kept = self.runner.letters();
        let mut letters = effects.bad_records.letters().map(|at| kept.read(at)).peekable();
        if letters.peek().is_some() {
            self.graph
                .dead_letters()
                .ok_or_else(|| Error::internal("dead letters have no sink"))?
                .dead_letters(time, &mut letters)?;
        }
        // What the sinks have is the batch's from here on only.
        self.runner.turn().wait()?;
        info.bad_records += self.graph.sinks().iter().map(|sink| sink.take_bad_records()).sum::<u64>();
        lap(info, "output");
        let waited = Duration::millis(self.runner.turn().take_waited().as_millis() as i64);
        batch.worked = (self.clock.now() - began - waited).max(Duration::ZERO);
        fail::fail_point!("commit::ran", |_| std::process::abort());
        // A commit waits for the disk and the broker most of the time.
        for input in self.graph.inputs().iter() {
            if let Some(input) = input.by_time() {
                input.look_ahead(time + self.interval, self.clock.now());
            }
        }
        Ok(())
    }

    /// Logs what went wrong, unless all of it is only to be done again.
    fn tell(&self, error: &Error, what: &str) {
        if self.runner.turn().is_lost() {
            tracing::debug!(%error, "{what}");
        } else {
            tracing::error!(%error, "{what}");
        }
    }

    /// Forgets all that the batch has made, which is to be run again.
    pub(super) fn give_up(&self, batch: &mut Batch) -> Result<()> {
        self.runner.accumulators().discard_batch();
        self.runner.take_effects();
        self.runner.letters().clear();
        batch.info = batch.submitted.clone();
        batch.delta = Delta::default();
        self.graph.forget(batch.time())
    }

    /// Nothing more will be made of what the inputs gave the batch.
    pub(super) fn put_down(&self, batch: &Batch) {
        self.graph.end(batch.time());
        self.runner.letters().clear();
    }

    /// Makes final what the batch's work has made.
    pub(super) fn commit(&self, batch: &mut Batch) -> Result<()> {
        let watch = Stopwatch::start();
        let Batch { plan, info, delta, .. } = batch;
        self.committer.lock().commit(plan, &info.slices, delta)?;
        if let Some(store) = &self.volatile {
            store.apply_changes(delta)?;
        }
        self.graph.stateful().iter().for_each(|operator| operator.committed());
        info.phases.push(("commit", watch.elapsed()));
        info.output_records = self.graph.sinks().iter().flat_map(|s| s.take_counts()).collect();
        info.lost_ranges = self.graph.inputs().iter().flat_map(|i| i.take_lost()).collect();
        info.lag = self.graph.inputs().iter().flat_map(|i| i.lag()).collect();
        info.state = self.graph.stateful().iter().map(|s| (s.uid(), s.stats())).collect();
        Ok(())
    }

    /// The batch's last words, whichever its `outcome`.
    pub(super) fn finish(&self, batch: &mut Batch, outcome: &Result<()>) {
        let (time, info) = (batch.plan.time, &mut batch.info);
        if outcome.is_err()
            && let Err(error) = self.graph.forget(time)
        {
            tracing::error!(error = %error, "the state before the batch cannot be found again");
        }
        info.processing_end_time = Some(self.clock.now());
        info.processing_duration = Some(batch.watch.elapsed());
        info.failure = outcome.as_ref().err().map(Error::whole_text);
        info.failure_kind = outcome.as_ref().err().map(Error::kind);
        if outcome.is_ok() {
            self.rates.lock().completed(info, batch.worked);
        }
        match outcome {
            Ok(()) => tracing::debug!(
                batch_time = time.as_millis(),
                records = info.num_records,
                milliseconds = batch.watch.elapsed().as_millis() as u64,
                "batch completed"
            ),
            Err(error) => tracing::error!(batch_time = time.as_millis(), error = %error, "batch failed"),
        }
        let info = info.clone();
        self.listeners.announce(move |l| l.batch_completed(&info));
    }

    /// Runs all output operations; one that fails does not keep the others from running.
    fn output(&self, time: Time, info: &mut BatchInfo) -> Result<()> {
        let mut first: Option<Error> = None;
        for (id, operation) in self.graph.outputs().iter().enumerate() {
            // Between its slides a stream has nothing, and there is no operation.
            if !time.is_multiple_of(operation.slide) {
                continue;
            }
            if self.runner.turn().is_lost() {
                break;
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
                span.in_scope(|| self.tell(&error, "output operation failed"));
                first.get_or_insert(error.within(format!("output operation {id} `{}`", operation.name)));
            }
        }
        first.map_or(Ok(()), Err)
    }
}
