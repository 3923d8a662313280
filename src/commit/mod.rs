//! Commit: the only place where state, offsets and output of a batch meet.
//!
//! ```text
//! exactly once    planned(t) ─► prepared(t), synced ─► Kafka transaction: outputs, offsets, marker t ─► delta, committed(t)
//! at least once   planned(t) ─► outputs flushed     ─► { delta, committed(t) } in one synced write   ─► the group's offsets
//! ```
//!
//! Exactly once, Kafka is the arbiter: whether batch t happened is whether its transaction was committed, which the next start
//! reads from the group's offsets ([`start`] has the table). At least once, and in programs without a Kafka sink, the
//! checkpoint's own write is the arbiter.

#[cfg(feature = "service")]
mod inspect;
pub(crate) mod log;
mod plan;
mod records;
mod recovery;
mod start;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

#[cfg(feature = "service")]
pub(crate) use inspect::Batches;
use log::{LogWriter, LoggedBatch, LoggedRecord};
pub(crate) use plan::Planner;
use records::{COMMITTED, Committed, Prepared};
pub(crate) use records::{Plan, Positions, StagedFile};
use start::{Decision, decide};

use crate::batch::SliceInfo;
use crate::error::{Error, Result};
use crate::sink::{CommitTrouble, Sink, files};
use crate::source::{Input, InputPosition, Marker};
use crate::state::{Delta, StateDb};
use crate::time::{Clock, Duration, Time};

/// The group's offsets are told at least this often, so that those of quiet partitions don't expire.
const TELL_EVERY: Duration = Duration::minutes(60);

/// What a batch's outputs and offsets promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// State, offsets and Kafka output of a batch become visible together or not at all, whatever is killed and
    /// whenever: one Kafka transaction per batch. Needs a checkpoint folder.
    #[default]
    ExactlyOnce,
    /// Nothing is lost; a crash may repeat the output of one batch. Cheaper: no transactions.
    AtLeastOnce,
}

/// Which of the two to follow when the checkpoint and the consumer group contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetsFrom {
    /// The checkpoint's offsets; the group is set to them.
    Checkpoint,
    /// The group's offsets; state stays as it is.
    Group,
}

/// How a run begins.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The time of the last batch that was committed.
    pub last: Option<Time>,
    pub positions: Positions,
    /// A batch that was planned and not committed: it is run again, as it was planned.
    pub unfinished: Option<Plan>,
}

/// An unfinished batch runs again at its own time, at which streams of another interval may give nothing.
///
/// # Errors
/// If they do.
pub(crate) fn check_interval(unfinished: Option<&Plan>, interval: Duration) -> Result<()> {
    match unfinished {
        Some(plan) if !plan.time.is_multiple_of(interval) => Err(Error::checkpoint(format!(
            "batch {} is unfinished, and is no multiple of the batch interval {interval}: run the program with its former \
             interval until that batch is committed, then change it",
            plan.time
        ))),
        _ => Ok(()),
    }
}

/// What a [`Committer`] works with.
pub(crate) struct Parts {
    pub app: String,
    pub db: Option<Arc<StateDb>>,
    pub inputs: Vec<Arc<dyn Input>>,
    pub sinks: Vec<Arc<dyn Sink>>,
    pub clock: Arc<dyn Clock>,
    /// Which side to take if checkpoint and group contradict each other.
    pub offsets: Option<OffsetsFrom>,
    /// Whether output operations do something outside that no transaction holds.
    pub has_external_outputs: bool,
}

impl Parts {
    /// The sink whose transactions decide, if there is one.
    fn arbiter(&self) -> Option<&Arc<dyn Sink>> {
        self.sinks.iter().find(|sink| sink.is_transactional())
    }
}

/// Keeps the record of what was committed.
pub(crate) struct Committer {
    parts: Arc<Parts>,
    positions: Positions,
    /// What tells this run of the program from others.
    run: u64,
    /// With what the group is marked.
    marker: Option<Marker>,
    told_in_transaction: bool,
    /// When the group was told last.
    told: Time,
    log: LogWriter,
    /// Whether the batch that is being committed has happened, perhaps: nothing of it may be taken back any more.
    decided: bool,
}

impl Committer {
    pub fn new(parts: Arc<Parts>) -> Self {
        let told = parts.clock.now();
        Self {
            parts,
            positions: Positions::new(),
            marker: None,
            // Random keys of a hasher: any two runs have different ones.
            run: RandomState::new().hash_one(()),
            told_in_transaction: false,
            told,
            log: LogWriter::default(),
            decided: false,
        }
    }

