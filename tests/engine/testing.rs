//! The test kit itself: several inputs, intervals, restarts and crashes, and messages that show what differs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tidemill::testing::{
    Row, TestContext, assert_batches, run_batches, run_batches2, run_batches2_sorted, run_with_restarts,
};
use tidemill::{DStream, Duration, Error, ErrorKind, StateSpec, Time};

use super::{Pair, at, builder, pairs, s};

#[test]
fn several_inputs_of_several_partitions() {
    let test = TestContext::new("test").unwrap();
    let left = test.input_partitions([vec![vec![1], vec![2]], vec![vec![3]]]);
    let right = test.input([vec![10], vec![], vec![30]]);
    let shape = test.collect(&left.transform(|rdd| rdd.glom()));
    let both = test.collect(&left.union(&right).unwrap());
    test.run(4).unwrap();
    shape.assert_batches([vec![vec![1], vec![2]], vec![vec![3]], vec![], vec![]]);
    both.assert_batches([vec![1, 2, 10], vec![3], vec![30], vec![]]);
    assert_eq!(both.batches().times(), [at(1), at(2), at(3), at(4)]);
    let first = test.started_batches()[0].stream_id_to_input_info.clone();
    assert_eq!(first.values().map(|i| i.num_records).collect::<Vec<_>>(), [Some(2), Some(1)]);
}

#[test]
fn programs_of_two_inputs() {
    let out = run_batches2(vec![vec![1], vec![]], vec![vec!['a'], vec![], vec!['b']], |n, c| {
        n.map(|n| n.to_string()).union(&c.map(|c| c.to_string())).unwrap()
    });
    assert_eq!(out.unwrap(), [vec!["1", "a"], vec![], vec!["b"]]);
    let out = run_batches2_sorted(vec![vec![3, 1]], vec![vec![2]], |a, b| a.union(b).unwrap());
    assert_eq!(out.unwrap(), [[1, 2, 3]]);
    let out = run_batches2(vec![vec![0]], vec![vec![1]], |a, b| a.union(&b.map(|n| 1 / (n - 1))).unwrap());
    assert!(out.unwrap_err().to_string().contains("operator `map`"));
}

#[test]
fn other_batch_intervals() {
    let test = TestContext::with_interval("test", Duration::millis(250)).unwrap();
    let input = test.input([vec![1], vec![2], vec![3]]);
    let sums = test.collect(&input.window(Duration::millis(500), Duration::millis(500)).unwrap());
    test.run(4).unwrap();
    sums.assert_batches([vec![1, 2], vec![3]]);
    assert_eq!(sums.batches().times(), [Time::from_millis(500), Time::from_millis(1_000)]);
    let error = TestContext::with_interval("test", Duration::ZERO).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// The message with which `check` panics.
fn message(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(check).expect_err("it panics");
    panic.downcast_ref::<String>().expect("a message").clone()
}

#[test]
fn batches_that_differ_are_shown_among_the_others() {
    assert_batches(&[vec![1], vec![]], [vec![1], vec![]]);
    assert_batches::<i32, i32>(&[], []);
    assert_eq!(
        message(|| assert_batches(&[vec![1, 2], vec![3], vec![]], [vec![1, 2], vec![4], vec![]])),
        "batches differ from what was expected (- expected, + given):\n  batch 1: [1, 2]\n- batch 2: [4]\n+ batch 2: [3]\n  \
         batch 3: []"
    );
    assert_eq!(
        message(|| assert_batches(&[vec!["a"]], [vec!["a"], vec!["b"]])),
        "batches differ from what was expected (- expected, + given):\n  batch 1: [\"a\"]\n- batch 2: [\"b\"]"
    );
    assert_eq!(
        message(|| {
            let test = TestContext::new("test").unwrap();
            let output = test.collect(&test.input([pairs("a1"), pairs("b2")]));
            test.run(2).unwrap();
            output.assert_batches([pairs("a1")]);
        }),
        "batches differ from what was expected (- expected, + given):\n  batch 1000 ms: [('a', 1)]\n+ batch 2000 ms: [('b', 2)]"
    );
}

/// Totals by key, and how many elements came in the last three seconds.
fn program(input: &DStream<Pair>) -> DStream<Pair> {
    let totals = input.map_with_state(
        StateSpec::function(|key: &char, n: Option<i64>, total: &mut tidemill::State<i64>| {
            if total.is_timing_out() {
                return Some((key.to_ascii_uppercase(), *total.get()));
            }
            total.update(total.get_option().unwrap_or(&0) + n.unwrap_or(0));
            Some((*key, *total.get()))
        })
        .timeout(s(2)),
    );
    let recent = input.window(s(3), s(1)).unwrap().count().map(|n| ('#', n as i64));
    totals.union(&recent).unwrap()
}

fn rows(text: &[&str]) -> Vec<Row<Pair>> {
    let row = |word: &&str| match *word {
        "restart" => Row::Restart,
        "crash" => Row::Crash,
        text if text.contains('|') => Row::Partitions(text.split('|').map(pairs).collect()),
        text => pairs(text).into(),
    };
    text.iter().map(row).collect()
}

#[test]
fn restarts_and_crashes_change_nothing() {
    let batches = ["a1 b2", "a3|b1", "", "a1", "", ""];
    let mut expected = run_with_restarts(rows(&batches), program).unwrap();
    expected.iter_mut().for_each(|batch| batch.sort());
    let by_hand = ["#2 a1 b2", "#4 a4 b3", "#4", "#3 a5", "#1 B3", "#1"];
    assert_batches(&expected, by_hand.map(pairs));
    for interrupted in [
        &["restart", "a1 b2", "restart", "a3|b1", "", "a1", "restart", "restart", "", "", "restart"][..],
        &["crash", "a1 b2", "crash", "a3|b1", "crash", "", "crash", "a1", "crash", "", "crash", "", "crash"],
        &["a1 b2", "a3|b1", "crash", "crash", "", "a1", "restart", "crash", "", "crash", "restart", ""],
    ] {
        let mut out = run_with_restarts(rows(interrupted), program).unwrap();
        out.iter_mut().for_each(|batch| batch.sort());
        assert_batches(&out, expected.clone());
    }
}

#[test]
fn a_crashed_batch_is_run_again() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let out = run_with_restarts(rows(&["a1", "crash", "a2"]), move |input| {
        let counted = counted.clone();
        input.map(move |pair| {
            counted.fetch_add(1, Ordering::Relaxed);
            pair
        })
    });
    assert_batches(&out.unwrap(), [pairs("a1"), pairs("a2")]);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

#[test]
fn a_batch_that_fails_by_itself_fails_the_table() {
    let out = run_with_restarts(rows(&["a1", "a0", "crash"]), |input| input.map(|(key, n)| (key, 1 / n)));
    let error = out.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task);
    assert!(error.to_string().starts_with("batch 2000 ms: "), "{error}");
}

