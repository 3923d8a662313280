//! Windows: their edges, their silence, and that all forms agree with recomputing from the raw batches.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidemill::testing::TestContext;
use tidemill::{DStream, ErrorKind, RddQueue, Time};

use super::{Pair, at, builder, failure, pairs, queue_of, run, s, shown};

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn subtract(a: i64, b: i64) -> i64 {
    a - b
}

fn window(window: i64, slide: i64) -> impl Fn(&DStream<Pair>) -> DStream<Pair> {
    move |pairs| pairs.window(s(window), s(slide)).expect("the lengths are right")
}

fn sums(window: i64, slide: i64) -> impl Fn(&DStream<Pair>) -> DStream<Pair> {
    move |pairs| pairs.reduce_by_key_and_window(add, s(window), s(slide)).expect("the lengths are right")
}

fn inverse(window: i64, slide: i64) -> impl Fn(&DStream<Pair>) -> DStream<Pair> {
    move |pairs| {
        pairs
            .reduce_by_key_and_window_with_inverse(add, subtract, s(window), s(slide))
            .expect("the lengths are right")
    }
}

fn filtered(window: i64, slide: i64) -> impl Fn(&DStream<Pair>) -> DStream<Pair> {
    move |pairs| {
        pairs
            .reduce_by_key_and_window_with_inverse_filtered(add, subtract, s(window), s(slide), |_, n| {
                *n != 0
            })
            .expect("the lengths are right")
    }
}

#[test]
fn a_window_is_shown_before_it_is_full_and_drains_at_the_end() {
    let batches = ["a", "b", "", "c", "", "", ""];
    let expected = ["1s: a1", "2s: a1 b1", "3s: a1 b1", "4s: b1 c1", "5s: c1", "6s: c1", "7s:"];
    assert_eq!(run(&batches, window(3, 1)), expected);
}

#[test]
fn sums_drain_and_with_an_inverse_stay_at_zero_unless_filtered() {
    let batches = ["a1", "a2 b1", "", "a4", "", "", ""];
    let drained = ["1s: a1", "2s: a3 b1", "3s: a3 b1", "4s: a6 b1", "5s: a4", "6s: a4", "7s:"];
    assert_eq!(run(&batches, sums(3, 1)), drained);
    assert_eq!(run(&batches, filtered(3, 1)), drained);
    let stay = ["1s: a1", "2s: a3 b1", "3s: a3 b1", "4s: a6 b1", "5s: a4 b0", "6s: a4 b0", "7s: a0 b0"];
    assert_eq!(run(&batches, inverse(3, 1)), stay);
}

#[test]
fn a_key_comes_back_after_silence() {
    let batches = ["a1", "", "", "", "a2", ""];
    let expected = ["1s: a1", "2s: a1", "3s:", "4s:", "5s: a2", "6s: a2"];
    assert_eq!(run(&batches, sums(2, 1)), expected);
    assert_eq!(run(&batches, filtered(2, 1)), expected);
    assert_eq!(run(&batches, window(2, 1)), expected);
    let expected = ["1s: a1", "2s: a1", "3s: a0", "4s: a0", "5s: a2", "6s: a2"];
    assert_eq!(run(&batches, inverse(2, 1)), expected);
}

#[test]
fn a_key_that_the_filter_dropped_starts_anew() {
    let even = |pairs: &DStream<Pair>| {
        pairs
            .reduce_by_key_and_window_with_inverse_filtered(add, subtract, s(3), s(1), |_, n| n % 2 == 0)
            .unwrap()
    };
    // At 2 s the sum is 3 and goes, with both of its batches; at 3 s there is only that batch.
    assert_eq!(
        run(&["a2", "a1", "a4", "", "", ""], even),
        ["1s: a2", "2s:", "3s: a4", "4s: a4", "5s: a4", "6s: a0"]
    );
}

#[test]
fn a_slide_as_long_as_the_window_sees_every_batch_once() {
    let batches = ["a1", "a2", "b1", "", "", "", "c1", "a8"];
    for program in
        [Box::new(sums(2, 2)) as Box<dyn Fn(&DStream<Pair>) -> DStream<Pair>>, Box::new(filtered(2, 2))]
    {
        assert_eq!(run(&batches, program), ["2s: a3", "4s: b1", "6s:", "8s: a8 c1"]);
    }
    assert_eq!(run(&batches, inverse(2, 2)), ["2s: a3", "4s: a0 b1", "6s: a0 b0", "8s: a8 b0 c1"]);
    assert_eq!(run(&batches, window(2, 2)), ["2s: a1 a2", "4s: b1", "6s:", "8s: a8 c1"]);
}

