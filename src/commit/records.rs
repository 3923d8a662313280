//! What the checkpoint says about batches: planned, prepared, committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::source::{InputPlan, InputPosition, Marker};
use crate::time::Time;

pub(super) const PLANNED: &[u8] = b"planned";
pub(super) const COMMITTED: &[u8] = b"committed";

/// Where each input stands, by its uid.
pub(crate) type Positions = BTreeMap<String, InputPosition>;

/// What belongs to a batch, by input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub time: Time,
    pub inputs: BTreeMap<String, InputPlan>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.inputs.values().all(InputPlan::is_empty)
    }

    /// Where the inputs stand before it.
    pub fn begin(&self) -> Positions {
        self.inputs.iter().filter_map(|(uid, plan)| Some((uid.clone(), plan.begin()?))).collect()
    }

    /// Where the inputs stand after it.
    pub fn end(&self) -> Positions {
        self.inputs.iter().map(|(uid, plan)| (uid.clone(), plan.end())).collect()
    }
}

/// A file that was written under a temporary name, and gets its own when the batch is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    pub from: String,
    pub to: String,
}

/// The last batch that was committed, and where its inputs stand since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub time: Time,
    /// With what the consumer group's offsets are marked; an idle batch tells the group nothing.
    pub marker: Option<Marker>,
    /// Whether the group was told in a transaction, so that it can be neither behind nor ahead.
    pub in_transaction: bool,
    pub positions: Positions,
    /// Files that are still to get their names.
    pub staged: Vec<StagedFile>,
}

/// A batch whose changes are on disk beside the state, waiting for Kafka's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub time: Time,
    /// The run of the program that prepared it.
    pub run: u64,
    pub positions: Positions,
    pub staged: Vec<StagedFile>,
}

impl Prepared {
    /// With what its transaction marks the group's offsets.
    pub fn marker(&self) -> Marker {
        Marker { time: self.time, run: self.run }
    }

    /// The record that follows once the transaction is committed.
    pub fn committed(&self) -> Committed {
        Committed {
            time: self.time,
            marker: Some(self.marker()),
            in_transaction: true,
            positions: self.positions.clone(),
            staged: self.staged.clone(),
        }
    }
}