    fn marker_of(&self, time: Time) -> Marker {
        Marker { time, run: self.run }
    }

    fn arbiter(&self) -> Option<&Arc<dyn Sink>> {
        self.parts.arbiter()
    }

    /// Whether `input`'s offsets are part of the transactions.
    fn in_transaction(&self, input: &dyn Input) -> bool {
        self.arbiter().is_some_and(|sink| input.cluster().is_some() && sink.cluster() == input.cluster())
    }

    /// Makes a batch final, with all that it changed and gave. A batch that did neither commits nothing, and is not logged.
    ///
    /// # Errors
    /// If it could not be made final. Then [`abort`](Committer::abort) tells whether it can be run again.
    pub fn commit(&mut self, plan: &Plan, slices: &[SliceInfo], delta: &mut Delta) -> Result<()> {
        // Of a transaction, that is part of filling it.
        for sink in self.parts.sinks.iter().filter(|sink| !sink.is_transactional()) {
            sink.flush()?;
        }
        // An input that the program has no more keeps its position, even if the batch was planned with it: it was not read.
        let mut positions = self.positions.clone();
        let is_here = |uid: &String| self.parts.inputs.iter().any(|input| input.uid() == uid);
        positions.extend(plan.end().into_iter().filter(|(uid, _)| is_here(uid)));
        let mut staged = Vec::new();
        for sink in &self.parts.sinks {
            staged.extend(sink.staged()?);
        }
        let gave = self.parts.sinks.iter().any(|sink| sink.has_output());
        let quiet = positions == self.positions && delta.is_empty() && !gave && staged.is_empty();
        let now = self.parts.clock.now();
        if quiet && (self.marker.is_none() || now - self.told < TELL_EVERY) {
            return self.note_idle(plan.time, positions);
        }
        self.log_in_topics(plan, slices)?;
        if self.parts.db.is_some() {
            delta.records.push(self.log.record(plan, slices)?);
        }
        match self.arbiter().cloned() {
            Some(sink) => self.commit_in_transaction(&*sink, plan, positions, staged, delta)?,
            None => self.commit_locally(plan, positions, staged, delta)?,
        }
        if let Some(db) = &self.parts.db {
            self.log.written(db, plan.time)?;
        }
        self.told = now;
        self.parts.sinks.iter().for_each(|sink| sink.committed());
        for input in &self.parts.inputs {
            plan.inputs.get(input.uid()).map_or(Ok(()), |plan| input.finished(plan))?;
        }
        self.decided = false;
        Ok(())
    }

    /// Hands the batch's record of the batch log to the sinks that keep one.
    fn log_in_topics(&self, plan: &Plan, slices: &[SliceInfo]) -> Result<()> {
        let record = || {
            let (app_id, batch) = (self.parts.app.clone(), LoggedBatch::of(plan, slices));
            serde_json::to_string(&LoggedRecord { app_id, batch_time: plan.time, batch })
                .map_err(|e| Error::internal("the batch log cannot be written as JSON").with_source(e))
        };
        for sink in &self.parts.sinks {
            if sink.log_batch(plan.time, &record)? {
                sink.flush()?;
            }
        }
        Ok(())
    }

    /// Nothing is to be made final; the time goes on all the same.
    fn note_idle(&mut self, time: Time, positions: Positions) -> Result<()> {
        if let Some(db) = &self.parts.db {
            let committed = Committed {
                time,
                marker: self.marker,
                in_transaction: self.told_in_transaction,
                // The same as before, but for what an input keeps beside its position.
                positions: positions.clone(),
                staged: Vec::new(),
            };
            db.put_unsynced(COMMITTED, &committed)?;
        }
        self.positions = positions;
        Ok(())
    }

