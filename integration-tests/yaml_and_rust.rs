//! The same word count, window and running totals in Rust and in YAML: the same output topics.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Slicing, Start, StateSpec, StreamingContext,
    TopicSettings,
};

use crate::support::{Broker, Record, Row, eventually, tidemill, word_count_as};

const LIMIT: StdDuration = StdDuration::from_secs(90);

/// By partition and key: values and timestamps, in their order. The order of different keys within a batch is nobody's promise.
type ByKey = BTreeMap<(i32, Vec<u8>), Vec<(i64, Vec<u8>)>>;

fn by_key(rows: &[Row]) -> ByKey {
    let mut records: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let key = (row.partition, row.key.clone().unwrap_or_default());
        records.entry(key).or_default().push((row.timestamp, row.value.clone().unwrap_or_default()));
    }
    records
}

#[test]
fn the_same_program_in_rust_and_in_yaml_writes_the_same_topics() {
    let broker = Broker::shared();
    let (yaml, rust) = ("same-yaml", "same-rust");
    broker.create_topic(yaml, 2);
    // Two minutes of words, long ago; the last record closes all batches before it.
    let second = |n: i64| 1_700_000_000_000 + n * 1_000;
    let words = ["to be or not", "be", "the question", "to to to", ""];
    let records = (0..240).map(|n| {
        let at = second(n / 2) + 250 * (n % 4);
        Record::from(words[n as usize % words.len()]).partition((n % 2) as i32).timestamp(at)
    });
    broker.produce(yaml, records);
    let ends = (0..2).map(|partition| Record::from("end").partition(partition).timestamp(second(200)));
    broker.produce(yaml, ends);

    for name in [yaml, rust] {
        for topic in ["counts", "window-counts", "totals"] {
            broker.create_topic(&format!("{name}-{topic}"), 4);
        }
    }
    let file = word_count_as(
        yaml,
        &[("start: earliest", "start: earliest\n      slicing: timestamp\n      grace: 1s")],
    );
    let app = tidemill(&["run", "pipeline.yaml"]).file("pipeline.yaml", &file);
    let app = app.env("KAFKA_BROKERS", broker.bootstrap()).env("TIDEMILL_HTTP", "127.0.0.1:0");
    let mut run = app.start();
    let _rust = in_rust(broker, yaml, rust);
    for (topic, at_least) in [("counts", 300), ("window-counts", 60), ("totals", 300)] {
        let (yaml, rust) = (format!("{yaml}-{topic}"), format!("{rust}-{topic}"));
        eventually(LIMIT, &format!("the same records in {yaml} and {rust}"), || {
            // What both have written up to the time at which all words are in.
            let until = |topic: &str| {
                let mut rows = broker.read(topic);
                rows.retain(|row| row.timestamp <= second(150));
                rows
            };
            let (of_yaml, of_rust) = (until(&yaml), until(&rust));
            if of_yaml.len() >= at_least && by_key(&of_yaml) == by_key(&of_rust) {
                Ok(())
            } else {
                Err(format!("{} and {} records", of_yaml.len(), of_rust.len()))
            }
        });
    }
    run.stop(LIMIT);
}

/// Runs the program in Rust for as long as what it gives is kept.
struct InRust {
    ssc: StreamingContext,
    _folder: tempfile::TempDir,
}

impl Drop for InRust {
    fn drop(&mut self) {
        // A test that fails must not wait for the program.
        let _ = self.ssc.stop(false);
    }
}

/// Starts what `config/word-count.yaml` says, written in Rust.
fn in_rust(broker: &Broker, from: &str, to: &str) -> InRust {
    let folder = tempfile::tempdir().unwrap();
    let ssc = StreamingContext::builder(to)
        .batch_interval(Duration::seconds(1))
        .checkpoint(folder.path().join("checkpoint"))
        .worker_threads(2)
        .build()
        .unwrap();
    let slicing = Slicing::Timestamp { max_future: Duration::seconds(10), grace: Duration::seconds(1) };
    let source = KafkaSource::new(broker.bootstrap(), [from]).start(Start::Earliest).slicing(slicing);
    let words = ssc
        .kafka_direct_stream(source)
        .text()
        .flat_map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let ones = words.map(|word| (word, 1_u64));
    let counts = ones.reduce_by_key(|a, b| a + b);
    let (window, slide) = (Duration::seconds(30), Duration::seconds(10));
    let windows = counts.reduce_by_key_and_window(|a, b| a + b, window, slide).unwrap();
    let totals = counts.map_with_state(StateSpec::function(
        |word: &String, new: Option<u64>, total: &mut tidemill::State<u64>| {
            total.update(total.get_option().unwrap_or(&0) + new.unwrap_or(0));
            Some((word.clone(), *total.get()))
        },
    ));
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
    for (stream, topic, column) in
        [(counts, "counts", "count"), (windows, "window-counts", "count"), (totals, "totals", "total")]
    {
        let topic = format!("{to}-{topic}");
        sink.topic(&topic, TopicSettings::new().partitions(4));
        let records = stream.map(move |(word, n)| {
            let value = format!("{{\"word\":{},\"{column}\":{n}}}", serde_json::json!(word));
            ProducerRecord::new(word, value)
        });
        records.save_to_kafka(&sink, &topic);
    }
    ssc.start().unwrap();
    InRust { ssc, _folder: folder }
}
