//! A consumer that is slower than its topic, on a clock that only its own work moves: a record takes so many milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration as StdDuration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tidemill::testing::TestContext;
use tidemill::{
    Backpressure, BatchInfo, Clock, Duration, KafkaSource, ManualClock, Start, StreamingContext,
    StreamingListener, Time,
};

use super::{builder, s};

/// A cluster in this process with the topic `orders`.
fn cluster(partitions: usize) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("orders", partitions as i32, 1).expect("a topic");
    cluster
}

/// Sends so many records to each partition.
fn produce(cluster: &MockCluster<'_, DefaultProducerContext>, partitions: &[u64]) {
    let mut config = rdkafka::ClientConfig::new();
    let producer: BaseProducer =
        config.set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    for (partition, records) in (0..).zip(partitions) {
        for _ in 0..*records {
            let record = BaseRecord::<(), str>::to("orders").partition(partition).payload("order");
            producer.send(record).expect("room in the queue");
        }
    }
    producer.flush(StdDuration::from_secs(30)).expect("delivery");
}

/// The last batch that was submitted.
#[derive(Default)]
struct Submitted(AtomicI64);

impl StreamingListener for Submitted {
    fn batch_submitted(&self, batch: &BatchInfo, _: usize) {
        self.0.store(batch.batch_time.as_millis(), Ordering::Release);
    }
}

#[allow(clippy::disallowed_methods, reason = "the engine's threads live by the clock on the wall")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(StdDuration::from_millis(1));
    }
    panic!("{what}: not within a minute");
}

/// Moves the clock on by what a batch's work takes; batches that are due meanwhile are submitted in their time.
fn work(clock: &ManualClock, submitted: &Submitted, takes: Duration) {
    let end = clock.now() + takes;
    loop {
        let tick = clock.now().floor(s(1)) + s(1);
        clock.set(tick.min(end));
        if end < tick {
            return;
        }
        wait_until("a tick", || submitted.0.load(Ordering::Acquire) >= tick.as_millis());
    }
}

/// Runs batches of a second until the clock shows `until`, with a consumer that takes `cost` for a record, given the batch
/// time.
fn simulate(
    partitions: &[u64],
    backpressure: Backpressure,
    until: i64,
    cost: fn(i64) -> f64,
) -> Vec<BatchInfo> {
    let cluster = cluster(partitions.len());
    let test = TestContext::from_builder(builder("slow").backpressure(backpressure), Time::ZERO).unwrap();
    let submitted = Arc::new(Submitted::default());
    test.ssc.add_streaming_listener(submitted.clone());
    consume(&test.ssc, &cluster.bootstrap_servers(), &test.clock, &submitted, cost);
    test.ssc.start().unwrap();
    // What was there before the start would be run in batches of the time before it.
    produce(&cluster, partitions);
    while test.clock.now() < Time::ZERO + s(until) {
        // The clock stands still unless a batch works, so all that is due is done in the end.
        let tick = test.clock.now().floor(s(1)) + s(1);
        test.clock.set(tick);
        wait_until("a tick", || submitted.0.load(Ordering::Acquire) >= tick.as_millis());
        wait_until("the batches that are due", || {
            test.completed_batches()
                .last()
                .is_some_and(|last| last.batch_time.as_millis() >= submitted.0.load(Ordering::Acquire))
        });
    }
    test.ssc.stop(false).unwrap();
    test.completed_batches()
}

fn consume(
    ssc: &StreamingContext,
    brokers: &str,
    clock: &ManualClock,
    submitted: &Arc<Submitted>,
    cost: fn(i64) -> f64,
) {
    let source = KafkaSource::new(brokers, ["orders"]).start(Start::Earliest);
    let (clock, submitted) = (clock.clone(), submitted.clone());
    ssc.kafka_direct_stream(source).map(|_| ()).foreach_rdd_with_time(move |rdd, time| {
        let millis = rdd.count()? as f64 * cost(time.as_millis() / 1_000);
        work(&clock, &submitted, Duration::millis(millis as i64));
        Ok(())
    });
}

fn delays(batches: &[BatchInfo]) -> Vec<i64> {
    batches.iter().map(|batch| batch.scheduling_delay().expect("it has run").as_millis()).collect()
}

fn records(batches: &[BatchInfo]) -> Vec<u64> {
    batches.iter().map(|batch| batch.num_records).collect()
}

/// 1,000 a second, or 250.
fn slower_for_a_while(second: i64) -> f64 {
    if (8..16).contains(&second) { 4.0 } else { 1.0 }
}

#[test]
fn a_slow_consumer_keeps_its_scheduling_delay_bounded() {
    let careful = Backpressure::new().initial_rate(500);
    let batches = simulate(&[12_000, 8_000], careful, 40, slower_for_a_while);
    // Twice the initial rate, since the first batch gives no estimate; then what was seen: 1,000 a second.
    assert_eq!(records(&batches[..5]), [500, 500, 1_000, 1_000, 1_000]);
    let delays = delays(&batches);
    assert_eq!(delays[..7], [0; 7]);
    // The batch that meets the slower consumer takes four seconds for what was measured for one. From there on it is made up for.
    let worst = delays.iter().max().copied().unwrap_or_default();
    assert!((3_000..4_000).contains(&worst), "{delays:?}");
    let last = &delays[delays.len() - 10..];
    assert!(last.iter().all(|delay| *delay < 1_000), "{delays:?}");
    // No slower than the consumer: some 20 seconds' worth of records at 1,000 a second and 8 at 250.
    assert_eq!(records(&batches).iter().sum::<u64>(), 20_000, "{:?}", records(&batches));
}

#[test]
fn without_backpressure_it_falls_behind_by_all_that_waits() {
    let batches = simulate(&[12_000, 8_000], Backpressure::off(), 25, |_| 1.0);
    assert_eq!(batches[0].num_records, 20_000);
    assert_eq!(delays(&batches)[..3], [0, 19_000, 18_000]);
}

#[test]
fn a_batch_tells_its_limit_and_partitions_share_it_by_their_lag() {
    let batches = simulate(&[9_000, 1_000], Backpressure::new().initial_rate(1_000), 3, |_| 2.0);
    let ranges: Vec<_> = batches[0].offset_ranges.iter().map(|range| (range.from, range.until)).collect();
    assert_eq!(ranges, [(0, 900), (0, 100)]);
    assert_eq!(batches[0].rate_limits, [("kafka:orders".to_owned(), 1_000)].into());
    // Took two seconds: 500 a second, less a fifth of those that a second's delay stands for.
    let third = &batches[2];
    assert_eq!(third.rate_limits["kafka:orders"], 400);
    assert_eq!(third.num_records, 400);
}
