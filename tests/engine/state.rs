//! State by key: `update_state_by_key` and `map_with_state`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use tidemill::testing::TestContext;
use tidemill::{DStream, ErrorKind, State, StateSpec, Time};

use super::{Pair, at, builder, failure, queue_of, run, s, shown};

/// Adds the values; a value of 0 removes the key.
pub(super) fn running_sum(new: Vec<i64>, total: Option<i64>) -> Option<i64> {
    (!new.contains(&0)).then(|| total.unwrap_or(0) + new.iter().sum::<i64>())
}

/// Adds the values up, and gives each sum; a value of 0 removes the key, and gives nothing. A key that times
/// out gives its last sum as a negative number.
pub(super) fn sums() -> StateSpec<char, i64, i64, Pair> {
    StateSpec::function(|key: &char, value: Option<i64>, total: &mut State<i64>| match value {
        None => {
            assert!(total.is_timing_out());
            Some((*key, -total.get()))
        }
        Some(0) => {
            total.remove();
            None
        }
        Some(n) => {
            let sum = total.get_option().unwrap_or(&0) + n;
            total.update(sum);
            Some((*key, sum))
        }
    })
}

/// The outputs of `program` in the order in which they came; all keys are in one state partition.
fn run_in_order(batches: &[&str], program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>) -> Vec<Vec<Pair>> {
    let test =
        TestContext::from_builder(builder("test").state_partitions(1), Time::ZERO).expect("that is right");
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))));
    test.run(batches.len()).expect("no batch fails");
    output.take().into_iter().map(|(_, batch)| batch).collect()
}

#[test]
fn update_state_by_key_visits_every_known_key_in_every_batch_the_empty_ones_too() {
    let age = |_: Vec<i64>, batches: Option<i64>| Some(batches.unwrap_or(0) + 1);
    let out = run(&["a", "", "b b", ""], |p| p.update_state_by_key(age));
    assert_eq!(out, ["1s: a1", "2s: a2", "3s: a3 b1", "4s: a4 b2"]);
}

#[test]
fn update_state_by_key_shows_every_live_key_changed_or_not() {
    let out = run(&["a1 b2 a3", "", "b5"], |p| p.update_state_by_key(running_sum));
    assert_eq!(out, ["1s: a4 b2", "2s: a4 b2", "3s: a4 b7"]);
}

#[test]
fn update_state_by_key_gets_a_keys_values_in_their_order() {
    let last_two = |new: Vec<i64>, before: Option<i64>| {
        Some(new.iter().fold(before.unwrap_or(0), |all, n| all * 10 + n))
    };
    assert_eq!(
        run(&["a1 b7 a2 a3", "a4"], |p| p.update_state_by_key(last_two)),
        ["1s: a123 b7", "2s: a1234 b7"]
    );
}

#[test]
fn none_removes_a_key_and_one_that_comes_back_starts_anew() {
    let out = run(&["a1 b9", "a0", "", "a5", "a1 b0"], |p| p.update_state_by_key(running_sum));
    assert_eq!(out, ["1s: a1 b9", "2s: b9", "3s: b9", "4s: a5 b9", "5s: a6"]);
}

#[test]
fn a_key_that_was_never_made_is_not_there() {
    assert_eq!(run(&["a0 b1", ""], |p| p.update_state_by_key(running_sum)), ["1s: b1", "2s: b1"]);
}

#[test]
fn a_state_that_became_empty_gives_empty_batches() {
    assert_eq!(
        run(&["a1", "a0", "", ""], |p| p.update_state_by_key(running_sum)),
        ["1s: a1", "2s:", "3s:", "4s:"]
    );
}

#[test]
fn update_state_by_key_over_a_window_is_called_once_per_slide() {
    let calls = |new: Vec<i64>, state: Option<i64>| Some(state.unwrap_or(0) * 10 + new.len() as i64);
    let out = run(&["a", "a", "a", "", "", ""], |p| p.window(s(2), s(2)).unwrap().update_state_by_key(calls));
    assert_eq!(out, ["2s: a2", "4s: a21", "6s: a210"]);
}

#[test]
fn state_over_state() {
    let out =
        run(&["a1", "a2 b5", ""], |p| p.update_state_by_key(running_sum).update_state_by_key(running_sum));
    // The sums 1, 3 and 3 of a, and 5 and 5 of b, summed.
    assert_eq!(out, ["1s: a1", "2s: a4 b5", "3s: a7 b10"]);
}

