//! A backlog of any size: a slow consumer's batches fall behind no further, and no more of it is in memory than was allowed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{Backpressure, BatchInfo, End, KafkaSource, Start, StreamingContext, StreamingListener};

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
    // A shared machine stands still now and then; without backpressure nearly all of them are later.
    assert!(delays.iter().filter(|delay| **delay >= 2_000).count() <= 5, "{delays:?}");
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
fn a_batch_has_no_more_bytes_than_it_may() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("bytes", 2);
    let value = "x".repeat(10_000);
    broker.produce(&topic, (0..200).map(|n| Record::from(value.as_str()).partition(n % 2)));
    let ssc = StreamingContext::builder(unique_name("bytes"))
        .batch_interval(Duration::from_millis(100))
        .backpressure(Backpressure::off())
        .build()
        .unwrap();
    let source = KafkaSource::new(broker.bootstrap(), [&topic]).start(Start::Earliest).end(End::Latest);
    ssc.kafka_direct_stream(source.max_bytes_per_batch(100_000))
        .map(|_| ())
        .foreach_rdd(|rdd| rdd.count().map(drop));
    let completed = Arc::new(Completed::default());
    ssc.add_streaming_listener(completed.clone());
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
    let records: Vec<_> = completed.0.lock().unwrap().iter().map(|batch| batch.num_records).collect();
    assert_eq!(records.iter().sum::<u64>(), 200, "{records:?}");
    // The first ones count on 16 KiB a record; once one was seen, ten are 100,000 bytes, and each partition has at least one.
    let full = records.iter().filter(|records| **records == 10).count();
    assert!(records.iter().all(|records| *records <= 12) && full >= 15, "{records:?}");
}

#[test]
fn a_backfill_goes_live_without_a_seam() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("seam", 1);
    broker.produce(&topic, (0..300).map(|n| n.to_string()));
    let interval = Duration::from_secs(2);
    let ssc = StreamingContext::builder(unique_name("seam"))
        .batch_interval(interval)
        .backpressure(Backpressure::off())
        .build()
        .unwrap();
    let source = KafkaSource::new(broker.bootstrap(), [&topic]).start(Start::Earliest);
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let records = seen.clone();
    ssc.kafka_direct_stream(source.max_records_per_batch(10)).text().foreach_rdd(
        move |rdd| -> tidemill::Result<()> {
            records.lock().unwrap().extend(rdd.collect()?);
            Ok(())
        },
    );
    let completed = Arc::new(Completed::default());
    ssc.add_streaming_listener(completed.clone());
    ssc.start().unwrap();
    let read = |count: usize| {
        eventually(LIMIT, "the records", || {
            let seen = seen.lock().unwrap().len();
            if seen >= count { Ok(()) } else { Err(format!("{seen} of {count}")) }
        });
    };
    // Thirty batches would take a minute by the clock.
    read(250);
    broker.produce(&topic, (300..305).map(|n| n.to_string()));
    read(305);
    broker.produce(&topic, ["305"]);
    read(306);
    ssc.stop(true).unwrap();
    let expected: Vec<_> = (0..306).map(|n| n.to_string()).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    let batches = completed.0.lock().unwrap();
    let times: Vec<_> = batches.iter().map(|batch| batch.batch_time).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    for batch in batches.iter() {
        assert!(batch.processing_start_time.is_some_and(|at| batch.batch_time <= at), "{batch:?}");
    }
    let mut next = 0;
    for range in batches.iter().flat_map(|batch| &batch.offset_ranges) {
        assert_eq!(range.from, next);
        next = range.until;
    }
    assert!(batches.len() >= 32, "{times:?}");
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
backpressure: {{ initial_rate: 20, min_rate: 10 }}
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
    // Four records take nothing like the fifth of a second that the first limit allows them.
    eventually(LIMIT, "a limit that has risen", || {
        let source = [("source", "kafka:lines")];
        let limit = http.metrics().one("tidemill_source_rate_limit_records_per_second", &source);
        (limit > 20.0).then_some(()).ok_or_else(|| format!("{limit}"))
    });
    assert!(read(&metrics) < 1_000.0, "the limit does not hold: {}", read(&metrics));
    run.stop(LIMIT);
}
