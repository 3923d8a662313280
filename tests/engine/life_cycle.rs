//! A context's life, its settings, what listeners are told, and failing tasks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use tidemill::testing::{TestContext, run_batches_sorted};
use tidemill::{
    BatchInfo, Clock, ContextState, Duration, Error, ErrorKind, ManualClock, RddQueue, StreamingContext,
    StreamingListener, Time,
};

use super::{Pair, at, builder, queue_of, s, shown, without_places};

#[test]
fn a_context_is_initialized_then_active_then_stopped() {
    let test = TestContext::new("test").unwrap();
    test.collect(&test.ssc.queue_stream(&RddQueue::<Pair>::new()));
    assert_eq!(test.ssc.state(), ContextState::Initialized);
    test.ssc.start().unwrap();
    assert_eq!(test.ssc.state(), ContextState::Active);
    test.ssc.stop(true).unwrap();
    assert_eq!(test.ssc.state(), ContextState::Stopped);
    test.ssc.await_termination().unwrap();
    assert!(test.ssc.await_termination_or_timeout(Duration::ZERO).unwrap());
}

#[test]
fn a_second_start_does_nothing_and_a_second_stop_neither() {
    let test = TestContext::new("test").unwrap();
    let output = test.collect(&test.ssc.queue_stream(&queue_of(&["a", "b"])));
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    test.ssc.stop(false).unwrap();
    assert_eq!(shown(output.take()), ["1s: a1", "2s: b1"]);
}

#[test]
fn a_stopped_context_cannot_be_started_again() {
    let test = TestContext::new("test").unwrap();
    test.collect(&test.ssc.queue_stream(&queue_of(&["a"])));
    test.run(1).unwrap();
    let error = test.ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("a stopped context cannot be started again"), "{error}");
    assert_eq!(test.ssc.state(), ContextState::Stopped);
}

#[test]
fn stop_without_start_stops() {
    let test = TestContext::new("test").unwrap();
    test.collect(&test.ssc.queue_stream(&queue_of(&["a"])));
    test.ssc.stop(true).unwrap();
    assert_eq!(test.ssc.state(), ContextState::Stopped);
    test.ssc.await_termination().unwrap();
    assert_eq!(test.ssc.start().unwrap_err().kind(), ErrorKind::Usage);
    assert!(test.completed_batches().is_empty());
}

