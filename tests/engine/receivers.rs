//! Receivers: what is stored, and when it is processed.

mod recovery;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Condvar, Mutex};

use tidemill::testing::{Collected, TestContext};
use tidemill::{
    Clock, DStream, Duration, Error, ErrorKind, ManualClock, Receiver, ReceiverHandle, ReceiverInfo, Result,
    StreamingContext, StreamingListener, Time,
};

use super::{at, builder, s};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Hears of receivers: `0 started`, `0 error: message (error)`, `0 stopped`.
#[derive(Default)]
pub(super) struct Events {
    heard: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Events {
    pub(super) fn of(ssc: &StreamingContext) -> Arc<Self> {
        let events = Arc::new(Self::default());
        ssc.add_streaming_listener(events.clone());
        events
    }

    fn add(&self, event: String) {
        self.heard.lock().unwrap().push(event);
        self.changed.notify_all();
    }

    /// The first `n` events.
    pub(super) fn wait_for(&self, n: usize) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let (heard, timeout) = self.changed.wait_timeout_while(heard, PATIENCE, |h| h.len() < n).unwrap();
        assert!(!timeout.timed_out(), "only {heard:?}");
        heard.clone()
    }
}

impl StreamingListener for Events {
    fn receiver_started(&self, receiver: &ReceiverInfo) {
        assert!(receiver.active);
        self.add(format!("{} started", receiver.stream_id));
    }

    fn receiver_error(&self, receiver: &ReceiverInfo) {
        let ReceiverInfo { stream_id, last_error_message, last_error, last_error_time, .. } = receiver;
        assert!(last_error_time.is_some());
        self.add(format!("{stream_id} error: {last_error_message} ({last_error})"));
    }

    fn receiver_stopped(&self, receiver: &ReceiverInfo) {
        assert!(!receiver.active);
        self.add(format!("{} stopped", receiver.stream_id));
    }
}

/// A receiver that leaves storing to the test, which gets a handle with every start.
struct Puppet(mpsc::Sender<ReceiverHandle<i64>>);

impl Receiver<i64> for Puppet {
    fn on_start(&self, handle: ReceiverHandle<i64>) -> Result<()> {
        self.0.send(handle).unwrap();
        Ok(())
    }
}

struct Handles(mpsc::Receiver<ReceiverHandle<i64>>);

impl Handles {
    fn next(&self) -> ReceiverHandle<i64> {
        self.0.recv_timeout(PATIENCE).expect("the receiver is started")
    }
}

fn puppet() -> (Puppet, Handles) {
    let (sender, handles) = channel();
    (Puppet(sender), Handles(handles))
}

/// A context whose receiver is a puppet, and what its stream gives by partition.
struct Stage {
    test: TestContext,
    stream: DStream<i64>,
    blocks: Collected<Vec<i64>>,
    events: Arc<Events>,
    handles: Handles,
}

impl Stage {
    fn new(builder: tidemill::StreamingContextBuilder, now: i64) -> Self {
        let test = TestContext::from_builder(builder, at(now)).expect("the checkpoint can be opened");
        let (receiver, handles) = puppet();
        let stream = test.ssc.receiver_stream(receiver);
        let blocks = test.collect(&stream.transform(|rdd| rdd.glom()));
        let events = Events::of(&test.ssc);
        Self { test, stream, blocks, events, handles }
    }

    fn in_memory() -> Self {
        Self::new(builder("test"), 0)
    }

    fn on_disk(folder: &Path, now: i64) -> Self {
        Self::new(builder("test").checkpoint(folder), now)
    }

    fn start(&self) -> ReceiverHandle<i64> {
        self.test.ssc.start().unwrap();
        self.handles.next()
    }

    /// `3s: [1, 2] [3]` for each batch.
    fn shown(&self) -> Vec<String> {
        let line = |(time, blocks): (Time, Vec<Vec<i64>>)| {
            let blocks: Vec<_> = blocks.iter().map(|block| format!("{block:?}")).collect();
            format!("{}s: {}", time.as_millis() / 1_000, blocks.join(" ")).trim_end().to_owned()
        };
        self.blocks.take().into_iter().map(line).collect()
    }
}

#[test]
fn a_batch_has_what_was_stored_since_the_last_and_each_block_is_a_partition() {
    let stage = Stage::in_memory();
    let handle = stage.start();
    handle.store(1).unwrap();
    handle.store(2).unwrap();
    stage.test.step().unwrap();
    stage.test.step().unwrap();
    handle.store(3).unwrap();
    handle.store_many([4, 5]).unwrap();
    handle.store_many([]).unwrap();
    handle.store(6).unwrap();
    handle.store_many([7]).unwrap();
    stage.test.step().unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["1s: [1, 2]", "2s:", "3s: [3] [4, 5] [6] [7]"]);
    let records: Vec<_> = stage.test.completed_batches().iter().map(|b| b.num_records).collect();
    assert_eq!(records, [2, 0, 5]);
    assert_eq!(stage.events.wait_for(2), ["0 started", "0 stopped"]);
}