#[test]
fn map_with_state_is_called_once_per_record_and_later_records_see_earlier_updates() {
    let out = run_in_order(&["a1 b5 a2 a3", "", "b1 a1"], |p| p.map_with_state(sums()));
    assert_eq!(out, [vec![('a', 1), ('b', 5), ('a', 3), ('a', 6)], vec![], vec![('b', 6), ('a', 7)]]);
}

#[test]
fn the_output_of_map_with_state_has_only_what_was_returned() {
    let out = run(&["a1 a2 b3", "a4", "b1"], |p| {
        p.map_with_state(StateSpec::function(|key: &char, n: Option<i64>, total: &mut State<i64>| {
            let sum = total.get_option().unwrap_or(&0) + n.unwrap_or(0);
            total.update(sum);
            (sum % 2 == 1).then_some((*key, sum))
        }))
    });
    // a: 1, 3, 7; b: 3, 4.
    assert_eq!(out, ["1s: a1 a3 b3", "2s: a7", "3s:"]);
}

#[test]
fn a_removed_state_is_gone_for_later_records_of_the_batch_and_for_later_batches() {
    let out = run_in_order(&["a5 a0 a2", "a0", "a0", "a3"], |p| p.map_with_state(sums()));
    assert_eq!(out, [vec![('a', 5), ('a', 2)], vec![], vec![], vec![('a', 3)]]);
}

