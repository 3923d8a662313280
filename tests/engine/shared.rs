//! Broadcast values and accumulators: exact under retries, caches, nested jobs and batches that fail.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;
use tidemill::testing::TestContext;
use tidemill::{Accumulator, AccumulatorInfo, Error, ErrorKind, LongAccumulator, Time};

use super::builder;

fn context(attempts: u32) -> TestContext {
    TestContext::from_builder(builder("test").max_attempts(attempts), Time::ZERO)
        .expect("the settings are right")
}

/// A function that panics its first `times` calls.
fn broken(times: usize) -> impl Fn() + Clone + Send + Sync + 'static {
    let calls = Arc::new(AtomicUsize::new(0));
    move || assert!(calls.fetch_add(1, Ordering::Relaxed) >= times, "it broke")
}

#[test]
fn tasks_add_and_the_driver_reads() {
    let test = context(4);
    let sum = test.ssc.long_accumulator("sum").unwrap();
    let mean = test.ssc.double_accumulator("mean").unwrap();
    let seen = test.ssc.collection_accumulator("seen").unwrap();
    assert!(sum.is_zero() && mean.is_zero() && seen.is_zero());
    assert!(sum.avg().is_nan() && mean.avg().is_nan());
    let adding = (sum.clone(), mean.clone(), seen.clone());
    let input = test.input_partitions([vec![vec![1, 2], vec![3]], vec![], vec![vec![-10]]]);
    let read = Arc::new(Mutex::new(Vec::new()));
    let (reading, values) = (sum.clone(), read.clone());
    input.foreach_rdd(move |rdd| {
        let (sum, mean, seen) = adding.clone();
        rdd.for_each_partition(move |elements| {
            for n in elements {
                sum.add(n);
                mean.add(n as f64 / 2.0);
                seen.add(n);
            }
        })?;
        values.lock().unwrap().push(reading.value());
        Ok(())
    });
    test.run(3).unwrap();
    assert_eq!(*read.lock().unwrap(), [6, 6, -4]);
    assert_eq!((sum.value(), sum.sum(), sum.count(), sum.avg()), (-4, -4, 4, -1.0));
    assert_eq!((mean.value(), mean.sum(), mean.count(), mean.avg()), (-2.0, -2.0, 4, -0.5));
    assert_eq!(seen.value(), [1, 2, 3, -10]);
    assert!(!sum.is_zero());
    seen.reset();
    assert_eq!((seen.is_zero(), seen.value()), (true, vec![]));
}

#[test]
fn an_attempt_that_fails_adds_nothing_and_one_that_succeeds_adds_once() {
    let test = context(4);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    let (adding, may_break) = (seen.clone(), broken(3));
    let output = test.collect(&test.input([vec![1, 2, 3], vec![], vec![4]]).map(move |n| {
        adding.add(n);
        if n == 3 {
            may_break();
        }
        n
    }));
    test.ssc.start().unwrap();
    test.step().unwrap();
    assert_eq!((seen.value(), seen.count()), (6, 3));
    test.step().unwrap();
    test.step().unwrap();
    assert_eq!((seen.value(), seen.count()), (10, 4));
    test.ssc.stop(true).unwrap();
    output.assert_batches([vec![1, 2, 3], vec![], vec![4]]);
}

#[test]
fn what_a_batch_added_goes_with_it_when_it_fails() {
    let test = context(1);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    let (in_tasks, on_driver, read) = (seen.clone(), seen.clone(), Arc::new(Mutex::new(Vec::new())));
    let values = read.clone();
    test.input([vec![1], vec![2], vec![3]]).foreach_rdd_with_time(move |rdd, time| {
        let adding = in_tasks.clone();
        rdd.for_each(move |n| adding.add(n))?;
        on_driver.add(100);
        values.lock().unwrap().push(on_driver.value());
        if time.as_millis() == 2_000 {
            on_driver.reset();
            on_driver.add(7);
            values.lock().unwrap().push(on_driver.value());
            return Err(Error::task("no luck"));
        }
        Ok(())
    });
    test.run(3).unwrap_err();
    assert_eq!(*read.lock().unwrap(), [101, 203, 7]);
    assert_eq!(seen.value(), 101);
}

#[test]
fn a_reset_by_a_batch_that_is_committed_stays() {
    let test = context(1);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    seen.add(40);
    let (adding, resetting) = (seen.clone(), seen.clone());
    test.input([vec![1], vec![2]]).foreach_rdd(move |rdd| {
        resetting.reset();
        let adding = adding.clone();
        rdd.for_each(move |n| adding.add(n))
    });
    assert_eq!(seen.value(), 40);
    test.run(2).unwrap();
    assert_eq!((seen.value(), seen.count()), (2, 1));
}

