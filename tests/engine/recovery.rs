//! Programs that end, well or not, and go on from their checkpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{DStream, Error, ErrorKind, RddQueue, Result, State, StateSpec, Time};

use super::state::{running_sum, sums};
use super::{Pair, at, builder, pairs, queue_of, s, shown};

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

/// A context with a checkpoint in `folder`, at `now` seconds.
fn context(folder: &Path, now: i64) -> Result<TestContext> {
    TestContext::from_builder(builder("test").checkpoint(folder).state_partitions(4), at(now))
}

/// Runs `program` from second `from` to second `until`, and shows what it gives. The queue is filled with all
/// batches since the epoch, as a program that starts again would do it.
fn session(
    folder: &Path,
    batches: &[&str],
    from: i64,
    until: i64,
    program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>,
) -> Vec<String> {
    let test = context(folder, from).expect("the checkpoint can be opened");
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))));
    test.run((until - from) as usize).expect("no batch fails");
    shown(output.take())
}

/// Why `program` cannot be started on the checkpoint in `folder`.
fn refused(folder: &Path, program: impl FnOnce(&DStream<Pair>) -> Result<()>) -> Error {
    let test = context(folder, 1).expect("the checkpoint can be opened");
    program(&test.ssc.queue_stream(&queue_of(&["a1", "a2"]))).expect("the operators can be made");
    test.ssc.start().expect_err("the checkpoint does not fit")
}

#[test]
fn update_state_by_key_goes_on() {
    let folder = folder();
    let batches = ["a1 b2", "a2 b0", "", "a4 b8"];
    let program = |p: &DStream<Pair>| p.update_state_by_key(running_sum);
    assert_eq!(session(folder.path(), &batches, 0, 2, program), ["1s: a1 b2", "2s: a3"]);
    assert_eq!(session(folder.path(), &batches, 2, 4, program), ["3s: a3", "4s: a7 b8"]);
}

#[test]
fn map_with_state_goes_on_and_timeouts_count_from_before_the_stop() {
    let folder = folder();
    let batches = ["a1 b2", "b3", "", "", "a5"];
    let program = |p: &DStream<Pair>| p.map_with_state(sums().timeout(s(2)));
    assert_eq!(session(folder.path(), &batches, 0, 3, program), ["1s: a1 b2", "2s: b5", "3s:"]);
    assert_eq!(session(folder.path(), &batches, 3, 5, program), ["4s: a-1", "5s: a5 b-5"]);
}

#[test]
fn a_key_that_timed_out_does_not_come_back() {
    let folder = folder();
    let program = |p: &DStream<Pair>| p.map_with_state(sums().timeout(s(1)));
    assert_eq!(session(folder.path(), &["a1"], 0, 3, program), ["1s: a1", "2s:", "3s: a-1"]);
    assert_eq!(session(folder.path(), &["a1"], 3, 6, program), ["4s:", "5s:", "6s:"]);
}

#[test]
fn windows_go_on() {
    let folder = folder();
    let batches = ["a1", "a2", "a4", "a8", ""];
    let program = |p: &DStream<Pair>| p.window(s(3), s(1)).unwrap();
    assert_eq!(session(folder.path(), &batches, 0, 2, program), ["1s: a1", "2s: a1 a2"]);
    assert_eq!(
        session(folder.path(), &batches, 2, 5, program),
        ["3s: a1 a2 a4", "4s: a2 a4 a8", "5s: a4 a8"]
    );
}

#[test]
fn sums_of_windows_go_on_in_the_middle_of_a_slide() {
    for form in 0..2 {
        let folder = folder();
        let batches = ["a1", "a2", "a4", "a8", "a16", ""];
        let program = move |p: &DStream<Pair>| {
            match form {
                0 => p.reduce_by_key_and_window(|a, b| a + b, s(4), s(2)),
                _ => p.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, s(4), s(2)),
            }
            .unwrap()
        };
        assert_eq!(session(folder.path(), &batches, 0, 3, program), ["2s: a3"]);
        assert_eq!(session(folder.path(), &batches, 3, 6, program), ["4s: a15", "6s: a28"]);
    }
}

