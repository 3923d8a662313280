//! The sink: what of a row becomes what of a record, topics that are made as was said, and outputs larger than the memory for them.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::{End, KafkaSinkSettings, KafkaSource, ProducerRecord, Start, StreamingContext};

use crate::support::words::Random;
use crate::support::{Broker, Record, Row, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "orders.yaml";

#[test]
fn columns_become_keys_values_headers_and_timestamps_and_topics_are_made_as_was_said() {
    let broker = Broker::shared();
    let name = unique_name("orders");
    let text = format!(
        "app_id: {name}
batch_interval: 100ms
delivery: exactly-once
checkpoint: data
http: ${{TIDEMILL_HTTP}}
producer: {{ compression: zstd, buffer_memory: 8MiB, transaction_timeout: 1m }}
sources:
  orders:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest }}
    format: json
    schema: {{ id: text, n: bigint, at: timestamp, body: text }}
streams:
  totals: {{ map_with_state: {{ from: orders, key: [id], state: {{ n: \"sum(n)\" }}, timeout: 1s }} }}
outputs:
  - from: orders
    kafka:
      topic: {name}-bodies
      key: id
      value: body
      headers: {{ number: n, again: body }}
      timestamp: at
      partitions: 3
      replication: 1
      config: {{ max.message.bytes: 2000, retention.ms: -1 }}
      on_bad_record: {{ dead_letter: {name}-unsent }}
  - {{ from: totals, kafka: {{ topic: {name}-totals, key: id, on_removed: tombstone, config: {{ cleanup.policy: compact }} }} }}
"
    );
    broker.create_topic(&name, 2);
    // Worth compressing, and more than the topic takes.
    let (one, large) = ("one".repeat(100), "x".repeat(2_000));
    let mut run = broker.run(FILE).file(FILE, &text).start();
    let http = run.http();
    eventually(LIMIT, "readiness", || match http.get("/readyz") {
        (200, _) => Ok(()),
        (_, body) => Err(body),
    });
    broker.produce(
        &name,
        [
            format!(r#"{{"id": "ann", "n": 3, "at": "2026-01-31T10:00:00.250Z", "body": "{one}"}}"#),
            r#"{"id": "bob", "n": 4, "body": null}"#.to_owned(),
            format!(r#"{{"id": "eve", "n": 5, "body": "{large}"}}"#),
        ]
        .map(|value| Record::from(value).partition(1)),
    );
    let (bodies, totals) = (format!("{name}-bodies"), format!("{name}-totals"));
    eventually(LIMIT, "the tombstones", || {
        let rows = broker.read(&totals);
        let gone = rows.iter().filter(|row| row.value.is_none()).count();
        if gone == 3 { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    let bad = http.metrics().sum("tidemill_source_bad_records_total", &[]);
    run.stop(LIMIT);

    let rows: BTreeMap<String, Row> =
        broker.read(&bodies).into_iter().map(|row| (row.key_text(), row)).collect();
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["ann", "bob"]);
    let ann = &rows["ann"];
    assert_eq!((ann.text().as_str(), ann.timestamp), (one.as_str(), 1_769_853_600_250));
    assert_eq!(ann.headers, [("number".to_owned(), b"3".to_vec()), ("again".to_owned(), one.into_bytes())]);
    // Without a value it is a tombstone, and without a time it has its batch's.
    assert_eq!((&rows["bob"].value, rows["bob"].timestamp % 100), (&None, 0));

    let unsent = broker.read(&format!("{name}-unsent"));
    assert_eq!((unsent.len(), bad), (1, 1.0));
    let letter = &unsent[0];
    assert_eq!((letter.key_text().as_str(), letter.text()), ("eve", large));
    let header = |name| letter.noted(name);
    assert_eq!((header("topic"), header("stage")), (bodies.clone(), "produce".to_owned()));
    assert!(header("message").contains("the topic takes 2000"), "{}", header("message"));
    assert!(header("operator").contains("save_to_kafka"), "{}", header("operator"));

    // Each key has its sum and then its end.
    let mut ends = BTreeMap::<String, Vec<String>>::new();
    broker.read(&totals).iter().for_each(|row| ends.entry(row.key_text()).or_default().push(row.text()));
    let expected = [("ann", 3), ("bob", 4), ("eve", 5)]
        .map(|(id, n)| (id.to_owned(), vec![format!("{{\"id\":\"{id}\",\"n\":{n}}}"), String::new()]));
    assert_eq!(ends, expected.into());

    let server = ["--bootstrap-server", broker.bootstrap(), "--describe", "--topic", &bodies];
    let told = broker.tool("org.apache.kafka.tools.TopicCommand", &server);
    for part in ["PartitionCount: 3", "ReplicationFactor: 1", "max.message.bytes=2000", "retention.ms=-1"] {
        assert!(told.contains(part), "no {part}: {told}");
    }
    let segment = broker.log_segment(&bodies, ann.partition);
    let log = broker.tool("kafka.tools.DumpLogSegments", &["--files", segment.to_str().unwrap()]);
    assert!(log.contains("compresscodec: zstd"), "{log}");
}

#[test]
fn each_topic_gets_what_it_takes_and_dead_letters_fit_theirs() {
    let broker = Broker::shared();
    let name = unique_name("limits");
    broker.create_topic(&name, 1);
    // As somebody has made it who did not think of large letters.
    broker.create_topic_with(&format!("{name}.dlq"), 1, &[("max.message.bytes", "3000")]);
    let text = format!(
        "app_id: {name}
batch_interval: 100ms
delivery: exactly-once
checkpoint: data
http: ${{TIDEMILL_HTTP}}
producer: {{ compression: none, buffer_memory: 1MiB }}
sources:
  lines:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest }}
    format: json
    schema: {{ id: text, at: timestamp, body: text }}
    on_bad_record: {{ dead_letter: {name}.dlq }}
streams:
  small: {{ sql: \"select id, body from lines where length(body) < 1000\" }}
  large: {{ sql: \"select id, body from lines where length(body) >= 1000\" }}
  dated: {{ sql: \"select id, at from lines where at is not null\" }}
outputs:
  - {{ from: small, kafka: {{ topic: {name}-small, key: id, value: body, partitions: 1, config: {{ max.message.bytes: 2000 }} }} }}
  - {{ from: large, kafka: {{ topic: {name}-large, key: id, value: body, partitions: 1, config: {{ max.message.bytes: 4194304 }} }} }}
  - from: dated
    kafka: {{ topic: {name}-dated, key: id, value: id, timestamp: at, on_bad_record: {{ dead_letter: {name}.dlq }} }}
"
    );
    // More than the topic takes at once, though not one by one; and one that is larger than the memory for what is on its way.
    let line = |id: &str, body: &str| Record::from(format!(r#"{{"id": "{id}", "body": "{body}"}}"#));
    let dated = |id: &str, at: &str| Record::from(format!(r#"{{"id": "{id}", "at": "{at}", "body": ""}}"#));
    let mut random = Random(7);
    let bodies: Vec<String> = (0..100).map(|_| (0..300).map(|_| digit(&mut random)).collect()).collect();
    let mut records: Vec<_> = bodies.iter().map(|body| line("s", body)).collect();
    let large = "x".repeat(3_000_000);
    broker.create_topic_with(&format!("{name}-in"), 1, &[("max.message.bytes", "4194304")]);
    records.extend([
        dated("past", "2026-01-31T10:00:00Z"),
        dated("ahead", "2200-01-31T10:00:00Z"),
        dated("epoch", "1970-01-01T00:00:00Z"),
        Record::from("y".repeat(5_000)).key("bad").header("trace", "7"),
    ]);
    let count = records.len() as u64;
    broker.produce(&name, records);
    let text = text.replace(&format!("topics: [{name}]"), &format!("topics: [{name}, {name}-in]"));
    let java = ["--bootstrap-server", broker.bootstrap(), "--topic", &format!("{name}-in")];
    let size = ["--producer-property", "max.request.size=4000000", "--max-partition-memory-bytes", "4000000"];
    let input = format!("{{\"id\": \"l\", \"body\": \"{large}\"}}\n");
    broker.tool_with_input("org.apache.kafka.tools.ConsoleProducer", &[&java[..], &size].concat(), &input);

    let app = broker.run(FILE).file(FILE, &text);
    let mut run = app.start();
    run.http().wait_until_read(2, count + 1, LIMIT);
    run.stop(LIMIT);
    // Whether a batch goes on after another one is librdkafka's affair: what counts is that each is there, once and in order.
    let values = |topic: &str| broker.read(topic).iter().map(Row::text).collect::<Vec<_>>();
    let mut small = values(&format!("{name}-small"));
    small.retain(|body| !body.is_empty());
    assert!(small == bodies, "{} of {}", small.len(), bodies.len());
    assert!(values(&format!("{name}-large")) == [large]);
    assert_eq!(values(&format!("{name}-dated")), ["past"]);

    let letters = broker.read(&format!("{name}.dlq"));
    let told: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| {
            let header = |name| letter.noted_if_any(name).unwrap_or_default();
            (letter.key_text(), (header("message"), header("left_out"), letter))
        })
        .collect();
    assert_eq!(told.keys().collect::<Vec<_>>(), ["ahead", "bad", "epoch"]);
    assert!(told["ahead"].0.contains("message.timestamp.after.max.ms"), "{:?}", told["ahead"]);
    assert!(told["epoch"].0.contains("0 ms since the epoch"), "{:?}", told["epoch"]);
    let (_, left_out, bad) = &told["bad"];
    assert_eq!((left_out.as_str(), &bad.value), ("its value of 5000 bytes", &None));
    assert!(bad.headers.contains(&("trace".to_owned(), b"7".to_vec())));
    assert!(run.stderr().contains("goes there without its value of 5000 bytes"), "{}", run.stderr());
    // What is not whole is not sent back as if it were.
    let said = app.done(&["dead-letters", "resend", FILE, "--from", &name, "--execute"], LIMIT);
    assert!(said.contains("it is without its value of 5000 bytes"), "{said}");
    assert!(said.contains(r#""not_whole":1"#) && said.contains(r#""sent":0"#), "{said}");
}

/// One of 62 letters and digits.
fn digit(random: &mut Random) -> char {
    let all = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char::from(all[random.below(62) as usize])
}

#[test]
fn keys_go_where_javas_producer_puts_them() {
    let broker = Broker::shared();
    let (from, to) = (broker.unique_topic("javas", 7), broker.unique_topic("ours", 7));
    let keys: Vec<String> = (0..200)
        .map(|n| match n % 4 {
            0 => format!("key{n}"),
            1 => format!("schlüssel-{n}-鍵"),
            2 => "k".repeat(n),
            _ => n.to_string(),
        })
        .chain([String::new()])
        .collect();
    let input: String = keys.iter().map(|key| format!("{key}\tvalue\n")).collect();
    let server = ["--bootstrap-server", broker.bootstrap(), "--topic", &from];
    let how = ["--property", "parse.key=true"];
    broker.tool_with_input("org.apache.kafka.tools.ConsoleProducer", &[&server[..], &how].concat(), &input);

    let folder = tempfile::tempdir().unwrap();
    let ssc =
        StreamingContext::builder(&*to).batch_interval(Duration::from_millis(100)).checkpoint(folder.path());
    let ssc = ssc.build().unwrap();
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
    let source = KafkaSource::new(broker.bootstrap(), [&from]).start(Start::Earliest).end(End::Latest);
    let copied = |record: &tidemill::Record<'_>| ProducerRecord {
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        ..ProducerRecord::default()
    };
    ssc.kafka_direct_stream(source).map(copied).save_to_kafka(&sink, &to);
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
    let places = |topic: &str| {
        broker.read(topic).into_iter().map(|row| (row.key.clone(), row.partition)).collect::<BTreeMap<_, _>>()
    };
    let (javas, ours) = (places(&from), places(&to));
    assert!(javas.len() > 190 && javas.contains_key(&Some(vec![])), "{}", javas.len());
    assert_eq!(javas.values().collect::<std::collections::BTreeSet<_>>().len(), 7);
    assert_eq!(ours, javas);
}

#[test]
fn a_topic_that_is_not_to_be_made_is_missed() {
    let broker = Broker::shared();
    let name = unique_name("missed");
    broker.create_topic(&name, 1);
    let text = format!(
        "app_id: {name}
batch_interval: 100ms
delivery: exactly-once
checkpoint: data
sources:
  lines: {{ kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}] }}, format: text }}
outputs:
  - {{ from: lines, kafka: {{ topic: {name}-out, create: never }} }}
"
    );
    let mut run = broker.run(FILE).file(FILE, &text).start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(2));
    let told = format!("output topic `{name}-out` does not exist");
    assert!(run.stderr().contains(&told), "{}", run.stderr());
}

#[test]
fn an_output_larger_than_its_memory_goes_through_a_file() {
    let broker = Broker::shared();
    let name = unique_name("expanding");
    broker.create_topic(&name, 2);
    // 20,000 lines of which each gives 16 kB: 320 MB in one transaction.
    let text = format!(
        "app_id: {name}
batch_interval: 1s
delivery: exactly-once
checkpoint: data
http: ${{TIDEMILL_HTTP}}
producer: {{ buffer_memory: 8MiB }}
sources:
  lines: {{ kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest }}, format: text }}
streams:
  parts: {{ sql: \"select unnest(array_resize(make_array(value), 16, value)) as part from lines\" }}
  long: {{ sql: \"select concat(repeat(part, 100), '!') as line from parts\" }}
outputs:
  - {{ from: long, kafka: {{ topic: {name}-out, value: line, key: line }} }}
"
    );
    broker.produce(&name, (0..20_000).map(|n| Record::from(format!("{n:09} ").as_str()).partition(n % 2)));
    let mut run = broker.run(FILE).file(FILE, &text).env("TIDEMILL_LOG", "debug").start();
    let http = run.http();
    let mut peak = 0.0_f64;
    eventually(LIMIT * 2, "all lines", || {
        let metrics = http.metrics();
        peak = metrics.all("process_resident_memory_bytes", &[]).into_iter().fold(peak, f64::max);
        let sent = metrics.sum("tidemill_sink_records_total", &[]);
        if sent == 320_000.0 { Ok(()) } else { Err(format!("{sent}")) }
    });
    run.stop(LIMIT);
    assert!(run.stderr().contains("go to a temporary file"));
    assert!(peak < 400e6, "{peak} bytes for 640 MB of keys and values");
}
