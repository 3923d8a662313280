//! The engine without Kafka: programs over queues, on a clock that the test moves.
//!
//! Batches of pairs are written as text: `a b-2 a` stands for `('a', 1), ('b', -2), ('a', 1)`. What comes out is
//! shown the same way, led by the batch's time and sorted: `3s: a2 b-2`.

mod backpressure;
mod bad_disks;
mod blame;
mod changes;
mod failure;
mod files;
mod life_cycle;
mod listeners;
mod operators;
mod pairs;
mod persist;
mod rdd;
mod rdd_files;
mod rdd_properties;
mod receivers;
mod recoverable;
mod recovery;
mod retention;
mod save;
mod shared;
mod sockets;
#[cfg(feature = "sql")]
mod sql;
mod state;
mod stateless;
mod store;
mod testing;
mod window_operators;
mod window_restarts;
mod windows;

use tidemill::testing::TestContext;
use tidemill::{DStream, Duration, RddQueue, StreamingContext, StreamingContextBuilder, Time};

type Pair = (char, i64);

/// A context that is not started, for RDDs.
fn context() -> StreamingContext {
    builder("test").build().expect("the settings are right")
}

fn s(seconds: i64) -> Duration {
    Duration::seconds(seconds)
}

fn at(seconds: i64) -> Time {
    Time::from_millis(seconds * 1_000)
}

/// A builder as [`TestContext::new`] uses it.
fn builder(app_name: &str) -> StreamingContextBuilder {
    StreamingContext::builder(app_name).batch_interval(s(1)).worker_threads(2)
}

/// The pairs that `text` stands for.
fn pairs(text: &str) -> Vec<Pair> {
    let pair = |word: &str| {
        let mut chars = word.chars();
        let key = chars.next().expect("words are not empty");
        let value = chars.as_str();
        (key, if value.is_empty() { 1 } else { value.parse().expect("a number follows the letter") })
    };
    text.split_whitespace().map(pair).collect()
}

/// What [`pairs`] would read.
fn text(pairs: &[Pair]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}{value}")).collect::<Vec<_>>().join(" ")
}

/// `3s: a2 b-2` for each batch; its pairs sorted.
fn shown(batches: Vec<(Time, Vec<Pair>)>) -> Vec<String> {
    let line = |(time, mut pairs): (Time, Vec<Pair>)| {
        pairs.sort();
        format!("{}s: {}", time.as_millis() as f64 / 1_000.0, text(&pairs)).trim_end().to_owned()
    };
    batches.into_iter().map(line).collect()
}

/// A queue that holds `batches`.
fn queue_of(batches: &[&str]) -> RddQueue<Pair> {
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push(pairs(batch)));
    queue
}

/// Runs `program` over `batches`, one per second from the epoch on, and shows what its stream gives.
fn run(batches: &[&str], program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>) -> Vec<String> {
    let test = TestContext::new("test").expect("the name is right");
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))));
    test.run(batches.len()).expect("no batch fails");
    shown(output.take())
}

/// Runs `program` over `batches` until one fails, and gives the error's text.
fn failure(batches: &[&str], program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>) -> String {
    let test = TestContext::new("test").expect("the name is right");
    test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))));
    test.run(batches.len()).expect_err("a batch fails").to_string()
}

/// `text` without the places where operators were made.
fn without_places(text: &str) -> String {
    let mut parts = text.split("` at ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = [part.find(", "), part.find(": ")].into_iter().flatten().min().expect("something follows");
        assert!(part.starts_with("tests/engine/"), "{text}");
        out = format!("{out}`{}", &part[end..]);
    }
    out
}
