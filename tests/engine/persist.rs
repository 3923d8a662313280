//! Cached and persisted RDDs: computed once, kept in memory or on disk, and the same as if they were not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use tidemill::testing::TestContext;
use tidemill::{DStream, Data, ErrorKind, RddQueue, StorageLevel, Time};

use super::retention::{counting, elements, seconds, told};
use super::{Pair, at, builder, s};

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

/// A value that knows how often it was copied.
struct Copied(Arc<AtomicUsize>);

impl Clone for Copied {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

#[test]
fn what_a_shuffle_gave_is_in_memory_once_however_many_read_it() {
    let test = TestContext::new("test").unwrap();
    let copies = Arc::new(AtomicUsize::new(0));
    let counter = copies.clone();
    let pairs =
        seconds(&test, 2).flat_map(move |n| [(n, Copied(counter.clone())), (n + 1, Copied(counter.clone()))]);
    let firsts = pairs.reduce_by_key(|first, _| first);
    for _ in 0..3 {
        firsts.foreach_rdd(|rdd| rdd.count().map(|_| ()));
    }
    // In each of two batches two keys are handed to three that count them; to keep them once more would be two copies more.
    test.run(2).unwrap();
    assert_eq!(copies.load(Ordering::Relaxed), 2 * 2 * 3);
}