#[test]
fn a_program_without_output_operation_does_not_start() {
    let test = TestContext::new("test").unwrap();
    test.ssc.queue_stream(&queue_of(&["a"])).map(|pair| pair);
    let error = test.ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("no output operation was registered"), "{error}");
    assert_eq!(test.ssc.state(), ContextState::Stopped);
    assert_eq!(test.ssc.stop(true).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn an_operator_that_is_added_too_late_does_nothing_and_is_told_by_stop() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a", "b"]));
    let output = test.collect(&numbers);
    test.ssc.start().unwrap();
    test.step().unwrap();
    let late = test.collect(&numbers.map(|pair| pair));
    test.step().unwrap();
    let error = test.ssc.stop(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.to_string(), "`map` was added to a context that is active: add operators before start");
    assert_eq!(shown(output.take()), ["1s: a1", "2s: b1"]);
    assert!(late.take().is_empty());
    test.collect(&numbers);
    assert_eq!(test.ssc.await_termination().unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn an_output_operation_that_is_added_after_stop_is_told() {
    let test = TestContext::new("test").unwrap();
    let numbers = test.ssc.queue_stream(&queue_of(&["a"]));
    test.collect(&numbers);
    test.run(1).unwrap();
    numbers.print();
    let error = test.ssc.stop(true).unwrap_err().to_string();
    assert_eq!(error, "`print` was added to a context that is stopped: add operators before start");
}

#[test]
fn awaiting_an_active_context_with_a_timeout_says_that_it_still_runs() {
    let test = TestContext::new("test").unwrap();
    test.collect(&test.ssc.queue_stream(&queue_of(&["a"])));
    assert!(!test.ssc.await_termination_or_timeout(Duration::ZERO).unwrap());
    test.ssc.start().unwrap();
    assert!(!test.ssc.await_termination_or_timeout(Duration::millis(1)).unwrap());
    test.ssc.stop(false).unwrap();
    assert!(test.ssc.await_termination_or_timeout(Duration::minutes(1)).unwrap());
}

#[test]
fn await_termination_returns_when_another_thread_stops() {
    let test = TestContext::new("test").unwrap();
    test.collect(&test.ssc.queue_stream(&queue_of(&["a"])));
    test.ssc.start().unwrap();
    let waiting = test.ssc.clone();
    let waiter = std::thread::spawn(move || waiting.await_termination());
    test.ssc.stop(true).unwrap();
    waiter.join().unwrap().unwrap();
}

/// A clock that tells when `stop` has come as far as waking whoever waits for a batch time.
struct Watched(ManualClock, mpsc::Sender<()>);

impl Clock for Watched {
    fn now(&self) -> Time {
        self.0.now()
    }

    fn wait_until(&self, time: Time, give_up: &dyn Fn() -> bool) {
        self.0.wait_until(time, give_up);
    }

    fn wake(&self) {
        let _ = self.1.send(());
        self.0.wake();
    }
}

/// The batch times that run when three batches are due, and `stop` comes while the first of them runs.
fn run_until_stopped(gracefully: bool) -> Vec<Time> {
    let (clock, (woken, wakes)) = (ManualClock::new(Time::ZERO), mpsc::channel());
    let ssc = builder("test").clock(Watched(clock.clone(), woken)).build().expect("the settings are right");
    let (begun, begins) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    ssc.queue_stream(&queue_of(&["a", "b", "c"])).foreach_rdd_with_time(move |_, time| {
        begun.send(time).expect("the test is still there");
        released.lock().expect("no test panicked").recv().expect("the test is still there");
    });
    ssc.start().expect("the program is right");
    clock.set(at(3));
    let first = begins.recv().expect("the first batch begins");
    let stopping = ssc.clone();
    let stopper = std::thread::spawn(move || stopping.stop(gracefully));
    wakes.recv().expect("the clock is woken");
    (0..3).for_each(|_| release.send(()).expect("a batch waits"));
    stopper.join().expect("no panic").expect("no batch fails");
    [first].into_iter().chain(begins.try_iter()).collect()
}

#[test]
fn a_graceful_stop_lets_the_batches_that_are_due_run() {
    assert_eq!(run_until_stopped(true), [at(1), at(2), at(3)]);
}

#[test]
fn a_stop_that_is_not_graceful_finishes_the_running_batch_and_drops_those_that_wait() {
    assert_eq!(run_until_stopped(false), [at(1)]);
}

#[test]
fn ticks_that_are_due_when_a_graceful_stop_comes_happen() {
    let test = TestContext::new("test").unwrap();
    let output = test.collect(&test.ssc.queue_stream(&queue_of(&["a", "b", "c"])));
    test.ssc.start().unwrap();
    test.clock.set(Time::from_millis(2_999));
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["1s: a1", "2s: b1"]);
}

#[test]
fn a_batch_cannot_stop_the_context_that_would_wait_for_it() {
    let test = TestContext::new("test").unwrap();
    let ssc = test.ssc.clone();
    test.ssc.queue_stream(&queue_of(&["a"])).foreach_rdd(move |_| ssc.stop(true));
    let error = test.run(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("from another thread"), "{error}");
}

#[test]
fn contexts_of_one_process_do_not_disturb_each_other() {
    let tests = [TestContext::new("test").unwrap(), TestContext::new("test").unwrap()];
    let outputs = tests.each_ref().map(|t| t.collect(&t.ssc.queue_stream(&queue_of(&["a"]))));
    tests.iter().for_each(|t| t.ssc.start().unwrap());
    tests.iter().for_each(|t| t.step().unwrap());
    tests.iter().for_each(|t| t.ssc.stop(true).unwrap());
    outputs.into_iter().for_each(|o| assert_eq!(shown(o.take()), ["1s: a1"]));
}

#[test]
fn wrong_settings_are_told_when_the_context_is_built() {
    let error = |builder: tidemill::StreamingContextBuilder| {
        let error = builder.build().err().expect("the setting is wrong");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let about_names = |name: &str| {
        format!(
            "app name `{name}` must be one or more of letters, digits, `.`, `_` and `-`: it is the consumer group's name"
        )
    };
    assert_eq!(error(StreamingContext::builder("")), about_names(""));
    assert_eq!(error(StreamingContext::builder("a b")), about_names("a b"));
    assert_eq!(error(builder("test").batch_interval(s(0))), "batch interval 0ms is below one millisecond");
    assert_eq!(error(builder("test").batch_interval(s(-1))), "batch interval -1s is below one millisecond");
    assert_eq!(error(builder("test").state_partitions(0)), "0 state partitions: expected 1 to 65,536");
    assert_eq!(
        error(builder("test").state_partitions(65_537)),
        "65537 state partitions: expected 1 to 65,536"
    );
    assert_eq!(error(builder("test").worker_threads(0)), "worker threads and attempts must be at least 1");
    assert_eq!(error(builder("test").max_attempts(0)), "worker threads and attempts must be at least 1");
}

#[test]
fn batch_times_are_multiples_of_the_batch_interval() {
    let builder = builder("test").batch_interval(Duration::millis(250));
    let test = TestContext::from_builder(builder, Time::from_millis(1_249)).unwrap();
    let output = test.collect(&test.ssc.queue_stream(&queue_of(&["a", "b"])));
    assert_eq!(test.ssc.batch_interval(), Duration::millis(250));
    test.run(2).unwrap();
    assert_eq!(shown(output.take()), ["1.25s: a1", "1.5s: b1"]);
}

/// Writes down what it is told.
#[derive(Default)]
struct Diary(Mutex<Vec<(String, BatchInfo)>>, Mutex<Vec<(Time, Duration)>>);

impl Diary {
    fn write(&self, event: &str, batch: &BatchInfo) {
        let line = format!("{event} {}", batch.batch_time);
        self.0.lock().expect("nobody panicked").push((line, batch.clone()));
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").iter().map(|(line, _)| line.clone()).collect()
    }

    fn batches(&self) -> Vec<BatchInfo> {
        self.0.lock().expect("nobody panicked").iter().map(|(_, batch)| batch.clone()).collect()
    }
}

impl StreamingListener for Diary {
    fn streaming_started(&self, time: Time, batch_interval: Duration) {
        self.1.lock().expect("nobody panicked").push((time, batch_interval));
    }

    fn batch_submitted(&self, batch: &BatchInfo, _: usize) {
        self.write("submitted", batch);
    }

    fn batch_started(&self, batch: &BatchInfo, _: usize) {
        self.write("started", batch);
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        self.write("completed", batch);
    }
}

#[test]
fn listeners_are_told_of_submission_start_and_completion_in_this_order() {
    // Often, since what could go wrong is two threads' order.
    for _ in 0..20 {
        let (test, diary) = (TestContext::new("test").unwrap(), Arc::new(Diary::default()));
        test.ssc.add_streaming_listener(diary.clone());
        test.collect(&test.ssc.queue_stream(&queue_of(&["a", "b"])));
        test.run(2).unwrap();
        // A batch may be submitted before all listeners were told of the completion of the one before.
        for time in ["1000 ms", "2000 ms"] {
            let of_batch: Vec<_> = diary.lines().into_iter().filter(|line| line.ends_with(time)).collect();
            assert_eq!(
                of_batch,
                ["submitted", "started", "completed"].map(|event| format!("{event} {time}"))
            );
        }
        assert_eq!(*diary.1.lock().unwrap(), [(Time::ZERO, s(1))]);
    }
}

#[test]
fn delays_are_absent_until_they_are_known() {
    let (test, diary) = (TestContext::new("test").unwrap(), Arc::new(Diary::default()));
    test.ssc.add_streaming_listener(diary.clone());
    let clock = test.clock.clone();
    test.ssc.queue_stream(&queue_of(&["a"])).foreach_rdd(move |_| clock.advance(Duration::millis(300)));
    test.run(1).unwrap();
    let [submitted, started, completed] = <[BatchInfo; 3]>::try_from(diary.batches()).unwrap();
    let delays = |b: &BatchInfo| (b.scheduling_delay(), b.processing_delay(), b.total_delay());
    assert_eq!(delays(&submitted), (None, None, None));
    assert_eq!(delays(&started), (Some(Duration::ZERO), None, None));
    let delay = Some(Duration::millis(300));
    assert_eq!(delays(&completed), (Some(Duration::ZERO), delay, delay));
    assert_eq!(completed.submission_time, at(1));
    assert_eq!(completed.processing_end_time, Some(Time::from_millis(1_300)));
    assert!(completed.failure.is_none());
    assert_eq!(
        completed.phases.iter().map(|p| p.0).collect::<Vec<_>>(),
        ["plan", "process", "output", "commit"]
    );
}

#[test]
fn batches_that_become_due_while_another_runs_are_run_after_it() {
    let test = TestContext::new("test").unwrap();
    let clock = test.clock.clone();
    let input = test.ssc.queue_stream(&queue_of(&["a", "b", "c"]));
    let output = test.collect(&input);
    input.foreach_rdd_with_time(move |_, time| {
        if time == at(1) {
            clock.set(Time::from_millis(3_700));
        }
    });
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["1s: a1", "2s: b1", "3s: c1"]);
    let batches = test.completed_batches();
    assert_eq!(batches[0].total_delay(), Some(Duration::millis(2_700)));
    assert!(batches[1..].iter().all(|b| b.submission_time == Time::from_millis(3_700)));
}

struct Panics;

#[allow(clippy::panic, reason = "that is what is tried")]
impl StreamingListener for Panics {
    fn streaming_started(&self, _: Time, _: Duration) {
        panic!("at the start");
    }

    fn batch_submitted(&self, _: &BatchInfo, _: usize) {
        panic!("at submission");
    }

    fn batch_started(&self, _: &BatchInfo, _: usize) {
        panic!("at a batch's start");
    }

    fn batch_completed(&self, _: &BatchInfo) {
        panic!("at completion");
    }
}

#[test]
fn a_panicking_listener_harms_nothing() {
    let (test, diary) = (TestContext::new("test").unwrap(), Arc::new(Diary::default()));
    test.ssc.add_streaming_listener(Arc::new(Panics));
    test.ssc.add_streaming_listener(diary.clone());
    let output = test.collect(&test.ssc.queue_stream(&queue_of(&["a", "b"])));
    test.run(2).unwrap();
    assert_eq!(shown(output.take()), ["1s: a1", "2s: b1"]);
    assert_eq!(diary.lines().len(), 6);
}

#[test]
fn a_failed_batch_is_announced_with_its_reason_and_is_the_last() {
    let (test, diary) = (TestContext::new("test").unwrap(), Arc::new(Diary::default()));
    test.ssc.add_streaming_listener(diary.clone());
    test.ssc.queue_stream(&queue_of(&["a"])).foreach_rdd(|_| Err(Error::task("no luck")));
    test.run(1).unwrap_err();
    let last = diary.batches().pop().unwrap();
    assert_eq!((diary.lines().pop().unwrap().as_str(), last.batch_time), ("completed 1000 ms", at(1)));
    assert_eq!(last.failure.as_deref(), Some("output operation 0 `foreach_rdd`: no luck"));
    assert!(last.processing_delay().is_some());
    assert_eq!(test.ssc.state(), ContextState::Stopped);
}

/// How often a function that panics its first `failures` calls is called, and what comes out.
fn fails(failures: usize, max_attempts: u32) -> (usize, Result<Vec<String>, String>) {
    let test = TestContext::from_builder(builder("test").max_attempts(max_attempts), Time::ZERO).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let broken = test.ssc.queue_stream(&queue_of(&["a"])).map(move |pair| {
        assert!(counted.fetch_add(1, Ordering::Relaxed) >= failures, "it broke");
        pair
    });
    let output = test.collect(&broken);
    let outcome = test.run(1).map_err(|e| without_places(&e.to_string()));
    (calls.load(Ordering::Relaxed), outcome.map(|()| shown(output.take())))
}

#[test]
fn a_task_is_tried_four_times_unless_set_otherwise() {
    let good = || Ok(vec!["1s: a1".to_owned()]);
    let failed = |attempt: u32| {
        Err(format!(
            "batch 1000 ms: output operation 0 `foreach_rdd`: task of partition 0, attempt {attempt}: operator `map`, element 0 of partition 0: panicked: it broke"
        ))
    };
    assert_eq!(fails(1, 4), (2, good()));
    assert_eq!(fails(3, 4), (4, good()));
    assert_eq!(fails(9, 4), (4, failed(4)));
    assert_eq!(fails(1, 1), (1, failed(1)));
    assert_eq!(fails(1, 2), (2, good()));
    let test = TestContext::new("test").unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    test.collect(
        &test
            .ssc
            .queue_stream(&queue_of(&["a"]))
            .map(move |_| -> Pair { panic!("at call {}", counted.fetch_add(1, Ordering::Relaxed) + 1) }),
    );
    let error = test.run(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task);
    assert!(
        without_places(&error.to_string())
            .ends_with("attempt 4: operator `map`, element 0 of partition 0: panicked: at call 4"),
        "{error}"
    );
}

/// `reduce_by_key` over partitions, with a function that panics when it merges what two of them gave, and when
/// it has not been called `failures` times yet.
fn merge_fails(failures: usize) -> (usize, Result<Vec<(char, i64)>, String>) {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([vec![('a', 1), ('b', 1)], vec![('a', 2)]]);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let output = test.collect(&test.ssc.queue_stream(&queue).reduce_by_key(move |a, b| {
        assert!(counted.fetch_add(1, Ordering::Relaxed) >= failures, "it broke");
        a + b
    }));
    let outcome = test.run(1).map_err(|e| without_places(&e.to_string()));
    let pairs = |mut pairs: Vec<Pair>| {
        pairs.sort();
        pairs
    };
    (calls.load(Ordering::Relaxed), outcome.map(|()| pairs(output.take().remove(0).1)))
}

#[test]
fn a_merge_of_partitions_that_fails_loses_nothing() {
    assert_eq!(merge_fails(1), (2, Ok(vec![('a', 3), ('b', 1)])));
    let (calls, outcome) = merge_fails(9);
    let error = outcome.unwrap_err();
    assert_eq!(calls, 4);
    assert!(error.starts_with("batch 1000 ms: output operation 0 `foreach_rdd`: "), "{error}");
    assert!(error.ends_with("attempt 4: operator `reduce_by_key`, key \"a\": panicked: it broke"), "{error}");
}

#[test]
fn programs_of_many_keys_and_partitions_give_the_same_at_any_number_of_threads() {
    let program = |threads: usize| {
        let test = TestContext::from_builder(builder("test").worker_threads(threads), Time::ZERO).unwrap();
        let queue = RddQueue::new();
        for batch in 0..3u64 {
            queue
                .push_partitions((0..7u64).map(|p| (0..50).map(|i| ((i * i + p * batch) % 97, i)).collect()));
        }
        let numbers = test.ssc.queue_stream(&queue);
        let summed = numbers.reduce_by_key(|a, b| a + b);
        let output = test.collect(
            &summed.update_state_by_key(|new, sum| Some(sum.unwrap_or(0) + new.iter().sum::<u64>())),
        );
        test.run(3).unwrap();
        output.take()
    };
    // The order too: it depends on partitions and first occurrence, not on threads.
    assert_eq!(program(1), program(4));
    assert_eq!(run_batches_sorted(vec![vec![3, 1, 2]], |n| n.map(|n| n)).unwrap(), [[1, 2, 3]]);
}

#[test]
fn a_batch_cannot_wait_for_the_end_of_its_own_context() {
    let test = TestContext::new("test").unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let input = test.input([vec![1]]);
    let (ssc, from_batch) = (test.ssc.clone(), told.clone());
    input.foreach_rdd(move |_| {
        let mut told = from_batch.lock().unwrap();
        told.push(ssc.stop(false).unwrap_err().to_string());
        told.push(ssc.await_termination().unwrap_err().to_string());
    });
    let (ssc, from_task) = (test.ssc.clone(), told.clone());
    input.foreach_rdd(move |rdd| {
        let (ssc, told) = (ssc.clone(), from_task.clone());
        rdd.for_each(move |_| told.lock().unwrap().push(ssc.stop(true).unwrap_err().to_string()))
    });
    test.run(1).unwrap();
    let stop = "a batch cannot stop the context that waits for it: stop from another thread";
    let wait = "a batch cannot await the context that waits for it: await from another thread";
    assert_eq!(*told.lock().unwrap(), [stop, wait, stop]);
}

#[test]
fn a_clock_that_is_set_back_for_long_ends_the_run_and_for_a_moment_is_waited_for() {
    let test = TestContext::from_builder(builder("test"), at(1_000)).unwrap();
    let output = test.collect(&test.input([vec![1], vec![2], vec![3]]));
    test.ssc.start().unwrap();
    test.step().unwrap();
    // Back by 30 seconds, and on again: no batch is missed, and none comes twice.
    test.clock.set(at(971));
    test.clock.set(at(1_001));
    test.step().unwrap();
    test.clock.set(at(900));
    let error = test.ssc.await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert_eq!(
        error.to_string(),
        "the clock was set back: it is 102s behind the last batch (1002000 ms), and batch times only grow; set the clock right"
    );
    output.assert_batches([vec![1], vec![2]]);
}
