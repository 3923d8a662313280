//! What a start does: compares the checkpoint with the group, and settles what was under way.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{COMMITTED, Committed, PLANNED, Plan, Positions, Prepared};
use super::start::{Decision, Found, decide};
use super::{Committer, OffsetsFrom, Recovered};
use crate::error::{Error, Result};
use crate::source::{GroupOffsets, InputPosition};
use crate::state::StateDb;
use crate::time::Time;

impl Committer {
    /// Connects inputs and sinks, compares the checkpoint with the group, and settles what was under way.
    pub fn recover(&mut self) -> Result<Recovered> {
        for input in &self.parts.inputs {
            input.connect()?;
        }
        self.refuse_shared_topics()?;
        self.finish_decided()?;
        let clusters: BTreeSet<_> = self.parts.inputs.iter().filter_map(|input| input.cluster()).collect();
        self.contradict_early()?;
        let left_open = self.may_have_left_a_transaction()?;
        for sink in &self.parts.sinks {
            sink.start(&clusters, left_open)?;
        }
        let recovered = self.settle()?;
        let last = recovered.unfinished.as_ref().map(|plan| plan.time).max(recovered.last);
        for input in &self.parts.inputs {
            input.start(recovered.positions.get(input.uid()), last)?;
        }
        Ok(recovered)
    }

    /// Finishes a batch that a crash has left half applied: nobody needs to be asked, whatever became of the group.
    fn finish_decided(&self) -> Result<()> {
        match &self.parts.db {
            Some(db) if db.is_decided()? => roll_forward(db).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether an earlier run worked with transactions and was not seen to end its last one.
    fn may_have_left_a_transaction(&self) -> Result<bool> {
        let Some(db) = &self.parts.db else { return Ok(false) };
        Ok(match db.get::<Committed>(COMMITTED)? {
            Some(committed) => committed.in_transaction || db.sealed::<Prepared>()?.is_some(),
            None => db.get::<Plan>(PLANNED)?.is_some(),
        })
    }

    /// Tells a contradiction before anything is fenced, if it can be told that early: a transaction that is under way (an
    /// instance was killed in the middle) hides the group's offsets until it is taken over.
    fn contradict_early(&self) -> Result<()> {
        let Some(db) = &self.parts.db else { return Ok(()) };
        if self.parts.offsets.is_some() || db.sealed::<Prepared>()?.is_some() {
            return Ok(());
        }
        match self.find(false) {
            Ok(found) => decide(&self.parts.app, &found).map(|_| ()),
            Err(error) if error.is_retryable() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The group has one offset for a partition, whoever reads it.
    fn refuse_shared_topics(&self) -> Result<()> {
        let mut readers = BTreeMap::new();
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

    /// What checkpoint and group say; with `wait`, the group is asked until it answers.
    pub(super) fn find(&self, wait: bool) -> Result<Found> {
        let mut found = Found { starts_at_group: true, ..Found::default() };
        if let Some(db) = &self.parts.db {
            found.committed = db.get(COMMITTED)?;
            found.prepared = db.sealed()?;
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
                committed = roll_forward(&db)?.or(committed);
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
    fn mark_group(&self, group: &GroupOffsets) -> Result<()> {
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
        if let Some(prepared) = db.sealed::<Prepared>()? {
            // Where the group was not moved it may still tell that the transaction was committed.
            if found.group.values().any(|at| at.marker == Some(prepared.marker())) {
                found.committed = roll_forward(db)?;
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
}

/// Makes the batch that is prepared, if one is, part of the state: how it left things.
fn roll_forward(db: &StateDb) -> Result<Option<Committed>> {
    let Some((prepared, pieces)) = db.prepared::<Prepared>()? else { return Ok(None) };
    tracing::info!(batch_time = prepared.time.as_millis(), "finishing a batch that was committed");
    let record = prepared.committed();
    db.apply_prepared(pieces, COMMITTED, &record)?;
    Ok(Some(record))
}
