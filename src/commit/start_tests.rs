//! The table, row by row, over one input of two partitions; and what must hold for any crash.

use proptest::prelude::*;

use super::*;
use crate::source::{InputPlan, OffsetRange};
use crate::time::Time;

const APP: &str = "app";

fn t(seconds: i64) -> Time {
    Time::from_millis(seconds * 1_000)
}

const RUN: u64 = 7;

/// The marker of a batch of this run.
fn m(seconds: i64) -> Marker {
    Marker { time: t(seconds), run: RUN }
}

fn at(offsets: [i64; 2]) -> Positions {
    let offsets = [(("in".to_owned(), 0), offsets[0]), (("in".to_owned(), 1), offsets[1])].into();
    [("kafka:in".to_owned(), InputPosition::Offsets(offsets))].into()
}

fn plan(time: i64, from: [i64; 2], until: [i64; 2]) -> Plan {
    let range =
        |p: usize| OffsetRange { topic: "in".into(), partition: p as i32, from: from[p], until: until[p] };
    Plan {
        time: t(time),
        inputs: [("kafka:in".to_owned(), InputPlan::Offsets(vec![range(0), range(1)]))].into(),
    }
}

fn committed(time: i64, offsets: [i64; 2]) -> Committed {
    Committed {
        time: t(time),
        marker: Some(m(time)),
        in_transaction: true,
        positions: at(offsets),
        staged: Vec::new(),
    }
}

fn prepared(time: i64, offsets: [i64; 2]) -> Prepared {
    Prepared { time: t(time), run: RUN, positions: at(offsets), staged: Vec::new() }
}

fn group(offsets: [Option<i64>; 2], marker: Option<i64>) -> GroupOffsets {
    let entry = |(p, offset): (usize, Option<i64>)| {
        Some((("in".to_owned(), p as i32), GroupOffset { offset: offset?, marker: marker.map(m) }))
    };
    offsets.into_iter().enumerate().filter_map(entry).collect()
}

fn both(offsets: [i64; 2], marker: i64) -> GroupOffsets {
    group(offsets.map(Some), Some(marker))
}

fn found() -> Found {
    Found { in_transaction: ["kafka:in".to_owned()].into(), ..Found::default() }
}

fn decided(found: &Found) -> Decision {
    decide(APP, found).unwrap()
}

fn refused(found: &Found) -> String {
    decide(APP, found).unwrap_err().to_string()
}

#[test]
fn nothing_and_an_empty_group_is_a_fresh_start() {
    assert_eq!(decided(&found()), Decision::Fresh);
}

#[test]
fn a_group_without_a_checkpoint_is_taken_up_only_when_asked_for() {
    let mut found = Found { group: group([Some(7), None], None), ..found() };
    let message = refused(&found);
    assert!(message.contains("in-0 at 7") && message.contains("start: committed"), "{message}");
    found.starts_at_group = true;
    assert_eq!(decided(&found), Decision::Fresh);
}

#[test]
fn a_planned_batch_runs_again() {
    let found = Found { planned: Some(plan(2, [5, 5], [9, 9])), ..found() };
    let with = |committed, group| Found { committed, group, ..found.clone() };
    assert_eq!(decided(&with(Some(committed(1, [5, 5])), both([5, 5], 1))), Decision::RunAgain);
    // The first batch: the group is empty, or is where it was taken up.
    assert_eq!(decided(&with(None, GroupOffsets::new())), Decision::RunAgain);
    assert_eq!(decided(&with(None, group([Some(5), Some(5)], None))), Decision::RunAgain);
    // A transaction that the checkpoint knows nothing of.
    refused(&with(Some(committed(1, [5, 5])), both([9, 9], 2)));
}

#[test]
fn a_prepared_batch_whose_transaction_is_committed_is_rolled_forward() {
    let found = Found {
        committed: Some(committed(1, [5, 5])),
        planned: Some(plan(2, [5, 5], [9, 6])),
        prepared: Some(prepared(2, [9, 6])),
        group: both([9, 6], 2),
        ..found()
    };
    assert_eq!(decided(&found), Decision::RollForward);
}

#[test]
fn a_batch_that_moved_no_offset_is_told_by_its_marker_alone() {
    let with = |marker| Found {
        committed: Some(committed(1, [5, 5])),
        planned: Some(plan(2, [5, 5], [5, 5])),
        prepared: Some(prepared(2, [5, 5])),
        group: both([5, 5], marker),
        ..found()
    };
    assert_eq!(decided(&with(2)), Decision::RollForward);
    assert_eq!(decided(&with(1)), Decision::DropPrepared);
    refused(&with(3));
}

