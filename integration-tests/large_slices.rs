//! Intervals with more records than are read in one go, or than are kept in memory: the same bytes each time, and memory is bounded.

use std::time::Duration;

use tidemill::{Clock, SystemClock};

use crate::support::words::Random;
use crate::support::{App, Broker, Record, unique_name};

const LIMIT: Duration = Duration::from_secs(120);
const FILE: &str = "pipeline.yaml";
const INTERVAL: i64 = 600_000;

/// When an interval began that is over for long.
fn an_hour_ago() -> i64 {
    SystemClock::default().now().as_millis() / INTERVAL * INTERVAL - 6 * INTERVAL
}

fn pipeline(broker: &Broker, app: &str, kafka: &str, rest: &str) -> App {
    let text = format!(
        "app_id: {app}
batch_interval: 10m
delivery: exactly-once
checkpoint: data
http: 127.0.0.1:0
sources:
  rows:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", start: earliest, slicing: timestamp, {kafka} }}
{rest}"
    );
    broker.run(FILE).file(FILE, &text)
}

#[test]
fn sums_over_a_slice_that_is_read_in_parts_are_the_same_bytes_at_any_number_of_threads() {
    // From 262,144 offsets on, a partition's slice is more than one task's.
    const COUNT: usize = 300_000;
    let broker = Broker::shared();
    let topic = broker.unique_topic("doubles", 1);
    let mut random = Random(29);
    let rows: Vec<(u64, f64)> = (0..COUNT)
        .map(|_| (random.below(20), random.below(1_000_000_000) as f64 / 10_f64.powi(random.below(9) as i32)))
        .collect();
    let begin = an_hour_ago();
    broker.produce(
        &topic,
        rows.iter().enumerate().map(|(n, (key, amount))| {
            Record::from(format!(r#"{{"k":"k{key}","amount":{amount}}}"#)).timestamp(begin + n as i64)
        }),
    );
    // The order in which such numbers are added shows in their sum.
    let of_first = || rows.iter().filter(|(key, _)| *key == 0).map(|(_, amount)| *amount);
    let (forwards, backwards) =
        (of_first().sum::<f64>(), of_first().collect::<Vec<_>>().iter().rev().sum::<f64>());
    assert_ne!(forwards.to_bits(), backwards.to_bits());

    for (reader, threads) in [("native", &[1, 2, 5][..]), ("rdkafka", &[1, 5])] {
        let mut former = None;
        for threads in threads {
            let app = unique_name("doubles");
            broker.create_topic(&format!("{app}-out"), 1);
            let rest = format!(
                r#"    format: json
    schema: {{ k: text, amount: double }}
worker_threads: {threads}
streams:
  sums:
    reduce_by_key: {{ from: rows, key: [k], values: {{ n: "count(*)", total: "sum(amount)", mean: "avg(amount)" }} }}
outputs:
  - {{ from: sums, kafka: {{ topic: {app}-out, key: k, format: json }} }}
"#
            );
            let kafka = format!("topics: [{topic}], end: latest, reader: {reader}");
            let mut run = pipeline(broker, &app, &kafka, &rest).start();
            assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
            let written = broker.read(&format!("{app}-out"));
            assert_eq!(written.len(), 20, "{reader}, {threads} threads");
            match &former {
                None => former = Some(written),
                // Offsets, timestamps, keys and values.
                Some(former) => assert!(written == *former, "{reader}, {threads} threads"),
            }
        }
        for row in former.unwrap() {
            assert_eq!(row.timestamp, begin + INTERVAL);
            let sums: serde_json::Value = serde_json::from_str(&row.text()).unwrap();
            let of_key = rows.iter().filter(|(key, _)| format!("k{key}") == row.key_text());
            let amounts: Vec<f64> = of_key.map(|(_, amount)| *amount).collect();
            assert_eq!(sums["n"].as_u64(), Some(amounts.len() as u64));
            let (found, expected) = (sums["total"].as_f64().unwrap(), amounts.iter().sum::<f64>());
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} instead of {expected}");
        }
    }
}

#[test]
fn an_interval_that_is_larger_than_what_is_kept_ahead_takes_no_more_memory() {
    let broker = Broker::shared();
    let name = unique_name("interval");
    broker.create_topic(&name, 2);
    broker.create_topic(&format!("{name}-out"), 1);
    // 400 MB, of which 64 MiB may be kept from looking for the interval's end.
    let (count, size, begin) = (4_000, 100_000, an_hour_ago());
    let filler = "x".repeat(size - 1);
    let record =
        |n: i64| Record::from(format!("{}{filler}", n % 5)).partition((n % 2) as i32).timestamp(begin + n);
    broker.produce(&name, (0..count).map(record));
    let rest = format!(
        r#"    format: text
streams:
  lengths: {{ sql: "select left(value, 1) as digit, length(value) as bytes from rows" }}
  sums:
    reduce_by_key: {{ from: lengths, key: [digit], values: {{ n: "count(*)", bytes: "sum(bytes)" }} }}
outputs:
  - {{ from: sums, kafka: {{ topic: {name}-out, key: digit, format: json }} }}
"#
    );
    let mut run = pipeline(broker, &name, &format!("topics: [{name}]"), &rest).start();
    run.http().wait_until_read(2, count as u64, LIMIT);
    let peak = run.peak_memory();
    run.stop(LIMIT);
    assert!(peak < 300_000_000, "{peak} bytes");
    let mut rows: Vec<_> = broker.read(&format!("{name}-out")).iter().map(|row| row.text()).collect();
    rows.sort();
    let sum = |digit| format!(r#"{{"digit":"{digit}","n":800,"bytes":80000000}}"#);
    assert_eq!(rows, (0..5).map(sum).collect::<Vec<_>>());
}
