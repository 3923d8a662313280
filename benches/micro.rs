//! The hot paths one by one, through the public interface: `cargo bench --no-default-features --bench micro`.
//!
//! Kafka is librdkafka's mock cluster, in the process itself.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::sync::OnceLock;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde::Deserialize;
use tidemill::testing::TestContext;
use tidemill::{KafkaSource, Rdd, Reader, Start, State, StateSpec, StreamingContext, Text, Time, WindowSpec};

const LINES: usize = 20_000;
const KEYS: u64 = 10_000;

fn main() {
    divan::main();
}

fn context() -> StreamingContext {
    StreamingContext::builder("micro").build().unwrap()
}

/// Some hundred bytes of 16 words a line.
fn lines() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let word = |i: usize| format!("w{:04}", i.wrapping_mul(2_654_435_761) % 65_521 % KEYS as usize);
        (0..LINES).map(|i| (0..16).map(|k| word(i * 16 + k)).collect::<Vec<_>>().join(" ")).collect()
    })
}

fn words(ssc: &StreamingContext) -> Rdd<(Text, u64)> {
    ssc.parallelize(lines().iter().map(String::as_str), 2)
        .flat_map(|line| Text::split_ascii_whitespace(line).map(|word| (word, 1)))
}

/// A topic of the lines, on a broker in this process.
fn topic() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("lines", 2, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &brokers).set("linger.ms", "20").create().unwrap();
        for (i, line) in lines().iter().enumerate() {
            let record = BaseRecord::<(), str>::to("lines").partition((i % 2) as i32).payload(line);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        // It lives as long as the process.
        std::mem::forget(cluster);
        brokers
    })
}

/// One batch that reads all lines. Starting the context is not in the time.
#[divan::bench(args = [Reader::Native, Reader::RdKafka], sample_count = 3, sample_size = 1)]
fn slice_fetch(bencher: Bencher, reader: Reader) {
    let brokers = topic();
    let started = || {
        let test = TestContext::new("micro").unwrap();
        let source = KafkaSource::new(brokers, ["lines"]).start(Start::Earliest).reader(reader);
        let lengths = test.ssc.kafka_direct_stream(source).map(|record| record.len());
        lengths.reduce(|a, b| a + b).foreach_rdd(|rdd| {
            black_box(rdd.collect()?);
            Ok::<_, tidemill::Error>(())
        });
        test.ssc.start().unwrap();
        test
    };
    bencher.counter(ItemsCount::new(LINES)).with_inputs(started).bench_refs(|test| test.step().unwrap());
}

#[divan::bench]
fn fused_operators(bencher: Bencher) {
    let ssc = context();
    let numbers = ssc.parallelize(0..1_000_000_u64, 2);
    let kept = numbers.map(|n| n * 3).filter(|n| n % 2 == 0).flat_map(|n| [n, n + 1]).map(|n| n ^ 1);
    bencher
        .counter(ItemsCount::new(1_000_000_usize))
        .bench(|| black_box(kept.reduce(u64::wrapping_add).unwrap()));
}

#[divan::bench]
fn combine(bencher: Bencher) {
    let ssc = context();
    bencher
        .counter(ItemsCount::new(LINES * 16))
        .bench(|| black_box(words(&ssc).reduce_by_key(|a, b| a + b).count().unwrap()));
}

/// A second's batch of every key, of which one in ten ends a window.
#[divan::bench(sample_count = 20)]
fn panes(bencher: Bencher) {
    let test = TestContext::with_interval("micro", Duration::from_secs(1)).unwrap();
    let batches = (0..10_000).map(|batch| (0..KEYS).map(|key| (key, batch)).collect());
    let spec = WindowSpec::reduce(|a: u64, b| a + b).inverse(|a, b| a - b);
    let windows = test
        .input(batches)
        .reduce_by_key_and_window_with(spec, Duration::from_secs(30), Duration::from_secs(10))
        .unwrap();
    windows.foreach_rdd(|rdd| black_box(rdd.count()).map(drop));
    test.ssc.start().unwrap();
    bencher.counter(ItemsCount::new(KEYS * 10)).bench_local(|| (0..10).for_each(|_| test.step().unwrap()));
}

#[divan::bench(sample_count = 20)]
fn state_apply(bencher: Bencher) {
    let folder = tempfile::tempdir().unwrap();
    let builder = StreamingContext::builder("micro").checkpoint(folder.path());
    let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
    let batches = (0..10_000).map(|_| (0..KEYS).map(|key| (key, 1)).collect());
    let sums = StateSpec::function(|_: &u64, n: Option<u64>, sum: &mut State<u64>| {
        sum.update(sum.get_option().unwrap_or(&0) + n.unwrap_or(0));
        None::<()>
    });
    test.input(batches).map_with_state(sums).foreach_rdd(|rdd| rdd.count().map(drop));
    test.ssc.start().unwrap();
    bencher.counter(ItemsCount::new(KEYS)).bench_local(|| test.step().unwrap());
}

/// A batch of one record and one key, whose commit is all that it costs.
#[divan::bench(sample_count = 50)]
fn commit(bencher: Bencher) {
    let folder = tempfile::tempdir().unwrap();
    let builder = StreamingContext::builder("micro").checkpoint(folder.path());
    let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
    let last = StateSpec::function(|_: &u64, n: Option<u64>, last: &mut State<u64>| {
        last.update(n.unwrap_or(0));
        None::<()>
    });
    test.input((0..100_000).map(|n| vec![(1, n)]))
        .map_with_state(last)
        .foreach_rdd(|rdd| rdd.count().map(drop));
    test.ssc.start().unwrap();
    bencher.bench_local(|| test.step().unwrap());
}

/// The members of interest of a larger object, its texts as they lie.
#[divan::bench]
fn json_decode(bencher: Bencher) {
    #[derive(Deserialize)]
    struct Event<'a> {
        ad_id: &'a str,
        event_type: &'a str,
    }
    let event = format!(
        r#"{{"user_id":"{0}","page_id":"{0}","ad_id":"{0}","ad_type":"mail","event_type":"view","event_time":"1","ip":"1.2.3.4"}}"#,
        "01234567-89ab-cdef-0123-456789abcdef"
    );
    bencher.counter(ItemsCount::new(1_usize)).bench(|| {
        let event: Event<'_> = serde_json::from_slice(black_box(event.as_bytes())).unwrap();
        black_box(event.ad_id.len() + event.event_type.len())
    });
}
