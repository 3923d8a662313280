//! Slicing by timestamp: what belongs to a batch is in the records, and not in when and how often the program ran.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidemill::testing::TestContext;
use tidemill::{Clock, KafkaSource, RddQueue, Slicing, Start, StreamingContext, SystemClock, Time};

use crate::support::words::Random;
use crate::support::{App, Broker, Record, Run, eventually, pause, unique_name};

const LIMIT: Duration = Duration::from_secs(90);
const FILE: &str = "pipeline.yaml";
const INTERVAL: i64 = 10_000;
/// The windows of the pipeline, in intervals.
const WINDOW: i64 = 3;
const PARTITIONS: i32 = 3;

/// Counts by time and word.
type Counts = BTreeMap<(i64, String), u64>;

fn now() -> i64 {
    SystemClock::default().now().as_millis()
}

fn by_timestamp(broker: &Broker, topic: &str) -> KafkaSource {
    KafkaSource::new(broker.bootstrap(), [topic]).start(Start::Earliest).slicing(Slicing::timestamp())
}

/// The words of each partition with their timestamps: rising on the whole from an hour ago to twenty minutes ago, with some
/// that are older, and with a pause of ten minutes in which no partition has anything.
fn words_of_an_hour() -> Vec<Vec<(i64, String)>> {
    const WORDS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut random = Random(7);
    let begin = now() - 3_600_000;
    let partition = |_| {
        let mut words = Vec::new();
        for second in (0..2_400).filter(|second| !(600..1_200).contains(second)) {
            if random.below(3) > 0 {
                let older = if random.below(10) == 0 { random.below(30_000) as i64 } else { 0 };
                let at = begin + second * 1_000 + random.below(1_000) as i64 - older;
                words.push((at, WORDS[random.below(5) as usize].to_owned()));
            }
        }
        words
    };
    (0..PARTITIONS).map(partition).collect()
}

/// What the batches of `partitions` must count: each ends, in each partition, before the first record at or past its time.
fn counted_by_hand(partitions: &[Vec<(i64, String)>]) -> Counts {
    let mut counts = Counts::new();
    let first = partitions.iter().map(|words| words[0].0).min().unwrap();
    for words in partitions {
        let mut batch = (first / INTERVAL + 1) * INTERVAL;
        for (at, word) in words {
            batch = batch.max((at / INTERVAL + 1) * INTERVAL);
            *counts.entry((batch, word.clone())).or_default() += 1;
        }
    }
    counts
}

/// The sums over windows that slide with each interval.
fn windows_of(counts: &Counts) -> Counts {
    let mut windows = Counts::new();
    for ((batch, word), count) in counts {
        for later in 0..WINDOW {
            *windows.entry((batch + later * INTERVAL, word.clone())).or_default() += count;
        }
    }
    windows
}

/// What the pipeline wrote; nothing may be there twice.
#[track_caller]
fn written(broker: &Broker, topic: &str) -> Counts {
    let mut counts = Counts::new();
    for row in broker.read(topic) {
        let value: serde_json::Value = serde_json::from_str(&row.text()).unwrap();
        let before = counts.insert((row.timestamp, row.key_text()), value["n"].as_u64().unwrap());
        assert_eq!(before, None, "{topic}: {} at {} is there twice", row.key_text(), row.timestamp);
    }
    counts
}

/// Waits until `count` records are committed.
#[track_caller]
fn reads(run: &mut Run, count: i64) {
    let http = run.http();
    eventually(LIMIT, "the records", || {
        let read = http.metrics().sum("tidemill_source_committed_offset", &[]);
        (read >= count as f64).then_some(()).ok_or_else(|| format!("{read} of {count}"))
    });
}

fn pipeline(broker: &Broker, app: &str, topic: &str) -> App {
    for output in ["counts", "windows"] {
        broker.create_topic(&format!("{app}-{output}"), 1);
    }
    let text = format!(
        r#"
app_id: {app}
batch_interval: 10s
delivery: exactly-once
checkpoint: data
http: "127.0.0.1:0"
sources:
  lines:
    kafka:
      brokers: "{}"
      topics: [{topic}]
      start: earliest
      slicing: timestamp
    format: text
streams:
  counts:
    reduce_by_key: {{ from: lines, key: [value], values: {{ n: "count(*)" }} }}
  windows:
    reduce_by_key_and_window:
      {{ from: lines, key: [value], values: {{ n: "count(*)" }}, window: 30s, slide: 10s }}
outputs:
  - {{ from: counts, kafka: {{ topic: {app}-counts, key: value, format: json }} }}
  - {{ from: windows, kafka: {{ topic: {app}-windows, key: value, format: json }} }}
"#,
        broker.bootstrap()
    );
    broker.run(FILE).file(FILE, &text)
}

