//! Listeners: what they are told, in which order, and that they can neither hold up nor harm a batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use tidemill::testing::TestContext;
use tidemill::{
    BatchInfo, Duration, Error, ErrorKind, OutputOperationInfo, StreamInputInfo, StreamingListener, Time,
};

use super::{at, builder, pairs, s};

/// Writes down what it is told.
#[derive(Default)]
struct Diary {
    lines: Mutex<Vec<String>>,
    batches: Mutex<Vec<BatchInfo>>,
    operations: Mutex<Vec<OutputOperationInfo>>,
}

impl Diary {
    fn batch(&self, event: &str, batch: &BatchInfo) {
        self.lines.lock().unwrap().push(format!("{event} {}", batch.batch_time));
        self.batches.lock().unwrap().push(batch.clone());
    }

    fn operation(&self, event: &str, operation: &OutputOperationInfo) {
        self.lines.lock().unwrap().push(format!("{event} {} {}", operation.id, operation.batch_time));
        self.operations.lock().unwrap().push(operation.clone());
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl StreamingListener for Diary {
    fn streaming_started(&self, time: Time, batch_interval: Duration) {
        self.lines.lock().unwrap().push(format!("streaming started {time} {batch_interval}"));
    }

    fn batch_submitted(&self, batch: &BatchInfo, _: usize) {
        self.batch("submitted", batch);
    }

    fn batch_started(&self, batch: &BatchInfo, _: usize) {
        self.batch("started", batch);
    }

    fn output_operation_started(&self, operation: &OutputOperationInfo) {
        self.operation("output started", operation);
    }

    fn output_operation_completed(&self, operation: &OutputOperationInfo) {
        self.operation("output completed", operation);
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        self.batch("completed", batch);
    }
}

fn context() -> (TestContext, Arc<Diary>) {
    let (test, diary) = (TestContext::new("test").unwrap(), Arc::new(Diary::default()));
    test.ssc.add_streaming_listener(diary.clone());
    (test, diary)
}

#[test]
fn everything_is_told_in_the_order_in_which_it_happens() {
    let (test, diary) = context();
    let input = test.input([pairs("a"), vec![]]);
    test.collect(&input);
    test.collect(&input.map(|pair| pair));
    test.ssc.start().unwrap();
    test.step().unwrap();
    let first = [
        "streaming started 0 ms 1s",
        "submitted 1000 ms",
        "started 1000 ms",
        "output started 0 1000 ms",
        "output completed 0 1000 ms",
        "output started 1 1000 ms",
        "output completed 1 1000 ms",
        "completed 1000 ms",
    ];
    assert_eq!(diary.lines(), first);
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    let second = first[1..].iter().map(|line| line.replace("1000", "2000"));
    assert_eq!(diary.lines()[8..], second.collect::<Vec<_>>());
}

#[test]
fn record_counts_are_known_when_a_batch_starts_by_input() {
    let (test, diary) = context();
    let letters = test.input_partitions([vec![pairs("a b"), pairs("c")], vec![]]);
    let numbers = test.input([vec![1, 2], vec![3]]);
    test.collect(&letters);
    test.collect(&numbers);
    test.run(2).unwrap();
    let batches = diary.batches.lock().unwrap().clone();
    let [submitted, started, completed] = &batches[..3] else { panic!("three events of the first batch") };
    assert_eq!((submitted.num_records, submitted.stream_id_to_input_info.len()), (0, 0));
    for batch in [started, completed] {
        assert_eq!(batch.num_records, 5);
        let inputs: Vec<_> =
            batch.stream_id_to_input_info.iter().map(|(id, i)| (&**id, i.num_records)).collect();
        assert_eq!(inputs, [("queue_stream-1", Some(3)), ("queue_stream-2", Some(2))]);
    }
    let info: &StreamInputInfo = &started.stream_id_to_input_info["queue_stream-1"];
    assert_eq!((&*info.name, info.description()), ("queue_stream-1", "1 RDD of a queue"));
    assert_eq!(info.metadata[StreamInputInfo::DESCRIPTION], info.description());
    assert_eq!(batches[5].num_records, 1);
}

#[test]
fn an_output_operation_is_told_with_its_times_place_and_failure() {
    let (test, diary) = context();
    let clock = test.clock.clone();
    let input = test.input([pairs("a"), pairs("b")]);
    let line = line!() + 1;
    input.foreach_rdd_with_time(move |_, time| {
        clock.advance(Duration::millis(40));
        if time == at(1) { Ok(()) } else { Err(Error::task("first line\nsecond line")) }
    });
    input.print();
    test.run(2).unwrap_err();
    let operations = diary.operations.lock().unwrap().clone();
    let [started, completed, print, _, _, failed, ..] = &operations[..] else { panic!("{operations:?}") };
    assert_eq!((started.batch_time, started.id, &*started.name), (at(1), 0, "foreach_rdd"));
    assert!(
        started.description.ends_with(&format!("tests/engine/listeners.rs:{line}:11")),
        "{}",
        started.description
    );
    assert!(started.description.starts_with("foreach_rdd at "), "{}", started.description);
    assert_eq!((started.start_time, started.end_time, started.duration), (Some(at(1)), None, None));
    assert_eq!(completed.start_time, started.start_time);
    assert_eq!(completed.end_time, Some(Time::from_millis(1_040)));
    assert!(completed.duration.is_some());
    assert_eq!((&*print.name, print.id), ("print", 1));
    assert!(print.description.starts_with("print at "), "{}", print.description);
    assert_eq!(failed.failure.as_deref(), Some("first line\nsecond line"));
    let last = diary.batches.lock().unwrap().pop().unwrap();
    assert_eq!(last.failure.as_deref(), Some("output operation 0 `foreach_rdd`: first line\nsecond line"));
    assert_eq!(last.output_operations, test.completed_output_operations()[2..]);
}

/// Panics at everything.
struct Panics(AtomicUsize);

impl StreamingListener for Panics {
    fn batch_submitted(&self, _: &BatchInfo, _: usize) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("at submission");
    }

    fn output_operation_started(&self, _: &OutputOperationInfo) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("at an output operation");
    }
}

