//! The state store: larger than its memory, recovered at once, read by changed programs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{
    DStream, ErrorKind, HashPartitioner, MapWithStateDStream, Partitioner, RddQueue, Result, State,
    StateSpec, StreamingContextBuilder, Time, UpdateStateSpec, WindowSpec,
};

use super::recovery::all_operators;
use super::state::{running_sum, sums};
use super::{Pair, at, builder, failure, pairs, queue_of, run, s, shown};

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

/// Runs `program` over `batches` from second `from` on, with the settings of `builder`.
fn session(
    builder: StreamingContextBuilder,
    batches: &[&str],
    from: usize,
    program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>,
) -> Result<Vec<String>> {
    let test = TestContext::from_builder(builder, at(from as i64))?;
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))));
    test.run(batches.len() - from)?;
    Ok(shown(output.take()))
}

/// A spec that keeps the last value of a key, and returns nothing.
fn last() -> StateSpec<char, i64, i64, ()> {
    StateSpec::function(|_: &char, n: Option<i64>, state: &mut State<i64>| {
        if let Some(n) = n {
            state.update(n);
        }
        None
    })
}

// Snapshots

fn snapshots(batches: &[&str], spec: StateSpec<char, i64, i64, Pair>) -> Vec<String> {
    run(batches, |p| p.map_with_state_and_snapshots(spec).state_snapshots())
}

#[test]
fn snapshots_have_every_key_in_every_batch() {
    assert_eq!(
        snapshots(&["a1 b2", "", "a5", "b0", ""], sums()),
        ["1s: a1 b2", "2s: a1 b2", "3s: a6 b2", "4s: a6", "5s: a6"]
    );
}

#[test]
fn the_initial_state_is_in_the_first_snapshot_changed_by_the_first_batch() {
    let spec = sums().initial_state([('a', 10), ('b', 20), ('c', 1), ('c', 30)]);
    assert_eq!(snapshots(&["a1 b0", ""], spec), ["1s: a11 c30", "2s: a11 c30"]);
}

#[test]
fn a_state_that_timed_out_is_not_in_the_snapshot_of_that_batch() {
    assert_eq!(
        snapshots(&["a1", "", "b1", ""], sums().timeout(s(1))),
        ["1s: a1", "2s: a1", "3s: b1", "4s: b1"]
    );
}

#[test]
fn snapshots_and_the_stream_itself_can_be_read_together_and_twice() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a1 b2", "a3"]));
    let states: MapWithStateDStream<_, _, _> =
        input.map_with_state_and_snapshots(sums()).uid("sums").unwrap();
    let snapshots = states.state_snapshots();
    let outputs = [
        test.collect(&snapshots),
        test.collect(&snapshots.map(|pair| pair)),
        test.collect(&states.state_snapshots()),
        test.collect(&states),
    ];
    test.run(2).unwrap();
    let [one, two, three, mapped] = outputs.map(|output| shown(output.take()));
    assert_eq!(one, ["1s: a1 b2", "2s: a4 b2"]);
    assert_eq!((&two, &three), (&one, &one));
    assert_eq!(mapped, ["1s: a1 b2", "2s: a4"]);
    let uids: Vec<_> = test.completed_batches()[1].state.iter().map(|(uid, _)| uid.to_string()).collect();
    assert_eq!(uids, ["sums"]);
}

#[test]
fn a_snapshot_that_is_read_later_is_still_that_of_its_batch() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a1 b2", "a3", "c1"]));
    let snapshots = input.map_with_state_and_snapshots(sums()).state_snapshots();
    let updated = input.update_state_by_key(running_sum);
    let kept = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    for stream in [snapshots, updated] {
        let kept = kept.clone();
        stream.foreach_rdd(move |rdd| kept.lock().push(rdd));
    }
    test.run(3).unwrap();
    let all: Vec<_> = kept.lock().iter().map(|rdd| rdd.collect().unwrap()).collect();
    let first = vec![(at(0), all[0].clone()), (at(1), all[1].clone()), (at(2), all[4].clone())];
    assert_eq!(shown(first), ["0s: a1 b2", "1s: a1 b2", "2s: a4 b2 c1"]);
}

// Forms

