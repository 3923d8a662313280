//! What windows give does not depend on restarts: neither partitions nor the order of keys.

use std::path::Path;

use proptest::prelude::*;
use tidemill::testing::TestContext;
use tidemill::{DStream, RddQueue, Time};

use super::{Pair, at, builder, pairs, s};

type Windows = Vec<(Time, Vec<Pair>)>;

/// Runs `program` over batches of partitions, from second to second of `stops`, with a new program for each part.
fn run_in_parts(
    folder: &Path,
    batches: &[&[&str]],
    stops: &[i64],
    program: impl Fn(&DStream<Pair>) -> DStream<Pair>,
) -> Windows {
    let mut windows = Vec::new();
    for part in stops.windows(2) {
        let settings = builder("test").checkpoint(folder).state_partitions(1);
        let test = TestContext::from_builder(settings, at(part[0])).unwrap();
        let queue = RddQueue::new();
        batches.iter().for_each(|batch| queue.push_partitions(batch.iter().map(|p| pairs(p))));
        let output = test.collect(&program(&test.ssc.queue_stream(&queue)));
        test.run((part[1] - part[0]) as usize).unwrap();
        windows.extend(output.take());
    }
    windows
}

#[test]
fn empty_partitions_and_empty_batches_of_a_window_come_back() {
    let batches: &[&[&str]] = &[&["a1", ""], &["", ""], &[], &["", "", "b1 b2", ""]];
    let sizes =
        |p: &DStream<Pair>| p.window(s(3), s(1)).unwrap().map_partitions(|part| [('p', part.len() as i64)]);
    let expected = |sizes: &[&str]| {
        let window = |(i, sizes): (usize, &&str)| (at(i as i64 + 1), pairs(sizes));
        sizes.iter().enumerate().map(window).collect::<Windows>()
    };
    let expected = expected(&[
        "p1 p0",
        "p1 p0 p0 p0",
        "p1 p0 p0 p0",
        "p0 p0 p0 p0 p2 p0",
        "p0 p0 p2 p0",
        "p0 p0 p2 p0",
        "",
    ]);
    for stops in [&[0, 7][..], &[0, 1, 7], &[0, 2, 4, 7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run_in_parts(folder.path(), batches, stops, sizes), expected, "{stops:?}");
    }
}

