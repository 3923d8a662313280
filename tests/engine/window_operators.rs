//! The operators that are made of windows: their values by hand, and that they agree with the windows themselves.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{DStream, Data, Duration, ErrorKind, RddQueue, Result, Time};

use super::{Pair, at, builder, pairs, queue_of, s};

/// Runs `program` over `batches` of numbers, one per second from the epoch on, and gives the seconds at which it had an RDD,
/// with their elements.
fn numbers<U: Data>(
    batches: &[&[i64]],
    program: impl FnOnce(&DStream<i64>) -> Result<DStream<U>>,
) -> Vec<(i64, Vec<U>)> {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push(batch.to_vec()));
    let output = test.collect(&program(&test.ssc.queue_stream(&queue)).unwrap());
    test.run(batches.len()).unwrap();
    output.take().into_iter().map(|(time, elements)| (time.as_millis() / 1_000, elements)).collect()
}

/// The same over pairs, each batch sorted.
fn keyed<U: Data + Ord>(
    batches: &[&str],
    program: impl FnOnce(&DStream<Pair>) -> Result<DStream<U>>,
) -> Vec<(i64, Vec<U>)> {
    let test = TestContext::new("test").unwrap();
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))).unwrap());
    test.run(batches.len()).unwrap();
    let sorted = |(time, mut elements): (Time, Vec<U>)| {
        elements.sort();
        (time.as_millis() / 1_000, elements)
    };
    output.take().into_iter().map(sorted).collect()
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn subtract(a: i64, b: i64) -> i64 {
    a - b
}

#[test]
fn count_by_window_gives_nothing_before_the_first_element_and_zero_after_the_last() {
    let batches: [&[i64]; 7] = [&[], &[], &[1], &[1, 1], &[], &[], &[]];
    assert_eq!(
        numbers(&batches, |n| n.count_by_window(s(2), s(1))),
        [(1, vec![]), (2, vec![]), (3, vec![1]), (4, vec![3]), (5, vec![2]), (6, vec![0]), (7, vec![0])]
    );
}

#[test]
fn count_by_window_slides_and_leaves_out_what_falls_between() {
    let batches: [&[i64]; 8] = [&[1], &[1, 1], &[], &[1], &[1; 5], &[], &[], &[]];
    assert_eq!(
        numbers(&batches, |n| n.count_by_window(s(4), s(2))),
        [(2, vec![3]), (4, vec![4]), (6, vec![6]), (8, vec![5])]
    );
    // (2, 3], then (5, 6]: a slide longer than the window.
    assert_eq!(numbers(&batches, |n| n.count_by_window(s(1), s(3))), [(3, vec![]), (6, vec![])]);
    assert_eq!(numbers(&batches, |n| n.count_by_window(s(1), s(4))), [(4, vec![1]), (8, vec![0])]);
}

#[test]
fn reduce_by_window_gives_nothing_for_an_empty_window() {
    let batches: [&[i64]; 8] = [&[], &[3, 9], &[4], &[], &[], &[7], &[], &[]];
    assert_eq!(
        numbers(&batches, |n| n.reduce_by_window(i64::max, s(2), s(1))),
        [
            (1, vec![]),
            (2, vec![9]),
            (3, vec![9]),
            (4, vec![4]),
            (5, vec![]),
            (6, vec![7]),
            (7, vec![7]),
            (8, vec![])
        ]
    );
}

#[test]
fn reduce_by_window_with_an_inverse_keeps_the_emptied_value() {
    let batches: [&[i64]; 7] = [&[], &[3, 9], &[4], &[], &[], &[7], &[]];
    assert_eq!(
        numbers(&batches, |n| n.reduce_by_window_with_inverse(add, subtract, s(2), s(1))),
        [(1, vec![]), (2, vec![12]), (3, vec![16]), (4, vec![4]), (5, vec![0]), (6, vec![7]), (7, vec![7])]
    );
}

#[test]
fn reduce_by_window_takes_elements_oldest_first() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
    queue.push(["d".to_owned()]);
    queue.push(["e".to_owned()]);
    let text = test.ssc.queue_stream(&queue).reduce_by_window(|a, b| a + &b, s(2), s(1)).unwrap();
    let output = test.collect(&text);
    test.run(4).unwrap();
    let texts: Vec<_> = output.take().into_iter().flat_map(|(_, texts)| texts).collect();
    assert_eq!(texts, ["abc", "abcd", "de", "e"]);
}