#[test]
fn an_initial_state_may_be_an_rdd() {
    for form in 0..2 {
        let test = TestContext::new("test").unwrap();
        let known = test.ssc.parallelize([('a', 10), ('b', 20)], 2);
        let input = test.ssc.queue_stream(&queue_of(&["a1", "b1"]));
        let states = match form {
            0 => input.map_with_state_and_snapshots(sums().initial_state_rdd(known)).state_snapshots(),
            _ => input
                .update_state_by_key_with(UpdateStateSpec::function(running_sum).initial_state_rdd(known)),
        };
        let output = test.collect(&states);
        test.run(2).unwrap();
        assert_eq!(shown(output.take()), ["1s: a11 b20", "2s: a11 b21"]);
    }
}

#[test]
fn update_state_by_key_begins_with_its_initial_state() {
    let spec = || UpdateStateSpec::function(running_sum).initial_state([('a', 10), ('b', 1), ('b', 20)]);
    assert_eq!(
        run(&["", "a1 c1", "b0"], |p| p.update_state_by_key_with(spec())),
        ["1s: a10 b1", "2s: a11 b1 c1", "3s: a11 c1"]
    );
    // The function is called for it in the first batch, and only at the very first start.
    let folder = folder();
    let ages =
        || UpdateStateSpec::function(|_: Vec<i64>, n: Option<i64>| Some(n? + 1)).initial_state([('a', 0)]);
    let run = |batches: &[&str], from| {
        session(builder("test").checkpoint(folder.path()), batches, from, |p| {
            p.update_state_by_key_with(ages())
        })
        .unwrap()
    };
    assert_eq!(run(&["", ""], 0), ["1s: a1", "2s: a2"]);
    assert_eq!(run(&["", "", ""], 2), ["3s: a3"]);
}

#[test]
fn update_state_by_key_may_know_time_and_key() {
    let spec =
        UpdateStateSpec::function_with_time(|time: Time, key: &char, new: Vec<i64>, _: Option<i64>| {
            (*key != 'x').then_some(time.as_millis() + new.len() as i64)
        });
    assert_eq!(
        run(&["a b b x", ""], |p| p.update_state_by_key_with(spec)),
        ["1s: a1001 b1002", "2s: a2000 b2000"]
    );
}

/// Vowels and the rest.
struct Vowels;

impl Partitioner<char> for Vowels {
    fn num_partitions(&self) -> usize {
        2
    }

    fn partition(&self, key: &char) -> Result<usize> {
        Ok(usize::from(!"aeiou".contains(*key)))
    }
}

#[test]
fn a_partitioner_of_ones_own_places_state_and_output() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a1 b1 e1 c1", "a1 b1"]));
    let streams = [
        input.map_with_state(sums().partitioner(Vowels)),
        input.map_with_state_and_snapshots(sums().partitioner(Vowels)).state_snapshots(),
        input.update_state_by_key_with(UpdateStateSpec::function(running_sum).partitioner(Vowels)),
        input
            .reduce_by_key_and_window_with(WindowSpec::reduce(|a, b| a + b).partitioner(Vowels), s(2), s(1))
            .unwrap(),
    ];
    let outputs = streams.map(|stream| test.collect(&stream.transform(|rdd| rdd.glom())));
    test.run(2).unwrap();
    let keys = |glom: Vec<Vec<Pair>>| -> Vec<String> {
        let letters = |part: Vec<Pair>| {
            let mut letters: Vec<char> = part.into_iter().map(|(key, _)| key).collect();
            letters.sort_unstable();
            letters.into_iter().collect()
        };
        glom.into_iter().map(letters).collect()
    };
    let seen = outputs.map(|o| o.take().into_iter().map(|(_, glom)| keys(glom)).collect::<Vec<_>>());
    assert_eq!(seen[0], [["ae", "bc"], ["a", "b"]]);
    for all in &seen[1..] {
        assert_eq!(*all, [["ae", "bc"], ["ae", "bc"]]);
    }
}

#[test]
fn a_partitioner_that_gives_a_partition_it_does_not_have_fails_the_batch() {
    struct Wrong;
    impl Partitioner<char> for Wrong {
        fn num_partitions(&self) -> usize {
            2
        }
        fn partition(&self, _: &char) -> Result<usize> {
            Ok(2)
        }
    }
    let error = failure(&["a1"], |p| p.map_with_state(sums().partitioner(Wrong)));
    assert!(error.contains("a partitioner gave partition 2, but has only 2"), "{error}");
}

type Program = Box<dyn Fn(&DStream<Pair>, usize) -> DStream<Pair>>;