#[test]
fn keys_of_a_reduced_window_come_in_their_order_with_and_without_restarts() {
    let batches: &[&[&str]] = &[&["c1 b1"], &["d1 a1 c1"], &["b1"], &["a1 e1"]];
    for form in 0..2 {
        let sums = move |p: &DStream<Pair>| {
            match form {
                0 => p.reduce_by_key_and_window(|a, b| a + b, s(3), s(1)),
                _ => p.reduce_by_key_and_window_with_inverse_filtered(
                    |a, b| a + b,
                    |a, b| a - b,
                    s(3),
                    s(1),
                    |_, n| *n > 0,
                ),
            }
            .unwrap()
        };
        let windows = ["b1 c1", "a1 b1 c2 d1", "a1 b2 c2 d1", "a2 b1 c1 d1 e1", "a1 b1 e1", "a1 e1", ""];
        let expected: Windows = (1..).map(at).zip(windows.map(pairs)).collect();
        for stops in [&[0, 7][..], &[0, 2, 7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(run_in_parts(folder.path(), batches, stops, sums), expected, "{form} {stops:?}");
        }
    }
}

/// Runs sums over `batches`, with a gap without elements behind each. After those whose numbers are in `restarts` the program is away
/// for the gap, and comes back. Gives the windows, and the times when it was away.
fn sums_of(
    batches: &[(i64, Vec<Pair>)],
    restarts: &[usize],
    (window, slide): (i64, i64),
    program: fn(&DStream<Pair>, i64, i64) -> DStream<Pair>,
) -> (Windows, Vec<Time>) {
    let folder = tempfile::tempdir().unwrap();
    let (mut windows, mut away, mut now) = (Windows::new(), Vec::new(), 0);
    let mut numbers = 0..batches.len();
    while !numbers.is_empty() {
        let settings = builder("test").checkpoint(folder.path()).state_partitions(2);
        let test = TestContext::from_builder(settings, at(now)).unwrap();
        let queue = RddQueue::new();
        // Those that a former program took.
        batches[..numbers.start].iter().for_each(|(_, batch)| queue.push(batch.clone()));
        let output = test.collect(&program(&test.ssc.queue_stream(&queue), window, slide));
        test.ssc.start().unwrap();
        for number in numbers.by_ref() {
            let (gap, batch) = &batches[number];
            let stops = restarts.contains(&number);
            queue.push(batch.clone());
            test.clock.advance(s(if stops { 0 } else { *gap }));
            test.step().unwrap();
            now += gap + 1;
            if stops {
                away.extend((now - gap + 1..=now).map(at));
                break;
            }
        }
        test.ssc.stop(true).unwrap();
        windows.extend(output.take());
    }
    (windows, away)
}

fn plain(p: &DStream<Pair>, window: i64, slide: i64) -> DStream<Pair> {
    p.reduce_by_key_and_window(|a, b| a + b, s(window), s(slide)).unwrap()
}

fn with_inverse(p: &DStream<Pair>, window: i64, slide: i64) -> DStream<Pair> {
    let keep = |_: &char, n: &i64| *n > 0;
    p.reduce_by_key_and_window_with_inverse_filtered(|a, b| a + b, |a, b| a - b, s(window), s(slide), keep)
        .unwrap()
}

#[test]
fn a_pane_that_ends_while_the_program_is_away_stays_what_it_was() {
    // At 1 s, then, after two restarts, at 6 s and 7 s: panes end at 4 s and at 8 s.
    let batches = [(4, pairs("a1 b1")), (0, pairs("a2")), (0, vec![]), (0, vec![]), (3, vec![])];
    for program in [plain, with_inverse] {
        let (shown, _) = sums_of(&batches, &[0, 1], (8, 4), program);
        assert_eq!(shown, [(at(8), pairs("a3 b1")), (at(12), pairs("a2"))]);
    }
}

#[test]
fn values_that_are_gathered_anew_stay_with_those_that_come_no_more() {
    // One pane: `b` comes in the first batch alone, and by the ninth there is more than four times what two keys have.
    let batches: Vec<_> = (0..12).map(|n| (0, pairs(if n == 0 { "a1 b1" } else { "a1" }))).collect();
    for program in [plain, with_inverse] {
        for restarts in [&[][..], &[8], &[9], &[8, 9, 10], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] {
            let (shown, _) = sums_of(&batches, restarts, (12, 12), program);
            assert_eq!(shown, [(at(12), pairs("a12 b1"))], "{restarts:?}");
        }
    }
}

#[test]
fn a_window_with_shorter_panes_than_before_counts_what_it_had_once() {
    let batches: &[&[&str]] = &[&["a1 b1"], &["a2"], &["a4"]];
    let shown = |time: i64| (at(time), pairs(if time < 70 { "a7 b1" } else { "" }));
    for program in [plain, with_inverse] {
        for stops in [&[1, 75][..], &[1, 2, 3, 75], &[1, 3, 5, 10, 11, 31, 69, 75]] {
            let folder = tempfile::tempdir().unwrap();
            let sums = |slide: i64| move |p: &DStream<Pair>| program(p, 60, slide).uid("sums").unwrap();
            assert_eq!(run_in_parts(folder.path(), batches, &[0, 1], sums(60)), []);
            let windows = run_in_parts(folder.path(), batches, stops, sums(10));
            assert_eq!(windows, (1..=7).map(|n| shown(10 * n)).collect::<Windows>(), "{stops:?}");
        }
    }
}

#[test]
fn a_window_takes_as_much_after_a_restart_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let stats = |from: i64, count: usize| {
        let settings = builder("test").checkpoint(folder.path()).state_partitions(2);
        let test = TestContext::from_builder(settings, at(from)).unwrap();
        let queue = RddQueue::new();
        ["a1 b1", "a1 c300", "b2"].iter().for_each(|batch| queue.push(pairs(batch)));
        let _shown = test.collect(&with_inverse(&test.ssc.queue_stream(&queue), 20, 10));
        test.run(count).unwrap();
        let (_, stats) = test.completed_batches().last().unwrap().state[0].clone();
        (stats.keys, stats.bytes)
    };
    let before = stats(0, 3);
    assert_eq!(before.0, 3);
    assert_eq!(stats(3, 1), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Panes of many batches, whose entries are gathered meanwhile: keys that come in each of them, once, or again after long.
    #[test]
    fn restarts_within_panes_and_gaps_over_them_change_nothing(
        mut batches in prop::collection::vec(
            (prop_oneof![2 => Just(0i64), 1 => 1..14i64], prop::collection::vec((prop::char::range('a', 'e'), 1..9i64), 0..6)),
            1..30,
        ),
        restarts in prop::collection::vec(0..30usize, 0..8),
        panes in 1..4i64, slide in 1..3i64, pane in 3..9i64,
    ) {
        let lengths = (panes * pane, slide * pane);
        batches.push((40, Vec::new()));
        let (expected, _) = sums_of(&batches, &[], lengths, plain);
        prop_assert_eq!(&sums_of(&batches, &[], lengths, with_inverse).0, &expected);
        // At the end it is there, until all has left.
        let restarts: Vec<_> = restarts.into_iter().filter(|number| number + 1 < batches.len()).collect();
        for program in [plain, with_inverse] {
            let (shown, away) = sums_of(&batches, &restarts, lengths, program);
            let times: Vec<_> = shown.iter().map(|(time, _)| *time).collect();
            let is_shown = |(time, _): &&(Time, Vec<Pair>)| times.contains(time) || !away.contains(time);
            prop_assert_eq!(&shown, &expected.iter().filter(is_shown).cloned().collect::<Windows>());
        }
    }
}
