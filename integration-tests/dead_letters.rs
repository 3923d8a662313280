//! Records that cannot be used: kept aside with the reason, whichever stage they fail in, shown, and sent back once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tidemill::{End, KafkaSinkSettings, KafkaSource, OnBadRecord, Reader, Start, StreamingContext};

use crate::support::proxy::END_TXN;
use crate::support::{App, Broker, Proxy, Record, Row, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "numbers.yaml";

fn pipeline(name: &str) -> String {
    format!(
        "app_id: {name}
batch_interval: 100ms
delivery: exactly-once
checkpoint: data
http: ${{TIDEMILL_HTTP}}
sources:
  numbers:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest }}
    format: json
    schema: {{ n: bigint }}
    on_bad_record: {{ dead_letter: {name}.dlq }}
streams:
  parts: {{ sql: \"select n, 100 / n as part from numbers\" }}
  odd: {{ filter: {{ from: parts, where: \"10 / (part - 50) >= 0 or n > 2\" }} }}
outputs:
  - {{ from: odd, kafka: {{ topic: {name}-out }} }}
"
    )
}

fn value(n: &str) -> String {
    format!(r#"{{"n": {n}}}"#)
}

fn texts(rows: &[Row]) -> Vec<String> {
    rows.iter().map(Row::text).collect()
}

/// The JSON lines that `dead-letters list` prints.
fn listed(app: &App, more: &[&str]) -> Vec<Value> {
    let arguments = [&["dead-letters", "list", FILE, "--format", "json"], more].concat();
    let mut run = app.arguments(&arguments).start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
    run.stdout().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// How many `dead-letters resend` has sent, would send, and had sent before.
fn resend(app: &App, more: &[&str]) -> [u64; 3] {
    let mut run = app.arguments(&[&["dead-letters", "resend", FILE], more].concat()).start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
    let summary: Value = serde_json::from_str(run.stdout().lines().last().expect("a summary")).unwrap();
    ["sent", "would_send", "sent_before"].map(|name| summary[name].as_u64().unwrap())
}

#[test]
fn what_fails_in_decoding_or_processing_is_kept_shown_and_sent_back_once() {
    let broker = Broker::shared();
    let name = unique_name("numbers");
    broker.create_topic(&name, 2);
    broker.produce(
        &name,
        [
            Record::from(value("4").as_str()),
            Record::from(("k", "no number")).header("trace", "7").timestamp(1_700_000_000_000),
            // Fails in the first query, and in the second.
            Record::from(value("0").as_str()),
            Record::from(value("2").as_str()).header("trace", "8"),
            Record::from(value("1").as_str()),
        ]
        .map(|record| record.partition(1)),
    );
    let app = broker.run(FILE).file(FILE, &pipeline(&name));
    let mut run = app.start();
    let http = run.http();
    http.wait_until_read(2, 5, LIMIT);
    let (out, dlq) = (format!("{name}-out"), format!("{name}.dlq"));
    let good = [(4, 25), (1, 100)].map(|(n, part)| format!("{{\"n\":{n},\"part\":{part}}}"));
    // A reader may see a transaction only a moment after it was committed.
    eventually(LIMIT, "the output", || {
        let mut found = texts(&broker.read(&out));
        found.sort_by_key(|text| std::cmp::Reverse(text.clone()));
        let letters = broker.read(&dlq).len();
        let done = found == good && letters == 3;
        if done { Ok(()) } else { Err(format!("{found:?}, {letters} dead letters")) }
    });
    assert_eq!(http.metrics().sum("tidemill_source_bad_records_total", &[]), 3.0);

    let letters = listed(&app, &[]);
    let told = |field: &str| letters.iter().map(|letter| letter[field].clone()).collect::<Vec<_>>();
    let mut by_offset: Vec<_> = letters.iter().collect();
    by_offset.sort_by_key(|letter| letter["offset"].as_i64());
    let shown: Vec<_> = by_offset
        .iter()
        .map(|l| {
            let text = |field: &str| l[field].as_str().unwrap_or_default().to_owned();
            (l["partition"].as_i64().unwrap(), l["offset"].as_i64().unwrap(), text("stage"), text("operator"))
        })
        .collect();
    let expected = [(1, 1, "decode", "numbers"), (1, 2, "process", "parts"), (1, 3, "process", "odd")]
        .map(|(p, o, stage, operator)| (p, o, stage.to_owned(), operator.to_owned()));
    assert_eq!(shown, expected);
    assert_eq!(told("resent"), [false; 3].map(Value::from));
    assert!(
        by_offset[1]["message"].as_str().unwrap().to_lowercase().contains("divide by zero"),
        "{letters:?}"
    );
    assert!(letters.iter().all(|l| l["batch_time"].as_i64().is_some_and(|time| time % 100 == 0)));
    assert_eq!(listed(&app, &["--stage", "process"]).len(), 2);
    assert_eq!(listed(&app, &["--message", "ivide by zero", "--operator", "odd"]).len(), 1);
    assert_eq!(listed(&app, &["--limit", "1"]).len(), 1);

    // Nothing is sent unless it is asked for.
    assert_eq!(resend(&app, &[]), [0, 3, 0]);
    let to = broker.unique_topic("mended", 1);
    assert_eq!(resend(&app, &["--to", &to, "--stage", "decode", "--execute"]), [1, 1, 0]);
    let back = broker.read(&to);
    assert_eq!(back.len(), 1);
    assert_eq!((back[0].key_text().as_str(), back[0].text().as_str()), ("k", "no number"));
    assert_eq!(back[0].headers, [("trace".to_owned(), b"7".to_vec())]);
    assert_eq!(back[0].timestamp, 1_700_000_000_000);

    // The others go back to where they are from; what was sent is not sent again.
    run.stop(LIMIT);
    assert_eq!(resend(&app, &["--execute"]), [2, 2, 1]);
    assert_eq!(resend(&app, &["--execute"]), [0, 0, 3]);
    let all = broker.read(&name);
    assert_eq!(texts(&all)[5..], [value("0"), value("2")]);
    assert!(all.iter().all(|row| row.partition == 1));
    assert_eq!(all[6].headers, [("trace".to_owned(), b"8".to_vec())]);
    assert!(listed(&app, &[]).iter().all(|letter| letter["resent"] == true));

    // With the queries mended they are read like any others.
    let mended = pipeline(&name).replace("100 / n", "100 / (n + 1)").replace("(part - 50)", "1");
    let mut run = app.clone().file(FILE, &mended).arguments(&["run", FILE]).start();
    let http = run.http();
    // The transaction that sent them back has left a mark of its own behind them.
    http.wait_until_read(2, 8, LIMIT);
    run.stop(LIMIT);
    let mut sent = texts(&broker.read(&out));
    sent.sort();
    let expected = [(0, 100), (1, 100), (2, 33), (4, 25)];
    assert_eq!(sent, expected.map(|(n, part)| format!("{{\"n\":{n},\"part\":{part}}}")));
    assert_eq!(broker.read(&dlq).len(), 3);
}

#[test]
fn programs_say_what_becomes_of_records_that_they_cannot_use() {
    let broker = Broker::shared();
    let name = unique_name("typed");
    broker.create_topic(&name, 1);
    broker.produce(&name, ["1", "two", "3"]);
    let sums = |policy: OnBadRecord, app: &str| {
        let checkpoint = tempfile::tempdir().unwrap();
        let ssc = StreamingContext::builder(app)
            .batch_interval(Duration::from_millis(100))
            .checkpoint(checkpoint.path())
            .build()
            .unwrap();
        let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
        let source = KafkaSource::new(broker.bootstrap(), [&name]).start(Start::Earliest);
        ssc.kafka_direct_stream(source)
            .on_bad_record(policy)
            .try_map(|record| record.text().parse::<i64>())
            .reduce(|a, b| a + b)
            .map(|sum| tidemill::ProducerRecord::new("sum", sum.to_string()))
            .save_to_kafka(&sink, &format!("{app}-out"));
        let started = ssc.start();
        let outcome = started.and_then(|()| {
            eventually(LIMIT, "the batch", || {
                if broker.committed(app, &name).get(&0) == Some(&3) {
                    return Ok(());
                }
                match ssc.await_termination_or_timeout(Duration::from_millis(50)) {
                    Ok(false) => Err("not yet".to_owned()),
                    _ => Ok(()),
                }
            });
            ssc.stop(true)
        });
        (outcome, texts(&broker.read(&format!("{app}-out"))))
    };
    let (outcome, rows) = sums(OnBadRecord::Skip, &format!("{name}-skip"));
    assert_eq!((outcome.is_ok(), rows), (true, vec!["4".to_owned()]));
    let dlq = format!("{name}.dlq");
    let (outcome, rows) = sums(OnBadRecord::DeadLetter(dlq.clone()), &format!("{name}-kept"));
    assert_eq!((outcome.is_ok(), rows), (true, vec!["4".to_owned()]));
    let letters = broker.read(&dlq);
    assert_eq!(texts(&letters), ["two"]);
    let operator = letters[0].headers.iter().find(|(name, _)| name.ends_with(".operator")).unwrap();
    assert!(String::from_utf8_lossy(&operator.1).starts_with("try_map at integration-tests/dead_letters.rs"));
    let (outcome, rows) = sums(OnBadRecord::Fail, &format!("{name}-fail"));
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains(&format!("record {name}-0 at offset 1: invalid digit")), "{error}");
    assert!(rows.is_empty());
}

/// A record as it stands in a topic, whatever it is.
type Raw = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

/// All records of the one partition of `topic`, less the headers that dead letters have.
fn raw(broker: &Broker, topic: &str) -> Vec<Raw> {
    let folder = tempfile::tempdir().unwrap();
    let ssc = StreamingContext::builder(unique_name("raw")).batch_interval(Duration::from_millis(100));
    let ssc = ssc.checkpoint(folder.path()).build().unwrap();
    let all = Arc::<Mutex<Vec<Raw>>>::default();
    let seen = all.clone();
    let source = KafkaSource::new(broker.bootstrap(), [topic]).start(Start::Earliest).end(End::Latest);
    // librdkafka's own way, by which nothing was written here that could be wrong in the same way.
    ssc.kafka_direct_stream(source.reader(Reader::RdKafka)).records().foreach_rdd(
        move |rdd| -> tidemill::Result<()> {
            let raw = rdd.collect()?.into_iter().map(|record| {
                let mut headers = record.headers;
                headers.retain(|(name, _)| !name.starts_with("__tidemill."));
                (record.key, record.value, headers)
            });
            seen.lock().unwrap().extend(raw);
            Ok(())
        },
    );
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
    std::mem::take(&mut *all.lock().unwrap())
}

#[test]
fn a_dead_letter_is_the_record_byte_for_byte_and_skip_leaves_it_out() {
    let broker = Broker::shared();
    let name = unique_name("bytes");
    broker.create_topic(&name, 1);
    let odd: Vec<u8> = (0..=255).rev().collect();
    let producer: BaseProducer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    let header = |key, value| Header { key, value };
    let none = None::<&[u8]>;
    let headers = OwnedHeaders::new()
        .insert(header("nothing", none))
        .insert(header("odd", Some(&odd[..])))
        .insert(header("nothing", Some(b"")));
    let record = || BaseRecord::<[u8], [u8]>::to(&name).headers(headers.clone());
    producer.send(record().key(&odd[..]).payload(&odd[..])).map_err(|(e, _)| e).unwrap();
    producer.send(record().key(&[][..])).map_err(|(e, _)| e).unwrap();
    producer
        .send(BaseRecord::<[u8], [u8]>::to(&name).payload(&br#"{"n": 7}"#[..]))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(LIMIT).unwrap();

    let text = |run: &str, policy: &str| {
        format!(
            "app_id: {name}-{run}
batch_interval: 100ms
delivery: exactly-once
checkpoint: data
sources:
  numbers:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{name}], start: earliest, end: latest }}
    format: json
    schema: {{ n: bigint }}
    on_bad_record: {policy}
outputs:
  - {{ from: numbers, kafka: {{ topic: {name}-out }} }}
"
        )
    };
    for (run, policy) in [("skip", "skip"), ("kept", &format!("{{ dead_letter: {name}.dlq }}"))] {
        let mut run = broker.run(FILE).file(FILE, &text(run, policy)).start();
        assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
    }
    assert_eq!(texts(&broker.read(&format!("{name}-out"))), [r#"{"n":7}"#; 2]);
    let (letters, records) = (raw(broker, &format!("{name}.dlq")), raw(broker, &name));
    assert_eq!(records.len(), 3);
    assert_eq!(letters, records[..2]);
    assert_eq!(letters[0].0.as_ref(), Some(&odd));
    assert_eq!((&letters[1].0, &letters[1].1), (&Some(vec![]), &None));
    assert_eq!(letters[1].2[0], ("nothing".to_owned(), None));
}

#[test]
fn letters_are_all_listed_while_others_come() {
    let broker = Broker::shared();
    let name = unique_name("busy");
    let dlq = broker.unique_topic("busy.dlq", 2);
    const COUNT: usize = 20_000;
    let filler = "x".repeat(300);
    broker.produce(&dlq, (0..COUNT).map(|n| Record::from(format!("{n} {filler}")).partition(0)));
    let app = broker.run(FILE).file(FILE, &pipeline(&name).replace(&format!("{name}.dlq"), &dlq));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                broker.produce(&dlq, [Record::from("other").partition(1)]);
            }
        });
        let letters = listed(&app, &[]);
        done.store(true, Ordering::Relaxed);
        others.join().unwrap();
        let of_first = letters.iter().filter(|letter| letter["dead_letter"]["partition"] == 0).count();
        assert_eq!(of_first, COUNT);
    });
}

#[test]
fn letters_are_sent_back_once_though_it_is_killed_between_and_within_transactions() {
    const COUNT: usize = 25_000;
    // So many are in a transaction.
    const AT_ONCE: usize = 10_000;
    let (broker, proxy) = Broker::start_with("");
    let (dlq, to) = ("killed.dlq", "killed-again");
    for topic in [dlq, to] {
        broker.create_topic(topic, 1);
    }
    let letter = |n: usize| {
        let noted = |record: Record, (name, value): (&str, &str)| {
            record.header(&format!("__tidemill.errors.{name}"), value)
        };
        let offset = n.to_string();
        let notes = [("topic", "killed"), ("partition", "0"), ("offset", &offset), ("stage", "decode")];
        notes.into_iter().fold(Record::from(n.to_string()), noted)
    };
    broker.produce(dlq, (0..COUNT).map(letter));
    let app = broker.run(FILE).file(FILE, &pipeline("killed")).env("KAFKA_BROKERS", proxy.bootstrap());
    let sent = |count: usize| {
        eventually(LIMIT, "what was committed", || {
            let rows = broker.read(to);
            (rows.len() == count).then_some(()).ok_or_else(|| format!("{} of {count}", rows.len()))?;
            Ok(rows)
        })
    };
    let resending = ["dead-letters", "resend", FILE, "--to", to, "--execute"];
    let cuts = [
        // The first transaction is committed, and the next one not begun.
        Proxy::cut_after as fn(&Proxy, i16),
        // The second one is about to be.
        Proxy::cut_before,
    ];
    for cut in cuts {
        cut(&proxy, END_TXN);
        let mut run = app.arguments(&resending).start();
        proxy.wait_until_cut();
        run.sigkill();
        run.wait_exit(LIMIT);
        proxy.open();
        sent(AT_ONCE);
    }
    let (rest, before) = ((COUNT - AT_ONCE) as u64, AT_ONCE as u64);
    assert_eq!(resend(&app, &["--to", to, "--execute"]), [rest, rest, before]);
    let rows: Vec<usize> = sent(COUNT).iter().map(|row| row.text().parse().unwrap()).collect();
    assert_eq!(rows, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(resend(&app, &["--to", to, "--execute"]), [0, 0, COUNT as u64]);
}
