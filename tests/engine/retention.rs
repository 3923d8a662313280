//! What streams keep: cached and persisted RDDs, remembered ones, slices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use tidemill::testing::TestContext;
use tidemill::{DStream, Data, Error, ErrorKind, Rdd, RddQueue, Result, StorageLevel, Time};

use super::{Pair, at, builder, queue_of, s, shown};

/// A stream of one number per second, from 1 on, each in an RDD of its own.
fn seconds(test: &TestContext, until: i64) -> DStream<i64> {
    let queue = RddQueue::new();
    (1..=until).for_each(|n| queue.push([n]));
    test.ssc.queue_stream(&queue)
}

/// The elements of each RDD.
fn elements<T: Data>(rdds: Result<Vec<Rdd<T>>>) -> Vec<Vec<T>> {
    rdds.unwrap().iter().map(|rdd| rdd.collect().unwrap()).collect()
}

fn told<T>(outcome: Result<T>) -> (ErrorKind, String) {
    let error = outcome.err().expect("it fails");
    (error.kind(), error.to_string())
}

/// `stream`, with a count of the elements that went through.
fn counting(stream: &DStream<i64>) -> (DStream<i64>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let counted = stream.map(move |n| {
        counter.fetch_add(1, Ordering::Relaxed);
        n
    });
    (counted, calls)
}