#[test]
fn time_that_passed_while_down_has_passed() {
    let folder = folder();
    let batches = ["a1 b1", "a2", "a4", ""];
    let sums_of = |form: i32| {
        move |p: &DStream<Pair>| {
            match form {
                0 => p.reduce_by_key_and_window(|a, b| a + b, s(3), s(1)),
                _ => p.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, s(3), s(1)),
            }
            .unwrap()
        }
    };
    let (plain, inverse) = (folder.path().join("plain"), folder.path().join("inverse"));
    assert_eq!(session(&plain, &batches, 0, 2, sums_of(0)), ["1s: a1 b1", "2s: a3 b1"]);
    assert_eq!(session(&plain, &batches, 6, 8, sums_of(0)), ["7s: a4", "8s: a4"]);
    assert_eq!(session(&inverse, &batches, 0, 2, sums_of(1)), ["1s: a1 b1", "2s: a3 b1"]);
    assert_eq!(session(&inverse, &batches, 6, 8, sums_of(1)), ["7s: a4 b0", "8s: a4 b0"]);
    let timeouts = |p: &DStream<Pair>| p.map_with_state(sums().timeout(s(2)));
    let state = folder.path().join("state");
    assert_eq!(session(&state, &batches, 0, 2, timeouts), ["1s: a1 b1", "2s: a3"]);
    // The batch's data comes first, and keeps a alive.
    assert_eq!(session(&state, &batches, 6, 8, timeouts), ["7s: a7 b-1", "8s:"]);
}

#[test]
fn the_initial_state_is_taken_at_the_very_first_start_only() {
    let folder = folder();
    let batches = ["a1", "a0", "a5"];
    let program = |p: &DStream<Pair>| p.map_with_state(sums().initial_state([('a', 10)]));
    assert_eq!(session(folder.path(), &batches, 0, 2, program), ["1s: a11", "2s:"]);
    // a was removed, so there is no state at all; the initial one is past all the same.
    assert_eq!(session(folder.path(), &batches, 2, 3, program), ["3s: a5"]);
}

#[test]
fn an_initial_state_waits_for_the_first_batch_that_is_committed() {
    let folder = folder();
    let test = context(folder.path(), 0).unwrap();
    let stream = test.ssc.queue_stream(&queue_of(&["a1"])).map_with_state(sums().initial_state([('a', 10)]));
    stream.foreach_rdd(|_| Err(Error::task("not yet")));
    test.run(1).unwrap_err();
    drop((stream, test));
    let out =
        session(folder.path(), &["a1", "a2"], 1, 2, |p| p.map_with_state(sums().initial_state([('a', 10)])));
    assert_eq!(out, ["1s: a11", "2s: a13"]);
}

#[test]
fn without_new_records_a_start_and_a_stop_change_nothing() {
    let folder = folder();
    let program = |p: &DStream<Pair>| p.update_state_by_key(running_sum);
    session(folder.path(), &["a1"], 0, 1, program);
    for _ in 0..3 {
        assert!(session(folder.path(), &["a1"], 1, 1, program).is_empty());
    }
    assert_eq!(session(folder.path(), &["a1", "a2"], 1, 2, program), ["2s: a3"]);
}

#[test]
fn of_a_failed_batch_nothing_is_committed_and_it_is_run_again_with_the_same_elements() {
    let folder = folder();
    let batches = ["a1", "a2 b1", "a4"];
    let program = |p: &DStream<Pair>| p.update_state_by_key(running_sum);
    {
        let test = context(folder.path(), 0).unwrap();
        let states = program(&test.ssc.queue_stream(&queue_of(&batches)));
        let output = test.collect(&states);
        states.foreach_rdd_with_time(
            |_, time| if time == at(2) { Err(Error::task("no luck")) } else { Ok(()) },
        );
        test.ssc.start().unwrap();
        test.step().unwrap();
        assert!(test.step().unwrap_err().to_string().ends_with("no luck"));
        assert_eq!(shown(output.take()), ["1s: a1", "2s: a3 b1"]);
        // Without a stop.
    }
    let test = context(folder.path(), 2).unwrap();
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(&batches))));
    test.run(1).unwrap();
    assert_eq!(shown(output.take()), ["2s: a3 b1", "3s: a7 b1"]);
    let times: Vec<_> = test.completed_batches().iter().map(|b| b.batch_time).collect();
    assert_eq!(times, [at(2), at(3)]);
    drop(test);
    // What was run again is not run once more.
    assert_eq!(session(folder.path(), &batches, 3, 4, program), ["4s: a7 b1"]);
}

