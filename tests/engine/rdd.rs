//! RDDs that a context makes: actions, operators on one and on two of them, sorting, retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidemill::testing::TestContext;
use tidemill::{Error, ErrorKind, HashPartitioner, Partitioner, Rdd, RddQueue, Result, StreamingContext};

use super::{builder, context};

/// An RDD with these partitions.
fn rdd_of<T: Clone + Send + Sync + 'static>(ssc: &StreamingContext, partitions: &[&[T]]) -> Rdd<T> {
    let places: Vec<Vec<T>> = partitions.iter().map(|p| p.to_vec()).collect();
    ssc.parallelize(places, partitions.len()).flat_map(|part| part)
}

/// Counts how many elements pass.
fn counted<T: Clone + Send + Sync + 'static>(rdd: &Rdd<T>) -> (Rdd<T>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let counted = rdd.map(move |element| {
        counter.fetch_add(1, Ordering::Relaxed);
        element
    });
    (counted, calls)
}

/// Empty RDDs of several kinds.
fn empties(ssc: &StreamingContext) -> [Rdd<i64>; 3] {
    [ssc.empty_rdd(), ssc.parallelize([], 1), ssc.parallelize([1, 2, 3], 3).filter(|n| *n > 9)]
}

#[test]
fn parallelize_cuts_elements_into_as_many_partitions_as_asked() {
    let ssc = context();
    let glom = |n: i64, partitions| ssc.parallelize(1..=n, partitions).glom().collect().unwrap();
    assert_eq!(glom(5, 2), [vec![1, 2], vec![3, 4, 5]]);
    assert_eq!(glom(2, 3), [vec![], vec![1], vec![2]]);
    assert_eq!(glom(0, 2), [[0; 0], []]);
    assert_eq!(glom(2, 0), [[1, 2]]);
    assert_eq!(ssc.empty_rdd::<i64>().num_partitions(), 0);
}

#[test]
fn rdds_of_a_context_work_before_its_start_and_after_its_end() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.parallelize([1, 2, 3], 2);
    assert_eq!(numbers.sum().unwrap(), 6);
    test.collect(&test.ssc.queue_stream(&RddQueue::<i64>::new()));
    test.run(1).unwrap();
    assert_eq!(numbers.map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b).top(9).unwrap(), [(1, 4), (0, 2)]);
}