/// A clock that tells for what it is waited.
#[derive(Clone, Default)]
struct WatchedClock {
    inner: ManualClock,
    waits: Arc<(Mutex<BTreeSet<Time>>, Condvar)>,
}

impl WatchedClock {
    fn wait_for_waiter(&self, millis: i64) {
        let waits = self.waits.0.lock().unwrap();
        let is_missing = |waits: &mut BTreeSet<Time>| !waits.contains(&Time::from_millis(millis));
        let (waits, timeout) = self.waits.1.wait_timeout_while(waits, PATIENCE, is_missing).unwrap();
        assert!(!timeout.timed_out(), "{millis} is missing in {waits:?}");
    }
}

impl Clock for WatchedClock {
    fn now(&self) -> Time {
        self.inner.now()
    }

    fn wait_until(&self, time: Time, give_up: &dyn Fn() -> bool) {
        self.waits.0.lock().unwrap().insert(time);
        self.waits.1.notify_all();
        self.inner.wait_until(time, give_up);
    }

    fn wake(&self) {
        self.inner.wake();
    }
}

#[test]
fn blocks_end_with_the_block_interval() {
    let clock = WatchedClock::default();
    let ssc = builder("test").block_interval(Duration::millis(300)).clock(clock.clone()).build().unwrap();
    let (receiver, handles) = puppet();
    let (sender, blocks) = channel();
    ssc.receiver_stream(receiver).foreach_rdd(move |rdd| -> Result<()> {
        sender.send(rdd.glom().collect()?).unwrap();
        Ok(())
    });
    ssc.start().unwrap();
    let handle = handles.next();
    for (n, ends) in [(1, 300), (2, 600), (3, 900)] {
        clock.wait_for_waiter(ends);
        clock.inner.set(Time::from_millis(ends - 1));
        handle.store(n).unwrap();
        handle.store(n * 10).unwrap();
        clock.inner.set(Time::from_millis(ends));
    }
    clock.wait_for_waiter(1_200);
    handle.store(4).unwrap();
    clock.inner.set(at(1));
    assert_eq!(blocks.recv_timeout(PATIENCE).unwrap(), [vec![1, 10], vec![2, 20], vec![3, 30], vec![4]]);
    ssc.stop(true).unwrap();
}

#[test]
fn a_rate_limit_lets_elements_wait_and_a_stop_ends_the_wait() {
    let clock = WatchedClock::default();
    let ssc = builder("test").receiver_max_rate(4).clock(clock.clone()).build().unwrap();
    let (receiver, handles) = puppet();
    ssc.receiver_stream(receiver).print();
    ssc.start().unwrap();
    let handle = handles.next();
    let (sender, stored) = channel();
    let storing = std::thread::spawn(move || {
        loop {
            let outcome = handle.store(0);
            let is_over = outcome.is_err();
            sender.send(outcome).unwrap();
            if is_over {
                return;
            }
        }
    });
    let next = || stored.recv_timeout(PATIENCE).unwrap();
    next().unwrap();
    clock.wait_for_waiter(250);
    assert!(stored.try_recv().is_err());
    clock.inner.set(Time::from_millis(250));
    next().unwrap();
    clock.wait_for_waiter(500);
    assert!(stored.try_recv().is_err());
    ssc.stop(false).unwrap();
    let error = next().unwrap_err();
    assert!(error.to_string().contains("has been stopped"), "{error}");
    storing.join().unwrap();
}

#[test]
fn a_receiver_that_restarts_gets_a_new_handle_after_two_seconds_and_the_old_one_is_refused() {
    let stage = Stage::in_memory();
    let old = stage.start();
    assert!(old.is_started() && !old.is_stopped());
    assert_eq!(old.stream_id(), 0);
    old.store(1).unwrap();
    old.restart("the line is dead", "no answer");
    old.restart("once more", "is once too often");
    let events = stage.events.wait_for(3);
    assert_eq!(events, ["0 started", "0 error: the line is dead (no answer)", "0 stopped"]);
    assert!(old.is_stopped() && !old.is_started());
    assert_eq!(old.store(2).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(old.store_many([2]).unwrap_err().kind(), ErrorKind::Usage);
    stage.test.step().unwrap();
    assert!(stage.handles.0.try_recv().is_err(), "a second is too early");
    stage.test.step().unwrap();
    let new = stage.handles.next();
    assert!(old.is_stopped() && !new.is_stopped());
    old.store(3).unwrap_err();
    new.store(4).unwrap();
    stage.test.step().unwrap();
    new.restart_after("again", "", Duration::ZERO);
    stage.handles.next().store(5).unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["1s: [1]", "2s:", "3s: [4]", "4s: [5]"]);
    let events = stage.events.wait_for(8);
    assert_eq!(events[3..], ["0 started", "0 error: again ()", "0 stopped", "0 started", "0 stopped"]);
}

