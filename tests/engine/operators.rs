//! Operators without state, output operations, and the actions of an RDD.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tidemill::testing::{TestContext, run_batches, run_batches_sorted};
use tidemill::{Error, ErrorKind, HashPartitioner, Rdd, RddQueue, Result};

use super::{Pair, at, failure, pairs, queue_of, run, s, shown};

/// What `f` gives for an RDD with these partitions, in an output operation.
fn on_rdd<R: Send + 'static>(
    partitions: &[&[i64]],
    f: impl Fn(Rdd<i64>) -> Result<R> + Send + Sync + 'static,
) -> R {
    let test = TestContext::new("test").expect("the name is right");
    let queue = RddQueue::new();
    queue.push_partitions(partitions.iter().map(|p| p.to_vec()));
    let (give, take) = mpsc::channel();
    test.ssc.queue_stream(&queue).foreach_rdd(move |rdd| -> Result<()> {
        give.send(f(rdd)?).expect("the test is still there");
        Ok(())
    });
    test.run(1).expect("the batch goes well");
    take.try_recv().expect("the operation ran")
}

#[test]
fn narrow_operators_keep_the_order_of_elements_and_leave_empty_batches_empty() {
    let out = run_batches(vec![vec![1, 2, 3], vec![], vec![4]], |numbers| {
        numbers.map(|n| n * 10).flat_map(|n| [n, n + 1]).filter(|n| n % 4 != 0)
    });
    // 10 11 20 21 30 31, without 20; nothing; 40 41, without 40.
    assert_eq!(out.unwrap(), [vec![10, 11, 21, 30, 31], vec![], vec![41]]);
}

#[test]
fn map_values_leaves_keys_alone() {
    assert_eq!(run(&["a1 b2", "", "a3"], |p| p.map_values(|v| v * -2)), ["1s: a-2 b-4", "2s:", "3s: a-6"]);
}

#[test]
fn count_gives_one_element_and_0_for_an_empty_batch() {
    let out = run_batches(vec![vec!['a', 'b', 'a'], vec![]], |letters| letters.count());
    assert_eq!(out.unwrap(), [[3], [0]]);
    let out = run_batches(vec![vec!['a', 'b']], |letters| letters.filter(|_| false).count());
    assert_eq!(out.unwrap(), [[0]]);
}

#[test]
fn count_adds_up_partitions() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([vec![1, 2], vec![], vec![3]]);
    queue.push_partitions([]);
    let counts = test.collect(&test.ssc.queue_stream(&queue).count());
    test.run(3).unwrap();
    assert_eq!(counts.take(), [(at(1), vec![3]), (at(2), vec![0]), (at(3), vec![0])]);
}

#[test]
fn reduce_by_key_gives_one_pair_per_key_and_nothing_for_an_empty_batch() {
    let out = run(&["a1 b2 a3", "", "b4"], |p| p.reduce_by_key(|a, b| a + b));
    assert_eq!(out, ["1s: a4 b2", "2s:", "3s: b4"]);
}

#[test]
fn reduce_by_key_combines_partitions_in_their_order() {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    let words = |text: &str| text.split(' ').map(|w| (w[..1].to_owned(), w.to_owned())).collect::<Vec<_>>();
    queue.push_partitions([words("a1 b1 a2"), vec![], words("a3"), words("b2 a4")]);
    let reduced = test.ssc.queue_stream(&queue).reduce_by_key(|a, b| a + &b);
    let output = test.collect(&reduced.map(|(_, joined)| joined));
    test.run(1).unwrap();
    let mut joined = output.take().remove(0).1;
    joined.sort();
    assert_eq!(joined, ["a1a2a3a4", "b1b2"]);
}

#[test]
fn keys_may_be_structures() {
    let out = run_batches_sorted(vec![vec![("x", 1), ("y", 1), ("x", 2), ("x", 1)]], |points| {
        points.map(|(x, y)| ((x.to_owned(), Some(y)), 1)).reduce_by_key(|a, b| a + b)
    });
    let key = |x: &str, y| (x.to_owned(), Some(y));
    assert_eq!(out.unwrap(), [[(key("x", 1), 2), (key("x", 2), 1), (key("y", 1), 1)]]);
}

#[test]
fn union_gives_this_streams_elements_then_the_others() {
    let test = TestContext::new("test").unwrap();
    let (left, right) = (RddQueue::new(), RddQueue::new());
    left.push_partitions([vec![1, 2], vec![3]]);
    right.push([2]);
    right.push([9]);
    let both = test.ssc.queue_stream(&left).union(&test.ssc.queue_stream(&right)).unwrap();
    let output = test.collect(&both);
    test.run(3).unwrap();
    assert_eq!(output.take(), [(at(1), vec![1, 2, 3, 2]), (at(2), vec![9]), (at(3), vec![])]);
}