#[test]
fn a_timeout_that_is_not_longer_than_0_is_refused_at_start() {
    for (timeout, shown) in [(s(0), "0ms"), (s(-2), "-2s")] {
        let test = TestContext::new("test").unwrap();
        let pairs = test.ssc.queue_stream(&queue_of(&["a1"]));
        test.collect(&pairs.map_with_state(sums().timeout(s(1))));
        test.collect(&pairs.map_with_state(sums().timeout(timeout)));
        let error = test.ssc.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let expected = format!("the timeout {shown} of `map_with_state-2` must be longer than 0");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let shortest = run(&["a1", "", ""], |p| p.map_with_state(sums().timeout(tidemill::Duration::millis(1))));
    assert_eq!(shortest, ["1s: a1", "2s: a-1", "3s:"]);
}

#[test]
fn exists_and_get_option_tell_whether_there_is_a_state() {
    let out = run_in_order(&["a1 a2 a0 a0 a3"], |p| {
        p.map_with_state(StateSpec::function(|key: &char, n: Option<i64>, state: &mut State<i64>| {
            assert_eq!(state.exists(), state.get_option().is_some());
            assert!(!state.is_timing_out());
            let existed = i64::from(state.exists());
            match n {
                Some(0) => state.remove(),
                n => state.update(n.unwrap_or(0)),
            }
            Some((*key, existed))
        }))
    });
    assert_eq!(out, [[('a', 0), ('a', 1), ('a', 1), ('a', 0), ('a', 0)]]);
}

#[test]
fn the_function_of_map_with_state_may_know_the_batch_time() {
    let out = run(&["a", "", "b"], |p| {
        p.map_with_state(StateSpec::function_with_time(
            |time: Time, key: &char, _: Option<i64>, _: &mut State<i64>| Some((*key, time.as_millis())),
        ))
    });
    assert_eq!(out, ["1s: a1000", "2s:", "3s: b3000"]);
}

#[test]
fn a_timeout_fires_when_the_last_touch_is_strictly_older_than_batch_time_less_timeout_and_once() {
    let out = run(&["a7", "", "", "", "", ""], |p| p.map_with_state(sums().timeout(s(2))));
    // At 3 s the touch at 1 s is exactly two seconds old.
    assert_eq!(out, ["1s: a7", "2s:", "3s:", "4s: a-7", "5s:", "6s:"]);
}

#[test]
fn a_key_that_timed_out_starts_anew() {
    let out = run(&["a7", "", "", "", "a1", "a1"], |p| p.map_with_state(sums().timeout(s(2))));
    assert_eq!(out, ["1s: a7", "2s:", "3s:", "4s: a-7", "5s: a1", "6s: a2"]);
}

#[test]
fn a_batchs_data_comes_before_its_timeouts() {
    let out = run_in_order(&["a7 b3", "", "", "c1 b1"], |p| p.map_with_state(sums().timeout(s(2))));
    // b is kept alive by its record; a goes after all records.
    assert_eq!(out, [vec![('a', 7), ('b', 3)], vec![], vec![], vec![('c', 1), ('b', 4), ('a', -7)]]);
}

#[test]
fn a_record_in_the_batch_of_the_timeout_that_removes_the_state_leaves_nothing_to_time_out() {
    let out = run(&["a7", "", "", "a0", "", ""], |p| p.map_with_state(sums().timeout(s(2))));
    assert_eq!(out, ["1s: a7", "2s:", "3s:", "4s:", "5s:", "6s:"]);
}

#[test]
fn with_a_timeout_any_touch_refreshes() {
    let out = run(&["a7", "", "a100", "", "", "", ""], |p| {
        let looks = StateSpec::function(|key: &char, n: Option<i64>, state: &mut State<i64>| match n {
            None => Some((*key, -state.get())),
            Some(n) if n < 100 => {
                state.update(n);
                None
            }
            Some(_) => Some((*key, *state.get())),
        });
        p.map_with_state(looks.timeout(s(2)))
    });
    // Looked at at 3 s, so it goes at 6 s.
    assert_eq!(out, ["1s:", "2s:", "3s: a7", "4s:", "5s:", "6s: a-7", "7s:"]);
}

#[test]
fn touching_a_key_without_state_makes_none() {
    let out = run(&["a1", "", "", ""], |p| {
        let looks = StateSpec::function(|key: &char, n: Option<i64>, state: &mut State<i64>| {
            Some((*key, if state.exists() { -1 } else { n? }))
        });
        p.map_with_state(looks.timeout(s(1)))
    });
    assert_eq!(out, ["1s: a1", "2s:", "3s:", "4s:"]);
}

#[test]
fn without_a_timeout_states_stay() {
    let out = run(&["a7", "", "", "", "", "a1"], |p| p.map_with_state(sums()));
    assert_eq!(out.last().unwrap(), "6s: a8");
}

#[test]
fn a_timeout_fires_in_the_first_batch_past_its_deadline_though_batches_pass_at_once() {
    let test = TestContext::new("test").unwrap();
    let queue = queue_of(&["a7"]);
    let output = test.collect(&test.ssc.queue_stream(&queue).map_with_state(sums().timeout(s(10))));
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.clock.set(at(20));
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    let fired: Vec<_> = shown(output.take()).into_iter().filter(|batch| batch.contains('a')).collect();
    assert_eq!(fired, ["1s: a7", "12s: a-7"]);
}

#[test]
fn the_initial_state_is_in_effect_from_the_first_batch_on() {
    let out = run(&["a1 c1", "b1", ""], |p| p.map_with_state(sums().initial_state([('a', 10), ('b', 20)])));
    assert_eq!(out, ["1s: a11 c1", "2s: b21", "3s:"]);
}

#[test]
fn the_initial_state_times_out_too_and_each_key_once() {
    let out = run(&["a1", "", "", "", ""], |p| {
        p.map_with_state(sums().initial_state([('a', 10), ('b', 20)]).timeout(s(2)))
    });
    // Both were touched in the batch of 1 s.
    assert_eq!(out, ["1s: a11", "2s:", "3s:", "4s: a-11 b-20", "5s:"]);
}

/// What a batch fails with when a function does `misuse` to the state of `a`, which has been updated to 1 at
/// 1 s, at 2 s, and when it times out at 5 s.
fn misused(misuse: impl Fn(Option<i64>, &mut State<i64>) + Send + Sync + 'static) -> String {
    failure(&["a1", "a2", "", "", ""], |p| {
        let spec = StateSpec::function(move |key: &char, n: Option<i64>, state: &mut State<i64>| {
            if n == Some(1) {
                state.update(1);
            } else {
                misuse(n, state);
            }
            Some((*key, 0))
        });
        p.map_with_state(spec.timeout(s(2)))
    })
}

#[test]
fn misuse_fails_the_batch_with_a_message_that_names_it() {
    let error = misused(|_, state| {
        state.remove();
        state.get();
    });
    assert!(error.contains("State::get of a state that does not exist"), "{error}");
    assert!(error.starts_with("batch 2000 ms: operator `map_with_state-1`: task of partition "), "{error}");
    let error = misused(|_, state| {
        state.remove();
        state.update(2);
    });
    assert!(
        error.starts_with("batch 2000 ms: ") && error.contains("State::update after State::remove"),
        "{error}"
    );
    let error = misused(|_, state| {
        state.remove();
        state.remove();
    });
    assert!(
        error.starts_with("batch 2000 ms: ") && error.contains("State::remove after State::remove"),
        "{error}"
    );
    let error = misused(|n, state| {
        if n.is_none() {
            state.update(2)
        }
    });
    assert!(error.starts_with("batch 5000 ms: "), "{error}");
    assert!(error.contains("State::update of a state that is timing out"), "{error}");
    let error = misused(|n, state| {
        if n.is_none() {
            state.remove()
        }
    });
    assert!(error.starts_with("batch 5000 ms: "), "{error}");
    assert!(error.contains("State::remove of a state that is timing out"), "{error}");
}

#[test]
fn the_state_does_not_depend_on_how_many_outputs_read_it_or_how_little_they_take() {
    let kept = |read: fn(&DStream<Pair>)| {
        let test = TestContext::from_builder(builder("test").state_partitions(4), Time::ZERO).unwrap();
        let input = test.ssc.queue_stream(&queue_of(&["a1 b2 c3 d4", "a5 e6", "a7", ""]));
        let states = [
            input.update_state_by_key(running_sum),
            input.map_with_state(sums().timeout(s(1))),
            input.reduce_by_key_and_window(|a, b| a + b, s(3), s(1)).unwrap(),
            input.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, s(3), s(1)).unwrap(),
            input.window(s(2), s(1)).unwrap(),
        ];
        states.iter().for_each(read);
        test.ssc.start().unwrap();
        (0..4).for_each(|_| test.step().unwrap());
        test.ssc.stop(true).unwrap();
        test.completed_batches().into_iter().map(|batch| batch.state).collect::<Vec<_>>()
    };
    let once = kept(|stream| stream.foreach_rdd(|rdd| rdd.collect().map(|_| ())));
    let keys: Vec<u64> = once.last().unwrap().iter().map(|(_, stats)| stats.keys).collect();
    // All five letters; a, of which the last touch was at 3 s; a and e; all five; the batches of 3 and 4 s.
    assert_eq!(keys, [5, 1, 2, 5, 2]);
    let twice = kept(|stream| {
        stream.print_n(1);
        stream.foreach_rdd(|_| ());
    });
    assert_eq!(twice, once);
    assert_eq!(kept(|stream| stream.foreach_rdd(|_| ())), once);
    assert_eq!(kept(|stream| stream.foreach_rdd(|rdd| rdd.take(1).map(|_| ()))), once);
}