#[test]
fn an_action_that_fails_counts_nothing_of_its_other_tasks_and_the_next_one_counts() {
    let test = context(2);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    let read = seen.clone();
    let adding = seen.clone();
    test.input_partitions([vec![vec![1], vec![2]]]).foreach_rdd(move |rdd| {
        let adding = adding.clone();
        let added = rdd.map(move |n| {
            adding.add(n);
            n
        });
        added.map(|n| assert!(n != 2, "two is too much")).count().expect_err("two is too much");
        assert_eq!(read.value(), 0);
        assert_eq!(added.count()?, 2);
        assert_eq!(read.value(), 3);
        Ok(())
    });
    test.run(1).unwrap();
    assert_eq!(seen.value(), 3);
}

#[test]
fn what_is_computed_twice_adds_twice_and_what_is_cached_once() {
    let test = context(1);
    let (twice, once) =
        (test.ssc.long_accumulator("twice").unwrap(), test.ssc.long_accumulator("once").unwrap());
    let (adding_twice, adding_once) = (twice.clone(), once.clone());
    test.input([vec![1, 2], vec![3]]).foreach_rdd(move |rdd| {
        let (twice, once) = (adding_twice.clone(), adding_once.clone());
        let computed = rdd.map(move |n| twice.add(n));
        let cached = rdd.map(move |n| once.add(n)).cache();
        for _ in 0..2 {
            computed.count()?;
            cached.count()?;
        }
        Ok(())
    });
    test.run(2).unwrap();
    assert_eq!((twice.value(), once.value()), (12, 6));
}

#[test]
fn a_stream_that_several_outputs_read_adds_once() {
    let test = context(1);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    let adding = seen.clone();
    let counted = test.input([vec![1, 2], vec![], vec![3]]).map(move |n| {
        adding.add(1);
        n
    });
    let outputs = [test.collect(&counted), test.collect(&counted.map(|n| n * 2))];
    test.run(3).unwrap();
    assert_eq!(seen.value(), 3);
    outputs[1].assert_batches([vec![2, 4], vec![], vec![6]]);
}

#[test]
fn a_cached_partition_counts_once_though_the_attempt_that_computed_it_failed() {
    let test = context(4);
    let seen = test.ssc.collection_accumulator("seen").unwrap();
    let (adding, computed) = (seen.clone(), Arc::new(AtomicUsize::new(0)));
    let (computing, may_break) = (computed.clone(), broken(2));
    test.input([vec![1, 2]]).foreach_rdd(move |rdd| {
        let (adding, computing, may_break) = (adding.clone(), computing.clone(), may_break.clone());
        let cached = rdd
            .map(move |n| {
                computing.fetch_add(1, Ordering::Relaxed);
                adding.add(n);
                n
            })
            .cache();
        // Attempts one and two fail after the partition was computed and kept; the third uses what the first computed.
        let broken = cached.map(move |_| may_break());
        broken.count()?;
        cached.count()?;
        Ok(())
    });
    test.run(1).unwrap();
    assert_eq!(computed.load(Ordering::Relaxed), 2);
    assert_eq!(seen.value(), [1, 2]);
}

#[test]
fn a_cached_rdd_that_outlives_its_batch_counts_in_the_first_one_that_uses_it() {
    let test = context(1);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    let (adding, kept) = (seen.clone(), Mutex::new(None));
    test.input([vec![1, 2], vec![], vec![]]).foreach_rdd(move |rdd| {
        let adding = adding.clone();
        let mut kept = kept.lock().unwrap();
        kept.get_or_insert_with(|| rdd.map(move |n| adding.add(n)).cache()).count().map(|n| assert_eq!(n, 2))
    });
    test.run(3).unwrap();
    assert_eq!(seen.value(), 3);
}

#[test]
fn functions_of_a_shuffle_add_once_though_its_reduce_side_is_run_again() {
    let test = context(4);
    let (mapped, merged) =
        (test.ssc.long_accumulator("mapped").unwrap(), test.ssc.long_accumulator("merged").unwrap());
    let (in_map, in_merge, may_break) = (mapped.clone(), merged.clone(), broken(2));
    let pairs = test.input_partitions([vec![vec![('a', 1)], vec![('a', 2), ('b', 3)]]]);
    let output = test.collect(
        &pairs
            .map(move |pair| {
                in_map.add(1);
                pair
            })
            .reduce_by_key(move |a, b| {
                in_merge.add(1);
                may_break();
                a + b
            }),
    );
    test.run(1).unwrap();
    output.sorted().assert_batches([vec![('a', 3), ('b', 3)]]);
    assert_eq!((mapped.value(), merged.value()), (3, 1));
}

