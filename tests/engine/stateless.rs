//! Operators that look at one batch at a time, and those on several streams.

use tidemill::testing::{TestContext, run_batches};
use tidemill::{DStream, Error, ErrorKind, Rdd, RddQueue};

use super::{Pair, at, failure, pairs, queue_of, run, s, shown};

/// A queue of batches with these partitions.
fn queue_in_partitions<T: Clone + Send + Sync + 'static>(batches: &[&[&[T]]]) -> RddQueue<T> {
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push_partitions(batch.iter().map(|p| p.to_vec())));
    queue
}

/// What `program` gives for three batches: two partitions, one of them empty; no partition; one partition.
fn over_partitions<U: Clone + Send + Sync + 'static>(
    program: impl FnOnce(&DStream<i64>) -> DStream<U>,
) -> Vec<Vec<U>> {
    let test = TestContext::new("test").unwrap();
    let queue = queue_in_partitions(&[&[&[1, 2, 3], &[], &[4]], &[], &[&[5]]]);
    let output = test.collect(&program(&test.ssc.queue_stream(&queue)));
    test.run(3).unwrap();
    output.take().into_iter().map(|(_, elements)| elements).collect()
}

#[test]
fn map_partitions_is_called_for_every_partition_of_a_batch() {
    assert_eq!(
        over_partitions(|n| n.map_partitions(|p| [p.iter().sum::<i64>()])),
        [vec![6, 0, 4], vec![], vec![5]]
    );
    let numbered =
        over_partitions(|n| n.map_partitions_with_index(|i, p| p.into_iter().map(move |n| (i, n))));
    assert_eq!(numbered, [vec![(0, 1), (0, 2), (0, 3), (2, 4)], vec![], vec![(0, 5)]]);
}

#[test]
fn glom_gives_a_vector_per_partition() {
    assert_eq!(over_partitions(|n| n.glom()), [vec![vec![1, 2, 3], vec![], vec![4]], vec![], vec![vec![5]]]);
}

#[test]
fn repartition_deals_each_batch_out() {
    // The third partition begins with the third of two, which is the first.
    assert_eq!(
        over_partitions(|n| n.repartition(2).glom()),
        [[vec![1, 3, 4], vec![2]], [vec![], vec![]], [vec![5], vec![]]]
    );
}

#[test]
fn count_by_value_gives_nothing_for_an_empty_batch() {
    let out = run(&["a b a a", "", "b"], |p| p.count_by_value().map(|((key, _), n)| (key, n as i64)));
    assert_eq!(out, ["1s: a3 b1", "2s:", "3s: b1"]);
    let parts = over_partitions(|n| n.map(|n| n % 2).count_by_value_with(3).glom());
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
    let mut counts = parts[0].concat();
    counts.sort();
    assert_eq!(counts, [(0, 2), (1, 2)]);
}

#[test]
fn reduce_goes_through_the_partitions_in_order_and_gives_nothing_for_an_empty_batch() {
    assert_eq!(over_partitions(|n| n.reduce(|a, b| a * 10 + b)), [vec![1234], vec![], vec![5]]);
    assert_eq!(over_partitions(|n| n.filter(|n| *n > 9).reduce(|a, b| a + b)), [[0; 0], [], []]);
}

#[test]
fn a_union_of_many_streams_is_in_their_order() {
    let test = TestContext::new("test").unwrap();
    let [a, b, c] =
        [&["a", "", ""], &["b1 b2", "b3", ""], &["", "c", ""]].map(|b| test.ssc.queue_stream(&queue_of(b)));
    let output = test.collect(&test.ssc.union([&b, &c, &a, &b]).unwrap());
    let alone = test.collect(&test.ssc.union([&a]).unwrap());
    test.run(3).unwrap();
    let expected = [(at(1), pairs("b1 b2 a b1 b2")), (at(2), pairs("b3 c b3")), (at(3), vec![])];
    assert_eq!(output.take(), expected);
    assert_eq!(shown(alone.take()), ["1s: a1", "2s:", "3s:"]);
}