#[test]
fn first_and_take_go_through_the_partitions_in_order() {
    let ssc = context();
    let numbers = rdd_of(&ssc, &[&[], &[3, 1], &[2]]);
    assert_eq!(numbers.first().unwrap(), Some(3));
    assert_eq!(numbers.take(3).unwrap(), [3, 1, 2]);
    assert_eq!(numbers.take(usize::MAX).unwrap(), [3, 1, 2]);
    let (counted, calls) = counted(&numbers);
    assert_eq!(counted.take(0).unwrap(), [0; 0]);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(counted.first().unwrap(), Some(3));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn fold_takes_its_zero_once_per_partition_and_once_more() {
    let ssc = context();
    let words = rdd_of(&ssc, &[&["a", "b"], &[], &["c"]]).map(str::to_owned);
    assert_eq!(words.fold(String::new(), |a, b| a + &b).unwrap(), "abc");
    assert_eq!(words.fold("-".into(), |a, b| a + &b).unwrap(), "--ab--c");
}

#[test]
fn aggregate_puts_partitions_together_in_their_order() {
    let ssc = context();
    let numbers = rdd_of(&ssc, &[&[1, 2], &[], &[3]]);
    let text =
        numbers.aggregate(String::new(), |s, n| format!("{s}{n},"), |a, b| format!("{a}({b})")).unwrap();
    assert_eq!(text, "(1,2,)()(3,)");
}

#[test]
fn top_and_take_ordered_keep_the_order_of_equal_elements() {
    let ssc = context();
    let words = rdd_of(&ssc, &[&["cc", "a", "bb"], &[], &["d", "aa", "ccc"]]);
    assert_eq!(words.take_ordered(3).unwrap(), ["a", "aa", "bb"]);
    assert_eq!(words.top(3).unwrap(), ["d", "ccc", "cc"]);
    let by_length = |a: &&str, b: &&str| a.len().cmp(&b.len());
    assert_eq!(words.take_ordered_by(3, by_length).unwrap(), ["a", "d", "cc"]);
    assert_eq!(words.top_by(3, by_length).unwrap(), ["ccc", "cc", "bb"]);
    assert_eq!(words.top_by(99, by_length).unwrap(), ["ccc", "cc", "bb", "aa", "a", "d"]);
    assert_eq!(words.top(0).unwrap(), [""; 0]);
}

#[test]
fn min_max_and_sum() {
    let ssc = context();
    let numbers = rdd_of(&ssc, &[&[], &[4, 9], &[2, 7]]);
    assert_eq!(numbers.min().unwrap(), Some(2));
    assert_eq!(numbers.max().unwrap(), Some(9));
    assert_eq!(numbers.sum().unwrap(), 22);
}

#[test]
fn counts_come_in_the_order_of_first_occurrence() {
    let ssc = context();
    let pairs = rdd_of(&ssc, &[&[('b', 1), ('a', 2)], &[('c', 3), ('b', 1)]]);
    let counts: Vec<_> = pairs.count_by_key().unwrap().into_iter().collect();
    assert_eq!(counts, [('b', 2), ('a', 1), ('c', 1)]);
    let counts: Vec<_> = pairs.count_by_value().unwrap().into_iter().collect();
    assert_eq!(counts, [(('b', 1), 2), (('a', 2), 1), (('c', 3), 1)]);
}

#[test]
fn the_last_value_of_a_key_wins_in_a_map_and_lookup_finds_all() {
    let ssc = context();
    let pairs = rdd_of(&ssc, &[&[('b', 1), ('a', 2)], &[], &[('c', 3), ('b', 4)]]);
    let map: Vec<_> = pairs.collect_as_map().unwrap().into_iter().collect();
    assert_eq!(map, [('b', 4), ('a', 2), ('c', 3)]);
    assert_eq!(pairs.lookup(&'b').unwrap(), [1, 4]);
    assert_eq!(pairs.lookup(&'d').unwrap(), [0; 0]);
}

#[test]
fn actions_on_empty_rdds() {
    let ssc = context();
    for empty in empties(&ssc) {
        assert_eq!(empty.collect().unwrap(), [0; 0]);
        assert_eq!(empty.first().unwrap(), None);
        assert_eq!(empty.top(2).unwrap(), [0; 0]);
        assert_eq!(empty.take_ordered(2).unwrap(), [0; 0]);
        assert_eq!((empty.min().unwrap(), empty.max().unwrap(), empty.sum().unwrap()), (None, None, 0));
        assert_eq!(empty.reduce(|a, b| a + b).unwrap(), None);
        assert_eq!(empty.fold(0, |a, b| a + b).unwrap(), 0);
        assert_eq!(empty.aggregate(7, |a, _| a + 1, i64::max).unwrap(), 7);
        assert!(empty.count_by_value().unwrap().is_empty());
        let pairs = empty.key_by(|n| *n);
        assert!(pairs.count_by_key().unwrap().is_empty());
        assert!(pairs.collect_as_map().unwrap().is_empty());
        assert_eq!(pairs.lookup(&1).unwrap(), [0; 0]);
        empty.for_each(|n| assert!(n > 9, "there is none")).unwrap();
    }
}

#[test]
fn operators_on_empty_rdds() {
    let ssc = context();
    let some = ssc.parallelize([1i64, 2, 1], 2);
    for empty in empties(&ssc) {
        let sorted = |rdd: Rdd<i64>| rdd.take_ordered(9).unwrap();
        assert_eq!(sorted(empty.distinct()), [0; 0]);
        assert_eq!(empty.sort_by(|n| *n, true, 2).glom().collect().unwrap(), [[0; 0], []]);
        assert_eq!(empty.repartition(2).glom().collect().unwrap(), [[0; 0], []]);
        assert_eq!(sorted(empty.coalesce(2)), [0; 0]);
        assert!(empty.zip_with_index().is_empty().unwrap());
        assert!(empty.group_by(|n| *n).is_empty().unwrap());
        assert_eq!(sorted(empty.union(&some)), [1, 1, 2]);
        assert_eq!(sorted(empty.intersection(&some)), [0; 0]);
        assert_eq!(sorted(some.intersection(&empty)), [0; 0]);
        assert_eq!(sorted(empty.subtract(&some)), [0; 0]);
        assert_eq!(sorted(some.subtract(&empty)), [1, 1, 2]);
        assert!(empty.cartesian(&some).is_empty().unwrap());
        assert!(some.cartesian(&empty).is_empty().unwrap());
        let (none, pairs) = (empty.key_by(|n| *n), some.key_by(|n| *n));
        assert!(none.join(&pairs).is_empty().unwrap());
        assert!(pairs.join(&none).is_empty().unwrap());
        assert!(none.cogroup(&none).is_empty().unwrap());
        assert_eq!(pairs.left_outer_join(&none).take_ordered(1).unwrap(), [(1, (1, None))]);
        assert_eq!(none.right_outer_join(&pairs).count().unwrap(), 3);
        assert_eq!(none.full_outer_join(&pairs).take_ordered(1).unwrap(), [(1, (None, 1.into()))]);
        assert_eq!(pairs.subtract_by_key(&none).count().unwrap(), 3);
    }
}

#[test]
fn an_rdd_that_is_used_twice_is_computed_twice_unless_it_is_cached() {
    let ssc = context();
    let (numbers, calls) = counted(&ssc.parallelize([1i64, 2, 3], 2));
    numbers.map(|n| n + 1).filter(|n| n % 2 == 0).glom();
    let (twice, by_key) = (numbers.union(&numbers), numbers.key_by(|n| *n));
    let joined = by_key.join(&by_key);
    assert_eq!(calls.load(Ordering::Relaxed), 0, "nothing runs without an action");
    assert_eq!(twice.sum().unwrap(), 12);
    assert_eq!(calls.swap(0, Ordering::Relaxed), 6);
    assert_eq!(joined.count().unwrap(), 3);
    assert_eq!(calls.swap(0, Ordering::Relaxed), 6);
    assert_eq!(joined.count().unwrap(), 3);
    assert_eq!(calls.load(Ordering::Relaxed), 0, "what a shuffle gave is kept");

    let cached = numbers.cache();
    let by_key = cached.key_by(|n| *n);
    assert_eq!(by_key.join(&by_key).count().unwrap() + cached.count().unwrap(), 6);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn zip_with_index_counts_through_the_partitions() {
    let ssc = context();
    let letters = rdd_of(&ssc, &[&['a', 'b'], &[], &['c'], &['d', 'e']]);
    let indexed = letters.zip_with_index();
    let expected = [('a', 0), ('b', 1), ('c', 2), ('d', 3), ('e', 4)];
    assert_eq!(indexed.collect().unwrap(), expected);
    assert_eq!(indexed.take(3).unwrap(), expected[..3]);
    assert_eq!(indexed.filter(|(_, i)| i % 2 == 1).keys().collect().unwrap(), ['b', 'd']);
}

#[test]
fn set_operators_have_sparks_multiplicities() {
    let ssc = context();
    let left = rdd_of(&ssc, &[&[1, 2, 2], &[], &[3, 3, 1]]);
    let right = rdd_of(&ssc, &[&[2, 2, 4], &[1]]);
    assert_eq!(left.distinct_with(1).collect().unwrap(), [1, 2, 3]);
    assert_eq!(left.intersection_with(&right, 1).collect().unwrap(), [1, 2]);
    assert_eq!(left.subtract_with(&right, 1).collect().unwrap(), [3, 3]);
    assert_eq!(right.subtract_with(&left, 1).collect().unwrap(), [4]);
    assert_eq!(left.distinct_with(5).num_partitions(), 5);
    assert_eq!(left.intersection(&right).num_partitions(), 3);
    assert_eq!(right.subtract(&left).num_partitions(), 2);
}

#[test]
fn cartesian_pairs_partitions_with_partitions() {
    let ssc = context();
    let (numbers, letters) = (rdd_of(&ssc, &[&[1, 2], &[3]]), rdd_of(&ssc, &[&['a'], &[], &['b']]));
    let pairs = numbers.cartesian(&letters).glom().collect().unwrap();
    let expected: [&[(i32, char)]; 6] =
        [&[(1, 'a'), (2, 'a')], &[], &[(1, 'b'), (2, 'b')], &[(3, 'a')], &[], &[(3, 'b')]];
    assert_eq!(pairs, expected);
    assert_eq!(numbers.cartesian(&letters).take(2).unwrap(), [(1, 'a'), (2, 'a')]);
}

#[test]
fn repartition_deals_out_and_coalesce_takes_runs() {
    let ssc = context();
    let numbers = rdd_of(&ssc, &[&[1, 2, 3], &[4], &[], &[5, 6]]);
    // The first partition deals from 0 on, the second from 1, the fourth from 3, which is 1 of 2 again.
    assert_eq!(numbers.repartition(2).glom().collect().unwrap(), [vec![1, 3, 6], vec![2, 4, 5]]);
    assert_eq!(numbers.repartition(0).glom().collect().unwrap(), [[1, 2, 3, 4, 5, 6]]);
    assert_eq!(numbers.coalesce(2).glom().collect().unwrap(), [vec![1, 2, 3, 4], vec![5, 6]]);
    assert_eq!(numbers.coalesce(3).glom().collect().unwrap(), [vec![1, 2, 3], vec![4], vec![5, 6]]);
    assert_eq!(numbers.coalesce(1).take(5).unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!((numbers.coalesce(9).num_partitions(), numbers.coalesce(0).num_partitions()), (4, 1));
}

#[test]
fn sort_by_is_stable_in_both_directions_and_keeps_equal_keys_in_one_partition() {
    let ssc = context();
    let words = rdd_of(&ssc, &[&["cc", "a", "bb"], &[], &["d", "aa", "ccc"]]);
    for partitions in [0, 1, 2, 3, 9] {
        let up = words.sort_by(|w| w.len(), true, partitions);
        assert_eq!(up.collect().unwrap(), ["a", "d", "cc", "bb", "aa", "ccc"]);
        let down = words.sort_by(|w| w.len(), false, partitions);
        assert_eq!(down.collect().unwrap(), ["ccc", "cc", "bb", "aa", "a", "d"]);
        let lengths = up.map_partitions(|part| {
            let mut lengths: Vec<_> = part.iter().map(|w| w.len()).collect();
            lengths.dedup();
            lengths
        });
        assert_eq!(lengths.collect().unwrap(), [1, 2, 3]);
        assert_eq!(up.num_partitions(), partitions.max(1));
    }
}

#[test]
fn sorting_fills_its_partitions_evenly() {
    let ssc = context();
    // Each number once, in an order that has nothing to do with theirs, in partitions of different lengths.
    let numbers = ssc.parallelize((0..10_000u64).map(|n| n * 7_919 % 10_007), 3);
    let skewed = numbers.union(&ssc.parallelize(20_000..20_100, 1));
    let lengths: Vec<_> =
        skewed.sort_by(|n| *n, true, 4).map_partitions(|part| [part.len()]).collect().unwrap();
    assert_eq!(lengths.iter().sum::<usize>(), 10_100);
    assert!(lengths.iter().all(|n| (2_000..3_000).contains(n)), "{lengths:?}");
}

#[test]
fn joins_come_in_the_order_of_keys_and_of_values() {
    let ssc = context();
    let left = rdd_of(&ssc, &[&[('b', 1), ('a', 2)], &[('b', 3), ('c', 4)]]);
    let right = rdd_of(&ssc, &[&[('d', 'w')], &[('a', 'x'), ('b', 'y')], &[('b', 'z')]]);
    assert_eq!(
        left.join_with(&right, 1).collect().unwrap(),
        [('b', (1, 'y')), ('b', (1, 'z')), ('b', (3, 'y')), ('b', (3, 'z')), ('a', (2, 'x'))]
    );
    let right = rdd_of(&ssc, &[&[('d', 'w')], &[('b', 'y')]]);
    assert_eq!(
        left.left_outer_join_with(&right, 1).collect().unwrap(),
        [('b', (1, Some('y'))), ('b', (3, Some('y'))), ('a', (2, None)), ('c', (4, None))]
    );
    assert_eq!(
        left.right_outer_join_with(&right, 1).collect().unwrap(),
        [('b', (Some(1), 'y')), ('b', (Some(3), 'y')), ('d', (None, 'w'))]
    );
    assert_eq!(
        left.full_outer_join_with(&right, 1).collect().unwrap(),
        [
            ('b', (Some(1), Some('y'))),
            ('b', (Some(3), Some('y'))),
            ('a', (Some(2), None)),
            ('c', (Some(4), None)),
            ('d', (None, Some('w'))),
        ]
    );
    assert_eq!(
        left.cogroup_with(&right, 1).collect().unwrap(),
        [
            ('b', (vec![1, 3], vec!['y'])),
            ('a', (vec![2], vec![])),
            ('c', (vec![4], vec![])),
            ('d', (vec![], vec!['w'])),
        ]
    );
    assert_eq!(left.subtract_by_key_with(&right, 1).collect().unwrap(), [('a', 2), ('c', 4)]);
    assert_eq!(left.join_with(&right, 1).take(1).unwrap(), [('b', (1, 'y'))]);
    assert_eq!(left.join(&right).num_partitions(), 2);
}

#[test]
fn groups_keep_the_order_of_their_values() {
    let ssc = context();
    let pairs = rdd_of(&ssc, &[&[('b', 3), ('a', 9)], &[], &[('b', 1)], &[('a', 1), ('b', 2)]]);
    assert_eq!(pairs.group_by_key_with(1).collect().unwrap(), [('b', vec![3, 1, 2]), ('a', vec![9, 1])]);
    let by_size = pairs.values().group_by_with(|n| *n > 1, 1).collect().unwrap();
    assert_eq!(by_size, [(true, vec![3, 9, 2]), (false, vec![1, 1])]);
    assert_eq!(pairs.reduce_by_key_with(|a, b| a * 10 + b, 1).collect().unwrap(), [('b', 312), ('a', 91)]);
}

/// Vowels to the first partition, all else to the second.
struct Vowels;

impl Partitioner<char> for Vowels {
    fn num_partitions(&self) -> usize {
        2
    }

    fn partition(&self, key: &char) -> Result<usize> {
        match key {
            'a' | 'e' | 'i' | 'o' | 'u' => Ok(0),
            '?' => Ok(7),
            '!' => Err(Error::task("no letter")),
            _ => Ok(1),
        }
    }
}

#[test]
fn a_partitioner_of_ones_own_places_keys() {
    let ssc = context();
    let pairs = rdd_of(&ssc, &[&[('b', 1), ('a', 2)], &[('e', 3), ('b', 4)]]);
    let parts = [vec![('a', 2), ('e', 3)], vec![('b', 1), ('b', 4)]];
    assert_eq!(pairs.partition_by(Vowels).glom().collect().unwrap(), parts);
    let joined = pairs.join_with(&pairs, Vowels).keys().glom().collect().unwrap();
    assert_eq!(joined, [vec!['a', 'e'], vec!['b'; 4]]);
    assert_eq!(pairs.keys().distinct_with(Vowels).glom().collect().unwrap(), [vec!['a', 'e'], vec!['b']]);
    assert_eq!(
        pairs.reduce_by_key_with(|a, b| a + b, Vowels).glom().collect().unwrap(),
        [vec![('a', 2), ('e', 3)], vec![('b', 5)]]
    );
    let by_hash = pairs.partition_by(HashPartitioner::new(3)).glom().collect().unwrap();
    assert_eq!(by_hash, pairs.partition_by(3).glom().collect().unwrap());

    let error = ssc.parallelize([('?', 1)], 1).partition_by(Vowels).collect().unwrap_err().to_string();
    assert!(error.contains("a partitioner gave partition 7, but has only 2"), "{error}");
    let error = ssc.parallelize([('!', 1)], 1).group_by_key_with(Vowels).collect().unwrap_err().to_string();
    assert!(error.contains("no letter"), "{error}");
}

#[test]
fn rdds_of_two_contexts_cannot_be_put_together() {
    let (one, other) = (context(), context());
    let (left, right) = (one.parallelize([(1, 2)], 1), other.parallelize([(1, 3)], 1));
    fn refused<T: Clone + Send + Sync + 'static>(operator: &str, rdd: Rdd<T>) {
        for outcome in [rdd.count(), rdd.cache().count(), rdd.take(1).map(|_| 0), rdd.map(|_| 1).sum()] {
            let error = outcome.expect_err(operator);
            assert_eq!(error.kind(), ErrorKind::Usage);
            let expected = format!("`{operator}` of RDDs of two contexts: make both from the same one");
            assert_eq!(error.to_string(), expected);
        }
    }
    refused("union", left.union(&right));
    refused("join", left.join(&right));
    refused("left_outer_join", left.left_outer_join(&right));
    refused("right_outer_join", left.right_outer_join(&right));
    refused("full_outer_join", left.full_outer_join(&right));
    refused("cogroup", left.cogroup(&right));
    refused("subtract_by_key", left.subtract_by_key(&right));
    refused("subtract", left.subtract(&right));
    refused("intersection", left.intersection(&right));
    refused("cartesian", left.cartesian(&right));
}

#[test]
fn a_function_that_panics_is_tried_again() {
    let ssc = builder("test").max_attempts(2).build().unwrap();
    let once = || {
        let calls = AtomicUsize::new(0);
        move || assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "the first time")
    };
    let numbers = ssc.parallelize([3i64, 1, 2], 2);
    let flaky = once();
    let keyed = numbers.key_by(move |n| {
        flaky();
        n % 2
    });
    assert_eq!(keyed.join_with(&keyed, 1).count().unwrap(), 5);
    let flaky = once();
    let sorted = numbers.sort_by(
        move |n| {
            flaky();
            *n
        },
        true,
        2,
    );
    assert_eq!(sorted.collect().unwrap(), [1, 2, 3]);
    let flaky = once();
    assert_eq!(
        numbers
            .aggregate(
                0,
                |a, n| {
                    flaky();
                    a + n
                },
                |a, b| a + b,
            )
            .unwrap(),
        6
    );
}

#[test]
fn an_error_of_for_each_is_tried_again_if_it_is_of_the_kind_task() {
    let ssc = builder("test").max_attempts(3).build().unwrap();
    let tried = |kind, fails: usize| {
        let calls = AtomicUsize::new(0);
        let outcome = ssc.parallelize([1i64], 1).for_each(|_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            if call < fails { Err(Error::new(kind, "no connection")) } else { Ok(()) }
        });
        (outcome.map_err(|e| (e.kind(), e.to_string().ends_with("no connection"))), calls.into_inner())
    };
    assert_eq!(tried(ErrorKind::Task, 2), (Ok(()), 3));
    assert_eq!(tried(ErrorKind::Task, 3), (Err((ErrorKind::Task, true)), 3));
    assert_eq!(tried(ErrorKind::Output, 1), (Err((ErrorKind::Output, true)), 1));
    let per_partition = ssc.parallelize(0..4i64, 2).for_each_partition(|part| -> Result<()> {
        if part.contains(&3) { Err(Error::data("three")) } else { Ok(()) }
    });
    assert_eq!(per_partition.unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn a_function_that_always_panics_gives_an_error() {
    let ssc = builder("test").max_attempts(2).build().unwrap();
    let numbers = ssc.parallelize([3i64, 1, 2], 3);
    let broken = |outcome: Result<()>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task);
        assert!(error.to_string().contains("panicked: enough"), "{error}");
    };
    fn panics() -> i64 {
        panic!("enough")
    }
    // In a task, where partitions come together, and where keys are compared.
    broken(numbers.for_each(|n| assert!(n > 9, "enough")));
    broken(numbers.map(|_| panics()).collect().map(|_| ()));
    broken(numbers.reduce(|_, _| panics()).map(|_| ()));
    broken(numbers.fold(0, |a, b| if a > 0 { panics() } else { b }).map(|_| ()));
    broken(numbers.aggregate(0, |_, n| n, |_, _| panics()).map(|_| ()));
    broken(numbers.top_by(2, |_, _| panics().cmp(&0)).map(|_| ()));

    #[derive(Clone, PartialEq, Eq)]
    struct Incomparable;
    impl PartialOrd for Incomparable {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Incomparable {
        fn cmp(&self, _: &Self) -> std::cmp::Ordering {
            panics().cmp(&0)
        }
    }
    broken(numbers.sort_by(|_| Incomparable, true, 2).collect().map(|_| ()));
    broken(numbers.group_by(|n| n % 2).map(|_| panics()).collect().map(|_| ()));
}