#[test]
fn a_prepared_batch_without_its_transaction_is_dropped_and_runs_again() {
    let found =
        Found { planned: Some(plan(2, [5, 5], [9, 6])), prepared: Some(prepared(2, [9, 6])), ..found() };
    let with = |committed, group| Found { committed, group, ..found.clone() };
    assert_eq!(decided(&with(Some(committed(1, [5, 5])), both([5, 5], 1))), Decision::DropPrepared);
    assert_eq!(decided(&with(None, GroupOffsets::new())), Decision::DropPrepared);
    // Half of the offsets have expired: the other half tells.
    assert_eq!(
        decided(&with(Some(committed(1, [5, 5])), group([None, Some(5)], Some(1)))),
        Decision::DropPrepared
    );
    // All of them: nothing tells.
    refused(&with(Some(committed(1, [5, 5])), GroupOffsets::new()));
    // Neither the batch before nor this one.
    refused(&with(Some(committed(1, [5, 5])), both([7, 5], 1)));
    refused(&with(Some(committed(1, [5, 5])), group([Some(9), Some(6)], None)));
}

#[test]
fn a_committed_batch_goes_on() {
    let with = |group| Found { committed: Some(committed(1, [5, 5])), group, ..found() };
    assert_eq!(decided(&with(both([5, 5], 1))), Decision::GoOn);
    assert_eq!(decided(&with(group([Some(5), None], Some(1)))), Decision::GoOn);
    assert_eq!(decided(&with(GroupOffsets::new())), Decision::GoOn);
    refused(&with(both([5, 5], 0)));
    refused(&with(both([4, 5], 1)));
}

#[test]
fn a_group_that_is_told_afterwards_may_be_behind_but_not_elsewhere() {
    let committed = Committed { in_transaction: false, ..committed(3, [5, 5]) };
    let with = |group| Found { committed: Some(committed.clone()), group, ..Found::default() };
    assert_eq!(decided(&with(both([5, 5], 3))), Decision::GoOn);
    assert_eq!(decided(&with(both([2, 5], 1))), Decision::GoOn);
    refused(&with(both([6, 5], 1)));
    refused(&with(both([5, 5], 4)));
    refused(&with(group([Some(2), Some(5)], None)));
}

#[test]
fn a_moved_group_is_told_with_both_positions_and_the_ways_on() {
    let found =
        Found { committed: Some(committed(1, [5, 6])), group: group([Some(0), Some(0)], None), ..found() };
    assert_eq!(
        refused(&found),
        "the checkpoint and consumer group `app` contradict each other: the checkpoint stands at in-0 at 5, in-1 at 6 \
         (batch 1000 ms committed), the group at in-0 at 0, in-1 at 0. Somebody moved the group's offsets, or put an \
         older checkpoint in place. To go on from the checkpoint use `--offsets checkpoint`; to go on from the group's \
         offsets, with the state as it is, use `--offsets group`"
    );
}

#[test]
fn without_a_source_on_the_cluster_the_marker_has_a_place_of_its_own() {
    let place = ("app-commits".to_owned(), 0);
    let with = |marker: Option<i64>| Found {
        committed: Some(Committed { positions: Positions::new(), ..committed(1, [0, 0]) }),
        planned: Some(Plan { time: t(2), inputs: BTreeMap::new() }),
        prepared: Some(Prepared { positions: Positions::new(), ..prepared(2, [0, 0]) }),
        group: marker
            .map(|m| (place.clone(), GroupOffset { offset: 0, marker: Some(self::m(m)) }))
            .into_iter()
            .collect(),
        marker_place: Some(place.clone()),
        ..Found::default()
    };
    assert_eq!(decided(&with(Some(2))), Decision::RollForward);
    assert_eq!(decided(&with(Some(1))), Decision::DropPrepared);
    refused(&with(None));
}

#[test]
fn a_prepared_batch_of_a_program_that_makes_no_transactions_any_more_is_told_by_the_group_still() {
    let with = |group| Found {
        committed: Some(committed(1, [5, 5])),
        planned: Some(plan(2, [5, 5], [9, 6])),
        prepared: Some(prepared(2, [9, 6])),
        group,
        ..Found::default()
    };
    assert_eq!(decided(&with(both([5, 5], 1))), Decision::DropPrepared);
    assert_eq!(decided(&with(both([9, 6], 2))), Decision::RollForward);
    refused(&with(GroupOffsets::new()));
}