fn refused<T>(outcome: tidemill::Result<T>, kind: ErrorKind, message: &str) {
    let error: Error = outcome.err().expect("it is refused");
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
}

#[test]
fn operators_on_several_streams_refuse_what_does_not_fit() {
    let test = TestContext::new("test").unwrap();
    let pairs = test.ssc.queue_stream(&queue_of(&[]));
    let slow = pairs.window(s(6), s(3)).unwrap();
    let numbers = slow.map(|(_, n)| n);
    let other = TestContext::new("other").unwrap();
    let foreign = other.ssc.queue_stream(&queue_of(&[]));
    let none: [&DStream<Pair>; 0] = [];

    let config = |outcome, operator: &str| {
        let message = format!("{operator} of streams that slide by 1s and by 3s: both must slide alike");
        refused(outcome, ErrorKind::Config, &message);
    };
    config(test.ssc.union([&pairs, &pairs, &slow]).map(|_| ()), "union");
    config(test.ssc.transform([&pairs, &slow], |rdds| rdds[0].clone()).map(|_| ()), "transform");
    config(pairs.transform_with(&numbers, |left, _| left).map(|_| ()), "transform_with");
    config(pairs.join(&slow).map(|_| ()), "join");
    config(pairs.left_outer_join_with(&slow, 2).map(|_| ()), "left_outer_join");
    config(pairs.right_outer_join(&slow).map(|_| ()), "right_outer_join");
    config(pairs.full_outer_join(&slow).map(|_| ()), "full_outer_join");
    config(pairs.cogroup(&slow).map(|_| ()), "cogroup");

    let usage = |outcome, operator: &str| {
        let message = format!("{operator} of streams of two contexts: make both from the same one");
        refused(outcome, ErrorKind::Usage, &message);
    };
    usage(pairs.union(&foreign).map(|_| ()), "union");
    usage(test.ssc.union([&foreign]).map(|_| ()), "union");
    usage(pairs.transform_with(&foreign, |left, _| left).map(|_| ()), "transform_with");
    usage(pairs.join(&foreign).map(|_| ()), "join");

    refused(test.ssc.union(none), ErrorKind::Config, "union of no streams: give at least one");
    refused(
        test.ssc.transform(none, |rdds| rdds[0].clone()),
        ErrorKind::Config,
        "transform of no streams: give at least one",
    );
}

#[test]
fn transform_with_sees_both_rdds_of_every_batch() {
    let test = TestContext::new("test").unwrap();
    let pairs = test.ssc.queue_stream(&queue_of(&["a b", "", "c", ""]));
    let numbers = RddQueue::new();
    [vec![10i64, 20], vec![30], vec![], vec![]].into_iter().for_each(|batch| numbers.push(batch));
    let numbers = test.ssc.queue_stream(&numbers);
    let both =
        pairs.transform_with(&numbers, |pairs, numbers| pairs.union(&numbers.map(|n| ('n', n)))).unwrap();
    let timed = pairs
        .transform_with_and_time(&numbers, |pairs, _, time| pairs.map_values(move |n| n + time.as_millis()))
        .unwrap();
    let most = pairs
        .try_transform_with(&numbers, |pairs, numbers, _| {
            let most = numbers.max()?.unwrap_or(-1);
            Ok(pairs.map_values(move |_| most))
        })
        .unwrap();
    let outputs = [both, timed, most].map(|stream| test.collect(&stream));
    test.run(4).unwrap();
    let [both, timed, most] = outputs.map(|output| shown(output.take()));
    assert_eq!(both, ["1s: a1 b1 n10 n20", "2s: n30", "3s: c1", "4s:"]);
    assert_eq!(timed, ["1s: a1001 b1001", "2s:", "3s: c3001", "4s:"]);
    assert_eq!(most, ["1s: a20 b20", "2s:", "3s: c-1", "4s:"]);
}

