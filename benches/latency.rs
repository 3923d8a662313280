//! From produce to a `read_committed` consumer, exactly once, through a real broker: how long a record takes at batch intervals
//! of 10 ms, 100 ms and 1 s, and what of it the phases of a batch are. The program keeps a running count per key, so each
//! batch commits state, offsets and output. Every record must arrive once, or the benchmark fails.
//!
//! `BENCH_RATE` sets the records per second (10,000 unless set), `BENCH_SECONDS` how long each interval is measured (20), after
//! `BENCH_WARM_UP` seconds that are not (60: the broker has just started, and still compiles its code for a third of a core after
//! half a minute); `BENCH_INTERVALS` the intervals in milliseconds (`10,100,1000`).
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../integration-tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::Broker;
use tidemill::{
    BatchInfo, KafkaSinkSettings, KafkaSource, ProducerRecord, Start, State, StateSpec, StreamingContext,
    StreamingListener,
};

const PARTITIONS: i32 = 4;
const KEYS: u64 = 1_000;

fn main() {
    let rate: u64 = variable("BENCH_RATE", "10000").parse().unwrap();
    let seconds: u64 = variable("BENCH_SECONDS", "20").parse().unwrap();
    let warm_up = Duration::from_secs(variable("BENCH_WARM_UP", "60").parse().unwrap());
    let broker = Broker::start();
    println!("{rate} records/s, {PARTITIONS} partitions, {KEYS} keys; milliseconds from produce to consume");
    println!("{:>9} {:>9} {:>8} {:>8} {:>8} {:>8}", "interval", "records", "p50", "p99", "p99.9", "max");
    for interval in variable("BENCH_INTERVALS", "10,100,1000").split(',') {
        measure(&broker, interval.trim().parse().unwrap(), rate, warm_up, Duration::from_secs(seconds));
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// How many batches there were, and how long each phase took in all.
type Sums = (u64, BTreeMap<&'static str, Duration>);

/// Of batches without records, and with them.
#[derive(Default)]
struct Phases(Mutex<[Sums; 2]>);

impl StreamingListener for Phases {
    fn batch_completed(&self, batch: &BatchInfo) {
        let sums = &mut self.0.lock().unwrap()[usize::from(batch.num_records > 0)];
        sums.0 += 1;
        let waited = batch.scheduling_delay().map(|delay| ("scheduling", delay.to_std()));
        for (phase, took) in batch.phases.iter().copied().chain(waited) {
            *sums.1.entry(phase).or_default() += took;
        }
    }
}

/// What a batch takes on average.
fn means((batches, sums): &Sums) -> String {
    let mean = |(name, sum): (&&str, &Duration)| {
        format!("{name} {:.2}", sum.as_secs_f64() * 1e3 / (*batches).max(1) as f64)
    };
    format!("{batches} batches: {}", sums.iter().map(mean).collect::<Vec<_>>().join(", "))
}

fn measure(broker: &Broker, interval: u64, rate: u64, warm_up: Duration, length: Duration) {
    let (input, output) = (format!("in-{interval}"), format!("out-{interval}"));
    broker.create_topic(&input, PARTITIONS);
    broker.create_topic(&output, PARTITIONS);
    let folder = tempfile::tempdir().unwrap();
    let ssc = StreamingContext::builder(format!("latency-{interval}"))
        .batch_interval(Duration::from_millis(interval))
        .checkpoint(folder.path())
        .build()
        .unwrap();
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
    let source = KafkaSource::new(broker.bootstrap(), [&input]).start(Start::Earliest);
    let counted = StateSpec::function(|key: &Vec<u8>, sent: Option<Vec<u8>>, count: &mut State<u64>| {
        count.update(count.get_option().unwrap_or(&0) + 1);
        Some(ProducerRecord::new(key.clone(), sent?).header("count", count.get().to_string()))
    });
    ssc.kafka_direct_stream(source)
        .map(|record| (record.key.unwrap_or_default().to_vec(), record.value.unwrap_or_default().to_vec()))
        .map_with_state(counted)
        .save_to_kafka(&sink, &output);
    let phases = Arc::new(Phases::default());
    ssc.add_streaming_listener(phases.clone());
    ssc.start().unwrap();
    // Time for batches that have nothing to do.
    thread::sleep(Duration::from_millis(interval * 20).max(Duration::from_secs(2)));

    let begin = Instant::now();
    let total = rate * (warm_up + length).as_secs();
    let consumed = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let consumer = {
        let (bootstrap, consumed, done) = (broker.bootstrap().to_owned(), consumed.clone(), done.clone());
        thread::spawn(move || consume(&bootstrap, &output, begin, &consumed, &done))
    };
    produce(broker.bootstrap(), &input, begin, rate, total);
    let deadline = Instant::now() + Duration::from_secs(60);
    while consumed.load(Ordering::Relaxed) < total && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    ssc.stop(true).unwrap();
    done.store(true, Ordering::Relaxed);
    let mut latencies = consumer.join().unwrap();
    assert_eq!(latencies.len() as u64, total, "records that arrived");
    latencies.retain(|(sent, _)| *sent >= warm_up);
    let mut millis: Vec<f64> = latencies.iter().map(|(_, took)| took.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    let at = |part: f64| millis[((millis.len() - 1) as f64 * part) as usize];
    let [idle, busy] = &*phases.0.lock().unwrap();
    println!(
        "{interval:>6} ms {:>9} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
        millis.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    println!("          with records: {}\n          without: {}", means(busy), means(idle));
}

/// Sends records at a steady rate, each with the time since `begin` at which it was sent.
fn produce(bootstrap: &str, topic: &str, begin: Instant, rate: u64, total: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "0")
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let mut sent = 0;
    while sent < total {
        let due = ((begin.elapsed().as_secs_f64() * rate as f64) as u64).min(total);
        while sent < due {
            let now = (begin.elapsed().as_nanos() as u64).to_le_bytes();
            let key = (sent % KEYS).to_string();
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).key(key.as_bytes()).payload(&now);
            // A broker that stalls makes the queue full; the time of the record stays that of the first attempt.
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                producer.poll(Duration::from_millis(5));
                record = back;
            }
            sent += 1;
        }
        producer.poll(Duration::ZERO);
        thread::sleep(Duration::from_micros(500));
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// When each record was sent, and how long it took until a reader of committed records had it.
fn consume(
    bootstrap: &str,
    topic: &str,
    begin: Instant,
    consumed: &AtomicU64,
    done: &AtomicBool,
) -> Vec<(Duration, Duration)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "latency-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .create()
        .unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut latencies = Vec::new();
    while !done.load(Ordering::Relaxed) {
        if let Some(message) = consumer.poll(Duration::from_millis(20)) {
            let message = message.unwrap();
            let sent =
                Duration::from_nanos(u64::from_le_bytes(message.payload().unwrap().try_into().unwrap()));
            latencies.push((sent, begin.elapsed() - sent));
            consumed.fetch_add(1, Ordering::Relaxed);
        }
    }
    latencies
}