#[test]
fn a_listener_that_panics_is_told_on_and_so_are_the_others() {
    let (test, panics) = (TestContext::new("test").unwrap(), Arc::new(Panics(AtomicUsize::new(0))));
    let diary = Arc::new(Diary::default());
    test.ssc.add_streaming_listener(panics.clone());
    test.ssc.add_streaming_listener(diary.clone());
    let output = test.collect(&test.input([pairs("a"), pairs("b")]));
    test.run(2).unwrap();
    output.assert_batches([pairs("a"), pairs("b")]);
    assert_eq!(panics.0.load(Ordering::Relaxed), 4);
    assert_eq!(diary.lines().len(), 11);
    assert!(StreamingListener::name(&*panics).ends_with("listeners::Panics"));
}

/// Waits, at the first batch's submission, until it is let go on.
struct Hangs(Mutex<mpsc::Receiver<()>>, AtomicUsize);

impl StreamingListener for Hangs {
    fn batch_submitted(&self, _: &BatchInfo, _: usize) {
        let _ = self.0.lock().unwrap().recv();
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn hangs() -> (Arc<Hangs>, mpsc::Sender<()>) {
    let (go_on, wait) = mpsc::channel();
    (Arc::new(Hangs(Mutex::new(wait), AtomicUsize::new(0))), go_on)
}

/// Runs batches 1 to `count`, and waits until the last one is through.
fn run_alone(ssc: &TestContext, count: i64) -> mpsc::Receiver<Time> {
    let (done, batches) = mpsc::channel();
    ssc.input([pairs("a")]).foreach_rdd_with_time(move |_, time| done.send(time).unwrap());
    ssc.ssc.start().unwrap();
    ssc.clock.set(at(count));
    batches
}

#[test]
fn no_batch_waits_for_a_listener() {
    let ((hanging, go_on), (test, diary)) = (hangs(), context());
    test.ssc.add_streaming_listener(hanging.clone());
    let batches = run_alone(&test, 3);
    assert_eq!((0..3).map(|_| batches.recv().unwrap()).collect::<Vec<_>>(), [at(1), at(2), at(3)]);
    assert_eq!(hanging.1.load(Ordering::Relaxed), 0);
    drop(go_on);
    // All of it is told before the stop returns.
    test.ssc.stop(true).unwrap();
    assert_eq!(hanging.1.load(Ordering::Relaxed), 3);
    assert_eq!(diary.lines().len(), 1 + 3 * 5);
    assert_eq!(test.ssc.dropped_listener_events(), 0);
}

#[test]
fn await_termination_returns_after_everything_was_told() {
    let (test, diary) = context();
    test.input([pairs("a")]).foreach_rdd(|_| Err(Error::task("no luck")));
    test.ssc.start().unwrap();
    test.clock.advance(s(1));
    test.ssc.await_termination().unwrap_err();
    assert_eq!(diary.lines().last().unwrap(), "completed 1000 ms");
}

#[test]
fn a_listener_that_hangs_for_ever_does_not_keep_the_context_from_stopping() {
    let ((hanging, go_on), (test, diary)) = (hangs(), context());
    test.ssc.add_streaming_listener(hanging.clone());
    let batches = run_alone(&test, 1);
    batches.recv().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(hanging.1.load(Ordering::Relaxed), 0);
    assert_eq!(diary.lines(), ["streaming started 0 ms 1s", "submitted 1000 ms"]);
    drop(go_on);
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
    let test = TestContext::from_builder(builder("test").listener_queue_capacity(4), Time::ZERO).unwrap();
    let ((hanging, go_on), diary) = (hangs(), Arc::new(Diary::default()));
    let (begun, begins) = mpsc::channel();
    let begun = Mutex::new(begun);
    struct First(Mutex<mpsc::Sender<()>>);
    impl StreamingListener for First {
        fn batch_submitted(&self, _: &BatchInfo, _: usize) {
            let _ = self.0.lock().unwrap().send(());
        }
    }
    test.ssc.add_streaming_listener(Arc::new(First(begun)));
    test.ssc.add_streaming_listener(hanging);
    test.ssc.add_streaming_listener(diary.clone());
    let (done, batches) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    test.input([pairs("a")]).foreach_rdd_with_time(move |_, time| {
        let _ = wait.lock().unwrap().recv();
        done.send(time).unwrap();
    });
    test.ssc.start().unwrap();
    test.clock.set(at(1));
    // The listener hangs in the submission of batch 1 from here on; the batch may run on when that is sure.
    begins.recv().unwrap();
    drop(release);
    test.clock.set(at(4));
    assert_eq!((0..4).map(|_| batches.recv().unwrap()).collect::<Vec<_>>(), [at(1), at(2), at(3), at(4)]);
    // Of batch 1, four events of five are to come; in all fifteen of the others. Four wait; the last may not be out yet.
    assert!(
        [13, 14, 15].contains(&test.ssc.dropped_listener_events()),
        "{}",
        test.ssc.dropped_listener_events()
    );
    drop(go_on);
    test.ssc.stop(true).unwrap();
    assert_eq!(diary.lines()[..2], ["streaming started 0 ms 1s", "submitted 1000 ms"]);
    let error = builder("test").listener_queue_capacity(0).build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_listener_that_was_removed_hears_nothing_more() {
    let (test, diary) = context();
    let other = Arc::new(Diary::default());
    test.ssc.add_streaming_listener(other.clone());
    test.collect(&test.input([pairs("a"), pairs("b")]));
    test.ssc.start().unwrap();
    test.step().unwrap();
    assert!(test.ssc.remove_streaming_listener(&diary));
    assert!(!test.ssc.remove_streaming_listener(&diary));
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(diary.lines().last().unwrap(), "completed 1000 ms");
    assert_eq!(other.lines().last().unwrap(), "completed 2000 ms");
}

#[test]
fn a_listener_that_was_added_later_hears_what_happens_from_then_on() {
    let (test, _) = context();
    test.collect(&test.input([pairs("a"), pairs("b")]));
    test.ssc.start().unwrap();
    test.step().unwrap();
    let late = Arc::new(Diary::default());
    let listener: Arc<dyn StreamingListener> = late.clone();
    test.ssc.add_streaming_listener(listener.clone());
    test.step().unwrap();
    assert_eq!(late.lines()[0], "submitted 2000 ms");
    assert!(test.ssc.remove_streaming_listener(&listener));
    test.ssc.stop(true).unwrap();
}

#[test]
fn a_listener_may_stop_the_context() {
    struct Stops(Mutex<Option<tidemill::StreamingContext>>, mpsc::Sender<bool>);
    impl StreamingListener for Stops {
        fn batch_completed(&self, _: &BatchInfo) {
            if let Some(ssc) = self.0.lock().unwrap().take() {
                let _ = self.1.send(ssc.stop(false).is_ok());
            }
        }
    }
    let (stopped, stops) = mpsc::channel();
    let (test, _) = context();
    test.ssc.add_streaming_listener(Arc::new(Stops(Mutex::new(Some(test.ssc.clone())), stopped)));
    test.collect(&test.input([pairs("a")]));
    test.ssc.start().unwrap();
    test.clock.advance(s(1));
    test.ssc.await_termination().unwrap();
    assert!(stops.recv().unwrap());
}

#[test]
fn listeners_are_let_go_when_the_context_has_stopped() {
    let (test, diary) = context();
    test.collect(&test.input([pairs("a")]));
    test.run(1).unwrap();
    assert_eq!(Arc::strong_count(&diary), 1);
}

#[test]
fn between_the_slides_of_a_window_there_is_no_output_operation() {
    let test = TestContext::new("test").unwrap();
    let windows = test.input([vec![1], vec![2], vec![3]]).window(s(3), s(3)).unwrap();
    windows.foreach_rdd(|_| ());
    test.run(3).unwrap();
    let times: Vec<_> = test.completed_output_operations().iter().map(|o| o.batch_time).collect();
    assert_eq!(times, [at(3)]);
}

#[test]
fn a_batch_that_is_run_again_is_submitted_too() {
    let folder = tempfile::tempdir().unwrap();
    let context = |now| {
        let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), at(now)).unwrap();
        let output = test.collect(&test.input([pairs("a1"), pairs("a2")]));
        (test, output)
    };
    let (test, output) = context(0);
    test.ssc.start().unwrap();
    test.step_and_crash().unwrap();
    drop((test, output));
    let (test, _output) = context(1);
    let diary = Arc::new(Diary::default());
    test.ssc.add_streaming_listener(diary.clone());
    test.run(1).unwrap();
    let of_batches: Vec<_> = diary
        .lines()
        .into_iter()
        .filter(|l| l.starts_with("submitted") || l.starts_with("started"))
        .collect();
    let of_first: Vec<_> = of_batches.iter().filter(|line| line.contains("1000 ms")).collect();
    assert_eq!(of_first, ["submitted 1000 ms", "started 1000 ms"]);
}