#[test]
fn a_cached_stream_is_computed_once_per_batch() {
    type Keep = fn(&DStream<i64>) -> DStream<i64>;
    let forms: [(Keep, usize); 4] = [
        (|n| n.clone(), 9),
        (|n| n.cache(), 3),
        (|n| n.persist(StorageLevel::MemoryOnly), 3),
        (|n| n.persist(StorageLevel::MemoryAndDisk), 3),
    ];
    for (keep, expected) in forms {
        let test = TestContext::new("test").unwrap();
        let (counted, calls) = counting(&seconds(&test, 3));
        let sums = Arc::new(Mutex::new(Vec::new()));
        let into = sums.clone();
        keep(&counted).foreach_rdd(move |rdd| {
            let sum =
                rdd.reduce(|a, b| a + b)?.unwrap_or(0) + rdd.collect()?.len() as i64 + rdd.count()? as i64;
            into.lock().push(sum);
            Ok(())
        });
        test.run(4).unwrap();
        assert_eq!(*sums.lock(), [3, 4, 5, 0]);
        assert_eq!(calls.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn an_rdd_is_computed_once_until_it_is_unpersisted() {
    for level in [StorageLevel::MemoryOnly, StorageLevel::MemoryAndDisk] {
        let test = TestContext::from_builder(builder("test").storage_memory(0), Time::ZERO).unwrap();
        let (counted, calls) = counting(&seconds(&test, 2));
        let counts = Arc::new(Mutex::new(Vec::new()));
        let into = counts.clone();
        counted.foreach_rdd(move |rdd| {
            let kept = rdd.persist(level);
            // Never used, so never computed.
            let _ = rdd.cache();
            for _ in 0..3 {
                assert_eq!(kept.collect()?.len(), 1);
                into.lock().push(calls.load(Ordering::Relaxed));
            }
            kept.unpersist();
            for _ in 0..2 {
                assert_eq!(kept.count()?, 1);
                into.lock().push(calls.load(Ordering::Relaxed));
            }
            Ok(())
        });
        test.run(2).unwrap();
        assert_eq!(*counts.lock(), [1, 1, 1, 2, 3, 4, 4, 4, 5, 6]);
    }
}

#[test]
fn unpersisting_what_is_not_kept_does_nothing() {
    let test = TestContext::new("test").unwrap();
    seconds(&test, 1).foreach_rdd(|rdd| {
        rdd.unpersist();
        assert_eq!(rdd.collect()?, [1]);
        Ok(())
    });
    test.run(1).unwrap();
}

#[test]
fn persisted_elements_come_back_from_disk_in_order_and_by_partition() {
    let batch: Vec<Vec<(String, Option<f64>)>> = vec![
        (0..9_000).map(|n| (format!("a{n} ☃"), Some(f64::from(n) / 7.0))).collect(),
        Vec::new(),
        vec![("b".to_owned(), None), (String::new(), Some(-1.0))],
    ];
    // Room for nothing, for the small partition, for all.
    for memory in [0, 40, 1 << 20] {
        let test = TestContext::from_builder(builder("test").storage_memory(memory), Time::ZERO).unwrap();
        let queue = RddQueue::new();
        queue.push_partitions(batch.clone());
        let stream = test.ssc.queue_stream(&queue).persist(StorageLevel::MemoryAndDisk);
        let (first, second) = (test.collect(&stream), test.collect(&stream.transform(|rdd| rdd.glom())));
        let few = test.collect(&stream.try_transform_take());
        test.run(1).unwrap();
        assert_eq!(first.take(), [(at(1), batch.concat())]);
        assert_eq!(second.take(), [(at(1), batch.clone())]);
        assert_eq!(few.take(), [(at(1), batch[0][..3].to_vec())]);
    }
}

#[test]
fn what_fits_stays_in_memory_and_room_is_given_back_with_the_rdd() {
    static READ_BACK: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, serde::Serialize)]
    struct Byte(u8);
    impl<'de> serde::Deserialize<'de> for Byte {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
            READ_BACK.fetch_add(1, Ordering::Relaxed);
            u8::deserialize(deserializer).map(Byte)
        }
    }
    // Five batches of two partitions of three bytes, each of which takes a byte on disk; all are read three times.
    let run = |memory, remember| {
        READ_BACK.store(0, Ordering::Relaxed);
        let test = TestContext::from_builder(builder("test").storage_memory(memory), Time::ZERO).unwrap();
        let queue = RddQueue::new();
        (0..5).for_each(|_| {
            queue.push_partitions([vec![Byte(1), Byte(2), Byte(3)], vec![Byte(4), Byte(5), Byte(6)]])
        });
        let stream = test.ssc.queue_stream(&queue).persist(StorageLevel::MemoryAndDisk).remember(s(remember));
        stream.foreach_rdd(|rdd| {
            for _ in 0..3 {
                assert_eq!(rdd.map(|byte| u32::from(byte.0)).reduce(|a, b| a + b)?, Some(21));
            }
            Ok(())
        });
        test.run(5).unwrap();
        READ_BACK.load(Ordering::Relaxed)
    };
    assert_eq!(run(6, 0), 0);
    // Room for one of two partitions: the other one is read back three times, in each batch.
    assert_eq!(run(5, 0), 5 * 3 * 3);
    assert_eq!(run(2, 0), 5 * 3 * 6);
    // Remembered RDDs take the room of later ones: four partitions fit, six do not.
    assert_eq!(run(12, 9), 6 * 3 * 3);
}

/// A helper of one test: a consumer that has enough after three elements of each partition.
trait TakeThree<T> {
    fn try_transform_take(&self) -> DStream<T>;
}

impl<T: Data> TakeThree<T> for DStream<T> {
    fn try_transform_take(&self) -> DStream<T> {
        self.transform(|rdd| {
            let three = rdd.take(3).expect("the partition can be read");
            rdd.map_partitions_with_index(move |p, _| if p == 0 { three.clone() } else { Vec::new() })
        })
    }
}

#[test]
fn what_cannot_be_serialised_fails_the_batch_under_the_disk_level_only() {
    #[derive(Clone, Debug, PartialEq, serde::Deserialize)]
    struct Odd(i64);
    impl serde::Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            if self.0 % 2 == 1 {
                serializer.serialize_i64(self.0)
            } else {
                Err(serde::ser::Error::custom("even"))
            }
        }
    }
    let run = |level| {
        let test = TestContext::new("test").unwrap();
        let output = test.collect(&seconds(&test, 2).map(Odd).persist(level));
        (test.run(2), output.take())
    };
    let (outcome, output) = run(StorageLevel::MemoryOnly);
    outcome.unwrap();
    assert_eq!(output, [(at(1), vec![Odd(1)]), (at(2), vec![Odd(2)])]);
    let (outcome, output) = run(StorageLevel::MemoryAndDisk);
    let (kind, message) = told(outcome);
    assert_eq!(kind, ErrorKind::Task);
    assert!(
        message.contains("Odd cannot be serialised, as the storage level MemoryAndDisk demands"),
        "{message}"
    );
    assert_eq!(output, [(at(1), vec![Odd(1)])]);
}