#[test]
fn union_with_itself_doubles() {
    assert_eq!(run(&["a b", ""], |p| p.union(p).unwrap()), ["1s: a1 a1 b1 b1", "2s:"]);
}

#[test]
fn union_of_streams_that_slide_differently_is_an_error_with_the_numbers() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&RddQueue::<i64>::new());
    let window = numbers.window(s(6), s(3)).unwrap();
    let error = numbers.union(&window).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.to_string(), "union of streams that slide by 1s and by 3s: both must slide alike");
}

#[test]
fn transform_is_called_for_empty_batches_too_and_knows_the_batch_time() {
    let out = run(&["a", "", "b"], |p| {
        p.transform_with_time(|rdd, time| {
            rdd.map_partitions(move |pairs| {
                let mut pairs = pairs.clone();
                pairs.push(('t', time.as_millis()));
                pairs
            })
        })
    });
    assert_eq!(out, ["1s: a1 t1000", "2s: t2000", "3s: b1 t3000"]);
}

#[test]
fn an_error_of_a_transform_fails_the_batch() {
    let error =
        failure(&["a"], |p| p.try_transform(|_: Rdd<_>, time| Err(Error::data(format!("no at {time}")))));
    assert!(error.starts_with("batch 1000 ms: output operation 0 `foreach_rdd`: "), "{error}");
    assert!(error.ends_with("no at 1000 ms"), "{error}");
}

#[test]
fn a_panic_in_a_transform_fails_the_batch() {
    let error = failure(&["a"], |p| {
        p.transform_with_time(|rdd, time| {
            assert!(time < at(1), "no more of this");
            rdd
        })
    });
    assert!(error.contains("no more of this"), "{error}");
    // The same above a stateful operator, which is evaluated before the outputs.
    let error = failure(&["a"], |p| {
        let broken = p.transform_with_time(|rdd, time| {
            assert!(time < at(1), "no more of this");
            rdd
        });
        broken.update_state_by_key(|new, _: Option<i64>| new.first().copied())
    });
    assert!(error.contains("`update_state_by_key-1`"), "{error}");
    assert!(error.contains("no more of this"), "{error}");
}

#[test]
fn transform_may_use_actions() {
    let out = run(&["a1 b5 a3", ""], |p| {
        p.try_transform(|rdd, _| {
            let most = rdd.map(|(_, n)| n).reduce(i64::max)?;
            Ok(rdd.filter(move |(_, n)| Some(*n) == most))
        })
    });
    assert_eq!(out, ["1s: b5", "2s:"]);
}

#[test]
fn foreach_rdd_sees_every_batch_the_empty_ones_too() {
    let test = TestContext::new("test").unwrap();
    let (give, take) = mpsc::channel();
    test.ssc.queue_stream(&queue_of(&["a b", "", "c"])).foreach_rdd_with_time(
        move |rdd, time| -> Result<()> {
            give.send((time, rdd.count()?)).expect("the test is still there");
            Ok(())
        },
    );
    test.run(4).unwrap();
    assert_eq!(take.try_iter().collect::<Vec<_>>(), [(at(1), 2), (at(2), 0), (at(3), 1), (at(4), 0)]);
}

#[test]
fn an_error_in_foreach_rdd_fails_the_batch_after_the_other_output_operations_have_run() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a", "b"]));
    let first = test.collect(&numbers);
    numbers.foreach_rdd_with_time(
        |_, time| {
            if time == at(2) { Err(Error::task("the disk is full")) } else { Ok(()) }
        },
    );
    let last = test.collect(&numbers);
    let expected = "batch 2000 ms: output operation 1 `foreach_rdd`: the disk is full";
    test.ssc.start().unwrap();
    test.step().unwrap();
    let error = test.step().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Task, expected));
    assert_eq!(test.ssc.await_termination().unwrap_err().to_string(), expected);
    assert_eq!(test.ssc.stop(true).unwrap_err().to_string(), expected);
    for output in [first, last] {
        assert_eq!(shown(output.take()), ["1s: a1", "2s: b1"]);
    }
    let failed = test.completed_batches().pop().unwrap();
    assert_eq!(failed.failure.as_deref(), Some("output operation 1 `foreach_rdd`: the disk is full"));
    let operations: Vec<_> = failed.output_operations.iter().map(|o| (o.id, o.failure.as_deref())).collect();
    assert_eq!(operations, [(0, None), (1, Some("the disk is full")), (2, None)]);
}