#[test]
fn a_batch_of_the_same_time_that_another_run_committed_is_not_this_one() {
    let mut group = both([9, 6], 2);
    group.values_mut().for_each(|at| at.marker = Some(Marker { run: RUN + 1, ..m(2) }));
    let found = Found {
        committed: Some(committed(1, [5, 5])),
        planned: Some(plan(2, [5, 5], [9, 6])),
        prepared: Some(prepared(2, [9, 6])),
        group,
        ..found()
    };
    refused(&found);
}

#[test]
fn the_first_transaction_after_at_least_once_can_be_dropped() {
    let committed = Committed { in_transaction: false, ..committed(3, [5, 5]) };
    let with = |group| Found {
        committed: Some(committed.clone()),
        planned: Some(plan(4, [5, 5], [9, 6])),
        prepared: Some(prepared(4, [9, 6])),
        group,
        ..found()
    };
    // The group never heard of batch 3, or of any.
    assert_eq!(decided(&with(both([2, 5], 1))), Decision::DropPrepared);
    assert_eq!(decided(&with(GroupOffsets::new())), Decision::DropPrepared);
    assert_eq!(decided(&with(both([9, 6], 4))), Decision::RollForward);
}

#[test]
fn an_input_that_is_gone_has_no_say() {
    // Another input reads the same topic under another uid, and has gone on.
    let gone = ["kafka:old".to_owned()];
    let mut positions = at([9, 9]);
    positions.insert(gone[0].clone(), at([2, 2]).remove("kafka:in").unwrap());
    let committed = Committed { positions, ..committed(3, [9, 9]) };
    let found = Found { committed: Some(committed), group: both([9, 9], 3), absent: gone.into(), ..found() };
    assert_eq!(decided(&found), Decision::GoOn);
}

#[test]
fn a_batch_that_was_prepared_with_other_inputs_cannot_be_judged() {
    let found = Found {
        committed: Some(committed(1, [5, 5])),
        planned: Some(plan(2, [5, 5], [9, 6])),
        prepared: Some(prepared(2, [9, 6])),
        group: both([5, 5], 1),
        absent: ["kafka:in".to_owned()].into(),
        ..found()
    };
    let message = refused(&found);
    assert!(
        message.contains("kafka:in") && message.contains("start the former program once more"),
        "{message}"
    );
}

/// How far a batch got before the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Crash {
    Planned,
    Prepared,
    InTransaction,
    Committed,
}

proptest! {
    /// Whatever was read, wherever it crashes: the decision is the one that neither loses the batch nor doubles it.
    #[test]
    fn every_crash_has_one_way_on(
        first in any::<bool>(),
        from in [0i64..50, 0i64..50],
        more in [0i64..50, 0i64..50],
        crash in prop_oneof![
            Just(Crash::Planned), Just(Crash::Prepared), Just(Crash::InTransaction), Just(Crash::Committed)
        ],
    ) {
        let until = [from[0] + more[0], from[1] + more[1]];
        let before = (!first).then(|| committed(1, from));
        let group_before = if first { GroupOffsets::new() } else { both(from, 1) };
        let told = crash >= Crash::InTransaction;
        let found = Found {
            committed: if crash == Crash::Committed { Some(committed(2, until)) } else { before },
            planned: (crash < Crash::Committed).then(|| plan(2, from, until)),
            prepared: matches!(crash, Crash::Prepared | Crash::InTransaction).then(|| prepared(2, until)),
            group: if told { both(until, 2) } else { group_before },
            ..found()
        };
        let expected = match crash {
            Crash::Planned => Decision::RunAgain,
            Crash::Prepared => Decision::DropPrepared,
            Crash::InTransaction => Decision::RollForward,
            Crash::Committed => Decision::GoOn,
        };
        prop_assert_eq!(decide(APP, &found).unwrap(), expected);
    }

    /// A group that somebody moved is noticed.
    #[test]
    fn a_moved_group_is_noticed(stood in [0i64..50, 0i64..50], moved in [0i64..50, 0i64..50]) {
        let found = Found {
            committed: Some(committed(1, stood)),
            group: group(moved.map(Some), None),
            ..found()
        };
        prop_assert!(decide(APP, &found).is_err());
    }
}