#[test]
fn group_by_key_and_window_gives_all_values_oldest_first() {
    let batches = ["a3 b1 a2", "a9", "", "b5 a0", "", "", ""];
    assert_eq!(
        keyed(&batches, |p| p.group_by_key_and_window(s(3), s(1))),
        [
            (1, vec![('a', vec![3, 2]), ('b', vec![1])]),
            (2, vec![('a', vec![3, 2, 9]), ('b', vec![1])]),
            (3, vec![('a', vec![3, 2, 9]), ('b', vec![1])]),
            (4, vec![('a', vec![9, 0]), ('b', vec![5])]),
            (5, vec![('a', vec![0]), ('b', vec![5])]),
            (6, vec![('a', vec![0]), ('b', vec![5])]),
            (7, vec![]),
        ]
    );
    assert_eq!(
        keyed(&batches, |p| p.group_by_key_and_window(s(2), s(3))),
        [(3, vec![('a', vec![9])]), (6, vec![])]
    );
}

#[test]
fn count_by_value_and_window_drops_what_has_left() {
    let batches = ["a b a", "a", "", "", "b"];
    let counted = |p: &DStream<Pair>| p.map(|(key, _)| key).count_by_value_and_window(s(2), s(1));
    assert_eq!(
        keyed(&batches, counted),
        [
            (1, vec![('a', 2), ('b', 1)]),
            (2, vec![('a', 3), ('b', 1)]),
            (3, vec![('a', 1)]),
            (4, vec![]),
            (5, vec![('b', 1)])
        ]
    );
}

#[test]
fn windows_over_a_stream_that_slides_by_more_than_the_batch_interval() {
    let batches: [&[i64]; 10] = [&[1], &[1], &[1], &[], &[1, 1], &[], &[], &[], &[], &[]];
    // The parent gives two elements at 2 s, one at 4 s, two at 6 s, none at 8 and 10 s.
    let twos = |n: &DStream<i64>| n.window(s(2), s(2));
    assert_eq!(
        numbers(&batches, |n| twos(n)?.count_by_window(s(4), s(2))),
        [(2, vec![2]), (4, vec![3]), (6, vec![3]), (8, vec![2]), (10, vec![0])]
    );
    assert_eq!(
        numbers(&batches, |n| twos(n)?.reduce_by_window(add, s(4), s(4))),
        [(4, vec![3]), (8, vec![2])]
    );
    // A window of windows counts an element once per window that has it: at 3 s the counts 1, 2, 2 of 1, 2 and 3 s.
    assert_eq!(
        numbers(&batches[..4], |n| n.count_by_window(s(2), s(1))?.reduce_by_window(|a, b| a + b, s(3), s(1))),
        [(1, vec![1]), (2, vec![3]), (3, vec![5]), (4, vec![5])]
    );
}

#[test]
fn wrong_lengths_name_the_operator_that_was_called() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&RddQueue::<Pair>::new());
    let twos = input.window(s(2), s(2)).unwrap();
    let (long, odd) = (s(6), s(3));
    let errors = [
        ("count_by_window", twos.count_by_window(long, odd).err()),
        ("reduce_by_window", twos.reduce_by_window(|a, _| a, long, odd).err()),
        (
            "reduce_by_window_with_inverse",
            twos.reduce_by_window_with_inverse(|a, _| a, |a, _| a, long, odd).err(),
        ),
        ("group_by_key_and_window", twos.group_by_key_and_window(long, odd).err()),
        ("count_by_value_and_window", twos.count_by_value_and_window(long, odd).err()),
    ];
    for (operator, error) in errors {
        let error = error.expect("three is no multiple of two");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            format!(
                "the slide duration 3s of `{operator}` must be a multiple of its parent's slide duration 2s"
            )
        );
    }
    assert!(input.count_by_window(s(0), s(1)).is_err());
}

