//! A backlog of any size: a slow consumer's batches fall behind no further, and no more of it is in memory than was allowed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{Backpressure, BatchInfo, KafkaSource, Start, StreamingContext, StreamingListener};

use crate::support::{Broker, Record, eventually, pause, unique_name};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Completed(Mutex<Vec<BatchInfo>>);

impl StreamingListener for Completed {
    fn batch_completed(&self, batch: &BatchInfo) {
        self.0.lock().unwrap().push(batch.clone());
    }
}

#[test]
fn a_slow_consumers_batches_do_not_fall_behind() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("backlog", 2);
    broker.produce(&topic, (0..40_000).map(|n| Record::from("order").partition(i32::from(n % 4 == 0))));
    let ssc = StreamingContext::builder(unique_name("slow"))
        .batch_interval(Duration::from_millis(200))
        .backpressure(Backpressure::new().initial_rate(500))
        .build()
        .unwrap();
    let source = KafkaSource::new(broker.bootstrap(), [&topic]).start(Start::Earliest);
    // 2,000 a second.
    ssc.kafka_direct_stream(source).map(|_| ()).foreach_rdd(|rdd| {
        pause(Duration::from_micros(500) * rdd.count()? as u32);
        Ok(())
    });
    let completed = Arc::new(Completed::default());
    ssc.add_streaming_listener(completed.clone());
    ssc.start().unwrap();
    let batches = eventually(LIMIT, "forty batches", || {
        let batches = completed.0.lock().unwrap().clone();
        if batches.len() >= 40 { Ok(batches) } else { Err(format!("{}", batches.len())) }
    });
    ssc.stop(false).unwrap();

    let delays: Vec<_> = batches.iter().map(|b| b.scheduling_delay().unwrap().as_millis()).collect();
    assert!(delays.iter().all(|delay| *delay < 2_000), "{delays:?}");
    let records: Vec<_> = batches.iter().map(|batch| batch.num_records).collect();
    assert_eq!(records[0], 100, "{records:?}");
    // Of 400 that it can do it is given most, and never many more.
    let later = &records[10..];
    let mean = later.iter().sum::<u64>() / later.len() as u64;
    assert!((100..=450).contains(&mean) && later.iter().all(|n| *n < 1_000), "{records:?}");
    // A quarter of the lag was in the second partition.
    let of_second: u64 = batches[2..]
        .iter()
        .flat_map(|b| &b.offset_ranges)
        .filter(|range| range.partition == 1)
        .map(tidemill::OffsetRange::count)
        .sum();
    let all: u64 = records[2..].iter().sum();
    assert!((all / 5..=all / 3).contains(&of_second), "{of_second} of {all}");
}

#[test]
fn memory_stays_flat_with_a_backlog() {
    const FILE: &str = "slow.yaml";
    let broker = Broker::shared();
    let name = unique_name("flat");
    let text = format!(
        "app_id: {name}
batch_interval: 100ms
delivery: at-least-once
checkpoint: data
http: ${{TIDEMILL_HTTP}}
backpressure: {{ initial_rate: 20, min_rate: 20 }}
sources:
  lines:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest, max_rate_per_partition: 20 }}
    format: text
streams:
  lengths: {{ sql: \"select length(value) as n from lines\" }}
outputs:
  - {{ from: lengths, console: {{}} }}
"
    );
    broker.create_topic(&name, 2);
    // 400 MB, of which 64 MiB may be fetched ahead.
    let value = "x".repeat(100_000);
    broker.produce(&name, (0..4_000).map(|n| Record::from(value.as_str()).partition(n % 2)));
    let mut run = broker.run(FILE).file(FILE, &text).start();
    let http = run.http();
    let read = |metrics: &crate::support::Metrics| metrics.sum("tidemill_source_records_total", &[]);
    let mut peak = 0.0_f64;
    let metrics = eventually(LIMIT, "a hundred records", || {
        let metrics = http.metrics();
        let memory = metrics.all("process_resident_memory_bytes", &[]);
        peak = memory.into_iter().fold(peak, f64::max);
        if read(&metrics) >= 100.0 { Ok(metrics) } else { Err(format!("{} so far", read(&metrics))) }
    });
    assert!(peak < 250e6, "{peak} bytes");
    let limit = metrics.one("tidemill_source_rate_limit_records_per_second", &[("source", "kafka:lines")]);
    assert!(limit >= 20.0, "{limit}");
    assert!(read(&metrics) < 1_000.0, "the limit does not hold: {}", read(&metrics));
    run.stop(LIMIT);
}