#[test]
fn functions_of_state_add_once_though_they_are_tried_again() {
    let test = context(4);
    let calls = test.ssc.long_accumulator("calls").unwrap();
    let (adding, may_break) = (calls.clone(), broken(3));
    let output = test.collect(&test.input([vec![('a', 1), ('b', 2)], vec![]]).update_state_by_key(
        move |new, sum: Option<i64>| {
            adding.add(1);
            may_break();
            Some(sum.unwrap_or(0) + new.iter().sum::<i64>())
        },
    ));
    test.run(2).unwrap();
    output.sorted().assert_batches([vec![('a', 1), ('b', 2)], vec![('a', 1), ('b', 2)]]);
    assert_eq!(calls.value(), 4);
}

#[test]
fn an_action_inside_of_a_task_counts_with_the_attempt_that_ran_it() {
    let test = context(4);
    let (inner, outer) =
        (test.ssc.long_accumulator("inner").unwrap(), test.ssc.long_accumulator("outer").unwrap());
    let (in_inner, in_outer, may_break) = (inner.clone(), outer.clone(), broken(2));
    test.input_partitions([vec![vec![1], vec![2], vec![3]]]).foreach_rdd(move |rdd| {
        let (in_inner, in_outer, may_break) = (in_inner.clone(), in_outer.clone(), may_break.clone());
        let nested = rdd.clone();
        // While the inner tasks are waited for, this thread may take up another outer one.
        rdd.for_each(move |n| {
            in_outer.add(n);
            let in_inner = in_inner.clone();
            let count = nested.map(move |m| in_inner.add(m)).count().expect("the inner tasks succeed");
            assert_eq!(count, 3);
            in_outer.add(n);
            may_break();
        })
    });
    test.run(1).unwrap();
    assert_eq!((inner.value(), outer.value()), (18, 12));
}

#[test]
fn in_a_task_the_value_is_what_its_own_attempt_has_added() {
    let test = context(1);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    seen.add(1_000);
    let adding = seen.clone();
    let output = test.collect(&test.input_partitions([vec![vec![1, 2], vec![3]]]).map(move |n| {
        adding.add(n);
        adding.value()
    }));
    test.run(1).unwrap();
    output.assert_batches([vec![1, 3, 3]]);
    assert_eq!(seen.value(), 1_006);
}

/// The greatest number, or none.
#[derive(Clone, Debug)]
struct Max(Option<i64>);

impl Accumulator for Max {
    type Input = i64;
    type Output = Option<i64>;

    fn zero(&self) -> Self {
        Max(None)
    }

    fn is_zero(&self) -> bool {
        self.0.is_none()
    }

    fn add(&mut self, input: i64) {
        self.0 = self.0.max(Some(input));
    }

    fn merge(&mut self, other: Self) {
        self.0 = self.0.max(other.0);
    }

    fn value(&self) -> Option<i64> {
        self.0
    }
}

#[test]
fn an_accumulator_of_ones_own_starts_from_what_it_was_registered_with() {
    let test = context(4);
    let max = test.ssc.register_accumulator("max", Max(Some(2))).unwrap();
    assert_eq!(max.value(), Some(2));
    let adding = max.clone();
    test.input_partitions([vec![vec![-1], vec![1]], vec![], vec![vec![5, 3]]]).foreach_rdd(move |rdd| {
        let adding = adding.clone();
        rdd.for_each(move |n| adding.add(n))
    });
    test.ssc.start().unwrap();
    test.step().unwrap();
    assert_eq!(max.value(), Some(2));
    test.step().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(max.value(), Some(5));
    max.reset();
    assert_eq!(max.value(), None);
}