/// What all window operators give for `batches`, from `from` on; sorted texts by operator and second.
type Shown = BTreeMap<(&'static str, i64), Vec<String>>;

fn all_operators(
    folder: Option<&TempDir>,
    batches: &[Vec<Pair>],
    from: i64,
    until: i64,
    (window, slide): (Duration, Duration),
    shown: &mut Shown,
) {
    let mut builder = builder("test").state_partitions(3);
    if let Some(folder) = folder {
        builder = builder.checkpoint(folder.path());
    }
    let test = TestContext::from_builder(builder, at(from)).unwrap();
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push(batch.clone()));
    let input = test.ssc.queue_stream(&queue);
    fn text<U: Data + std::fmt::Debug>(stream: DStream<U>) -> DStream<String> {
        stream.map(|element| format!("{element:?}"))
    }
    let values = input.map(|(_, n)| n);
    let streams = [
        ("count", text(input.count_by_window(window, slide).unwrap().uid("count").unwrap())),
        ("max", text(values.reduce_by_window(i64::max, window, slide).unwrap().uid("max").unwrap())),
        (
            "sum",
            text(
                values
                    .reduce_by_window_with_inverse(add, subtract, window, slide)
                    .unwrap()
                    .uid("sum")
                    .unwrap(),
            ),
        ),
        ("groups", text(input.group_by_key_and_window(window, slide).unwrap().uid("groups").unwrap())),
        ("values", text(input.count_by_value_and_window(window, slide).unwrap().uid("values").unwrap())),
    ];
    let collected = streams.map(|(name, stream)| (name, test.collect(&stream)));
    test.run((until - from) as usize).unwrap();
    for (name, batches) in collected {
        for (time, mut texts) in batches.take() {
            texts.sort();
            shown.insert((name, time.as_millis() / 1_000), texts);
        }
    }
}

fn counted<K: Ord, V>(pairs: &[Pair], key: impl Fn(&Pair) -> K, add: impl Fn(&mut V, i64)) -> BTreeMap<K, V>
where
    V: Default,
{
    let mut all = BTreeMap::new();
    pairs.iter().for_each(|pair| add(all.entry(key(pair)).or_default(), pair.1));
    all
}

/// The same from nothing but the raw batches.
fn recomputed(batches: &[Vec<Pair>], window: i64, slide: i64) -> Shown {
    let mut shown = Shown::new();
    for time in (1..=batches.len() as i64).filter(|t| t % slide == 0) {
        let all = |from: i64, until: i64| -> Vec<Pair> {
            (from.max(0)..until).flat_map(|i| batches[i as usize].iter().copied()).collect()
        };
        let pairs = all(time - window, time);
        // The last batches of all windows so far.
        let seen = (1..=time).any(|t| t % slide == 0 && !all(t - window, t).is_empty());
        let numbers: Vec<i64> = pairs.iter().map(|p| p.1).collect();
        let one = |n: i64| if seen { vec![n.to_string()] } else { Vec::new() };
        let groups = counted(&pairs, |p| p.0, |values: &mut Vec<i64>, n| values.push(n));
        let values = counted(&pairs, |p| *p, |count: &mut u64, _| *count += 1);
        shown.insert(("count", time), one(pairs.len() as i64));
        shown.insert(("max", time), numbers.iter().max().map(i64::to_string).into_iter().collect());
        shown.insert(("sum", time), one(numbers.iter().sum()));
        shown.insert(("groups", time), groups.into_iter().map(|g| format!("{g:?}")).collect());
        shown.insert(("values", time), values.into_iter().map(|g| format!("{g:?}")).collect());
    }
    shown.values_mut().for_each(|texts| texts.sort());
    shown
}