#[test]
fn a_failed_batch_is_run_again_at_its_own_time_however_late() {
    let folder = folder();
    let batches = ["a1", "a2", "a4"];
    let sums = |p: &DStream<Pair>| p.reduce_by_key_and_window(|a, b| a + b, s(2), s(1)).unwrap();
    {
        let test = context(folder.path(), 1).unwrap();
        sums(&test.ssc.queue_stream(&queue_of(&batches))).foreach_rdd(|_| Err(Error::task("no luck")));
        test.run(1).unwrap_err();
    }
    // 2 s again, then 10 s, and so on.
    assert_eq!(session(folder.path(), &batches, 9, 11, sums), ["2s: a1", "10s: a2", "11s: a6"]);
}

#[test]
fn a_task_that_fails_at_every_attempt_leaves_nothing_in_the_checkpoint() {
    let folder = folder();
    let batches = ["a1 b1", "a2 b2"];
    let calls = Arc::new(AtomicUsize::new(0));
    {
        let test = context(folder.path(), 0).unwrap();
        let counted = calls.clone();
        let states =
            test.ssc.queue_stream(&queue_of(&batches)).update_state_by_key(move |new, sum: Option<i64>| {
                if new.contains(&2) {
                    assert_eq!(counted.fetch_add(1, Ordering::Relaxed), 99, "twos are too hard");
                }
                running_sum(new, sum)
            });
        test.collect(&states);
        let error = test.run(2).unwrap_err().to_string();
        assert!(
            error.starts_with("batch 2000 ms: operator `update_state_by_key-1`: task of partition "),
            "{error}"
        );
        assert!(error.contains(", attempt 4: operator `update_state_by_key-1`, key \""), "{error}");
        assert!(error.contains("twos are too hard"), "{error}");
    }
    // a and b may be in one partition or in two.
    assert!([4, 8].contains(&calls.load(Ordering::Relaxed)));
    let out = session(folder.path(), &batches, 2, 2, |p| p.update_state_by_key(running_sum));
    assert_eq!(out, ["2s: a3 b3"]);
}

#[test]
fn the_checkpoint_of_another_application_is_refused_with_both_names() {
    let folder = folder();
    session(folder.path(), &["a1"], 0, 1, |p| p.clone());
    let error = builder("other").checkpoint(folder.path()).build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(text.contains("belongs to application `test`, not to `other`"), "{text}");
}

#[test]
fn another_operator_or_other_keys_under_a_uid_are_refused() {
    let folder = folder();
    session(folder.path(), &["a1"], 0, 1, |p| p.update_state_by_key(running_sum).uid("totals").unwrap());
    let error = refused(folder.path(), |p| {
        p.map_with_state(sums()).uid("totals")?.print();
        Ok(())
    });
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(text.starts_with("operator `totals` is a map_with_state from char to i64, "), "{text}");
    assert!(text.contains("holds a update_state_by_key from char to i64 under that uid"), "{text}");
    let error = refused(folder.path(), |p| {
        let by_text = p.map(|(key, n)| (key.to_string(), n));
        by_text.update_state_by_key(running_sum).uid("totals")?.print();
        Ok(())
    });
    let text = error.to_string();
    assert!(text.contains("is a update_state_by_key from alloc::string::String to i64"), "{text}");
    assert!(text.ends_with("give the changed operator another uid"), "{text}");
    // The state is untouched.
    let out = session(folder.path(), &["a1", "a2"], 1, 2, |p| {
        p.update_state_by_key(running_sum).uid("totals").unwrap()
    });
    assert_eq!(out, ["2s: a3"]);
}