#[test]
fn a_failed_attempt_keeps_nothing() {
    let test = TestContext::new("test").unwrap();
    let failures = AtomicUsize::new(2);
    let (counted, calls) = counting(&seconds(&test, 1));
    let flaky = counted.map(move |n| {
        if failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            panic!("not yet");
        }
        n
    });
    let cached = flaky.cache();
    let (first, second) = (test.collect(&cached), test.collect(&cached));
    test.run(1).unwrap();
    assert_eq!((first.take(), second.take()), (vec![(at(1), vec![1])], vec![(at(1), vec![1])]));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cached_is_uncached(
        batches in prop::collection::vec(
            prop::collection::vec(prop::collection::vec((prop::sample::select(vec!['a', 'b', 'c']), 0..9i64), 0..9), 0..4), 1..6),
        memory in prop_oneof![Just(0u64), 1..64u64, Just(1u64 << 20)],
    ) {
        let run = |keep: fn(DStream<Pair>) -> DStream<Pair>| {
            let test = TestContext::from_builder(builder("test").storage_memory(memory), Time::ZERO).unwrap();
            let queue = RddQueue::new();
            batches.iter().for_each(|batch| queue.push_partitions(batch.clone()));
            let input = keep(test.ssc.queue_stream(&queue));
            let sums = keep(input.reduce_by_key(|a, b| a + b));
            let all = keep(sums.window(s(2), s(1)).unwrap()).union(&keep(input.map_values(|n| -n))).unwrap();
            let output = test.collect(&keep(all));
            test.run(batches.len()).unwrap();
            output.take()
        };
        let uncached = run(|stream| stream);
        prop_assert_eq!(&run(|stream| stream.cache()), &uncached);
        prop_assert_eq!(&run(|stream| stream.persist(StorageLevel::MemoryAndDisk)), &uncached);
    }
}

#[test]
fn a_checkpoint_interval_is_checked_and_changes_nothing() {
    let test = TestContext::new("test").unwrap();
    let twos = seconds(&test, 4).window(s(2), s(2)).unwrap();
    for (interval, text) in [(s(3), "3s"), (s(0), "0ms"), (s(-2), "-2s")] {
        let expected = format!(
            "the checkpoint interval {text} must be a positive multiple of the stream's slide duration 2s"
        );
        assert_eq!(told(twos.checkpoint(interval)), (ErrorKind::Config, expected));
    }
    let output = test.collect(&twos.checkpoint(s(10)).unwrap());
    test.run(4).unwrap();
    assert_eq!(output.take(), [(at(2), vec![1, 2]), (at(4), vec![1, 2, 3, 4][2..].to_vec())]);
}

#[test]
fn a_slice_includes_both_ends_and_is_aligned_to_the_slide() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 8).remember(s(20));
    let twos = input.window(s(2), s(2)).unwrap().remember(s(20));
    input.union(&input).unwrap().foreach_rdd(|_| ());
    twos.foreach_rdd(|_| ());
    test.run(8).unwrap();
    assert_eq!(elements(input.slice(at(3), at(5))), [[3], [4], [5]]);
    assert_eq!(elements(input.slice(at(4), at(4))), [[4]]);
    assert!(input.slice(at(5), at(4)).unwrap().is_empty());
    // 3.999 s stands for 3 s, 5.001 s for 5 s.
    assert_eq!(elements(input.slice(Time::from_millis(3_999), Time::from_millis(5_001))), [[3], [4], [5]]);
    assert_eq!(elements(twos.slice(at(3), at(7))), [[1, 2], [3, 4], [5, 6]]);
    assert_eq!(elements(twos.slice(at(4), at(8))), [[3, 4], [5, 6], [7, 8]]);
}

