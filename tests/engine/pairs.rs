//! Operators on streams of pairs: groups, joins, partitions.

use proptest::prelude::*;
use tidemill::testing::{TestContext, run_batches, run_batches_sorted};
use tidemill::{DStream, Data, HashPartitioner, RddQueue};

use super::{Pair, pairs, queue_of, run, shown};

/// What `program` gives for two streams, by batch; in the order in which it comes.
fn of_both<U: Data>(
    left: &[&str],
    right: &[&str],
    program: impl FnOnce(&DStream<Pair>, &DStream<Pair>) -> DStream<U>,
) -> Vec<Vec<U>> {
    let test = TestContext::new("test").unwrap();
    let streams = [left, right].map(|batches| test.ssc.queue_stream(&queue_of(batches)));
    let output = test.collect(&program(&streams[0], &streams[1]));
    test.run(left.len().max(right.len())).unwrap();
    output.take().into_iter().map(|(_, elements)| elements).collect()
}

const LEFT: [&str; 5] = ["b1 a2 b3 c4", "", "a5", "", "b6"];
const RIGHT: [&str; 5] = ["d10 b20 a30 b40", "a50", "", "", "b60"];

#[test]
fn join_pairs_values_in_their_order_within_each_batch() {
    let out = of_both(&LEFT, &RIGHT, |left, right| left.join_with(right, 1).unwrap());
    let first = vec![('b', (1, 20)), ('b', (1, 40)), ('b', (3, 20)), ('b', (3, 40)), ('a', (2, 30))];
    assert_eq!(out, [first, vec![], vec![], vec![], vec![('b', (6, 60))]]);
}

#[test]
fn outer_joins_keep_what_one_side_alone_has() {
    let out = of_both(&LEFT, &RIGHT, |left, right| left.left_outer_join_with(right, 1).unwrap());
    let some = |k, a, b| (k, (a, Some(b)));
    let first = vec![
        some('b', 1, 20),
        some('b', 1, 40),
        some('b', 3, 20),
        some('b', 3, 40),
        some('a', 2, 30),
        ('c', (4, None)),
    ];
    assert_eq!(out, [first, vec![], vec![('a', (5, None))], vec![], vec![some('b', 6, 60)]]);

    let out = of_both(&LEFT, &RIGHT, |left, right| left.right_outer_join_with(right, 1).unwrap());
    let some = |k, a, b| (k, (Some(a), b));
    let first = vec![
        some('b', 1, 20),
        some('b', 1, 40),
        some('b', 3, 20),
        some('b', 3, 40),
        some('a', 2, 30),
        ('d', (None, 10)),
    ];
    assert_eq!(out, [first, vec![('a', (None, 50))], vec![], vec![], vec![some('b', 6, 60)]]);

    let out = of_both(&LEFT[1..], &RIGHT[1..], |left, right| left.full_outer_join_with(right, 1).unwrap());
    let expected = [
        vec![('a', (None, Some(50)))],
        vec![('a', (Some(5), None))],
        vec![],
        vec![('b', (Some(6), Some(60)))],
    ];
    assert_eq!(out, expected);
}

#[test]
fn cogroup_gathers_the_values_of_both_sides_in_their_order() {
    let out = of_both(&LEFT, &RIGHT, |left, right| left.cogroup_with(right, 1).unwrap());
    let first = vec![
        ('b', (vec![1, 3], vec![20, 40])),
        ('a', (vec![2], vec![30])),
        ('c', (vec![4], vec![])),
        ('d', (vec![], vec![10])),
    ];
    let rest = [
        vec![('a', (vec![], vec![50]))],
        vec![('a', (vec![5], vec![]))],
        vec![],
        vec![('b', (vec![6], vec![60]))],
    ];
    assert_eq!(out[0], first);
    assert_eq!(out[1..], rest);
}

#[test]
fn joins_go_over_the_contexts_partitions_unless_told() {
    let parts = |f: fn(&DStream<Pair>, &DStream<Pair>) -> DStream<usize>| of_both(&LEFT[..2], &RIGHT[..2], f);
    let default = parts(|l, r| l.join(r).unwrap().map_partitions_with_index(|i, _| [i]));
    assert_eq!(default, [(0..16).collect::<Vec<_>>(), (0..16).collect()]);
    let told = parts(|l, r| {
        l.full_outer_join_with(r, HashPartitioner::new(3)).unwrap().map_partitions_with_index(|i, _| [i])
    });
    assert_eq!(told, [[0, 1, 2], [0, 1, 2]]);
}

#[test]
fn a_stream_joined_with_itself_is_computed_once() {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = calls.clone();
    let out = run(&["a1 a2 b3", ""], |p| {
        let counted = p.map_values(move |n| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            n
        });
        counted.join(&counted).unwrap().map_values(|(a, b)| a * 10 + b)
    });
    assert_eq!(out, ["1s: a11 a12 a21 a22 b33", "2s:"]);
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn group_by_key_keeps_the_order_of_arrival_across_partitions() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([pairs("b3 a9"), vec![], pairs("b1"), pairs("a1 b2")]);
    queue.push_partitions([]);
    queue.push(pairs("a7"));
    let stream = test.ssc.queue_stream(&queue);
    let (grouped, spread) =
        (test.collect(&stream.group_by_key_with(1)), test.collect(&stream.group_by_key()));
    test.run(3).unwrap();
    let expected = [vec![('b', vec![3, 1, 2]), ('a', vec![9, 1])], vec![], vec![('a', vec![7])]];
    assert_eq!(grouped.take().into_iter().map(|(_, g)| g).collect::<Vec<_>>(), expected);
    let mut first = spread.take().remove(0).1;
    first.sort();
    assert_eq!(first, [('a', vec![9, 1]), ('b', vec![3, 1, 2])]);
}