#[test]
fn crashes_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let session = |now, steps: &dyn Fn(&TestContext)| {
        let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), now).unwrap();
        let output =
            test.collect(&test.input([pairs("a1"), pairs("a2"), pairs("a3")]).update_state_by_key(
                |new, sum: Option<i64>| Some(sum.unwrap_or(0) + new.iter().sum::<i64>()),
            ));
        test.ssc.start().unwrap();
        steps(&test);
        output.take()
    };
    let out = session(Time::ZERO, &|test| {
        test.step().unwrap();
        test.step_and_crash().unwrap();
    });
    assert_eq!(out, [(at(1), pairs("a1")), (at(2), pairs("a3"))]);
    // The crashed batch is run again, at its own time.
    let out = session(at(2), &|test| {
        test.step().unwrap();
        test.crash().unwrap();
    });
    assert_eq!(out, [(at(2), pairs("a3")), (at(3), pairs("a6"))]);
    let out = session(at(3), &|test| {
        test.step().unwrap();
        test.ssc.stop(true).unwrap();
    });
    assert_eq!(out, [(at(4), pairs("a6"))]);
}

#[test]
fn only_what_is_collected_can_crash() {
    let test = TestContext::new("test").unwrap();
    test.input([vec![1], vec![2]]).foreach_rdd(|_| {});
    test.ssc.start().unwrap();
    assert_eq!(test.step_and_crash().unwrap_err().kind(), ErrorKind::Usage);
    let test = TestContext::new("test").unwrap();
    test.input([vec![1]]).foreach_rdd(|_| Err(Error::output("no luck")));
    test.ssc.start().unwrap();
    let error = test.step_and_crash().unwrap_err();
    assert!(error.to_string().ends_with("no luck"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn interruptions_anywhere_change_nothing(
        batches in prop::collection::vec(prop::collection::vec(("[a-c]", 1i64..9), 0..4), 1..7),
        interruptions in prop::collection::vec(0..3, 8),
    ) {
        let batches: Vec<Vec<Pair>> = batches
            .into_iter()
            .map(|b| b.into_iter().map(|(key, n)| (key.chars().next().unwrap(), n)).collect())
            .collect();
        let plain = batches.iter().cloned().map(Row::Batch).collect();
        let rows = batches.iter().zip(&interruptions).flat_map(|(batch, interruption)| {
            let after = match interruption {
                0 => None,
                1 => Some(Row::Restart),
                _ => Some(Row::Crash),
            };
            std::iter::once(Row::Batch(batch.clone())).chain(after)
        });
        prop_assert_eq!(run_with_restarts(rows.collect(), program).unwrap(), run_with_restarts(plain, program).unwrap());
    }
}

#[test]
fn a_batch_that_fails_is_the_error_of_the_run() {
    let error = run_batches(vec![vec![1], vec![0]], |n| n.map(|n| 1 / n)).unwrap_err();
    assert!(error.to_string().starts_with("batch 2000 ms: "), "{error}");
}

#[test]
fn a_step_of_a_context_that_is_not_active_is_an_error() {
    let test = TestContext::new("test").unwrap();
    test.collect(&test.input([vec![1]]));
    let told = |test: &TestContext| test.step().unwrap_err().to_string();
    assert!(told(&test).contains("call `start` before a step"));
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert!(told(&test).contains("call `start` before a step"));
}
