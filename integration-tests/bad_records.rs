//! Many bad records in a batch: each is there once, however often tasks were tried, and few of them are in memory.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{
    BatchInfo, Clock, End, KafkaSinkSettings, KafkaSource, OnBadRecord, ProducerRecord, Slicing, Start,
    StreamingContext, StreamingListener, SystemClock, TopicSettings,
};

use crate::support::{Broker, Record, Row, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(120);
const FILE: &str = "pipeline.yaml";

/// A program's context, with batches every 100 ms.
fn context(name: &str, checkpoint: &Path) -> StreamingContext {
    let builder = StreamingContext::builder(name).batch_interval(Duration::from_millis(100));
    builder.checkpoint(checkpoint).build().unwrap()
}

#[test]
fn a_batch_of_bad_records_alone_takes_little_memory() {
    const COUNT: usize = 200_000;
    let broker = Broker::shared();
    let name = unique_name("all-bad");
    broker.create_topic(&name, 2);
    let (out, dlq) = (format!("{name}-out"), format!("{name}.dlq"));
    // All of one interval, an hour ago: no cap cuts that.
    let at = SystemClock::default().now().as_millis() / 600_000 * 600_000 - 3_600_000;
    let filler = "x".repeat(1_000);
    let value = |n: usize| format!("{n} {filler}");
    let record = |n: usize| Record::from(value(n)).partition((n % 2) as i32).timestamp(at + n as i64);
    let good = Record::from(r#"{"n": 7}"#).partition(0).timestamp(at + COUNT as i64);
    broker.produce(&name, (0..COUNT).map(record).chain([good]));
    let text = |app: &str, policy: &str| {
        format!(
            "app_id: {app}
batch_interval: 10m
delivery: exactly-once
checkpoint: data
http: 127.0.0.1:0
sources:
  numbers:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest, slicing: timestamp }}
    format: json
    schema: {{ n: bigint }}
    on_bad_record: {policy}
outputs:
  - {{ from: numbers, kafka: {{ topic: {out} }} }}
"
        )
    };
    let kept = format!("{{ dead_letter: {dlq} }}");
    for (policy, app) in [("skip", format!("{name}-skip")), (&kept, name.clone())] {
        let mut run = broker.run(FILE).file(FILE, &text(&app, policy)).start();
        let http = run.http();
        http.wait_until_read(2, COUNT as u64 + 1, LIMIT);
        let peak = run.peak_memory();
        let metrics = http.metrics();
        assert_eq!(metrics.sum("tidemill_source_bad_records_total", &[]), COUNT as f64);
        let spilled = metrics.sum("tidemill_spilled_bytes_total", &[]);
        run.stop(LIMIT);

        // 200 MB of letters, of which 16 MiB stay; 64 MiB each are for what is fetched ahead and for what is produced.
        assert!(peak < 400_000_000, "{policy}: {peak} bytes");
        match policy {
            "skip" => assert_eq!(spilled, 0.0),
            _ => assert!(spilled > 180e6, "{spilled}"),
        }
    }
    assert_eq!(broker.read(&out).iter().map(Row::text).collect::<Vec<_>>(), [r#"{"n":7}"#; 2]);
    let mut letters = broker.read(&dlq);
    assert_eq!(letters.len(), COUNT);
    letters.sort_by_key(|letter| {
        let number = |name| letter.noted(name).parse::<usize>().unwrap();
        2 * number("offset") + number("partition")
    });
    for (n, letter) in letters.iter().enumerate() {
        assert!(letter.text() == value(n), "{n}: {}", letter.text());
    }
    assert_eq!(letters[0].noted("timestamp"), at.to_string());
    assert_eq!(letters[0].noted("stage"), "decode");
}

#[derive(Default)]
struct Bad(Mutex<u64>);

impl StreamingListener for Bad {
    fn batch_completed(&self, batch: &BatchInfo) {
        *self.0.lock().unwrap() += batch.bad_records;
    }
}

#[test]
fn letters_of_tasks_that_were_tried_again_and_of_two_operators_are_there_once() {
    const COUNT: usize = 30_000;
    let broker = Broker::shared();
    let name = unique_name("tried-again");
    broker.create_topic(&name, 2);
    // 30 MB in one batch, every other record bad: some letters of each attempt are in memory, some in the file.
    let filler = "x".repeat(1_000);
    let value = |n: usize| format!("{} {filler}", if n % 4 < 2 { "bad" } else { "7" });
    broker.produce(&name, (0..COUNT).map(|n| Record::from(value(n)).partition((n % 2) as i32)));
    let folder = tempfile::tempdir().unwrap();
    let ssc = context(&name, folder.path());
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
    let source = KafkaSource::new(broker.bootstrap(), [&name]).start(Start::Earliest).end(End::Latest);
    let source = source.max_records_per_batch(u64::MAX).max_bytes_per_batch(u64::MAX);
    let stream =
        ssc.kafka_direct_stream(source).on_bad_record(OnBadRecord::DeadLetter(format!("{name}.dlq")));
    let number = |text: &str| text.split(' ').next().unwrap_or_default().parse::<i64>();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let flaky = stream.try_map(move |record| {
        let last = record.offset == COUNT as i64 / 2 - 1;
        assert!(!last || counted.fetch_add(1, Ordering::Relaxed) >= 3, "not yet");
        number(&record.text())
    });
    flaky
        .reduce(|a, b| a + b)
        .map(|sum| ProducerRecord::new("sum", sum.to_string()))
        .save_to_kafka(&sink, &format!("{name}-out"));
    // What computes it anew, and another operator over the same slices.
    flaky.foreach_rdd(|rdd| rdd.count().map(drop));
    stream.try_map(move |record| number(&record.text())).foreach_rdd(|rdd| rdd.count().map(drop));
    let bad = Arc::new(Bad::default());
    ssc.add_streaming_listener(bad.clone());
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
    assert!(attempts.load(Ordering::Relaxed) >= 5);
    assert_eq!(*bad.0.lock().unwrap(), COUNT as u64 / 2);
    let sum: Vec<_> = broker.read(&format!("{name}-out")).iter().map(Row::text).collect();
    assert_eq!(sum, [(7 * COUNT / 2).to_string()]);
    let letters = broker.read(&format!("{name}.dlq"));
    let mut places: Vec<(usize, usize)> = letters
        .iter()
        .map(|l| (l.noted("partition").parse().unwrap(), l.noted("offset").parse().unwrap()))
        .collect();
    places.sort_unstable();
    let is_bad = |(partition, offset): &(usize, usize)| (2 * offset + partition) % 4 < 2;
    let all = (0..2).flat_map(|partition| (0..COUNT / 2).map(move |offset| (partition, offset)));
    assert_eq!(places, all.filter(is_bad).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter.text() == value(0)));
}

#[test]
fn many_records_that_their_topic_refuses_go_to_dead_letters_through_a_file() {
    const COUNT: usize = 5_000;
    let broker = Broker::shared();
    let name = unique_name("refused");
    broker.create_topic(&name, 1);
    let out = format!("{name}-out");
    broker.create_topic_with(&out, 1, &[("max.message.bytes", "1000")]);
    broker.produce(&name, (0..COUNT).map(|n| n.to_string()));
    let folder = tempfile::tempdir().unwrap();
    let ssc = context(&name, folder.path());
    // A tenth of the records, and of the letters.
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()).buffer_memory(1 << 20));
    let policy = OnBadRecord::DeadLetter(format!("{name}.dlq"));
    sink.topic(&out, TopicSettings::new().on_bad_record(policy));
    let source = KafkaSource::new(broker.bootstrap(), [&name]).start(Start::Earliest).end(End::Latest);
    ssc.kafka_direct_stream(source.slicing(Slicing::Arrival).max_records_per_batch(u64::MAX))
        .text()
        .map(|n| {
            let large = n.len() == 4 && n.starts_with('1');
            ProducerRecord::new(n.clone(), if large { "x".repeat(10_000) } else { n })
        })
        .save_to_kafka(&sink, &out);
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
    let is_large = |n: &usize| (1_000..2_000).contains(n);
    let letters = eventually(LIMIT, "the letters", || {
        let letters = broker.read(&format!("{name}.dlq"));
        (letters.len() == 1_000).then_some(()).ok_or_else(|| format!("{}", letters.len()))?;
        Ok(letters)
    });
    let mut keys: Vec<usize> = letters.iter().map(|letter| letter.key_text().parse().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..COUNT).filter(is_large).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter.value.as_ref().is_some_and(|value| value.len() == 10_000)));
    let mut sent: Vec<usize> = broker.read(&out).iter().map(|row| row.text().parse().unwrap()).collect();
    sent.sort_unstable();
    assert_eq!(sent, (0..COUNT).filter(|n| !is_large(n)).collect::<Vec<_>>());
}