#[test]
fn batches_are_the_same_however_often_the_program_is_killed() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("sliced", PARTITIONS);
    let partitions = words_of_an_hour();
    let total = partitions.iter().map(Vec::len).sum::<usize>() as i64;
    broker.produce(
        &topic,
        partitions.iter().enumerate().flat_map(|(p, words)| {
            let record = move |(at, word): &(i64, String)| {
                Record::from(word.as_str()).partition(p as i32).timestamp(*at)
            };
            words.iter().map(record)
        }),
    );
    let counts = counted_by_hand(&partitions);
    let windows = windows_of(&counts);
    let last = *windows.keys().map(|(time, _)| time).max().unwrap();

    let mut random = Random(3);
    for kills in [0, 3] {
        let name = unique_name("sliced-app");
        let app = pipeline(broker, &name, &topic);
        let read = || broker.group_lag(&name).iter().filter_map(|lag| lag.current_offset).sum::<i64>();
        for kill in 1..=kills {
            let mut run = app.start();
            reads(&mut run, total * kill / (kills + 1));
            pause(Duration::from_millis(random.below(50)));
            run.sigkill();
            run.wait_exit(LIMIT);
            assert!(read() < total, "killed too late");
        }
        let mut run = app.start();
        reads(&mut run, total);
        eventually(LIMIT, "the last window", || {
            let latest = broker.read(&format!("{name}-windows")).iter().map(|row| row.timestamp).max();
            (latest == Some(last)).then_some(()).ok_or_else(|| format!("{latest:?} instead of {last}"))
        });
        run.stop(LIMIT);
        assert_eq!(written(broker, &format!("{name}-counts")), counts, "after {kills} kills");
        assert_eq!(written(broker, &format!("{name}-windows")), windows, "after {kills} kills");
        assert_eq!(read(), total);
    }
}

#[test]
fn a_backlog_is_run_in_its_intervals_and_goes_live_without_a_seam() {
    const STEP: i64 = 500;
    const DAY: i64 = 24 * 3_600_000;
    let broker = Broker::shared();
    let topic = broker.unique_topic("seam", 2);
    let produce = |timestamps: &[i64]| {
        let record = |at: &i64| [0, 1].map(|p| Record::from(at.to_string()).partition(p).timestamp(*at));
        broker.produce(&topic, timestamps.iter().flat_map(record));
    };
    // Each minute of the past hour, and the last second more finely.
    let begin = now();
    let past: Vec<i64> =
        (1..60).rev().map(|n| begin - n * 60_000).chain((0..10).map(|n| begin - 1_000 + n * 100)).collect();
    produce(&past);

    let builder =
        StreamingContext::builder(unique_name("seam")).batch_interval(Duration::from_millis(STEP as u64));
    let ssc = builder.build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let batches = seen.clone();
    ssc.kafka_direct_stream(by_timestamp(broker, &topic))
        .map(|record| record.timestamp.unwrap())
        .foreach_rdd_with_time(move |rdd, time| -> tidemill::Result<()> {
            let mut records = rdd.collect()?;
            records.sort();
            batches.lock().unwrap().push((time.as_millis(), records));
            Ok(())
        });
    ssc.start().unwrap();
    let mut live = Vec::new();
    eventually(LIMIT, "live batches", || {
        live.push(now());
        produce(&live[live.len() - 1..]);
        let seen = seen.lock().unwrap();
        let read: usize = seen.iter().map(|(_, records)| records.len()).sum();
        // Some seconds live.
        if read > 2 * past.len() + 60 {
            Ok(())
        } else {
            Err(format!("{read} of more than {}", 2 * past.len()))
        }
    });
    ssc.stop(true).unwrap();

    // Each batch has just the records of its interval, twice, and there are no others.
    let seen = seen.lock().unwrap();
    let mut expected: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for at in past.iter().chain(&live) {
        expected.entry((at / STEP + 1) * STEP).or_default().extend([*at, *at]);
    }
    let (last, _) = seen.last().unwrap();
    // One batch a day runs without records, too.
    let midnight = now() / DAY * DAY;
    if expected.keys().any(|time| *time < midnight) {
        expected.entry(midnight).or_default();
    }
    expected.retain(|time, _| time <= last);
    assert_eq!(*seen, expected.into_iter().collect::<Vec<_>>());
    assert!(*last > begin + STEP, "nothing was live");
}