#[test]
fn state_belongs_to_the_uid_and_not_to_the_place() {
    let folder = folder();
    let batches = ["a1", "a2"];
    let totals = |p: &DStream<Pair>| p.update_state_by_key(running_sum).uid("totals").unwrap();
    assert_eq!(session(folder.path(), &batches, 0, 1, totals), ["1s: a1"]);
    let out = session(folder.path(), &batches, 1, 2, |p| {
        p.map_values(|n| n * 100).update_state_by_key(running_sum).foreach_rdd(|_| ());
        totals(p)
    });
    assert_eq!(out, ["2s: a3"]);
}

#[test]
fn a_uid_of_an_operator_without_state_is_an_error() {
    let test = TestContext::new("test").unwrap();
    let error = test.ssc.queue_stream(&queue_of(&[])).map(|pair| pair).uid("totals").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.to_string(), "uid `totals` was given to an operator that keeps no state");
}

#[test]
fn two_operators_of_one_uid_are_refused() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a1"]));
    test.collect(&input.update_state_by_key(running_sum).uid("totals").unwrap());
    test.collect(&input.map_values(|n| -n).update_state_by_key(running_sum).uid("totals").unwrap());
    let error = test.ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`totals`"), "{error}");
}

#[test]
fn a_folder_that_another_context_has_open_is_refused_until_that_is_gone() {
    let folder = folder();
    let first = context(folder.path(), 0).unwrap();
    let error = context(folder.path(), 0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot open the checkpoint {}: ", folder.path().display())), "{text}");
    assert!(text.contains("lock"), "{text}");
    drop(first);
    context(folder.path(), 0).unwrap();
}

#[test]
fn every_kind_of_program_lets_go_of_its_folder() {
    let folder = folder();
    for second in 0..3 {
        let test = context(folder.path(), second).unwrap();
        let input = test.ssc.queue_stream(&queue_of(&["a1"; 9]));
        let both = input.union(&input.transform(|rdd| rdd.map(|pair| pair))).unwrap();
        both.count().foreach_rdd(|rdd| rdd.collect().map(|_| ()));
        let states = both.window(s(2), s(1)).unwrap().map_with_state(sums());
        test.collect(&states.reduce_by_key(|a, b| a + b).filter(|_| true).flat_map(|pair| [pair]));
        test.run(1).unwrap();
    }
}

#[test]
fn a_checkpoint_keeps_its_number_of_state_partitions() {
    let folder = folder();
    let batches = ["a1 b1 c1 d1", "a1 b1 c1 d1"];
    let program = |p: &DStream<Pair>| p.update_state_by_key(running_sum);
    session(folder.path(), &batches, 0, 1, program);
    let test =
        TestContext::from_builder(builder("test").checkpoint(folder.path()).state_partitions(7), at(1))
            .unwrap();
    let states = program(&test.ssc.queue_stream(&queue_of(&batches)));
    let (output, partitions) =
        (test.collect(&states), test.collect(&states.transform(|rdd| rdd.map_partitions(|_| [()]))));
    test.run(1).unwrap();
    assert_eq!(shown(output.take()), ["2s: a2 b2 c2 d2"]);
    assert_eq!(partitions.take().remove(0).1.len(), 4);
}

#[test]
fn a_clock_that_is_behind_the_checkpoint_is_waited_for_a_minute_at_most() {
    let folder = folder();
    let program = |p: &DStream<Pair>| p.update_state_by_key(running_sum);
    session(folder.path(), &["a1"], 99, 100, program);
    let test = context(folder.path(), 39).unwrap();
    test.collect(&program(&test.ssc.queue_stream(&queue_of(&["a1"]))));
    let error = test.ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(
        text.starts_with("the clock is 61s behind the last batch of the checkpoint (100000 ms)"),
        "{text}"
    );
    drop(test);
    let test = context(folder.path(), 40).unwrap();
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(&["a1", "a2", "a4"]))));
    test.ssc.start().unwrap();
    test.clock.set(at(100));
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["101s: a3"]);
}