#[test]
fn a_panic_in_foreach_rdd_fails_the_batch_after_the_other_output_operations_have_run() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a"]));
    numbers.foreach_rdd(|rdd| assert!(rdd.num_partitions() > 1, "only one partition"));
    let last = test.collect(&numbers);
    let error = test.run(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task);
    let error = error.to_string();
    assert!(error.starts_with("batch 1000 ms: output operation 0 `foreach_rdd`: "), "{error}");
    assert!(error.contains("panicked") && error.contains("only one partition"), "{error}");
    assert_eq!(shown(last.take()), ["1s: a1"]);
}

#[test]
fn the_first_failing_output_operation_is_told() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a"]));
    numbers.foreach_rdd(|_| Err(Error::task("first")));
    numbers.foreach_rdd(|_| Err(Error::task("second")));
    let error = test.run(1).unwrap_err().to_string();
    assert_eq!(error, "batch 1000 ms: output operation 0 `foreach_rdd`: first");
    let failed = test.completed_batches().pop().unwrap();
    assert_eq!(failed.output_operations[1].failure.as_deref(), Some("second"));
}

#[test]
fn a_stream_that_several_operators_read_is_computed_once() {
    let test = TestContext::new("test").unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let mapped = test.ssc.queue_stream(&queue_of(&["a b c"])).map(move |pair| {
        counted.fetch_add(1, Ordering::Relaxed);
        pair
    });
    let (one, other) = (test.collect(&mapped), test.collect(&mapped.map_values(|v| v + 1)));
    let state = test.collect(&mapped.update_state_by_key(|new, _: Option<i64>| new.first().copied()));
    test.run(1).unwrap();
    assert_eq!(shown(one.take()), ["1s: a1 b1 c1"]);
    assert_eq!(shown(other.take()), ["1s: a2 b2 c2"]);
    assert_eq!(shown(state.take()), ["1s: a1 b1 c1"]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn what_no_output_operation_reaches_is_not_computed() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a"]));
    let unused = numbers.map(|_| -> Pair { panic!("nobody asked for this") });
    unused.update_state_by_key(|_, _: Option<i64>| -> Option<i64> { panic!("nor for this") });
    let output = test.collect(&numbers);
    test.run(1).unwrap();
    assert_eq!(shown(output.take()), ["1s: a1"]);
}

#[test]
fn queue_stream_all_takes_everything_that_waits() {
    let test = TestContext::new("test").unwrap();
    let queue = queue_of(&["a", "b c", ""]);
    let output = test.collect(&test.ssc.queue_stream_all(&queue));
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.step().unwrap();
    queue.push(pairs("d"));
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["1s: a1 b1 c1", "2s:", "3s: d1"]);
}

#[test]
fn partitions_stay_through_narrow_operators_in_their_order() {
    let glommed = on_rdd(&[&[1, 2], &[], &[3]], |rdd| {
        let changed = rdd.map(|n| n * 10).flat_map(|n| [n, n + 1]).filter(|n| n % 3 != 0);
        assert_eq!(changed.num_partitions(), 3);
        changed.glom().collect()
    });
    // 10 11 20 21 | | 30 31, without 21 and 30.
    assert_eq!(glommed, [vec![10, 11, 20], vec![], vec![31]]);
}

#[test]
fn map_partitions_is_called_for_every_partition() {
    let sums = on_rdd(&[&[1, 2], &[], &[3]], |rdd| rdd.map_partitions(|p| [p.iter().sum::<i64>()]).collect());
    assert_eq!(sums, [3, 0, 3]);
    let tagged = on_rdd(&[&[1, 2], &[], &[3]], |rdd| {
        rdd.map_partitions_with_index(|i, p| p.into_iter().map(move |n| (i, n))).collect()
    });
    assert_eq!(tagged, [(0, 1), (0, 2), (2, 3)]);
}

#[test]
fn actions_of_an_rdd_of_several_partitions() {
    let rdd = |f: fn(Rdd<i64>) -> Result<Vec<i64>>| on_rdd(&[&[], &[1, 2], &[], &[3, 4, 5]], f);
    assert_eq!(rdd(|rdd| rdd.collect()), [1, 2, 3, 4, 5]);
    assert_eq!(rdd(|rdd| rdd.take(0)), [0; 0]);
    assert_eq!(rdd(|rdd| rdd.take(1)), [1]);
    assert_eq!(rdd(|rdd| rdd.take(3)), [1, 2, 3]);
    assert_eq!(rdd(|rdd| rdd.take(9)), [1, 2, 3, 4, 5]);
    assert_eq!(rdd(|rdd| rdd.flat_map(|n| vec![n; n as usize]).take(4)), [1, 2, 2, 3]);
    assert_eq!(rdd(|rdd| Ok(vec![rdd.count()? as i64])), [5]);
    assert_eq!(rdd(|rdd| Ok(rdd.reduce(|a, b| a * 10 + b)?.into_iter().collect())), [12 * 10 + 345]);
    assert_eq!(rdd(|rdd| Ok(vec![rdd.is_empty()?.into()])), [0]);
    assert_eq!(rdd(|rdd| Ok(vec![rdd.num_partitions() as i64])), [4]);
}