#[test]
fn a_name_stands_for_one_accumulator_of_one_type() {
    let test = context(4);
    let first = test.ssc.long_accumulator("events").unwrap();
    first.add(3);
    let second = test.ssc.long_accumulator("events").unwrap();
    second.add(4);
    assert_eq!((first.value(), second.value(), second.name()), (7, 7, "events"));
    let error = test.ssc.double_accumulator("events").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().starts_with("accumulator `events` was registered as another type"), "{error}");
    test.ssc.collection_accumulator("names").unwrap().add("ann");
    let info = |name: &str, value: &str| AccumulatorInfo { name: name.into(), value: value.into() };
    assert_eq!(test.ssc.accumulators(), [info("events", "7"), info("names", r#"["ann"]"#)]);
    let other = context(4);
    assert!(other.ssc.accumulators().is_empty());
    assert_eq!(other.ssc.long_accumulator("events").unwrap().value(), 0);
}

#[test]
fn an_accumulator_may_be_registered_while_a_batch_runs() {
    let test = context(4);
    // A context that its own function held would never end: it is handed in from outside.
    let ssc = Arc::new(Mutex::new(Some(test.ssc.clone())));
    let held = ssc.clone();
    test.input([vec![1], vec![2]]).foreach_rdd(move |rdd| {
        let seen: LongAccumulator = held.lock().unwrap().as_ref().unwrap().long_accumulator("late")?;
        rdd.for_each(move |n| seen.add(n))
    });
    test.run(2).unwrap();
    assert_eq!(ssc.lock().unwrap().take().unwrap().accumulators()[0].value, "3");
}

#[test]
fn additions_from_other_threads_count_at_once_and_for_good() {
    let test = context(1);
    let seen = test.ssc.long_accumulator("seen").unwrap();
    let (begun, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (at_begin, at_end) = (begun.clone(), go_on.clone());
    let driver = seen.clone();
    test.input([vec![1]]).foreach_rdd(move |_| {
        driver.add(1);
        at_begin.wait();
        at_end.wait();
        Err(Error::task("no luck"))
    });
    test.ssc.start().unwrap();
    test.clock.advance(super::s(1));
    begun.wait();
    seen.add(10);
    assert_eq!(seen.value(), 11);
    go_on.wait();
    test.ssc.await_termination().unwrap_err();
    assert_eq!(seen.value(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever fails, and however often, each element is counted once.
    #[test]
    fn the_sum_is_that_of_the_elements(
        batches in prop::collection::vec(prop::collection::vec(prop::collection::vec(0i64..100, 0..4), 0..4), 1..5),
        failing in prop::collection::vec(any::<bool>(), 64),
    ) {
        let test = context(65);
        let sum = test.ssc.long_accumulator("sum").unwrap();
        let kept = test.ssc.long_accumulator("kept").unwrap();
        let (adding, keeping, call) = (sum.clone(), kept.clone(), Arc::new(AtomicUsize::new(0)));
        let may_break = move || {
            let n = call.fetch_add(1, Ordering::Relaxed);
            assert!(!failing.get(n).is_some_and(|fails| *fails), "it broke");
        };
        let shared = test.input_partitions(batches.clone()).map(move |n| {
            keeping.add(n);
            n
        });
        test.collect(&shared);
        let output = test.collect(&shared.map(move |n| {
            adding.add(n);
            may_break();
            n
        }));
        test.run(batches.len()).unwrap();
        let expected: Vec<Vec<i64>> = batches.iter().map(|b| b.concat()).collect();
        prop_assert_eq!(output.batches().into_vec(), expected.clone());
        let total: i64 = expected.concat().iter().sum();
        prop_assert_eq!((sum.value(), kept.value()), (total, total));
    }
}

#[test]
fn tasks_read_a_broadcast_value() {
    let test = context(4);
    let names = test.ssc.broadcast(HashMap::from([(1, "one"), (2, "two")]));
    let other = test.ssc.broadcast(());
    assert_ne!(names.id(), other.id());
    let reading = names.clone();
    let output = test
        .collect(&test.input([vec![1, 2], vec![], vec![3]]).map(move |n| reading.value().get(&n).copied()));
    test.ssc.start().unwrap();
    test.step().unwrap();
    names.unpersist();
    test.step().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    output.assert_batches([vec![Some("one"), Some("two")], vec![], vec![None]]);
}

#[test]
fn a_broadcast_value_that_was_destroyed_cannot_be_used_again() {
    let test = context(2);
    let limit = test.ssc.broadcast(10);
    let reading = limit.clone();
    test.collect(&test.input([vec![1], vec![2]]).filter(move |n| n < reading.value()));
    test.ssc.start().unwrap();
    test.step().unwrap();
    limit.destroy();
    limit.destroy();
    let error = test.step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task);
    let text = error.to_string();
    assert!(text.contains("operator `filter`"), "{text}");
    assert!(
        text.contains(&format!("broadcast value {} was used after it was destroyed", limit.id())),
        "{text}"
    );
}

#[test]
fn a_broadcast_value_is_given_back_with_its_last_handle() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (test, dropped) = (context(4), Arc::new(AtomicBool::new(false)));
    let value = test.ssc.broadcast(Arc::new(Dropped(dropped.clone())));
    let handle = value.clone();
    drop(value);
    assert!(!dropped.load(Ordering::Relaxed));
    drop(handle);
    assert!(dropped.load(Ordering::Relaxed));
}