#[test]
fn another_number_of_partitions_than_the_checkpoints_is_refused_with_both() {
    let programs: Vec<Program> = vec![
        Box::new(|p, n| p.map_with_state(sums().num_partitions(n))),
        Box::new(|p, n| p.update_state_by_key_with(UpdateStateSpec::function(running_sum).num_partitions(n))),
        Box::new(|p, n| {
            let spec = WindowSpec::reduce(|a, b| a + b).inverse(|a, b| a - b).num_partitions(n);
            p.reduce_by_key_and_window_with(spec, s(2), s(1)).unwrap()
        }),
    ];
    for program in programs {
        let folder = folder();
        let run = |n: usize, from| {
            let program = |p: &DStream<Pair>| program(p, n).uid("mine").unwrap();
            session(builder("test").checkpoint(folder.path()), &["a1", "a1"][..=from], from, program)
        };
        assert_eq!(run(3, 0).unwrap(), ["1s: a1"]);
        let error = run(5, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checkpoint);
        let text = error.to_string();
        assert!(
            text.starts_with("operator `mine` spreads its keys over 5 partitions, but the checkpoint "),
            "{text}"
        );
        assert!(text.contains("holds its state in 3: set its number of partitions to 3 again"), "{text}");
        assert_eq!(run(3, 1).unwrap(), ["2s: a2"]);
    }
}

#[test]
fn more_partitions_than_the_store_can_number_are_refused() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a1"]));
    test.collect(&input.map_with_state(last().num_partitions(70_000)));
    let error = test.ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("over 70000 partitions: expected 1 to 65,536"), "{error}");
}

#[test]
fn misuse_names_operator_and_key() {
    let error = failure(&["a1 b2"], |p| {
        let spec = StateSpec::function(|key: &char, _: Option<i64>, state: &mut State<i64>| {
            if *key == 'b' {
                state.get();
            }
            None::<Pair>
        });
        p.map_with_state(spec).uid("mine").unwrap()
    });
    assert!(error.starts_with("batch 1000 ms: operator `mine`: task of partition "), "{error}");
    assert!(
        error.contains("attempt 4: key \"b\": panicked: State::get of a state that does not exist"),
        "{error}"
    );
}

// Memory

/// What every operator gives over `batches`, in a context with the settings of `builder`.
fn outputs_of(builder: StreamingContextBuilder, batches: &[Vec<Pair>]) -> Vec<Vec<String>> {
    let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push(batch.clone()));
    let input = test.ssc.queue_stream(&queue);
    let mut streams = all_operators(&input).unwrap();
    streams.push(input.map_with_state_and_snapshots(sums().timeout(s(2))).state_snapshots());
    let collected: Vec<_> = streams.iter().map(|stream| test.collect(stream)).collect();
    test.run(batches.len()).unwrap();
    collected.into_iter().map(|output| shown(output.take())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_memory_nor_partitions_nor_a_checkpoint_change_anything(
        batches in prop::collection::vec(
            prop::collection::vec((prop::char::range('a', 'h'), 0..4i64), 0..6), 1..8,
        ),
        limit in 0..6_000usize,
        partitions in 1..9usize,
    ) {
        let expected = outputs_of(builder("test"), &batches);
        let folder = folder();
        let small = builder("test").state_memory_limit(limit);
        prop_assert_eq!(&outputs_of(small, &batches), &expected);
        let small = builder("test").state_memory_limit(limit).state_partitions(partitions).checkpoint(folder.path());
        prop_assert_eq!(&outputs_of(small, &batches), &expected);
    }
}

