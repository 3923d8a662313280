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
mod records;
mod start;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

#[cfg(feature = "service")]
pub(crate) use inspect::Batches;
use log::LogWriter;
use records::{COMMITTED, Committed, PLANNED, Prepared};
pub(crate) use records::{Plan, Positions, StagedFile};
use start::{Decision, Found, decide};

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

/// Keeps the record of what was planned and committed.
pub(crate) struct Committer {
    parts: Parts,
    positions: Positions,
    /// What tells this run of the program from others.
    run: u64,
    /// With what the group is marked.
    marker: Option<Marker>,
    told_in_transaction: bool,
    /// When the group was told last.
    told: Time,
    log: LogWriter,
    /// Whether the batch that was begun last is committed, perhaps: nothing of it may be taken back any more.
    decided: bool,
}

impl Committer {
    pub fn new(parts: Parts) -> Self {
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

    /// The sink whose transactions decide, if there is one.
    fn arbiter(&self) -> Option<&Arc<dyn Sink>> {
        self.parts.sinks.iter().find(|sink| sink.is_transactional())
    }

    /// Whether `input`'s offsets are part of the transactions.
    fn in_transaction(&self, input: &dyn Input) -> bool {
        self.arbiter().is_some_and(|sink| input.cluster().is_some() && sink.cluster() == input.cluster())
    }

    /// Connects inputs and sinks, compares the checkpoint with the group, and settles what was under way.
    pub fn recover(&mut self) -> Result<Recovered> {
        for input in &self.parts.inputs {
            input.connect()?;
        }
        self.refuse_shared_topics()?;
        let clusters: BTreeSet<_> = self.parts.inputs.iter().filter_map(|input| input.cluster()).collect();
        self.contradict_early()?;
        let left_open = self.may_have_left_a_transaction()?;
        for sink in &self.parts.sinks {
            sink.start(&clusters, left_open)?;
        }
        let recovered = self.settle()?;
        for input in &self.parts.inputs {
            input.start(recovered.positions.get(input.uid()))?;
        }
        Ok(recovered)
    }

    /// Whether an earlier run worked with transactions and was not seen to end its last one.
    fn may_have_left_a_transaction(&self) -> Result<bool> {
        let Some(db) = &self.parts.db else { return Ok(false) };
        Ok(match db.get::<Committed>(COMMITTED)? {
            Some(committed) => committed.in_transaction || db.prepared::<Prepared>()?.is_some(),
            None => db.get::<Plan>(PLANNED)?.is_some(),
        })
    }

    /// Tells a contradiction before anything is fenced, if it can be told that early: a transaction that is under way (an
    /// instance was killed in the middle) hides the group's offsets until it is taken over.
    fn contradict_early(&self) -> Result<()> {
        let Some(db) = &self.parts.db else { return Ok(()) };
        if self.parts.offsets.is_some() || db.prepared::<Prepared>()?.is_some() {
            return Ok(());
        }
        match self.find(false) {
            Ok(found) => decide(&self.parts.app, &found).map(|_| ()),
            Err(error) if error.is_retryable() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What checkpoint and group say; with `wait`, the group is asked until it answers.
    /// The group has one offset for a partition, whoever reads it.
    fn refuse_shared_topics(&self) -> Result<()> {
        let mut readers = std::collections::BTreeMap::new();
        for input in &self.parts.inputs {
            for topic in input.topics() {
                if let Some(other) = readers.insert(topic.clone(), input.uid()) {
                    return Err(Error::config(format!(
                        "sources `{other}` and `{}` both read topic `{topic}`, and the consumer group has one offset for each \
                         of its partitions: read it with one source, and make several streams of that",
                        input.uid()
                    )));
                }
            }
        }
        Ok(())
    }

    fn find(&self, wait: bool) -> Result<Found> {
        let mut found = Found { starts_at_group: true, ..Found::default() };
        if let Some(db) = &self.parts.db {
            found.committed = db.get(COMMITTED)?;
            found.prepared = db.prepared()?.map(|(prepared, _)| prepared);
            let last = found.committed.as_ref().map(|c| c.time);
            found.planned = db.get(PLANNED)?.filter(|p: &Plan| last.is_none_or(|t| p.time > t));
        }
        let known =
            [found.committed.as_ref().map(|c| &c.positions), found.prepared.as_ref().map(|p| &p.positions)];
        found.absent = known.into_iter().flatten().flat_map(Positions::keys).cloned().collect();
        for input in &self.parts.inputs {
            found.absent.remove(input.uid());
        }
        for input in &self.parts.inputs {
            let Some(group) = input.group(wait)? else { continue };
            found.starts_at_group &= group.is_empty() || input.starts_at_group();
            found.group.extend(group);
            if self.in_transaction(&**input) {
                found.in_transaction.insert(input.uid().to_owned());
            }
        }
        if let Some(sink) = self.arbiter()
            && let Some((place, at)) = sink.marker()?
        {
            found.group.extend(at.map(|at| (place.clone(), at)));
            found.starts_at_group &= at.is_none();
            found.marker_place = Some(place);
        }
        Ok(found)
    }

    /// Brings the checkpoint to where the last batch that happened left it.
    fn settle(&mut self) -> Result<Recovered> {
        let Some(db) = self.parts.db.clone() else { return Ok(Recovered::default()) };
        let found = self.find(true)?;
        let decision = match (decide(&self.parts.app, &found), self.parts.offsets) {
            (Ok(decision), _) => decision,
            (Err(error), None) => return Err(error),
            (Err(error), Some(OffsetsFrom::Checkpoint)) if found.is_new() => return Err(error),
            (Err(error), Some(side)) => {
                tracing::warn!("{error}; going on from the {side:?}'s offsets, as was asked for");
                return self.take_side(&db, found, side);
            }
        };
        tracing::debug!(?decision, "start");
        let Found { mut committed, mut planned, prepared, group, .. } = found;
        match decision {
            Decision::Fresh if !group.is_empty() => self.mark_group(&group)?,
            Decision::Fresh | Decision::GoOn | Decision::RunAgain => {}
            Decision::DropPrepared => {
                let time = prepared.map_or(Time::ZERO, |p| p.time);
                tracing::info!(
                    batch_time = time.as_millis(),
                    "a batch was prepared and not committed: running it again"
                );
                db.drop_prepared()?;
            }
            Decision::RollForward => {
                if let Some((prepared, pieces)) = db.prepared::<Prepared>()? {
                    tracing::info!(
                        batch_time = prepared.time.as_millis(),
                        "finishing a batch that was committed"
                    );
                    let record = prepared.committed();
                    db.apply_prepared(pieces, COMMITTED, &record)?;
                    committed = Some(record);
                }
                planned = None;
            }
        }
        if let Some(planned) = &planned {
            // The first plan holds the offsets that the start was resolved to.
            self.positions = planned.begin();
        }
        if let Some(committed) = &mut committed {
            self.name_staged(&db, committed)?;
            self.positions = committed.positions.clone();
            self.marker = committed.marker;
            self.told_in_transaction = committed.in_transaction;
        }
        Ok(Recovered {
            last: committed.map(|c| c.time),
            positions: self.positions.clone(),
            unfinished: planned,
        })
    }

    /// Whoever had the group before, its offsets are marked as ours from the first batch on.
    fn mark_group(&self, group: &crate::source::GroupOffsets) -> Result<()> {
        for input in self.parts.inputs.iter().filter(|input| !self.in_transaction(&***input)) {
            let Some(own) = input.group(true)? else { continue };
            let offsets = own.keys().filter_map(|place| Some((place.clone(), group.get(place)?.offset)));
            input.publish(
                &InputPosition::Offsets(offsets.collect()),
                Some(self.marker_of(Time::ZERO)),
                true,
            )?;
        }
        Ok(())
    }

    /// Begins where the group stands, with an empty state.
    fn start_at_group(&mut self) -> Result<Recovered> {
        for input in &self.parts.inputs {
            let Some(group) = input.group(true)?.filter(|group| !group.is_empty()) else { continue };
            let offsets = group.into_iter().map(|(place, at)| (place, at.offset)).collect();
            let position = InputPosition::Offsets(offsets);
            input.publish(&position, Some(self.marker_of(Time::ZERO)), true)?;
            self.positions.insert(input.uid().to_owned(), position);
        }
        Ok(Recovered { last: None, positions: self.positions.clone(), unfinished: None })
    }

    /// Goes on from one side's offsets; the other's are lost.
    fn take_side(&mut self, db: &StateDb, found: Found, side: OffsetsFrom) -> Result<Recovered> {
        let mut found = found;
        if let Some((prepared, pieces)) = db.prepared::<Prepared>()? {
            // Where the group was not moved it may still tell that the transaction was committed.
            if found.group.values().any(|at| at.marker == Some(prepared.marker())) {
                let record = prepared.committed();
                db.apply_prepared(pieces, COMMITTED, &record)?;
                found.committed = Some(record);
                found.planned = None;
            } else {
                db.drop_prepared()?;
            }
        }
        if let Some(committed) = &mut found.committed {
            self.name_staged(db, committed)?;
        }
        if found.is_new() {
            return self.start_at_group();
        }
        let mut unfinished = found.planned;
        let planned = unfinished.as_ref().map(|plan| (plan.time, plan.begin()));
        let time = found.committed.as_ref().map(|c| c.time).max(planned.as_ref().map(|(time, _)| *time));
        let mut positions = found
            .committed
            .as_ref()
            .map(|c| c.positions.clone())
            .or(planned.map(|(_, begin)| begin))
            .unwrap_or_default();
        if side == OffsetsFrom::Group {
            for position in positions.values_mut() {
                if let InputPosition::Offsets(offsets) = position {
                    for (place, offset) in offsets {
                        *offset = found.group.get(place).map_or(*offset, |at| at.offset);
                    }
                }
            }
            unfinished = None;
        }
        let committed = if unfinished.is_some() { found.committed.as_ref().map(|c| c.time) } else { time };
        if let Some(time) = committed {
            // No marker: the group is to be found at these offsets, whoever set them.
            let staged = found.committed.map(|c| c.staged).unwrap_or_default();
            let (marker, positions) = (None, positions.clone());
            db.put(COMMITTED, &Committed { time, marker, in_transaction: false, positions, staged })?;
        }
        self.positions = positions.clone();
        for input in &self.parts.inputs {
            if let Some(position) = positions.get(input.uid()) {
                input.publish(position, Some(self.marker_of(Time::ZERO)), true)?;
            }
        }
        Ok(Recovered { last: time, positions, unfinished })
    }

    /// Decides what belongs to batch `time`, and writes it down before anything happens.
    pub fn plan(&self, time: Time) -> Result<Plan> {
        let inputs = self
            .parts
            .inputs
            .iter()
            .map(|input| Ok((input.uid().to_owned(), input.plan(time)?)))
            .collect::<Result<_>>()?;
        let plan = Plan { time, inputs };
        if let Some(db) = &self.parts.db {
            // What a transaction or the checkpoint's own write makes visible cannot have been seen if the plan is lost
            // with the machine. A batch without records can have output too (a window, a timeout); it is written down
            // as well, but there is little to lose with it.
            let seen_before =
                self.parts.has_external_outputs || (self.arbiter().is_none() && !self.parts.sinks.is_empty());
            if seen_before && !plan.is_empty() {
                db.put(PLANNED, &plan)?
            } else {
                db.put_unsynced(PLANNED, &plan)?
            }
        }
        fail::fail_point!("commit::planned", |_| std::process::abort());
        Ok(plan)
    }

    /// Makes `plan` what the inputs' streams give.
    pub fn begin(&mut self, plan: &Plan) -> Result<()> {
        self.decided = false;
        self.parts.inputs.iter().try_for_each(|input| match plan.inputs.get(input.uid()) {
            Some(ranges) => input.begin(plan.time, ranges),
            None => Err(Error::checkpoint(format!(
                "batch {} was planned without input `{}`: it was added while that batch was unfinished; \
                 run the former program once more, or drop the checkpoint",
                plan.time,
                input.uid()
            ))),
        })
    }

    /// Makes a batch final, with all that it changed and gave. A batch that did neither commits nothing, and is not logged.
    ///
    /// # Errors
    /// If it could not be made final. Then [`abort`](Committer::abort) tells whether it can be run again.
    pub fn commit(&mut self, plan: &Plan, slices: &[SliceInfo], delta: &mut Delta) -> Result<()> {
        for sink in &self.parts.sinks {
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
        let pieces = db.prepare(delta, &prepared)?;
        fail::fail_point!("commit::prepared", |_| std::process::abort());
        let mut offsets = Vec::new();
        for input in self.parts.inputs.iter().filter(|input| self.in_transaction(&***input)) {
            if let Some(InputPosition::Offsets(of_input)) = prepared.positions.get(input.uid()) {
                offsets.extend(of_input.iter().map(|((topic, p), offset)| (topic.clone(), *p, *offset)));
            }
        }
        match sink.commit(&offsets, prepared.marker()) {
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
            && db.prepared::<Prepared>()?.is_some()
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