#[test]
fn between_slides_there_is_nothing_at_all() {
    let batches = ["a1", "b1", "a2", "", "", "b4", "", ""];
    assert_eq!(run(&batches, window(4, 2)), ["2s: a1 b1", "4s: a1 a2 b1", "6s: a2 b4", "8s: b4"]);
    assert_eq!(run(&batches, sums(4, 2)), ["2s: a1 b1", "4s: a3 b1", "6s: a2 b4", "8s: b4"]);
    assert_eq!(run(&batches, inverse(4, 2)), ["2s: a1 b1", "4s: a3 b1", "6s: a2 b4", "8s: a0 b4"]);
}

#[test]
fn windows_whose_length_is_no_multiple_of_the_slide() {
    let batches = ["a1", "a2", "a4", "a8", "a16", "a32"];
    // At 2 s (-1, 2], at 4 s (1, 4], at 6 s (3, 6].
    let expected = ["2s: a3", "4s: a14", "6s: a56"];
    assert_eq!(run(&batches, sums(3, 2)), expected);
    assert_eq!(run(&batches, inverse(3, 2)), expected);
}

#[test]
fn a_slide_longer_than_the_window_never_sees_the_gaps() {
    let batches = ["a1", "b1", "a2", "c1", "a4", "d1", "e1", "", ""];
    // At 3 s (1, 3], at 6 s (4, 6], at 9 s (7, 9]: c and e fall between.
    assert_eq!(run(&batches, window(2, 3)), ["3s: a2 b1", "6s: a4 d1", "9s:"]);
    assert_eq!(run(&batches, sums(2, 3)), ["3s: a2 b1", "6s: a4 d1", "9s:"]);
    assert_eq!(run(&batches, filtered(2, 3)), ["3s: a2 b1", "6s: a4 d1", "9s:"]);
    assert_eq!(run(&batches, inverse(2, 3)), ["3s: a2 b1", "6s: a4 b0 d1", "9s: a0 b0 d0"]);
    // Panes of two seconds: at 6 s (2, 6].
    assert_eq!(run(&["a1", "a2", "a4", "a8", "a16", "a32"], sums(4, 6)), ["6s: a60"]);
}

#[test]
fn a_window_over_a_window_slides_with_it() {
    let batches = ["a1", "a2", "a4", "a8", "a16", "a32", "", ""];
    let program = |pairs: &DStream<Pair>| {
        let twos = pairs.reduce_by_key_and_window(add, s(2), s(2)).unwrap();
        twos.window(s(4), s(2)).unwrap()
    };
    assert_eq!(run(&batches, program), ["2s: a3", "4s: a3 a12", "6s: a12 a48", "8s: a48"]);
}

#[test]
fn a_map_after_a_window_slides_with_it() {
    let batches = ["a1", "a2", "a4", "a8"];
    assert_eq!(run(&batches, |p| sums(4, 2)(p).map_values(|n| -n)), ["2s: a-3", "4s: a-15"]);
}

#[test]
fn elements_of_a_window_come_oldest_first_and_partition_by_partition() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([vec![9, 1], vec![], vec![5]]);
    queue.push_partitions([vec![2], vec![0]]);
    let output = test.collect(&test.ssc.queue_stream(&queue).window(s(2), s(1)).unwrap());
    test.run(3).unwrap();
    assert_eq!(output.take(), [(at(1), vec![9, 1, 5]), (at(2), vec![9, 1, 5, 2, 0]), (at(3), vec![2, 0])]);
}

#[test]
fn values_are_reduced_oldest_first() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    for batch in ["1 2", "3", "4", "5", "6"] {
        queue.push(batch.split(' ').map(|n| ('a', n.to_owned())));
    }
    let joined = test.ssc.queue_stream(&queue).reduce_by_key_and_window(|a, b| a + &b, s(3), s(1)).unwrap();
    let output = test.collect(&joined.map(|(_, text)| text));
    test.run(6).unwrap();
    let texts: Vec<_> = output.take().into_iter().flat_map(|(_, texts)| texts).collect();
    assert_eq!(texts, ["12", "123", "1234", "345", "456", "56"]);
}