#[test]
fn a_slice_leaves_out_what_was_before_the_start_and_has_empty_batches() {
    let test = TestContext::from_builder(builder("test"), at(100)).unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a", "", "b"])).remember(s(60));
    input.foreach_rdd(|_| ());
    test.run(4).unwrap();
    let slice = input.slice(Time::ZERO, at(104));
    assert_eq!(elements(slice), [vec![('a', 1)], vec![], vec![('b', 1)], vec![]]);
    assert!(input.slice(at(50), at(100)).unwrap().is_empty());
}

#[test]
fn a_slice_cannot_be_had_before_the_start_nor_ahead() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 3).remember(s(9));
    input.foreach_rdd(|_| ());
    let early = (
        ErrorKind::Usage,
        "a slice of a stream before its context's first batch: start the context first".to_owned(),
    );
    assert_eq!(told(input.slice(at(0), at(1))), early);
    test.ssc.start().unwrap();
    assert_eq!(told(input.slice(at(0), at(1))), early);
    test.step().unwrap();
    test.step().unwrap();
    assert_eq!(elements(input.slice(at(1), at(2))), [[1], [2]]);
    assert_eq!(
        told(input.slice(at(1), at(3))),
        (
            ErrorKind::Usage,
            "a slice from 1000 ms to 3000 ms, but the latest batch is 2000 ms: a slice cannot look ahead"
                .to_owned()
        )
    );
    test.ssc.stop(true).unwrap();
    // What is remembered stays after the stop.
    assert_eq!(elements(input.slice(at(1), at(2))), [[1], [2]]);
}

#[test]
fn what_is_not_remembered_is_gone_and_the_error_says_what_to_do() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 6);
    let doubled = input.map(|n| n * 2).remember(s(2));
    doubled.foreach_rdd(|_| ());
    test.run(6).unwrap();
    // Data is dropped at t <= now - remember.
    assert_eq!(elements(doubled.slice(at(5), at(6))), [[10], [12]]);
    assert_eq!(
        told(doubled.slice(at(4), at(6))),
        (
            ErrorKind::Usage,
            "slice from 4000 ms to 6000 ms: the data of batch 4000 ms is gone, the latest batch is 6000 ms: call \
             `remember` on the stream or the context before start, with more than 2s"
                .to_owned()
        )
    );
}

#[test]
fn without_remember_there_is_nothing_but_the_running_batch() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 3);
    let unread = input.map(|n| n * 10);
    let found = Arc::new(Mutex::new(Vec::new()));
    let (into, source) = (found.clone(), unread.clone());
    input.foreach_rdd_with_time(move |_, time| {
        into.lock().push(elements(source.slice(time, time)));
        into.lock().push(source.slice(time - s(1), time).err().map(|_| vec![]).into_iter().collect());
    });
    test.run(2).unwrap();
    let none = Vec::<Vec<i64>>::new();
    // Before the first batch there is nothing, which is no error.
    assert_eq!(*found.lock(), [vec![vec![10]], none, vec![vec![20]], vec![vec![]]]);
    assert!(unread.slice(at(2), at(2)).is_err());
}

#[test]
fn a_stream_that_nobody_reads_is_computed_from_what_its_parents_remember() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 5);
    input.foreach_rdd(|_| ());
    let (counted, calls) = counting(&input);
    let squares = counted.map(|n| n * n);
    let sums = squares.map(|n| ((), n)).reduce_by_key(|a, b| a + b).map(|(_, n)| n).remember(s(3));
    test.run(5).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert_eq!(elements(sums.slice(at(3), at(5))), [[9], [16], [25]]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    // Its parents remember as long as it does, and what was not asked for can be had from them.
    assert_eq!(elements(squares.slice(at(3), at(3))), [[9]]);
    assert!(squares.slice(at(2), at(2)).is_err());
}