#[test]
fn an_error_of_transform_with_fails_the_batch() {
    let error = failure(&["a"], |p| {
        p.try_transform_with(p, |_, _, time| -> tidemill::Result<Rdd<Pair>> {
            Err(Error::data(format!("no at {time}")))
        })
        .unwrap()
    });
    assert!(error.ends_with("no at 1000 ms"), "{error}");
}

#[test]
fn a_transform_of_many_streams_sees_their_rdds_in_order_and_the_batch_time() {
    let test = TestContext::new("test").unwrap();
    let [a, b] = [&["a", "a", ""], &["b", "", ""]].map(|b| test.ssc.queue_stream(&queue_of(b)));
    let counts = test.ssc.try_transform([&b, &a, &b], |rdds, time| {
        let counts: tidemill::Result<Vec<u64>> = rdds.iter().map(|rdd| rdd.count()).collect();
        let (counts, seconds) = (counts?, time.as_millis() / 1_000);
        Ok(rdds[0].repartition(1).map_partitions(move |_| [(counts.clone(), seconds)]))
    });
    let timed = test.ssc.transform_with_time([&a, &b], |rdds, time| {
        rdds[0].union(&rdds[1]).map_values(move |n| n * time.as_millis())
    });
    let (counts, timed) = (test.collect(&counts.unwrap()), test.collect(&timed.unwrap()));
    test.run(3).unwrap();
    let counts: Vec<_> = counts.take().into_iter().flat_map(|(_, c)| c).collect();
    assert_eq!(counts, [(vec![1, 1, 1], 1), (vec![0, 1, 0], 2), (vec![0, 0, 0], 3)]);
    assert_eq!(shown(timed.take()), ["1s: a1000 b1000", "2s: a2000", "3s:"]);
}

#[test]
fn a_stream_is_joined_with_an_rdd_from_a_file_that_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights");
    std::fs::write(&file, "a 10\nb 20\n").unwrap();
    let test = TestContext::new("test").unwrap();
    let weights = test.ssc.text_file(&file).unwrap().map(|line| pairs(&line.replace(' ', ""))[0]).cache();
    let table = weights.clone();
    let weighed = test
        .ssc
        .queue_stream(&queue_of(&["a1 c1 a2", "", "b3"]))
        .transform(move |rdd| rdd.join(&table).map_values(|(n, weight)| n * weight));
    let output = test.collect(&weighed);
    test.ssc.start().unwrap();
    test.step().unwrap();
    std::fs::remove_file(&file).unwrap();
    test.step().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["1s: a10 a20", "2s:", "3s: b60"]);
}

#[test]
fn operators_that_come_after_the_start_are_told() {
    for (name, late) in [
        ("join", (|p| p.join(p).err()) as fn(&DStream<Pair>) -> Option<Error>),
        ("union", |p| p.context().union([p]).err()),
        ("repartition", |p| {
            p.repartition(2);
            None
        }),
        ("reduce", |p| {
            p.reduce(|a, _| a);
            None
        }),
    ] {
        let test = TestContext::new("test").unwrap();
        let stream = test.ssc.queue_stream(&queue_of(&["a"]));
        test.collect(&stream);
        test.ssc.start().unwrap();
        assert!(late(&stream).is_none());
        let error = test.ssc.stop(true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(
            error.to_string().starts_with(&format!("`{name}` was added to a context that is active")),
            "{error}"
        );
    }
}

#[test]
fn what_a_task_does_twice_counts_once() {
    let out = run_batches(vec![vec![1i64, 2], vec![], vec![3]], |numbers| {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let flaky = numbers.map_partitions(move |part| {
            assert!(calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1, "every other time");
            part
        });
        flaky.reduce(|a, b| a + b)
    });
    assert_eq!(out.unwrap(), [vec![3], vec![], vec![3]]);
}