#[test]
fn a_receiver_that_panics_or_fails_is_started_again() {
    let test = TestContext::new("test").unwrap();
    let starts = AtomicUsize::new(0);
    let (sender, handles) = channel();
    test.ssc
        .receiver_stream(move |handle: ReceiverHandle<i64>| match starts.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("no luck"),
            1 => Err(Error::unavailable("no answer")),
            _ => {
                sender.send(handle).unwrap();
                Ok(())
            }
        })
        .print();
    let events = Events::of(&test.ssc);
    test.ssc.start().unwrap();
    events.wait_for(3);
    test.clock.advance(s(2));
    events.wait_for(6);
    test.clock.advance(s(2));
    let handle = Handles(handles).next();
    handle.report_error("not so bad", "but bad enough");
    test.ssc.stop(true).unwrap();
    assert_eq!(
        events.wait_for(9),
        [
            "0 started",
            "0 error: panicked: no luck ()",
            "0 stopped",
            "0 started",
            "0 error: no answer ()",
            "0 stopped",
            "0 started",
            "0 error: not so bad (but bad enough)",
            "0 stopped"
        ]
    );
}

#[test]
fn what_a_receiver_stored_before_it_stopped_itself_is_processed_and_the_context_goes_on() {
    let stage = Stage::in_memory();
    let handle = stage.start();
    handle.store(1).unwrap();
    handle.stop("that was all");
    assert_eq!(stage.events.wait_for(2), ["0 started", "0 stopped"]);
    handle.store(2).unwrap_err();
    stage.test.step().unwrap();
    stage.test.step().unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["1s: [1]", "2s:"]);
    assert_eq!(stage.events.wait_for(2).len(), 2, "a receiver stops once");
}

#[test]
fn a_graceful_stop_processes_all_that_was_stored_the_last_words_included() {
    struct LastWords(Mutex<mpsc::Sender<()>>, Mutex<mpsc::Receiver<()>>, mpsc::Sender<()>);
    impl Receiver<String> for LastWords {
        fn on_start(&self, handle: ReceiverHandle<String>) -> Result<()> {
            handle.store("hello".to_owned())?;
            self.2.send(()).unwrap();
            self.1.lock().unwrap().recv().unwrap();
            assert!(handle.is_stopped());
            handle.store("goodbye".to_owned())
        }
        fn on_stop(&self) {
            self.0.lock().unwrap().send(()).unwrap();
        }
    }
    let test = TestContext::new("test").unwrap();
    let (stop, stopped) = channel();
    let (greet, greeted) = channel();
    let receiver = LastWords(Mutex::new(stop), Mutex::new(stopped), greet);
    let words = test.collect(&test.ssc.receiver_stream(receiver));
    test.ssc.start().unwrap();
    greeted.recv_timeout(PATIENCE).unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(words.take(), [(at(1), vec!["hello".to_owned(), "goodbye".to_owned()])]);
}

#[test]
fn without_anything_left_a_graceful_stop_adds_no_batch() {
    let stage = Stage::in_memory();
    let handle = stage.start();
    handle.store(1).unwrap();
    stage.test.step().unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["1s: [1]"]);
}

#[test]
fn receivers_that_had_started_end_when_the_start_fails() {
    let test = TestContext::new("test").unwrap();
    let events = Events::of(&test.ssc);
    let (receiver, _handles) = puppet();
    test.ssc.receiver_stream(receiver).print();
    test.ssc.text_file_stream("/there/is/no/such/folder").print();
    let error = test.ssc.start().unwrap_err();
    assert!(error.to_string().contains("/there/is/no/such/folder"), "{error}");
    // It may have been stopped before it came to start.
    if !events.wait_for(0).is_empty() {
        assert_eq!(events.wait_for(2), ["0 started", "0 stopped"]);
    }
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let error = builder("test").block_interval(Duration::ZERO).build().err().unwrap();
    assert_eq!((error.kind(), error.to_string().contains("block interval 0ms")), (ErrorKind::Config, true));
    assert_eq!(builder("test").receiver_max_rate(0).build().err().unwrap().kind(), ErrorKind::Config);
}