#[test]
fn remember_durations_add_up_through_windows() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 12);
    let mapped = input.map(|n| n * 10);
    let sums = mapped.reduce_by_window(|a, b| a + b, s(4), s(2)).unwrap();
    let outer = sums.window(s(4), s(2)).unwrap().remember(s(2));
    outer.foreach_rdd(|_| ());
    test.run(12).unwrap();
    // The outer window remembers 2 s, the inner one 6 s, what is before it 10 s.
    assert_eq!(elements(outer.slice(at(12), at(12))), [[340, 420]]);
    assert!(outer.slice(at(10), at(12)).is_err());
    assert_eq!(elements(sums.slice(at(8), at(12))), [[260], [340], [420]]);
    assert!(sums.slice(at(6), at(12)).is_err());
    assert_eq!(elements(mapped.slice(at(3), at(12))).concat(), (3..=12).map(|n| n * 10).collect::<Vec<_>>());
    assert!(input.slice(at(2), at(12)).is_err());
    assert_eq!(elements(input.slice(at(3), at(3))), [[3]]);
}

#[test]
fn the_context_has_all_its_streams_remember() {
    let test = TestContext::new("test").unwrap();
    test.ssc.remember(s(1));
    test.ssc.remember(s(3));
    test.ssc.remember(s(2));
    let input = seconds(&test, 6);
    let doubled = input.map(|n| n * 2);
    let totals = doubled.map(|n| ('a', n)).update_state_by_key(|new, total: Option<i64>| {
        Some(total.unwrap_or(0) + new.into_iter().sum::<i64>())
    });
    totals.foreach_rdd(|_| ());
    test.run(6).unwrap();
    assert_eq!(elements(totals.slice(at(4), at(6))), [[('a', 20)], [('a', 30)], [('a', 42)]]);
    assert_eq!(elements(doubled.slice(at(4), at(6))), [[8], [10], [12]]);
    assert_eq!(elements(input.slice(at(4), at(6))), [[4], [5], [6]]);
    assert!(input.slice(at(3), at(6)).is_err());
}

#[test]
fn a_state_that_only_a_remembered_stream_reads_runs_and_any_other_says_so() {
    let test = TestContext::new("test").unwrap();
    let input = test.ssc.queue_stream(&queue_of(&["a1", "a2", "", "a4"]));
    let sum = |new: Vec<i64>, total: Option<i64>| Some(total.unwrap_or(0) + new.into_iter().sum::<i64>());
    let remembered = input.update_state_by_key(sum).uid("kept").unwrap().map_values(|n| -n).remember(s(4));
    let idle = input.update_state_by_key(sum).uid("idle").unwrap();
    let asked = idle.map_values(|n| n * 2);
    let message = Arc::new(Mutex::new(None));
    let into = message.clone();
    input.foreach_rdd_with_time(move |_, time| {
        *into.lock() = asked.slice(time, time).err().map(|e| e.to_string());
    });
    test.run(4).unwrap();
    let batches = (2..).map(at).zip(elements(remembered.slice(at(2), at(4)))).collect();
    assert_eq!(shown(batches), ["2s: a-3", "3s: a-3", "4s: a-7"]);
    let message = message.lock().take().unwrap();
    assert!(message.contains("operator `idle` does not run: no output operation reads it"), "{message}");
}

#[test]
fn a_remembered_persisted_stream_is_not_computed_again() {
    for memory in [0, 1 << 20] {
        let test = TestContext::from_builder(builder("test").storage_memory(memory), Time::ZERO).unwrap();
        let (counted, calls) = counting(&seconds(&test, 5));
        let kept = counted.map(|n| ('a', n)).persist(StorageLevel::MemoryAndDisk).remember(s(3));
        test.collect(&kept);
        test.run(5).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 5);
        for _ in 0..2 {
            assert_eq!(elements(kept.slice(at(3), at(5))), [[('a', 3)], [('a', 4)], [('a', 5)]]);
        }
        // The stream decides how long it is kept.
        kept.slice(at(3), at(3)).unwrap()[0].unpersist();
        assert_eq!(elements(kept.slice(at(3), at(3))), [[('a', 3)]]);
        assert_eq!(calls.load(Ordering::Relaxed), 5);
    }
}

/// Counts how many of its kind live.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>, i64);

