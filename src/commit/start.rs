//! What a start does, decided from what the checkpoint and the consumer group say. Nothing here changes anything.
//!
//! | checkpoint | group | then |
//! |---|---|---|
//! | none | empty | fresh start |
//! | none | has offsets | fresh start if the source starts at the group's offsets; else an error |
//! | planned t, not prepared | where the batch before left it | run t again |
//! | prepared t | marked t | roll forward: t is committed |
//! | prepared t | where the batch before left it, or empty for the first | drop what was prepared, run t again |
//! | committed t | marked t | go on |
//! | committed t, not in a transaction | marked by us, at t or behind | go on |
//! | nothing prepared | some offsets are absent (expired, new partitions) | go on from the checkpoint |
//! | anything else | | somebody moved the group or the checkpoint: an error with both positions |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::records::{Committed, Plan, Positions, Prepared};
use crate::error::{Error, Result};
use crate::source::{GroupOffset, GroupOffsets, InputPosition, Marker, Place};

/// What a start finds.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub committed: Option<Committed>,
    /// A batch after the committed one.
    pub planned: Option<Plan>,
    pub prepared: Option<Prepared>,
    /// What the group holds, of all inputs.
    pub group: GroupOffsets,
    /// The inputs whose offsets a transaction holds.
    pub in_transaction: BTreeSet<String>,
    /// Inputs that the checkpoint knows and the program has not; where their topics' offsets stand is not theirs to say.
    pub absent: BTreeSet<String>,
    /// Where a transaction leaves its marker if it holds no input's offsets.
    pub marker_place: Option<Place>,
    /// Whether all inputs that have offsets in the group start there without a checkpoint.
    pub starts_at_group: bool,
}

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing was done before.
    Fresh,
    /// The last batch was committed.
    GoOn,
    /// A batch was planned: run it again.
    RunAgain,
    /// A batch was prepared, and its transaction is committed: finish it.
    RollForward,
    /// A batch was prepared, and its transaction is not: forget that, and run it again.
    DropPrepared,
}

/// How the group's offset of one partition compares with where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Exact,
    Absent,
    /// Committed by an earlier batch of ours.
    Behind,
    Elsewhere,
}

/// Where the group should stand, and with which marker; with none, whoever committed it.
struct Expected {
    offsets: BTreeMap<Place, i64>,
    marker: Option<Marker>,
}

/// What a start does.
///
/// # Errors
/// If the group and the checkpoint contradict each other.
pub(super) fn decide(app: &str, found: &Found) -> Result<Decision> {
    if let Some(prepared) = &found.prepared
        && found.in_transaction.is_empty()
        && found.marker_place.is_none()
    {
        // It was prepared for a transaction that this program no longer makes: what that would have told tells still.
        let in_transaction = prepared.positions.keys().cloned().collect();
        return decide_between(app, &Found { in_transaction, ..found.clone() });
    }
    decide_between(app, found)
}

fn decide_between(app: &str, found: &Found) -> Result<Decision> {
    let before = match (&found.committed, &found.planned) {
        (Some(committed), _) => (committed.positions.clone(), committed.marker),
        // Whoever used the group before the first batch is none of its business.
        (None, Some(planned)) => (planned.begin(), None),
        (None, None) if found.group.is_empty() || found.starts_at_group => return Ok(Decision::Fresh),
        (None, None) => return Err(group_without_checkpoint(app, &found.group)),
    };
    let contradiction = || moved(app, found, &before.0);
    // What is told after a commit, and not in it, may be behind.
    let followers = found.expected(&before.0, before.1, false);
    if !followers.all(&found.group, &[Stand::Exact, Stand::Absent, Stand::Behind]) {
        let ahead = found.prepared.as_ref().map(|p| found.expected(&p.positions, Some(p.marker()), false));
        if !ahead.is_some_and(|e| e.all(&found.group, &[Stand::Exact, Stand::Absent, Stand::Behind])) {
            return Err(contradiction());
        }
    }
    let last = found.expected(&before.0, before.1, true);
    if let Some(prepared) = &found.prepared {
        let now = found.expected(&prepared.positions, Some(prepared.marker()), true);
        if now.offsets.is_empty() {
            return Err(prepared_by_another_program(prepared, &found.absent));
        }
        if now.all(&found.group, &[Stand::Exact]) {
            return Ok(Decision::RollForward);
        }
        // With every offset absent one cannot tell, unless there never was one.
        // What was told after the commit before, and not in it, may not have been heard.
        let late = found.committed.as_ref().is_some_and(|c| !c.in_transaction);
        let tells = late || before.1.is_none() || last.any(&found.group, Stand::Exact);
        let behind: &[Stand] = if late { &[Stand::Behind] } else { &[] };
        return if tells && last.all(&found.group, &[&[Stand::Exact, Stand::Absent], behind].concat()) {
            Ok(Decision::DropPrepared)
        } else {
            Err(contradiction())
        };
    }
    let in_transaction = found.committed.as_ref().is_none_or(|c| c.in_transaction);
    let behind: &[Stand] = if in_transaction { &[] } else { &[Stand::Behind] };
    if !last.all(&found.group, &[&[Stand::Exact, Stand::Absent], behind].concat()) {
        return Err(contradiction());
    }
    Ok(if found.planned.is_some() { Decision::RunAgain } else { Decision::GoOn })
}

