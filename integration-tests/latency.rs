//! Batches as short as ten milliseconds: those without anything to commit cost next to nothing, and the others keep up.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::support::{Broker, Record, eventually, unique_name};

/// What stands beside the group's offsets: each transaction leaves its batch time there.
fn markers(broker: &Broker, name: &str) -> Vec<String> {
    let mut config = rdkafka::ClientConfig::new();
    let consumer: BaseConsumer =
        config.set("bootstrap.servers", broker.bootstrap()).set("group.id", name).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition(name, partition);
    }
    let told = consumer.committed_offsets(list, LIMIT).unwrap();
    told.elements().iter().map(|it| it.metadata().to_owned()).filter(|it| !it.is_empty()).collect()
}

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "quick.yaml";

#[test]
fn batches_of_ten_milliseconds_cost_nothing_without_records_and_keep_up_with_them() {
    let broker = Broker::shared();
    let name = unique_name("quick");
    broker.create_topic(&name, 4);
    let text = format!(
        "app_id: {name}
batch_interval: 10ms
delivery: exactly-once
checkpoint: data
http: ${{TIDEMILL_HTTP}}
sources:
  lines: {{ kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest }}, format: text }}
streams:
  totals: {{ map_with_state: {{ from: lines, key: [value], state: {{ n: \"count(*)\" }} }} }}
outputs:
  - {{ from: totals, kafka: {{ topic: {name}-out, key: value, partitions: 1 }} }}
"
    );
    let mut run = broker.run(FILE).file(FILE, &text).start();
    let http = run.http();
    let batches = || http.metrics().sum("tidemill_batches_total", &[("status", "succeeded")]);
    let phases = ["plan", "process", "output", "commit"];
    // The first batch has a real transaction, and does not belong to what the others cost.
    let begun = eventually(LIMIT, "the first batch", || {
        let metrics = http.metrics();
        let counts =
            phases.map(|phase| metrics.sum("tidemill_batch_phase_seconds_count", &[("phase", phase)]));
        let done = batches() >= 1.0 && counts.iter().all(|count| *count >= 1.0);
        if done { Ok(metrics) } else { Err(format!("{counts:?}")) }
    });
    eventually(
        LIMIT,
        "idle batches",
        || if batches() >= 300.0 { Ok(()) } else { Err(batches().to_string()) },
    );
    let metrics = http.metrics();
    let mean = |phase: &str| {
        let since = |what: &str| {
            let (name, labels) = (format!("tidemill_batch_phase_seconds_{what}"), [("phase", phase)]);
            metrics.one(&name, &labels) - begun.one(&name, &labels)
        };
        since("sum") / since("count")
    };
    // To commit nothing costs less than a transaction, or a write that waits for the disk, also on a machine that is busy.
    let costs = phases.map(mean);
    assert!(costs[3] < 0.005, "{costs:?} s");
    // No transaction: the first batch has marked the group as this application's, and none of the others has told it anything.
    let first = markers(broker, &name);
    assert_eq!(first.len(), 4);
    let done = batches();
    eventually(LIMIT, "more idle batches", || {
        if batches() >= done + 100.0 { Ok(()) } else { Err(batches().to_string()) }
    });
    assert_eq!(markers(broker, &name), first);
    assert!(broker.read(&format!("{name}-out")).is_empty());

    for n in 0..50 {
        broker.produce(
            &name,
            (0..20).map(|i| Record::from(format!("word {i}").as_str()).partition((n + i) % 4)),
        );
    }
    http.wait_until_read(4, 1_000, LIMIT);
    eventually(LIMIT, "batches that are in time", || {
        let waiting = http.metrics().sum("tidemill_batches_waiting", &[]);
        if waiting <= 1.0 { Ok(()) } else { Err(format!("{waiting} wait")) }
    });
    run.stop(LIMIT);
    let last: std::collections::BTreeMap<_, _> =
        broker.read(&format!("{name}-out")).into_iter().map(|row| (row.key_text(), row.text())).collect();
    assert_eq!(last.len(), 20);
    assert!(
        last.iter().all(|(word, total)| *total == format!("{{\"value\":\"{word}\",\"n\":50}}")),
        "{last:?}"
    );
}