/// Counts the numbers of `batches` by `map_with_state` and `update_state_by_key`; checks each batch's snapshot and output
/// against a map.
fn check_counts(builder: StreamingContextBuilder, from: usize, batches: &[Vec<u32>]) {
    let test = TestContext::from_builder(builder, at(from as i64)).unwrap();
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push(batch.clone()));
    let input = test.ssc.queue_stream(&queue).map(|n| (format!("key {n:05}"), n));
    let count = StateSpec::function(|_: &String, n: Option<u32>, count: &mut State<(u64, Vec<u8>)>| {
        match n? {
            13 => count.remove(),
            n => count.update((count.get_option().map_or(0, |c| c.0) + 1, vec![n as u8; 20])),
        }
        None::<()>
    });
    let snapshots = test.collect(&input.map_with_state_and_snapshots(count).state_snapshots());
    let updated = test.collect(&input.update_state_by_key(|new, count: Option<u64>| {
        (!new.contains(&13)).then(|| count.unwrap_or(0) + new.len() as u64)
    }));
    test.run(batches.len() - from).unwrap();
    let mut model = BTreeMap::new();
    let (mut snapshots, mut updated) = (snapshots.take().into_iter(), updated.take().into_iter());
    for (batch, numbers) in batches.iter().enumerate() {
        for n in numbers {
            let key = format!("key {n:05}");
            if *n == 13 {
                model.remove(&key);
            } else {
                *model.entry(key).or_insert(0u64) += 1;
            }
        }
        if batch >= from {
            let mut states: Vec<_> =
                snapshots.next().unwrap().1.into_iter().map(|(key, (n, _))| (key, n)).collect();
            let mut counts = updated.next().unwrap().1;
            states.sort();
            counts.sort();
            let expected: Vec<_> = model.clone().into_iter().collect();
            assert!(states == expected && counts == expected, "batch {batch} from {from}");
        }
    }
    let stats = test.completed_batches().last().unwrap().state.clone();
    assert_eq!(stats[0].1.keys, model.len() as u64);
    assert_eq!(stats[1].1.keys, model.len() as u64);
}

#[test]
fn a_state_larger_than_its_memory_is_right_and_goes_on() {
    // Some thousand keys, in memory for some hundred.
    let batch = |b: u32| (0..800).map(|i| (i * i * 7 + b * 131) % 4_001).chain([13, b]).collect();
    let batches: Vec<Vec<u32>> = (0..8).map(batch).collect();
    let folder = folder();
    for (from, until) in [(0, 4), (4, 8)] {
        let builder = builder("test").checkpoint(folder.path()).state_memory_limit(60_000);
        check_counts(builder, from, &batches[..until]);
    }
    check_counts(builder("test").state_memory_limit(60_000), 0, &batches);
    check_counts(builder("test"), 0, &batches);
}