impl Alive {
    fn new(alive: &Arc<AtomicUsize>, n: i64) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(alive.clone(), n)
    }
}

impl Clone for Alive {
    fn clone(&self) -> Self {
        Self::new(&self.0, self.1)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn nothing_is_kept_that_nobody_asked_to_remember() {
    // Who remembers what, and how many elements live after the fifth batch of two elements.
    type Program = fn(&DStream<Alive>);
    let nothing: Program = |_| {};
    let shared: Program = |stream| {
        stream.remember(s(3));
    };
    let cached: Program = |stream| {
        stream.cache().remember(s(3));
    };
    for (program, expected) in [(nothing, 0), (shared, 0), (cached, 6)] {
        let alive = Arc::new(AtomicUsize::new(0));
        let test = TestContext::new("test").unwrap();
        let queue = RddQueue::new();
        (1..=5).for_each(|n| queue.push([n, -n]));
        let of = alive.clone();
        let stream = test.ssc.queue_stream(&queue).map(move |n| Alive::new(&of, n));
        // Two readers: its RDD is kept for its batch, whatever else is asked for.
        stream.foreach_rdd(|rdd| rdd.count().map(|_| ()));
        stream.map(|a| a.1).foreach_rdd(|rdd| rdd.count().map(|_| ()));
        program(&stream);
        test.run(5).unwrap();
        assert_eq!(alive.load(Ordering::SeqCst), expected);
        if expected > 0 {
            let slice = stream.slice(at(3), at(5)).unwrap();
            let numbers: Vec<_> = slice.iter().map(|r| r.map(|a| a.1).collect().unwrap()).collect();
            assert_eq!(numbers, [[3, -3], [4, -4], [5, -5]]);
        }
    }
}

#[test]
fn the_running_batch_sees_those_before_it() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 5).remember(s(2));
    let found = Arc::new(Mutex::new(Vec::new()));
    let (into, source) = (found.clone(), input.clone());
    input.foreach_rdd_with_time(move |_, time| {
        let slice = source.slice(time - s(2), time)?;
        let sum: i64 =
            slice.iter().map(|r| r.reduce(|a, b| a + b).map(Option::unwrap_or_default)).sum::<Result<_>>()?;
        into.lock().push(sum);
        Ok(())
    });
    test.run(5).unwrap();
    assert_eq!(*found.lock(), [1, 3, 6, 9, 12]);
}

#[test]
fn asking_after_the_start_changes_nothing_and_is_told_at_the_stop() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 2);
    input.foreach_rdd(|_| ());
    test.ssc.start().unwrap();
    input.remember(s(9));
    test.step().unwrap();
    assert_eq!(
        told(test.ssc.stop(true)),
        (
            ErrorKind::Usage,
            "`remember` was added to a context that is active: add operators before start".to_owned()
        )
    );
    assert!(input.slice(at(1), at(1)).is_err());
}

#[test]
fn a_batch_that_was_run_again_late_is_remembered_and_the_gap_after_it_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let context =
        |now| TestContext::from_builder(builder("test").checkpoint(folder.path()), at(now)).unwrap();
    {
        let test = context(0);
        seconds(&test, 3).foreach_rdd(|_| Err(Error::task("no luck")));
        test.run(1).unwrap_err();
    }
    // 1 s again, then 10 s and 11 s.
    let test = context(9);
    let input = seconds(&test, 3).remember(s(60));
    input.foreach_rdd(|_| ());
    test.run(2).unwrap();
    assert_eq!(elements(input.slice(at(0), at(11))), [[1], [2], [3]]);
    assert!(input.slice(at(2), at(9)).unwrap().is_empty());
}

#[test]
fn a_slice_of_a_stream_whose_function_panics_is_an_error() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 1).remember(s(9));
    input.foreach_rdd(|_| ());
    let broken = input.transform(|rdd| if rdd.num_partitions() < 9 { panic!("too few") } else { rdd });
    test.run(1).unwrap();
    assert_eq!(
        told(broken.slice(at(1), at(1))),
        (ErrorKind::Task, "slice from 1000 ms to 1000 ms: panicked: too few".to_owned())
    );
}