#[test]
fn late_and_future_records_and_those_without_a_timestamp_are_taken_along_and_counted() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("odd", 1);
    let begin = now() / 60_000 * 60_000 - 120_000;
    let at = |seconds: i64| begin + seconds * 1_000;
    let records = [
        ("a", at(1)),
        ("future", begin + 30 * 60_000),
        ("b", at(2)),
        ("none", -1),
        ("c", at(11)),
        ("late", at(3)),
        ("d", at(19)),
        ("e", at(31)),
    ];
    broker.produce(&topic, records.map(|(value, at)| Record::from(value).timestamp(at)));

    let builder = StreamingContext::builder(unique_name("odd")).batch_interval(Duration::from_secs(10));
    let test = TestContext::from_builder(builder, Time::from_millis(at(60))).unwrap();
    let batches = test.collect(&test.ssc.kafka_direct_stream(by_timestamp(broker, &topic)).text());
    test.ssc.start().unwrap();
    eventually(LIMIT, "three batches", || {
        let count = test.completed_batches().len();
        (count == 3).then_some(()).ok_or_else(|| format!("{count}"))
    });
    test.ssc.stop(true).unwrap();

    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let time = |seconds| Time::from_millis(at(seconds));
    assert_eq!(
        batches.take(),
        [
            (time(10), text(&["a", "future", "b", "none"])),
            (time(20), text(&["c", "late", "d"])),
            (time(40), text(&["e"])),
        ]
    );
    let counts: Vec<_> = test
        .completed_batches()
        .iter()
        .map(|batch| (batch.slices[0].records, batch.slices[0].late, batch.slices[0].future))
        .collect();
    assert_eq!(counts, [(4, 0, 1), (3, 1, 0), (1, 0, 0)]);
}

#[test]
fn what_transactions_leave_in_the_log_ends_no_batch() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("transactions", 1);
    let begin = now() / 60_000 * 60_000 - 120_000;
    let at = |seconds: i64| begin + seconds * 1_000;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", unique_name("transactions"))
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    // The control record behind each bears the time of now; the second one is aborted.
    for (value, seconds) in [("a", 1), ("never seen", 25), ("b", 2), ("c", 11), ("d", 21)] {
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<(), str>::to(&topic).payload(value).timestamp(at(seconds));
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(LIMIT).unwrap();
        match value {
            "never seen" => producer.abort_transaction(LIMIT).unwrap(),
            _ => producer.commit_transaction(LIMIT).unwrap(),
        }
    }
    // A transaction may be seen only a moment after it was committed.
    eventually(LIMIT, "the end of the last transaction", || {
        let count = broker.read(&topic).len();
        (count == 4).then_some(()).ok_or_else(|| format!("{count} of 4"))
    });
    let builder =
        StreamingContext::builder(unique_name("transactions")).batch_interval(Duration::from_secs(10));
    let test = TestContext::from_builder(builder, Time::from_millis(at(60))).unwrap();
    let batches = test.collect(&test.ssc.kafka_direct_stream(by_timestamp(broker, &topic)).text());
    test.ssc.start().unwrap();
    eventually(LIMIT, "three batches", || {
        let count = test.completed_batches().len();
        (count == 3).then_some(()).ok_or_else(|| format!("{count}"))
    });
    test.ssc.stop(true).unwrap();
    let texts: Vec<_> =
        batches.take().into_iter().map(|(time, texts)| (time.as_millis(), texts.concat())).collect();
    assert_eq!(texts, [(at(10), "ab".to_owned()), (at(20), "c".to_owned()), (at(30), "d".to_owned())]);
}