#[test]
fn actions_of_empty_rdds() {
    for partitions in [&[][..], &[&[][..]], &[&[], &[]]] {
        let parts = partitions.len();
        assert_eq!(on_rdd(partitions, |rdd| rdd.collect()), [0; 0]);
        assert_eq!(on_rdd(partitions, |rdd| rdd.take(2)), [0; 0]);
        assert_eq!(on_rdd(partitions, |rdd| rdd.count()), 0);
        assert_eq!(on_rdd(partitions, |rdd| rdd.reduce(|a, b| a + b)), None);
        assert!(on_rdd(partitions, |rdd| rdd.is_empty()));
        assert_eq!(on_rdd(partitions, |rdd| Ok(rdd.num_partitions())), parts);
        assert_eq!(on_rdd(partitions, |rdd| rdd.glom().collect()), vec![vec![0; 0]; parts]);
    }
}

#[test]
fn a_union_of_rdds_has_the_partitions_of_both() {
    let glommed = on_rdd(&[&[1], &[2]], |rdd| rdd.union(&rdd.map(|n| n * 10)).glom().collect());
    assert_eq!(glommed, [[1], [2], [10], [20]]);
}

#[test]
fn an_rdd_is_computed_per_action_unless_it_is_cached() {
    let calls = |cache: bool| {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let counts = on_rdd(&[&[1, 2], &[3]], move |rdd| {
            let counted = counted.clone();
            let mapped = rdd.map(move |n| {
                counted.fetch_add(1, Ordering::Relaxed);
                n
            });
            let rdd = if cache { mapped.cache() } else { mapped };
            Ok((rdd.count()?, rdd.collect()?))
        });
        assert_eq!(counts, (3, vec![1, 2, 3]));
        calls.load(Ordering::Relaxed)
    };
    assert_eq!((calls(false), calls(true)), (6, 3));
}

#[test]
fn take_computes_no_more_than_it_needs() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let taken = on_rdd(&[&[1, 2, 3], &[4]], move |rdd| {
        let counted = counted.clone();
        rdd.map(move |n| {
            counted.fetch_add(1, Ordering::Relaxed);
            n
        })
        .take(2)
    });
    assert_eq!((taken, calls.load(Ordering::Relaxed)), (vec![1, 2], 2));
}

#[test]
fn for_each_sees_every_element_and_for_each_partition_every_partition() {
    let (give, take) = mpsc::channel();
    on_rdd(&[&[1, 2], &[], &[3]], move |rdd| {
        let (elements, partitions) = (give.clone(), give.clone());
        rdd.for_each(move |n| elements.send(n).expect("the test is still there"))?;
        rdd.for_each_partition(move |p| partitions.send(-(p.len() as i64)).expect("the test is still there"))
    });
    let mut seen: Vec<_> = take.try_iter().collect();
    seen.sort();
    assert_eq!(seen, [-2, -1, 0, 1, 2, 3]);
}

#[test]
fn a_shuffle_puts_equal_keys_together_and_keeps_their_order() {
    let partitions = on_rdd(&[&[1, 2, 3], &[11, 12]], |rdd| {
        let by = HashPartitioner::new(2);
        let keyed = rdd.map(|n| (n % 10, n)).partition_by(by);
        assert_eq!(keyed.num_partitions(), 2);
        let places: Result<Vec<_>> = [1i64, 2, 3].iter().map(|key| by.partition(key)).collect();
        Ok((keyed.glom().collect()?, places?))
    });
    let (glommed, places) = partitions;
    for (key, numbers) in [(1, vec![1, 11]), (2, vec![2, 12]), (3, vec![3])] {
        let of_key = glommed[places[key as usize - 1]].iter().filter(|(k, _)| *k == key);
        assert_eq!(of_key.map(|(_, n)| *n).collect::<Vec<_>>(), numbers);
    }
    assert_eq!(glommed.iter().map(Vec::len).sum::<usize>(), 5);
}

#[test]
fn combine_by_key_creates_merges_values_and_merges_partitions() {
    let mut combined = on_rdd(&[&[1, 2, 4], &[3, 6]], |rdd| {
        let odd_even = rdd.map(|n| (n % 2, n));
        odd_even
            .combine_by_key_with(
                |n| n.to_string(),
                |text, n| format!("{text}+{n}"),
                |a, b| format!("({a})({b})"),
                3,
            )
            .collect()
    });
    combined.sort();
    assert_eq!(combined, [(0, "(2+4)(6)".to_owned()), (1, "(1)(3)".to_owned())]);
}