#[test]
fn with_an_inverse_too_values_come_and_go_oldest_first() {
    // Panes of a second, two of which come and go with each slide.
    let batches = [vec!["a"], vec!["b"], vec!["c", "d"], vec!["e"], vec![], vec!["f"], vec!["g"], vec![]];
    let output = tidemill::testing::run_batches(batches.map(|batch| batch.to_vec()).to_vec(), |words| {
        let pairs = words.map(|word| ((), word.to_owned()));
        let drop_oldest = |all: String, old: String| all.strip_prefix(&old).expect("the oldest").to_owned();
        pairs.reduce_by_key_and_window_with_inverse(|a, b| a + &b, drop_oldest, s(3), s(2)).unwrap()
    });
    let texts: Vec<_> = output.unwrap().into_iter().flatten().map(|((), text)| text).collect();
    assert_eq!(texts, ["ab", "bcde", "ef", "fg"]);
}

#[test]
fn lengths_that_are_no_multiples_of_the_parents_slide_are_an_error_at_once() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&RddQueue::<Pair>::new());
    let wrong = |length: &str, given: &str, operator: &str, parent: &str| {
        format!(
            "the {length} duration {given} of `{operator}` must be a multiple of its parent's slide duration {parent}"
        )
    };
    let error = numbers.window(tidemill::Duration::millis(2_500), s(1)).err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Config, wrong("window", "2500ms", "window", "1s"))
    );
    let error = numbers.window(s(2), s(0)).err().unwrap();
    assert_eq!(error.to_string(), wrong("slide", "0ms", "window", "1s"));
    let error = numbers.window(s(-2), s(1)).err().unwrap();
    assert_eq!(error.to_string(), wrong("window", "-2s", "window", "1s"));
    let twos = numbers.window(s(4), s(2)).unwrap();
    let error = twos.reduce_by_key_and_window(add, s(4), s(3)).err().unwrap();
    assert_eq!(error.to_string(), wrong("slide", "3s", "reduce_by_key_and_window", "2s"));
    let error = twos.reduce_by_key_and_window_with_inverse(add, subtract, s(5), s(2)).err().unwrap();
    assert_eq!(error.to_string(), wrong("window", "5s", "reduce_by_key_and_window", "2s"));
}

#[test]
fn windows_are_aligned_to_the_epoch_and_not_to_the_start() {
    let test = TestContext::from_builder(builder("test"), Time::from_millis(12_345)).unwrap();
    let numbers =
        test.ssc.queue_stream(&queue_of(&["a1", "a2", "a4", "a8", "a16", "a32", "a64", "a128", "a256"]));
    let (slides, tumbling) = (test.collect(&sums(4, 2)(&numbers)), test.collect(&window(5, 5)(&numbers)));
    test.run(9).unwrap();
    let batch_times: Vec<_> = test.completed_batches().iter().map(|b| b.batch_time).collect();
    assert_eq!(batch_times, (13..=21).map(at).collect::<Vec<_>>());
    // The batches of 13 and 14 s; of 13 to 16 s; of 15 to 18 s; of 17 to 20 s.
    assert_eq!(shown(slides.take()), ["14s: a3", "16s: a15", "18s: a60", "20s: a240"]);
    assert_eq!(shown(tumbling.take()), ["15s: a1 a2 a4", "20s: a8 a16 a32 a64 a128"]);
}

#[test]
fn a_panic_in_the_reduce_function_fails_the_batch() {
    for form in 0..2 {
        let error = failure(&["a9", "a1"], |p| {
            let reduce = |a: i64, b: i64| if a + b > 9 { panic!("more than a digit") } else { a + b };
            match form {
                0 => p.reduce_by_key_and_window(reduce, s(2), s(1)),
                _ => p.reduce_by_key_and_window_with_inverse(reduce, |a, b| a - b, s(2), s(1)),
            }
            .unwrap()
        });
        assert!(error.starts_with("batch 2000 ms: operator `reduce_by_key_and_window-1`: "), "{error}");
        assert!(error.contains("more than a digit"), "{error}");
    }
}

/// Batches that follow each other, each some empty intervals after the one before.
type Batches = Vec<(i64, Vec<Pair>)>;

