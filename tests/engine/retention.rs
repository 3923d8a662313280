//! What streams remember, and the slices that can be had of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidemill::testing::TestContext;
use tidemill::{
    DStream, Data, Error, ErrorKind, Rdd, RddQueue, Result, State, StateSpec, StorageLevel, Time,
};

use super::{Pair, at, builder, queue_of, s, shown};

/// A stream of one number per second, from 1 on, each in an RDD of its own.
pub(super) fn seconds(test: &TestContext, until: i64) -> DStream<i64> {
    let queue = RddQueue::new();
    (1..=until).for_each(|n| queue.push([n]));
    test.ssc.queue_stream(&queue)
}

/// The elements of each RDD.
pub(super) fn elements<T: Data>(rdds: Result<Vec<Rdd<T>>>) -> Vec<Vec<T>> {
    rdds.unwrap().iter().map(|rdd| rdd.collect().unwrap()).collect()
}

pub(super) fn told<T>(outcome: Result<T>) -> (ErrorKind, String) {
    let error = outcome.err().expect("it fails");
    (error.kind(), error.to_string())
}

/// `stream`, with a count of the elements that went through.
pub(super) fn counting(stream: &DStream<i64>) -> (DStream<i64>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let counted = stream.map(move |n| {
        counter.fetch_add(1, Ordering::Relaxed);
        n
    });
    (counted, calls)
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
fn remembered_snapshots_show_the_state_of_their_batch() {
    for folder in [None, Some(tempfile::tempdir().unwrap())] {
        let builder = folder.iter().fold(builder("test"), |b, folder| b.checkpoint(folder.path()));
        let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
        let input = test.ssc.queue_stream(&queue_of(&["a1", "a2 b1", "", "a4", "b8"]));
        input.foreach_rdd(|_| ());
        let sum = |_: &char, n: Option<i64>, total: &mut State<i64>| {
            total.update(total.get_option().unwrap_or(&0) + n?);
            None::<Pair>
        };
        // Nothing but these two makes the operators run.
        let totals = input.map_with_state_and_snapshots(StateSpec::function(sum));
        let snapshots = totals.state_snapshots().remember(s(4));
        let states = input
            .update_state_by_key(|new, total: Option<i64>| {
                Some(total.unwrap_or(0) + new.into_iter().sum::<i64>())
            })
            .cache()
            .remember(s(4));
        test.run(5).unwrap();
        let expected = ["2s: a3 b1", "3s: a3 b1", "4s: a7 b1", "5s: a7 b9"];
        for stream in [&snapshots, &states] {
            let batches = (2..).map(at).zip(elements(stream.slice(at(2), at(5)))).collect();
            assert_eq!(shown(batches), expected);
        }
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
    let (line, column) = (line!() + 1, 24);
    let broken = input.transform(|rdd| if rdd.num_partitions() < 9 { panic!("too few") } else { rdd });
    test.run(1).unwrap();
    let place = format!("operator `transform` at {}:{line}:{column}", file!());
    assert_eq!(
        told(broken.slice(at(1), at(1))),
        (ErrorKind::Task, format!("slice from 1000 ms to 1000 ms: {place}: panicked: too few"))
    );
}

#[test]
fn slices_may_be_taken_from_another_thread_while_batches_run() {
    let test = TestContext::new("test").unwrap();
    let input = seconds(&test, 60);
    let squares = input.map(|n| n * n).persist(StorageLevel::MemoryAndDisk).remember(s(3));
    squares.map(|n| n + 1).window(s(2), s(1)).unwrap().foreach_rdd(|rdd| rdd.count().map(|_| ()));
    squares.foreach_rdd(|rdd| rdd.count().map(|_| ()));
    test.ssc.start().unwrap();
    let done = AtomicUsize::new(0);
    let (given, refused) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut given, mut refused) = (0, 0);
            while done.load(Ordering::Acquire) == 0 || given == 0 || refused == 0 {
                for second in 1..=60 {
                    match squares.slice(at(second), at(second)) {
                        Ok(slice) => {
                            assert_eq!(elements(Ok(slice)), [[second * second]]);
                            given += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Usage);
                            refused += 1;
                        }
                    }
                }
            }
            (given, refused)
        });
        (0..60).for_each(|_| test.step().unwrap());
        done.store(1, Ordering::Release);
        reader.join().unwrap()
    });
    assert!(given > 0 && refused > 0);
    test.ssc.stop(true).unwrap();
}