#[test]
fn a_partition_that_shows_nothing_is_waited_for_until_the_grace_is_over() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("grace", 2);
    let begin = now() / 10_000 * 10_000 - 100_000;
    let at = |seconds: i64| begin + seconds * 1_000;
    let produce = |partition, value: &str, seconds| {
        broker.produce(&topic, [Record::from(value).partition(partition).timestamp(at(seconds))]);
    };
    produce(0, "a", 1);
    produce(0, "b", 11);
    produce(1, "c", 2);

    let builder = StreamingContext::builder(unique_name("grace")).batch_interval(Duration::from_secs(10));
    let test = TestContext::from_builder(builder, Time::from_millis(at(14))).unwrap();
    let batches = test.collect(&test.ssc.kafka_direct_stream(by_timestamp(broker, &topic)).text());
    test.ssc.start().unwrap();
    let completed = |count: usize| {
        eventually(LIMIT, "a batch", || {
            let found = test.completed_batches().len();
            (found == count).then_some(()).ok_or_else(|| format!("{found} of {count}"))
        });
    };
    // One second less than the grace of five: the second partition may still have something for it.
    produce(1, "d", 3);
    pause(Duration::from_millis(500));
    assert_eq!(test.completed_batches().len(), 0);
    test.clock.advance(Duration::from_secs(1));
    completed(1);
    // It had: too late. A record past the next batch's time closes that one at once.
    produce(1, "late", 4);
    produce(1, "e", 21);
    produce(0, "f", 22);
    test.clock.set(Time::from_millis(at(20)));
    completed(2);

    // The third batch is open, and a stop does not wait for it: this clock would never come to its end.
    test.ssc.stop(true).unwrap();
    let sorted = batches.take().into_iter().map(|(time, mut texts)| {
        texts.sort();
        (time.as_millis(), texts.join(" "))
    });
    let expected = [(at(10), "a c d".to_owned()), (at(20), "b late".to_owned())];
    assert_eq!(sorted.collect::<Vec<_>>(), expected);
    assert_eq!(test.completed_batches()[1].slices.iter().map(|slice| slice.late).sum::<u64>(), 1);
}

#[test]
fn a_larger_slice_than_is_kept_ahead_is_read_whole() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("large", 64);
    let begin = now() / 60_000 * 60_000 - 120_000;
    // Of so many partitions a megabyte is kept of each. 5 MB are in one batch, and one record in the next.
    let (records, size) = (500, 10_000);
    let value = |n: usize| Record::bytes(vec![n as u8; size]).partition(0).timestamp(begin);
    let last = Record::from("last").partition(0).timestamp(begin + 10_000);
    broker.produce(&topic, (0..records).map(value).chain([last]));
    let builder = StreamingContext::builder(unique_name("large")).batch_interval(Duration::from_secs(10));
    let test = TestContext::from_builder(builder, Time::from_millis(begin + 60_000)).unwrap();
    let lengths = test.collect(
        &test
            .ssc
            .kafka_direct_stream(by_timestamp(broker, &topic))
            .map(|record| (record.offset, record.len())),
    );
    test.ssc.start().unwrap();
    eventually(LIMIT, "two batches", || {
        let count = test.completed_batches().len();
        (count == 2).then_some(()).ok_or_else(|| format!("{count}"))
    });
    test.ssc.stop(true).unwrap();
    let lengths: Vec<_> = lengths.take().into_iter().map(|(_, lengths)| lengths).collect();
    assert_eq!(lengths[0], (0..records).map(|n| (n as i64, size)).collect::<Vec<_>>());
    assert_eq!(lengths[1], [(records as i64, 4)]);
}

#[test]
fn sources_must_be_sliced_in_the_same_way() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("mixed", 1);
    let ssc = StreamingContext::builder(unique_name("mixed")).build().unwrap();
    ssc.kafka_direct_stream(by_timestamp(broker, &topic))
        .text()
        .union(&ssc.queue_stream(&RddQueue::new()))
        .unwrap()
        .print();
    let error = ssc.start().unwrap_err();
    assert_eq!(error.kind(), tidemill::ErrorKind::Config);
    assert!(error.to_string().contains("sliced by timestamp"), "{error}");
}