#[test]
fn keys_and_values_of_all_shapes_come_back() {
    type Key = (String, Option<i64>, bool);
    type Value = BTreeMap<String, Vec<f64>>;
    let folder = folder();
    let run = |from: i64| {
        let test = context(folder.path(), from).expect("the checkpoint can be opened");
        let queue = RddQueue::<Key>::new();
        let key = |word: &str, n: Option<i64>| (word.to_owned(), n, n.is_none());
        queue.push([key("", None), key("\u{1f30a}\0\"\\", Some(i64::MIN)), key("z", Some(i64::MAX))]);
        queue.push([key("", None)]);
        let counted = test.ssc.queue_stream(&queue).map(|key| (key, 0.1));
        let states = counted.update_state_by_key(|new: Vec<f64>, state: Option<Value>| {
            let mut state = state.unwrap_or_default();
            state.entry("seen \"so far\"".to_owned()).or_default().extend(new);
            Some(state)
        });
        let output = test.collect(&states);
        test.run(1).expect("no batch fails");
        let mut states = output.take().remove(0).1;
        states.sort_by(|a, b| a.0.cmp(&b.0));
        states.into_iter().map(|(key, mut state)| (key, state.remove("seen \"so far\""))).collect::<Vec<_>>()
    };
    let (first, second) = (run(0), run(1));
    assert_eq!(first.len(), 3);
    assert_eq!(first[0].1, Some(vec![0.1]));
    assert_eq!(second[0].1, Some(vec![0.1, 0.1]));
    assert_eq!(second[1..], first[1..]);
}

/// One program of every stateful operator, over one input.
pub(super) fn all_operators(input: &DStream<Pair>) -> Result<Vec<DStream<Pair>>> {
    let add = |a: i64, b: i64| a + b;
    let subtract = |a: i64, b: i64| a - b;
    let timing_out = input.map_with_state(sums().timeout(s(2)));
    let touches = StateSpec::function(|key: &char, n: Option<i64>, state: &mut State<i64>| {
        if !state.exists() {
            state.update(n.unwrap_or(0));
        }
        Some((*key, *state.get()))
    });
    Ok(vec![
        input.update_state_by_key(running_sum),
        input.map_with_state(sums().initial_state([('a', 100), ('z', 100)])),
        input.map_with_state(touches.initial_state([('b', 7)]).timeout(s(1))),
        input.window(s(3), s(2))?,
        input.window(s(1), s(2))?,
        input.window(s(3), s(1))?.map_partitions(|part| [('p', part.len() as i64)]),
        input.reduce_by_key_and_window(add, s(3), s(1))?,
        input.reduce_by_key_and_window(add, s(4), s(2))?,
        // Neither commutative nor invertible.
        input.reduce_by_key_and_window(|_, b| b, s(3), s(1))?,
        input.reduce_by_key_and_window_with_inverse(add, subtract, s(3), s(1))?,
        input.reduce_by_key_and_window_with_inverse(add, subtract, s(2), s(3))?,
        input.reduce_by_key_and_window_with_inverse_filtered(add, subtract, s(4), s(2), |_, n| *n != 0)?,
        timing_out.window(s(2), s(1))?.update_state_by_key(running_sum),
        timing_out,
    ])
}

type Outputs = BTreeMap<(usize, Time), Vec<Pair>>;

/// Runs all operators from second `from` to second `until`; with `fails`, the last batch fails after all
/// outputs have seen it, and nobody stops the program.
fn run_all(folder: &Path, batches: &[Vec<Pair>], from: i64, until: i64, fails: bool) -> Outputs {
    run_all_within(256 << 20, folder, batches, from, until, fails)
}