    fn commit_in_transaction(
        &mut self,
        sink: &dyn Sink,
        plan: &Plan,
        positions: Positions,
        staged: Vec<StagedFile>,
        delta: &Delta,
    ) -> Result<()> {
        let db = self.parts.db.clone();
        let db = db.ok_or_else(|| Error::internal("a transactional sink without a checkpoint"))?;
        let prepared = Prepared { time: plan.time, run: self.run, positions, staged };
        let mut offsets = Vec::new();
        for input in self.parts.inputs.iter().filter(|input| self.in_transaction(&***input)) {
            if let Some(InputPosition::Offsets(of_input)) = prepared.positions.get(input.uid()) {
                offsets.extend(of_input.iter().map(|((topic, p), offset)| (topic.clone(), *p, *offset)));
            }
        }
        // The disk and the broker are waited for together: only the commit has to come after what is prepared.
        let (pieces, filled) = std::thread::scope(|scope| {
            let preparing = scope.spawn(|| db.prepare(delta, &prepared));
            let flushed = sink.flush().map_err(CommitTrouble::NotCommitted);
            let filled = flushed.and_then(|()| sink.send_offsets(&offsets, prepared.marker()));
            (preparing.join(), filled)
        });
        let pieces = pieces.map_err(|_| Error::internal("the thread that prepares a batch panicked"))??;
        fail::fail_point!("commit::prepared", |_| std::process::abort());
        let outcome = filled.and_then(|()| {
            fail::fail_point!("commit::offsets_sent", |_| std::process::abort());
            sink.commit()
        });
        match outcome {
            Ok(()) => {}
            // Whether it happened is not known: what was prepared stays, and the next start decides.
            Err(CommitTrouble::Unknown(error)) => return Err(error),
            Err(CommitTrouble::NotCommitted(error)) => {
                sink.abort().map_err(|aborting| {
                    Error::new(error.kind(), format!("{error}; {aborting}")).with_source(aborting)
                })?;
                // An answer may have been lost before the one that was seen: Kafka has the last word here, too.
                if decide(&self.parts.app, &self.find(true)?)? == Decision::DropPrepared {
                    db.drop_prepared()?;
                }
                return Err(error);
            }
        }
        self.decided = true;
        fail::fail_point!("commit::in_transaction", |_| std::process::abort());
        let mut committed = prepared.committed();
        db.apply_prepared(pieces, COMMITTED, &committed)?;
        fail::fail_point!("commit::applied", |_| std::process::abort());
        self.name_staged(&db, &mut committed)?;
        self.positions = committed.positions;
        self.marker = Some(self.marker_of(plan.time));
        self.told_in_transaction = true;
        for input in &self.parts.inputs {
            let Some(position) = self.positions.get(input.uid()) else { continue };
            if self.in_transaction(&**input) {
                input.committed(position);
            } else {
                input.publish(position, self.marker, false)?;
            }
        }
        Ok(())
    }

    fn commit_locally(
        &mut self,
        plan: &Plan,
        positions: Positions,
        staged: Vec<StagedFile>,
        delta: &Delta,
    ) -> Result<()> {
        let mut committed = Committed {
            time: plan.time,
            marker: Some(self.marker_of(plan.time)),
            in_transaction: false,
            positions,
            staged,
        };
        // A write that failed may have reached the disk all the same.
        self.decided = true;
        if let Some(db) = &self.parts.db {
            db.apply(delta, COMMITTED, &committed)?;
            fail::fail_point!("commit::applied", |_| std::process::abort());
            self.name_staged(db, &mut committed)?;
        } else {
            files::name(&committed.staged)?;
        }
        self.positions = committed.positions;
        self.marker = Some(self.marker_of(plan.time));
        self.told_in_transaction = false;
        self.publish(false)
    }

    /// Gives the committed batch's files their names.
    fn name_staged(&self, db: &StateDb, committed: &mut Committed) -> Result<()> {
        if committed.staged.is_empty() {
            return Ok(());
        }
        files::name(&committed.staged)?;
        committed.staged.clear();
        db.put_unsynced(COMMITTED, committed)
    }

    /// Takes back what a batch that failed has handed over. Tells whether the batch can be run again from the state before
    /// it: that takes a transaction, and one that was surely aborted.
    ///
    /// # Errors
    /// If the transaction's end is not certain; the next start settles it.
    pub fn abort(&self) -> Result<bool> {
        if self.decided {
            return Ok(false);
        }
        if let Some(db) = &self.parts.db
            && db.sealed::<Prepared>()?.is_some()
        {
            return Ok(false);
        }
        for sink in &self.parts.sinks {
            sink.abort()?;
        }
        Ok(self.arbiter().is_some())
    }

    /// Tells the outside where the inputs stand; with `wait`, not before it has been heard.
    pub fn publish(&self, wait: bool) -> Result<()> {
        for input in self.parts.inputs.iter().filter(|input| !self.in_transaction(&***input)) {
            if let Some(position) = self.positions.get(input.uid()) {
                // Before the first batch, too, the group is to know whose offsets these are.
                let marker = self.marker.unwrap_or(self.marker_of(Time::ZERO));
                input.publish(position, Some(marker), wait)?;
            }
        }
        Ok(())
    }
}
