//! Commit: the only place where state, offsets and output of a batch meet.
//!
//! ```text
//!   planned(t) ──► outputs flushed ──► { delta, committed(t) } in one write ──► the group's offsets
//! ```
//!
//! Delivery is at least once: a crash before the write reruns batch t with the same ranges.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sink::Sink;
use crate::source::{Input, InputPlan, InputPosition};
use crate::state::{Delta, StateDb};
use crate::time::Time;

const PLANNED: &[u8] = b"planned";
const COMMITTED: &[u8] = b"committed";

/// What belongs to a batch, by input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub time: Time,
    pub inputs: BTreeMap<String, InputPlan>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.inputs.values().all(InputPlan::is_empty)
    }
}

/// The last batch that was committed, and where its inputs stand since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub time: Time,
    pub positions: BTreeMap<String, InputPosition>,
}

/// How a run begins.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub committed: Option<Committed>,
    /// A batch that was planned and not committed: it is run again, as it was planned.
    pub unfinished: Option<Plan>,
}

/// Keeps the record of what was planned and committed.
pub(crate) struct Committer {
    db: Option<Arc<StateDb>>,
    inputs: Vec<Arc<dyn Input>>,
    sinks: Vec<Arc<dyn Sink>>,
    committed: BTreeMap<String, InputPosition>,
}

impl Committer {
    pub fn new(db: Option<Arc<StateDb>>, inputs: Vec<Arc<dyn Input>>, sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { db, inputs, sinks, committed: BTreeMap::new() }
    }

    /// What the checkpoint says about earlier runs.
    pub fn recover(&mut self) -> Result<Recovered> {
        let Some(db) = &self.db else { return Ok(Recovered::default()) };
        let committed: Option<Committed> = db.get(COMMITTED)?;
        let planned: Option<Plan> = db.get(PLANNED)?;
        if let Some(committed) = &committed {
            self.committed = committed.positions.clone();
        }
        let last = committed.as_ref().map(|c| c.time);
        Ok(Recovered { unfinished: planned.filter(|p| last.is_none_or(|t| p.time > t)), committed })
    }

    /// Decides what belongs to batch `time`, and writes it down before anything happens.
    pub fn plan(&self, time: Time) -> Result<Plan> {
        let inputs = self
            .inputs
            .iter()
            .map(|input| Ok((input.uid().to_owned(), input.plan(time)?)))
            .collect::<Result<_>>()?;
        let plan = Plan { time, inputs };
        if let Some(db) = &self.db {
            // A batch without records can have output too (a window, a timeout), and is run again as well.
            // There is little to lose with it, so it does not wait for the disk.
            if plan.is_empty() { db.put_unsynced(PLANNED, &plan)? } else { db.put(PLANNED, &plan)? }
        }
        Ok(plan)
    }

    /// Makes `plan` what the inputs' streams give.
    pub fn begin(&self, plan: &Plan) -> Result<()> {
        self.inputs.iter().try_for_each(|input| match plan.inputs.get(input.uid()) {
            Some(ranges) => input.begin(plan.time, ranges),
            None => Err(Error::checkpoint(format!(
                "batch {} was planned without input `{}`: it was added while that batch was unfinished; \
                 run the former program once more, or drop the checkpoint",
                plan.time,
                input.uid()
            ))),
        })
    }

    /// Makes a batch final: its output is delivered, then its state and offsets are written together,
    /// then the consumer group follows. A batch that changed nothing does not wait for the disk.
    pub fn commit(&mut self, plan: &Plan, delta: &Delta) -> Result<()> {
        for sink in &self.sinks {
            sink.flush()?;
        }
        let positions: BTreeMap<_, _> = plan.inputs.iter().map(|(uid, p)| (uid.clone(), p.end())).collect();
        let moved = positions != self.committed;
        if let Some(db) = &self.db {
            let committed = Committed { time: plan.time, positions: positions.clone() };
            if !moved && delta.is_empty() {
                db.put_unsynced(COMMITTED, &committed)?;
            } else {
                db.apply(delta, COMMITTED, &committed)?;
            }
        }
        self.committed = positions;
        for input in &self.inputs {
            plan.inputs.get(input.uid()).map_or(Ok(()), |plan| input.finished(plan))?;
        }
        if moved { self.publish(false) } else { Ok(()) }
    }

    /// Tells the outside where the inputs stand; with `wait`, not before it has been heard.
    pub fn publish(&self, wait: bool) -> Result<()> {
        self.inputs.iter().try_for_each(|input| match self.committed.get(input.uid()) {
            Some(position) => input.publish(position, wait),
            None => Ok(()),
        })
    }
}