#[test]
fn statistics_are_there_from_the_first_batch_on_after_a_start() {
    let folder = folder();
    let stats = |from: usize, batches: &[&str]| {
        let test =
            TestContext::from_builder(builder("test").checkpoint(folder.path()), at(from as i64)).unwrap();
        let input = test.ssc.queue_stream(&queue_of(batches));
        test.collect(&input.map_with_state(sums()));
        test.collect(&input.update_state_by_key(running_sum));
        test.run(batches.len() - from).unwrap();
        let stats = test.completed_batches().last().unwrap().state.clone();
        stats.into_iter().map(|(_, stats)| (stats.keys, stats.bytes)).collect::<Vec<_>>()
    };
    let before = stats(0, &["a1 b2", "c3 b0"]);
    assert_eq!(before.iter().map(|(keys, _)| *keys).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(stats(2, &["", "", ""]), before);
    assert_eq!(stats(3, &["", "", "", "c0"])[0].0, 1);
}

// Timeouts

#[test]
fn a_timeout_that_is_new_holds_for_older_state_too_and_may_go_again() {
    let folder = folder();
    let batches = ["a1 b2", "b1", "", "c1", "", "", "", ""];
    let run = |from: usize, until: usize, timeout: Option<i64>| {
        let spec = timeout.map_or(sums(), |seconds| sums().timeout(s(seconds)));
        let builder = builder("test").checkpoint(folder.path()).state_partitions(2);
        session(builder, &batches[..until], from, |p| p.map_with_state(spec)).unwrap()
    };
    assert_eq!(run(0, 3, None), ["1s: a1 b2", "2s: b3", "3s:"]);
    // Touched last at 1, 2 and 4 s.
    assert_eq!(run(3, 5, Some(2)), ["4s: a-1 c1", "5s: b-3"]);
    assert_eq!(run(5, 7, None), ["6s:", "7s:"]);
    assert_eq!(run(7, 8, Some(2)), ["8s: c-1"]);
}

#[test]
fn a_longer_or_shorter_timeout_holds_at_once() {
    let folder = folder();
    let batches = ["a1", "b1", "c1", "", "", "", "", ""];
    let run = |from: usize, until: usize, timeout: i64| {
        let builder = builder("test").checkpoint(folder.path()).state_partitions(1);
        session(builder, &batches[..until], from, |p| p.map_with_state(sums().timeout(s(timeout)))).unwrap()
    };
    assert_eq!(run(0, 4, 2), ["1s: a1", "2s: b1", "3s: c1", "4s: a-1"]);
    assert_eq!(run(4, 6, 4), ["5s:", "6s:"]);
    assert_eq!(run(6, 8, 1), ["7s: b-1 c-1", "8s:"]);
}

// Programs that change

#[derive(Clone, Serialize, Deserialize)]
struct Old {
    n: i64,
}

#[derive(Clone, Serialize, Deserialize)]
struct New {
    n: i64,
    #[serde(default)]
    since: Option<i64>,
}

fn old_state(p: &DStream<Pair>) -> DStream<Pair> {
    let add = |new: Vec<i64>, state: Option<Old>| {
        Some(Old { n: state.map_or(0, |s| s.n) + new.iter().sum::<i64>() })
    };
    p.update_state_by_key(add).uid("mine").unwrap().map_values(|s| s.n)
}

#[test]
fn a_field_that_was_added_with_a_default_reads_older_states() {
    let folder = folder();
    let settings = || builder("test").checkpoint(folder.path());
    assert_eq!(session(settings(), &["a1 b2"], 0, old_state).unwrap(), ["1s: a1 b2"]);
    let new = |p: &DStream<Pair>| {
        let spec =
            UpdateStateSpec::function_with_time(|time: Time, _: &char, new: Vec<i64>, state: Option<New>| {
                let New { n, since } = state.unwrap_or(New { n: 0, since: Some(time.as_millis()) });
                Some(New { n: n + new.iter().sum::<i64>(), since })
            });
        p.update_state_by_key_with(spec)
            .uid("mine")
            .unwrap()
            .map_values(|s| s.n * 10_000 + s.since.unwrap_or(0))
    };
    assert_eq!(session(settings(), &["", "a1 c3"], 1, new).unwrap(), ["2s: a20000 b20000 c32000"]);
    // And the older program reads what it knows of the new states.
    assert_eq!(session(settings(), &["", "", ""], 2, old_state).unwrap(), ["3s: a2 b2 c3"]);
}

#[test]
fn values_that_the_new_type_cannot_read_are_told_with_operator_key_and_types() {
    let folder = folder();
    let settings = || builder("test").checkpoint(folder.path());
    session(settings(), &["a1"], 0, old_state).unwrap();
    let text = |p: &DStream<Pair>| {
        let states = p.update_state_by_key(|_, state: Option<String>| state).uid("mine").unwrap();
        states.map(|(key, _)| (key, 0))
    };
    let error = session(settings(), &["", ""], 1, text).unwrap_err().to_string();
    assert!(
        error.contains("operator `mine`, key \"a\": a stored value is no alloc::string::String: "),
        "{error}"
    );
    assert!(
        error.contains("were written as tests::engine::store::Old, then alloc::string::String"),
        "{error}"
    );
    assert!(error.contains("give the operator another uid"), "{error}");
    // Nothing is lost.
    assert_eq!(session(settings(), &["", "", ""], 1, old_state).unwrap(), ["2s: a1", "3s: a1"]);
}

#[test]
fn another_type_of_keys_is_refused() {
    let folder = folder();
    session(builder("test").checkpoint(folder.path()), &["a1"], 0, |p| {
        p.map_with_state(sums()).uid("mine").unwrap()
    })
    .unwrap();
    let error = session(builder("test").checkpoint(folder.path()), &["", ""], 1, |p| {
        let spec = StateSpec::function(|_: &String, _: Option<i64>, _: &mut State<i64>| None::<Pair>);
        p.map(|(key, n)| (key.to_string(), n)).map_with_state(spec).uid("mine").unwrap()
    });
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with("operator `mine` is a map_with_state from alloc::string::String to i64, but "),
        "{text}"
    );
    assert!(
        text.contains(" holds a map_with_state from char to i64 ") && text.ends_with("another uid"),
        "{text}"
    );
}

#[test]
fn keys_go_to_the_partition_that_kafka_would_choose() {
    let test = TestContext::from_builder(builder("test").state_partitions(5), Time::ZERO).unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a b c d e f g h"]));
    let placed = input.update_state_by_key(running_sum).transform(|rdd| rdd.glom());
    let output = test.collect(&placed);
    test.run(1).unwrap();
    let parts = output.take().remove(0).1;
    for (partition, part) in parts.iter().enumerate() {
        for (key, _) in part {
            assert_eq!(HashPartitioner::new(5).partition(key).unwrap(), partition);
        }
    }
    assert_eq!(parts.concat().len(), pairs("a b c d e f g h").len());
}