fn batches() -> impl Strategy<Value = Batches> {
    let pair = (prop::sample::select(vec!['a', 'b', 'c']), 1..9i64);
    let gap = prop_oneof![4 => Just(0), 1 => 1..9i64];
    prop::collection::vec((gap, prop::collection::vec(pair, 0..4)), 1..12)
}

/// What the windows that end at `until` hold, computed from nothing but the raw batches.
fn recomputed(raw: &BTreeMap<i64, Vec<Pair>>, until: i64, window: i64) -> Vec<Pair> {
    raw.range(until - window + 1..=until).flat_map(|(_, batch)| batch.iter().copied()).collect()
}

fn summed(pairs: &[Pair]) -> Vec<Pair> {
    let mut sums = BTreeMap::new();
    pairs.iter().for_each(|(key, n)| *sums.entry(*key).or_insert(0) += n);
    sums.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_gives_what_recomputing_the_window_gives(
        start in 0..20i64, batches in batches(), length in 1..8i64, slide in 1..8i64,
    ) {
        let test = TestContext::from_builder(builder("test"), at(start)).unwrap();
        let queue = RddQueue::new();
        let input = test.ssc.queue_stream(&queue);
        let collected = [window(length, slide)(&input), sums(length, slide)(&input), inverse(length, slide)(&input),
            filtered(length, slide)(&input)].map(|stream| test.collect(&stream));
        let joined = input.map_values(|n| n.to_string());
        let joined = test.collect(&joined.reduce_by_key_and_window(|a, b| a + &b, s(length), s(slide)).unwrap());

        let (mut raw, mut now) = (BTreeMap::new(), start);
        test.ssc.start().unwrap();
        for (gap, batch) in batches {
            // A gap is made of intervals that pass at once, and find the queue empty but for the first.
            raw.insert(now + 1, batch.clone());
            queue.push(batch);
            test.clock.advance(s(gap));
            test.step().unwrap();
            now += gap + 1;
        }
        test.ssc.stop(true).unwrap();

        let ends: Vec<i64> = (start + 1..=now).filter(|t| t % slide == 0).collect();
        let windows = ends.iter().map(|t| (*t, recomputed(&raw, *t, length)));
        let sorted = |mut pairs: Vec<Pair>| { pairs.sort(); pairs };
        let expected: Vec<(Time, Vec<Pair>)> = windows.clone().map(|(t, w)| (at(t), w)).collect();
        let [plain, sums, inverse, filtered] = collected.map(|c| c.take());
        // The elements of a window, in the order in which they came.
        prop_assert_eq!(plain, expected.clone());
        let expected: Vec<_> = expected.into_iter().map(|(t, w)| (t, summed(&w))).collect();
        let of = |output: Vec<(Time, Vec<Pair>)>| output.into_iter().map(|(t, w)| (t, sorted(w))).collect::<Vec<_>>();
        prop_assert_eq!(of(sums), expected.clone());
        prop_assert_eq!(of(filtered), expected.clone());
        // With an inverse, every key that a window has shown, at zero once it has left.
        let mut known = BTreeSet::new();
        let with_zeros: Vec<_> = expected.into_iter().map(|(t, w)| {
            known.extend(w.iter().map(|(key, _)| *key));
            let w: BTreeMap<_, _> = w.into_iter().collect();
            (t, known.iter().map(|key| (*key, w.get(key).copied().unwrap_or(0))).collect::<Vec<_>>())
        }).collect();
        prop_assert_eq!(of(inverse), with_zeros);
        // Values in the order of their times, however the panes were put together.
        let texts: Vec<_> = windows.map(|(t, w)| {
            let mut texts = BTreeMap::<char, String>::new();
            w.iter().for_each(|(key, n)| texts.entry(*key).or_default().push_str(&n.to_string()));
            (at(t), texts.into_iter().collect::<Vec<_>>())
        }).collect();
        let joined: Vec<_> = joined.take().into_iter().map(|(t, mut w)| { w.sort(); (t, w) }).collect();
        prop_assert_eq!(joined, texts);
    }
}

#[test]
fn the_letters_of_these_tests_mean_what_they_say() {
    assert_eq!(pairs(" a b-2  a12"), [('a', 1), ('b', -2), ('a', 12)]);
}
