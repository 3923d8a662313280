//! What the checkpoint says about batches, for whoever looks at it without running anything.

use super::records::{COMMITTED, Committed, PLANNED, Plan, Prepared};
use crate::error::Result;
use crate::state::{StateDb, Verified};

/// The batches of a checkpoint.
#[derive(Debug)]
pub(crate) struct Batches {
    pub committed: Option<Committed>,
    /// The last one that was planned, whether it has been committed or not.
    pub planned: Option<Plan>,
    pub prepared: Option<Prepared>,
}

impl Batches {
    pub fn read(store: &StateDb) -> Result<Self> {
        Ok(Self {
            committed: store.get(COMMITTED)?,
            planned: store.get(PLANNED)?,
            prepared: store.prepared()?.map(|(prepared, _)| prepared),
        })
    }

    /// The batch that was planned and not committed.
    pub fn unfinished(&self) -> Option<&Plan> {
        let last = self.committed.as_ref().map(|committed| committed.time);
        self.planned.as_ref().filter(|plan| last.is_none_or(|last| plan.time > last))
    }

    /// Reads all of `store`, and gives everything that is wrong with it as its `problems`.
    pub fn verify(store: &StateDb) -> Verified {
        let mut verified = store.verify();
        match Self::read(store) {
            Ok(batches) => {
                verified.problems.extend(batches.problems());
                if batches.prepared.is_none() {
                    verified.problems.append(&mut verified.disagreements);
                }
            }
            Err(error) => verified.problems.push(error.to_string()),
        }
        verified
    }

    /// What no order of events could have left.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(prepared) = &self.prepared {
            match self.unfinished() {
                Some(plan) if plan.time == prepared.time => {
                    // An input that was gone when the batch ran again has stayed where it was.
                    let is_elsewhere = |(uid, plan): (&String, &crate::source::InputPlan)| {
                        let at = prepared.positions.get(uid);
                        at.is_some_and(|at| *at != plan.end() && Some(at) != plan.begin().as_ref())
                    };
                    if plan.inputs.iter().any(is_elsewhere) {
                        problems.push(format!(
                            "batch {} is prepared with other positions than it was planned with",
                            prepared.time
                        ));
                    }
                }
                Some(plan) => problems
                    .push(format!("batch {} is prepared, but batch {} planned", prepared.time, plan.time)),
                None => problems.push(format!("batch {} is prepared, but was not planned", prepared.time)),
            }
        }
        problems
    }
}