fn batches() -> impl Strategy<Value = Vec<Vec<Pair>>> {
    let pair = (prop::sample::select(vec!['a', 'b', 'c']), 0..5i64);
    let batch = prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(pair, 0..4)];
    prop::collection::vec(batch, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_give_what_recomputing_the_window_gives(batches in batches(), window in 1..6i64, slide in 1..6i64) {
        let mut shown = Shown::new();
        all_operators(None, &batches, 0, batches.len() as i64, (s(window), s(slide)), &mut shown);
        prop_assert_eq!(shown, recomputed(&batches, window, slide));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_is_the_union_of_its_slices(batches in batches(), window in 1..6i64, slide in 1..6i64) {
        let test = TestContext::new("test").unwrap();
        let queue = RddQueue::new();
        batches.iter().for_each(|batch| queue.push(batch.clone()));
        let input = test.ssc.queue_stream(&queue).map(|pair| pair).remember(s(window));
        let windows = input.window(s(window), s(slide)).unwrap();
        let source = input.clone();
        let from_slices = windows.try_transform(move |_, time| {
            let slices = source.slice(time - s(window) + s(1), time)?;
            Ok(slices.iter().skip(1).fold(slices[0].clone(), |all, rdd| all.union(rdd)))
        });
        let (windows, unions) = (test.collect(&windows), test.collect(&from_slices));
        test.run(batches.len()).unwrap();
        prop_assert_eq!(windows.take(), unions.take());
    }

    #[test]
    fn with_an_inverse_is_as_without_once_something_came(batches in batches(), window in 1..6i64, slide in 1..6i64) {
        let test = TestContext::new("test").unwrap();
        let queue = RddQueue::new();
        batches.iter().for_each(|batch| queue.push(batch.clone()));
        let values = test.ssc.queue_stream(&queue).map(|(_, n)| n);
        let without = test.collect(&values.reduce_by_window(add, s(window), s(slide)).unwrap());
        let with =
            test.collect(&values.reduce_by_window_with_inverse(add, subtract, s(window), s(slide)).unwrap());
        test.run(batches.len()).unwrap();
        let mut came = false;
        let expected: Vec<_> = without.take().into_iter().map(|(time, sum)| {
            came |= !sum.is_empty();
            (time, if came && sum.is_empty() { vec![0] } else { sum })
        }).collect();
        prop_assert_eq!(with.take(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn interruptions_change_nothing(
        batches in batches(), window in 1..6i64, slide in 1..4i64, stops in prop::collection::btree_set(1..13i64, 0..3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let length = batches.len() as i64;
        let mut shown = Shown::new();
        let mut from = 0;
        for until in stops.into_iter().filter(|stop| *stop < length).chain([length]) {
            all_operators(Some(&folder), &batches, from, until, (s(window), s(slide)), &mut shown);
            from = until;
        }
        prop_assert_eq!(shown, recomputed(&batches, window, slide));
    }
}

#[test]
fn a_uid_names_the_state_of_the_whole_operator() {
    let folder = tempfile::tempdir().unwrap();
    let run = |from: i64, changed: bool| {
        let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), at(from)).unwrap();
        let input = test.ssc.queue_stream(&queue_of(&["a1 b1", "a2"]));
        if changed {
            // Another window in front of it: without a uid the two would swap their places.
            test.collect(&input.map(|_| 0i64).count_by_window(s(9), s(1)).unwrap().uid("other").unwrap());
        }
        let output = test.collect(&input.count_by_window(s(5), s(1)).unwrap().uid("counts").unwrap());
        test.run(1).unwrap();
        output.take()
    };
    assert_eq!(run(0, false), [(at(1), vec![2])]);
    assert_eq!(run(1, true), [(at(2), vec![3])]);
}

#[test]
fn windows_of_two_streams_are_joined_slide_by_slide() {
    let test = TestContext::new("test").unwrap();
    let left = test.input([pairs("a1"), pairs("b2"), pairs(""), pairs("")]);
    let right = test.input([pairs(""), pairs("a5"), pairs("b7"), pairs("b8")]);
    let (two, one) = (s(2), s(1));
    let joined = left.window(two, one).unwrap().join(&right.window(two, one).unwrap()).unwrap();
    let joined = test.collect(&joined);
    // A long window of one with each batch of the other: what came up to three seconds before.
    let before = left.window(s(3), one).unwrap().left_outer_join(&right).unwrap();
    let before = test.collect(&before);
    let counts = left.reduce_by_key_and_window(|a, b| a + b, two, two).unwrap();
    let other_slide = counts.join(&right).err().map(|error| error.to_string()).unwrap();
    test.run(4).unwrap();
    joined.sorted().assert_batches([vec![], vec![('a', (1, 5))], vec![('b', (2, 7))], vec![]]);
    before.sorted().assert_batches([
        vec![('a', (1, None))],
        vec![('a', (1, Some(5))), ('b', (2, None))],
        vec![('a', (1, None)), ('b', (2, Some(7)))],
        vec![('b', (2, Some(8)))],
    ]);
    assert!(other_slide.contains("2s") && other_slide.contains("1s"), "{other_slide}");
}