/// As [`run_all`], with so many bytes of memory for state.
fn run_all_within(
    limit: usize,
    folder: &Path,
    batches: &[Vec<Pair>],
    from: i64,
    until: i64,
    fails: bool,
) -> Outputs {
    let settings = builder("test").checkpoint(folder).state_partitions(4).state_memory_limit(limit);
    let test = TestContext::from_builder(settings, at(from)).expect("the checkpoint can be opened");
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push_partitions([batch.clone(), Vec::new()]));
    let input = test.ssc.queue_stream(&queue);
    let streams = all_operators(&input).expect("the lengths are right");
    let collected: Vec<_> = streams.iter().map(|stream| test.collect(stream)).collect();
    input.foreach_rdd_with_time(move |_, time| {
        if fails && time == at(until) { Err(Error::task("no luck")) } else { Ok(()) }
    });
    if fails {
        test.run((until - from) as usize).expect_err("the last batch fails");
    } else {
        test.run((until - from) as usize).expect("no batch fails");
    }
    let outputs = collected.into_iter().enumerate();
    outputs.flat_map(|(i, c)| c.take().into_iter().map(move |(t, pairs)| ((i, t), pairs))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_with_interruptions_gives_what_one_without_gives(
        batches in prop::collection::vec(
            prop::collection::vec((prop::sample::select(vec!['a', 'b', 'c']), 0..4i64), 0..4), 1..9,
        ),
        cuts in prop::collection::btree_map(1..9i64, any::<bool>(), 1..3),
        limit in prop::sample::select(vec![0, 3_000, 30_000, 256 << 20]),
    ) {
        let folder = folder();
        let end = batches.len() as i64;
        let whole = run_all(&folder.path().join("whole"), &batches, 0, end, false);
        let (mut parts, mut from) = (Outputs::new(), 0);
        let cuts = cuts.into_iter().filter(|(cut, _)| *cut <= end).chain([(end, false)]);
        for (until, fails) in cuts {
            for (at, pairs) in run_all_within(limit, &folder.path().join("parts"), &batches, from, until, fails) {
                // A batch that failed gives the same when it is run again.
                if let Some(before) = parts.insert(at, pairs.clone()) {
                    prop_assert_eq!(before, pairs, "output {} at {}", at.0, at.1);
                }
            }
            from = until;
        }
        prop_assert_eq!(parts, whole);
    }
}

#[test]
fn the_state_of_failed_runs_is_that_of_the_pairs_that_were_read() {
    // Every batch fails once, and is run again by the next program.
    let folder = folder();
    let batches: Vec<_> = ["a1 b2", "a0", "c3 a1", "", "b1"].map(pairs).to_vec();
    let whole = run_all(&folder.path().join("whole"), &batches, 0, 5, false);
    let mut parts = Outputs::new();
    for second in 1..=5 {
        parts.extend(run_all(&folder.path().join("parts"), &batches, second - 1, second, true));
    }
    parts.extend(run_all(&folder.path().join("parts"), &batches, 5, 5, false));
    assert_eq!(parts, whole);
}

#[test]
fn an_input_that_was_not_there_when_a_batch_ran_again_has_lost_nothing() {
    let folder = folder();
    let context = |now, both: bool| {
        let test = context(folder.path(), now).unwrap();
        let mut outputs = vec![test.collect(&test.ssc.queue_stream(&queue_of(&["a1", "a2", "a3"])))];
        if both {
            outputs.push(test.collect(&test.ssc.queue_stream(&queue_of(&["b1", "b2"]))));
        }
        (test, outputs)
    };
    let (test, outputs) = context(0, true);
    test.ssc.start().unwrap();
    test.step_and_crash().unwrap();
    drop((test, outputs));
    // The batch runs again without one of its inputs, and another one after it.
    let (test, outputs) = context(1, false);
    test.run(1).unwrap();
    assert_eq!(shown(outputs[0].take()), ["1s: a1", "2s: a2"]);
    drop((test, outputs));
    let (test, outputs) = context(2, true);
    test.run(1).unwrap();
    assert_eq!(shown(outputs[0].take()), ["3s: a3"]);
    assert_eq!(shown(outputs[1].take()), ["3s: b1"]);
}