#[test]
fn combine_by_key_creates_and_merges_in_order() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([pairs("a1 a2 b7"), pairs("a3"), pairs("a4 a5")]);
    queue.push([]);
    let combined = test.ssc.queue_stream(&queue).combine_by_key_with(
        |n| n.to_string(),
        |text, n| format!("{text}+{n}"),
        |a, b| format!("({a})({b})"),
        1,
    );
    let output = test.collect(&combined);
    test.run(2).unwrap();
    let text = |k, text: &str| (k, text.to_owned());
    let expected = [vec![text('a', "((1+2)(3))(4+5)"), text('b', "7")], vec![]];
    assert_eq!(output.take().into_iter().map(|(_, c)| c).collect::<Vec<_>>(), expected);
}

#[test]
fn flat_map_values_repeats_the_key() {
    let out = run(&["a3 b0", "", "c1"], |p| p.flat_map_values(|n| 0..n));
    assert_eq!(out, ["1s: a0 a1 a2", "2s:", "3s: c0"]);
}

#[test]
fn reduce_by_key_takes_a_number_of_partitions() {
    let out = run_batches(vec![pairs("b1 a2 b3"), vec![]], |p| p.reduce_by_key_with(|a, b| a * 10 + b, 1));
    assert_eq!(out.unwrap(), [vec![('b', 13), ('a', 2)], vec![]]);
    let parts =
        run_batches(vec![pairs("b1 a2 b3"), vec![]], |p| p.reduce_by_key_with(|a, b| a + b, 5).glom());
    assert_eq!(parts.unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [5, 5]);
}

#[test]
fn partition_by_places_keys_as_its_partitioner_says() {
    let by = HashPartitioner::new(3);
    let batches = vec![pairs("a1 b2 c3 d4 a5"), vec![], pairs("a6")];
    let out = run_batches(batches.clone(), |p| p.partition_by(by).glom()).unwrap();
    for (batch, parts) in batches.iter().zip(out) {
        let mut expected = vec![Vec::new(); 3];
        batch.iter().for_each(|pair| expected[by.partition(&pair.0).unwrap()].push(*pair));
        assert_eq!(parts, expected);
    }
}

#[test]
fn pairs_of_streams_with_different_values_join() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a1 b2", "", "a3"]));
    let names = RddQueue::new();
    names.push([('a', "North".to_owned())]);
    let names = test.ssc.queue_stream(&names);
    let lengths = numbers.left_outer_join(&names).unwrap();
    let output =
        test.collect(&lengths.map_values(|(n, name)| n * 10 + name.map_or(0, |name| name.len() as i64)));
    test.run(3).unwrap();
    assert_eq!(shown(output.take()), ["1s: a15 b20", "2s:", "3s: a30"]);
}

/// A program that takes a number of partitions.
type Program = fn(&DStream<Pair>, usize) -> DStream<(char, Vec<i64>)>;

fn some_batches() -> impl Strategy<Value = Vec<Vec<Pair>>> {
    let pair = (prop::char::range('a', 'd'), 0i64..9);
    prop::collection::vec(prop::collection::vec(pair, 0..12), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_number_of_partitions_changes_no_batch(batches in some_batches(), read in 1usize..4, out in 1usize..5) {
        let one = |f: Program, read: usize, out: usize| {
            run_batches_sorted(batches.clone(), |p| f(&p.repartition(read), out)).unwrap()
        };
        for f in [
            (|p, out| p.reduce_by_key_with(|a, b| a + b, out).map_values(|n| vec![n])) as Program,
            |p, out| p.count_by_value_with(out).map(|((k, v), n)| (k, vec![v, n as i64])),
            |p, out| p.group_by_key_with(out).map_values(|mut values| { values.sort(); values }),
            |p, out| p.partition_by(out).map_values(|n| vec![n]),
            |p, out| p.join_with(&p.map_values(|n| n * 2), out).unwrap().map_values(|(a, b)| vec![a, b]),
            |p, out| {
                let big = p.filter(|(_, n)| *n > 4);
                p.full_outer_join_with(&big, out).unwrap().map_values(|(a, b)| [a, b].into_iter().flatten().collect())
            },
            |p, _| p.reduce(|a, b| a.max(b)).map_values(|n| vec![n]),
        ] {
            prop_assert_eq!(one(f, 1, 1), one(f, read, out));
        }
    }

    #[test]
    fn a_join_of_streams_is_a_nested_loop_over_each_batch(left in some_batches(), right in some_batches()) {
        let test = TestContext::new("test").unwrap();
        let (queues, count) = ([RddQueue::new(), RddQueue::new()], left.len().max(right.len()));
        for (queue, batches) in queues.iter().zip([&left, &right]) {
            batches.iter().for_each(|batch| queue.push(batch.clone()));
        }
        let [l, r] = queues.map(|queue| test.ssc.queue_stream(&queue));
        let output = test.collect(&l.join(&r).unwrap());
        test.run(count).unwrap();
        for (i, (_, mut joined)) in output.take().into_iter().enumerate() {
            let mut expected = Vec::new();
            for (k, a) in left.get(i).into_iter().flatten() {
                for (_, b) in right.get(i).into_iter().flatten().filter(|(other, _)| other == k) {
                    expected.push((*k, (*a, *b)));
                }
            }
            joined.sort();
            expected.sort();
            prop_assert_eq!(joined, expected);
        }
    }
}