impl Found {
    /// Whether the checkpoint knows nothing yet.
    pub fn is_new(&self) -> bool {
        self.committed.is_none() && self.planned.is_none() && self.prepared.is_none()
    }

    /// Where the group stands when the inputs stand at `positions`: of what the transaction holds, or of the rest.
    fn expected(&self, positions: &Positions, marker: Option<Marker>, in_transaction: bool) -> Expected {
        let mut offsets = BTreeMap::new();
        for (uid, position) in positions {
            if let InputPosition::Offsets(of_input) = position
                && !self.absent.contains(uid)
                && self.in_transaction.contains(uid) == in_transaction
            {
                offsets.extend(of_input.iter().map(|(place, offset)| (place.clone(), *offset)));
            }
        }
        if in_transaction {
            offsets.extend(self.marker_place.clone().map(|place| (place, 0)));
        }
        Expected { offsets, marker }
    }
}

impl Expected {
    fn all(&self, group: &GroupOffsets, allowed: &[Stand]) -> bool {
        self.stands(group).all(|stand| allowed.contains(&stand))
    }

    fn any(&self, group: &GroupOffsets, wanted: Stand) -> bool {
        self.stands(group).any(|stand| stand == wanted)
    }

    fn stands(&self, group: &GroupOffsets) -> impl Iterator<Item = Stand> {
        self.offsets.iter().map(|(place, offset)| {
            let Some(at) = group.get(place) else { return Stand::Absent };
            match (self.marker, at.marker) {
                (None, _) if at.offset == *offset => Stand::Exact,
                (Some(wanted), Some(found)) if found == wanted && at.offset == *offset => Stand::Exact,
                (Some(wanted), Some(found)) if found.time < wanted.time && at.offset <= *offset => {
                    Stand::Behind
                }
                _ => Stand::Elsewhere,
            }
        })
    }
}

fn group_without_checkpoint(app: &str, group: &GroupOffsets) -> Error {
    Error::checkpoint(format!(
        "consumer group `{app}` has committed offsets ({}), but the checkpoint folder is new: to go on from the group's \
         offsets set `start: committed`; to begin anew delete the group (kafka-consumer-groups --delete --group {app}) \
         or choose another app_id",
        shown(group.iter().map(|(place, at)| (place, *at)))
    ))
}

fn prepared_by_another_program(prepared: &Prepared, absent: &BTreeSet<String>) -> Error {
    let absent = absent.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Error::checkpoint(format!(
        "batch {} of the checkpoint was prepared by a program that committed the offsets of inputs which this one does not \
         have ({absent}), so that Kafka cannot tell whether it was committed: start the former program once more, and stop \
         it",
        prepared.time
    ))
}

fn moved(app: &str, found: &Found, positions: &Positions) -> Error {
    let mut mine = String::new();
    for (uid, position) in positions {
        if let InputPosition::Offsets(offsets) = position {
            for ((topic, partition), offset) in offsets {
                let _ = write!(
                    mine,
                    "{}{topic}-{partition} at {offset}",
                    if mine.is_empty() { "" } else { ", " }
                );
            }
        } else if found.in_transaction.is_empty() {
            let _ = write!(mine, "{}input `{uid}`", if mine.is_empty() { "" } else { ", " });
        }
    }
    let batch = match (&found.committed, &found.prepared) {
        (_, Some(prepared)) => format!("batch {} prepared", prepared.time),
        (Some(committed), None) => format!("batch {} committed", committed.time),
        (None, None) => "no batch committed".to_owned(),
    };
    Error::checkpoint(format!(
        "the checkpoint and consumer group `{app}` contradict each other: the checkpoint stands at {mine} ({batch}), the \
         group at {}. Somebody moved the group's offsets, or put an older checkpoint in place. To go on from the \
         checkpoint use `--offsets checkpoint`; to go on from the group's offsets, with the state as it is, use \
         `--offsets group`",
        shown(found.group.iter().map(|(place, at)| (place, *at)))
    ))
}

fn shown<'a>(offsets: impl Iterator<Item = (&'a Place, GroupOffset)>) -> String {
    let text = |((topic, partition), at): (&Place, GroupOffset)| match at.marker {
        Some(marker) => format!("{topic}-{partition} at {} (by batch {})", at.offset, marker.time),
        None => format!("{topic}-{partition} at {}", at.offset),
    };
    let all: Vec<_> = offsets.map(text).collect();
    if all.is_empty() { "no offsets".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
