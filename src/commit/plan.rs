//! Planning: what belongs to a batch is decided, and as a rule written down, before anything happens.

use std::sync::Arc;

use super::Parts;
use super::records::{PLANNED, Plan};
use crate::error::{Error, Result};
use crate::time::Time;

/// Decides what belongs to batches. It may, while the [`Committer`](super::Committer) still commits the batch before.
pub(crate) struct Planner(Arc<Parts>);

impl Planner {
    pub fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }

    /// Whether a batch may begin while the one before it is being committed: nothing outside sees anything of it before its own
    /// transaction, and its records wait in a log, so that they can be read again, whatever becomes of the one before.
    pub fn may_run_ahead(&self) -> bool {
        let Parts { inputs, sinks, has_external_outputs, .. } = &*self.0;
        self.0.arbiter().is_some()
            && sinks.iter().all(|sink| sink.is_transactional())
            && inputs.iter().all(|input| input.may_run_ahead())
            && !has_external_outputs
    }

    /// Whether the batch that was begun last has left records for the next.
    pub fn has_left_some(&self) -> bool {
        self.0.inputs.iter().any(|input| input.has_left_some())
    }

    /// Decides what belongs to batch `time`.
    pub fn plan(&self, time: Time) -> Result<Plan> {
        let inputs = self
            .0
            .inputs
            .iter()
            .map(|input| Ok((input.uid().to_owned(), input.plan(time)?)))
            .collect::<Result<_>>()?;
        Ok(Plan { time, inputs })
    }

    /// Writes `plan` down. The one of a batch that runs ahead stands there only after what the one before it has changed.
    pub fn write(&self, plan: &Plan) -> Result<()> {
        if let Some(db) = &self.0.db {
            // What a transaction or the checkpoint's own write makes visible cannot have been seen if the plan is lost
            // with the machine. A batch without records can have output too (a window, a timeout); it is written down
            // as well, but there is little to lose with it.
            let seen_before =
                self.0.has_external_outputs || (self.0.arbiter().is_none() && !self.0.sinks.is_empty());
            if seen_before && !plan.is_empty() {
                db.put(PLANNED, plan)?
            } else {
                db.put_unsynced(PLANNED, plan)?
            }
        }
        fail::fail_point!("commit::planned", |_| std::process::abort());
        Ok(())
    }

    /// Makes `plan` what the inputs' streams give: for the first time, or again.
    pub fn begin(&self, plan: &Plan) -> Result<()> {
        self.0.inputs.iter().try_for_each(|input| match plan.inputs.get(input.uid()) {
            Some(ranges) => input.begin(plan.time, ranges),
            None => Err(Error::checkpoint(format!(
                "batch {} was planned without input `{}`: it was added while that batch was unfinished; \
                 run the former program once more, or drop the checkpoint",
                plan.time,
                input.uid()
            ))),
        })
    }
}