/// A function that panics the first time it sees `b`, and how often it was called.
fn fails_once() -> (impl Fn(char) + Clone + Send + Sync + 'static, Arc<AtomicUsize>) {
    let (calls, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let counted = calls.clone();
    let call = move |key| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert!(key != 'b' || failed.swap(true, Ordering::Relaxed), "not this time");
    };
    (call, calls)
}

#[test]
fn a_failed_attempt_of_map_with_state_leaves_no_trace() {
    let (call, calls) = fails_once();
    let out = run_in_order(&["a1 b2 a3", "a1 b1"], |p| {
        let spec = StateSpec::function(move |key: &char, n: Option<i64>, total: &mut State<i64>| {
            let sum = total.get_option().unwrap_or(&0) + n.unwrap_or(0);
            total.update(sum);
            call(*key);
            Some((*key, sum))
        });
        p.map_with_state(spec)
    });
    assert_eq!(out, [vec![('a', 1), ('b', 2), ('a', 4)], vec![('a', 5), ('b', 3)]]);
    // a and b, then all three again; two in the second batch.
    assert_eq!(calls.load(Ordering::Relaxed), 2 + 3 + 2);
}

#[test]
fn a_failed_attempt_of_update_state_by_key_leaves_no_trace() {
    let (call, calls) = fails_once();
    let out = run_in_order(&["a1 b2", "a3"], |p| {
        let counted = p.map(|(key, n)| (key, (key, n)));
        counted.update_state_by_key(move |new: Vec<(char, i64)>, total: Option<i64>| {
            new.iter().for_each(|(key, _)| call(*key));
            Some(total.unwrap_or(0) + new.iter().map(|(_, n)| n).sum::<i64>())
        })
    });
    assert_eq!(out, [[('a', 1), ('b', 2)], [('a', 4), ('b', 2)]]);
    assert_eq!(calls.load(Ordering::Relaxed), 2 + 2 + 1);
}

#[test]
fn attempts_before_the_last_are_not_seen_by_the_output() {
    let (give, take) = mpsc::channel();
    let (call, _) = fails_once();
    let out = run_in_order(&["a1 b2"], |p| {
        p.map(move |pair| {
            call(pair.0);
            give.send(pair).expect("the test is still there");
            pair
        })
    });
    assert_eq!(out, [[('a', 1), ('b', 2)]]);
    // The function itself has run for a twice.
    assert_eq!(take.try_iter().count(), 3);
}
