//! Operators of RDDs against the plain way to do the same, at any number of partitions.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use proptest::prelude::*;
use tidemill::{Rdd, StreamingContext};

use super::context;

type Pair = (u8, i32);
type Pairs = Vec<Pair>;

fn ssc() -> &'static StreamingContext {
    static SSC: OnceLock<StreamingContext> = OnceLock::new();
    SSC.get_or_init(context)
}

/// Few different keys, so that they meet.
fn some_pairs() -> impl Strategy<Value = Pairs> {
    prop::collection::vec((0u8..6, -9i32..9), 0..40)
}

fn some_numbers() -> impl Strategy<Value = Vec<i32>> {
    prop::collection::vec(-12i32..12, 0..60)
}

fn rdd<T: Clone + Send + Sync + 'static>(elements: &[T], partitions: usize) -> Rdd<T> {
    ssc().parallelize(elements.to_vec(), partitions)
}

fn sorted<T: Ord>(mut elements: Vec<T>) -> Vec<T> {
    elements.sort();
    elements
}

fn values(pairs: &Pairs, key: u8) -> Vec<i32> {
    pairs.iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).collect()
}

fn or_none(values: Vec<i32>) -> Vec<Option<i32>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

/// Every pairing of a left and a right value of each key, as a nested loop finds them.
fn pairings<A: Clone, B: Clone>(
    left: impl Fn(u8) -> Vec<A>,
    right: impl Fn(u8) -> Vec<B>,
) -> Vec<(u8, (A, B))> {
    let mut out = Vec::new();
    for key in 0..6 {
        for a in left(key) {
            for b in right(key) {
                out.push((key, (a.clone(), b)));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sorting_is_the_stable_sort_of_a_vector(
        pairs in some_pairs(), parts in 1usize..6, out in 1usize..6, ascending: bool,
    ) {
        let mut expected = pairs.clone();
        expected.sort_by(|a, b| if ascending { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) });
        prop_assert_eq!(rdd(&pairs, parts).sort_by_key(ascending, out).collect().unwrap(), expected);
    }

    #[test]
    fn top_and_take_ordered_are_the_ends_of_a_stable_sort(pairs in some_pairs(), parts in 1usize..6, n in 0usize..50) {
        let by_key = |a: &Pair, b: &Pair| a.0.cmp(&b.0);
        let mut least = pairs.clone();
        least.sort_by(by_key);
        let mut most = pairs.clone();
        most.sort_by(|a, b| by_key(b, a));
        least.truncate(n);
        most.truncate(n);
        let rdd = rdd(&pairs, parts);
        prop_assert_eq!(rdd.take_ordered_by(n, by_key).unwrap(), least);
        prop_assert_eq!(rdd.top_by(n, by_key).unwrap(), most);
    }

    #[test]
    fn joins_are_nested_loops(
        left in some_pairs(), right in some_pairs(), parts in 1usize..5, more in 1usize..5, out in 1usize..5,
    ) {
        let (l, r) = (rdd(&left, parts), rdd(&right, more));
        let (of_left, of_right) = (|k| values(&left, k), |k| values(&right, k));
        let only = |k: u8, side: &Pairs| side.iter().any(|(key, _)| *key == k);
        prop_assert_eq!(
            sorted(l.join_with(&r, out).collect().unwrap()), sorted(pairings(of_left, of_right))
        );
        prop_assert_eq!(
            sorted(l.left_outer_join_with(&r, out).collect().unwrap()),
            sorted(pairings(of_left, |k| or_none(of_right(k))))
        );
        prop_assert_eq!(
            sorted(l.right_outer_join_with(&r, out).collect().unwrap()),
            sorted(pairings(|k| or_none(of_left(k)), of_right))
        );
        let here = |k: u8| only(k, &left) || only(k, &right);
        let full = pairings(|k| or_none(of_left(k)), |k| or_none(of_right(k)));
        prop_assert_eq!(
            sorted(l.full_outer_join_with(&r, out).collect().unwrap()),
            sorted(full.into_iter().filter(|(k, _)| here(*k)).collect())
        );
        let groups = (0..6).filter(|k| here(*k)).map(|k| (k, (of_left(k), of_right(k)))).collect::<Vec<_>>();
        prop_assert_eq!(sorted(l.cogroup_with(&r, out).collect().unwrap()), groups);
        let left_over: Vec<_> = left.iter().copied().filter(|(k, _)| !only(*k, &right)).collect();
        prop_assert_eq!(sorted(l.subtract_by_key_with(&r, out).collect().unwrap()), sorted(left_over));
    }

    #[test]
    fn set_operators_are_those_of_sets(
        left in some_numbers(), right in some_numbers(), parts in 1usize..5, more in 1usize..5, out in 1usize..5,
    ) {
        let (l, r) = (rdd(&left, parts), rdd(&right, more));
        let set = |numbers: &[i32]| numbers.iter().copied().collect::<BTreeSet<_>>();
        let (a, b) = (set(&left), set(&right));
        prop_assert_eq!(sorted(l.distinct_with(out).collect().unwrap()), a.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(
            sorted(l.intersection_with(&r, out).collect().unwrap()),
            a.intersection(&b).copied().collect::<Vec<_>>()
        );
        let kept: Vec<_> = left.iter().copied().filter(|n| !b.contains(n)).collect();
        prop_assert_eq!(sorted(l.subtract_with(&r, out).collect().unwrap()), sorted(kept));
        prop_assert_eq!(sorted(l.union(&r).collect().unwrap()), sorted([left, right].concat()));
    }

    #[test]
    fn the_number_of_partitions_changes_nothing(pairs in some_pairs(), parts in 1usize..6, out in 1usize..6) {
        let (one, many) = (rdd(&pairs, 1), rdd(&pairs, parts));
        let same = |f: &dyn Fn(&Rdd<Pair>, usize) -> Pairs| (sorted(f(&one, 1)), sorted(f(&many, out)));
        for (a, b) in [
            same(&|rdd, n| rdd.reduce_by_key_with(|a, b| a * 3 - b, n).keys().map(|k| (k, 0)).collect().unwrap()),
            same(&|rdd, n| rdd.reduce_by_key_with(|a, b| a + b, n).collect().unwrap()),
            same(&|rdd, n| rdd.partition_by(n).collect().unwrap()),
            same(&|rdd, n| rdd.repartition(n).collect().unwrap()),
            same(&|rdd, n| rdd.coalesce(n).collect().unwrap()),
            same(&|rdd, n| rdd.repartition(n).zip_with_index().keys().collect().unwrap()),
            same(&|rdd, n| rdd.distinct_with(n).collect().unwrap()),
            same(&|rdd, n| rdd.cartesian(&rdd.coalesce(n).keys()).map(|((k, v), x)| (k ^ x, v)).collect().unwrap()),
            same(&|rdd, _| rdd.count_by_key().unwrap().into_iter().map(|(k, n)| (k, n as i32)).collect()),
            same(&|rdd, _| rdd.collect_as_map().unwrap().into_iter().collect()),
        ] {
            prop_assert_eq!(a, b);
        }
        // In order, too: groups, what is taken, and what is folded.
        prop_assert_eq!(sorted(one.group_by_key_with(1).collect().unwrap()), sorted(many.group_by_key_with(out).collect().unwrap()));
        prop_assert_eq!(one.take(7).unwrap(), many.take(7).unwrap());
        prop_assert_eq!(one.coalesce(out).zip_with_index().collect().unwrap(), many.zip_with_index().collect().unwrap());
        let text = |rdd: &Rdd<Pair>| rdd.map(|pair| format!("{pair:?}")).fold(String::new(), |a, b| a + &b).unwrap();
        prop_assert_eq!(text(&one), text(&many));
        prop_assert_eq!(one.lookup(&3).unwrap(), many.lookup(&3).unwrap());
        prop_assert_eq!(one.values().sum().unwrap(), many.values().sum().unwrap());
        prop_assert_eq!(many.count().unwrap(), pairs.len() as u64);
    }

    #[test]
    fn repartitioning_is_even(lengths in prop::collection::vec(0usize..30, 1..6), out in 1usize..6) {
        let parts: Vec<Vec<usize>> = lengths.iter().map(|n| (0..*n).collect()).collect();
        let count = parts.len();
        let dealt = ssc().parallelize(parts, count).flat_map(|part| part).repartition(out);
        let sizes = dealt.map_partitions(|part| [part.len()]).collect().unwrap();
        // Each partition deals out evenly, to one.
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= count, "{:?}", sizes);
        prop_assert_eq!(sizes.iter().sum::<usize>(), lengths.iter().sum::<usize>());
    }
}
