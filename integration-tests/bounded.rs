//! Runs that begin and end somewhere: at offsets, at times, at what is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{Clock, End, KafkaSource, Slicing, Start, StreamingContext, SystemClock, Time};

use crate::support::{Broker, Record, unique_name};

const LIMIT: Duration = Duration::from_secs(90);
const FILE: &str = "pipeline.yaml";

fn now() -> i64 {
    SystemClock::default().now().as_millis()
}

/// With a grace that is no long wait.
const BY_TIME: Slicing = Slicing::Timestamp {
    max_future: tidemill::Duration::seconds(10),
    grace: tidemill::Duration::millis(300),
};

/// The values of each batch that had some, of a run that ends by itself.
fn run_to_its_end(group: &str, source: KafkaSource, interval: Duration) -> Vec<(Time, Vec<String>)> {
    let ssc = StreamingContext::builder(group).batch_interval(interval).build().unwrap();
    let batches = Arc::<Mutex<Vec<_>>>::default();
    let seen = batches.clone();
    ssc.kafka_direct_stream(source).text().foreach_rdd_with_time(move |rdd, time| -> tidemill::Result<()> {
        let mut values = rdd.collect()?;
        values.sort();
        if !values.is_empty() {
            seen.lock().unwrap().push((time, values));
        }
        Ok(())
    });
    ssc.start().unwrap();
    assert!(ssc.await_termination_or_timeout(LIMIT).unwrap(), "it has not ended");
    std::mem::take(&mut *batches.lock().unwrap())
}

fn values(batches: &[(Time, Vec<String>)]) -> String {
    let mut values: Vec<_> = batches.iter().flat_map(|(_, values)| values.clone()).collect();
    values.sort();
    values.join(" ")
}

/// Two partitions: `a0` … `a9` and `b0` … `b9`, a record of each every minute from `begin` on.
fn two_partitions(broker: &Broker, begin: i64) -> String {
    let topic = broker.unique_topic("bounded", 2);
    let record = |n: i64, p: i32| {
        Record::from(format!("{}{n}", ['a', 'b'][p as usize])).partition(p).timestamp(begin + n * 60_000)
    };
    broker.produce(&topic, (0..10).flat_map(|n| [record(n, 0), record(n, 1)]));
    topic
}

#[test]
fn a_run_begins_and_ends_where_it_is_told_under_both_slicings() {
    let broker = Broker::shared();
    // Ten minutes, the last one two minutes ago; not on a batch's border.
    let begin = now() / 60_000 * 60_000 - 11 * 60_000 + 500;
    let topic = two_partitions(broker, begin);
    let at = |minute: i64, millis: i64| Time::from_millis(begin + minute * 60_000 + millis);
    let offsets = |a: i64, b: i64| [((topic.clone(), 0), a), ((topic.clone(), 1), b)].into();
    let one = |p: i32, offset: i64| [((topic.clone(), p), offset)].into();
    let cases = [
        (Start::Earliest, End::Latest, "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9"),
        (Start::Offsets(offsets(8, 7)), End::Latest, "a8 a9 b7 b8 b9"),
        // A partition that is not named begins with its first record, and ends with its last.
        (Start::Offsets(one(0, 9)), End::Offsets(offsets(10, 2)), "a9 b0 b1"),
        (Start::Offsets(offsets(0, 8)), End::Offsets(one(0, 1)), "a0 b8 b9"),
        // A time is the first of what is read, and the first of what is not.
        (Start::Timestamp(at(6, 0)), End::Latest, "a6 a7 a8 a9 b6 b7 b8 b9"),
        (Start::Timestamp(at(6, 1)), End::Timestamp(at(8, 0)), "a7 b7"),
        (Start::Timestamp(at(6, 0)), End::Timestamp(at(8, 1)), "a6 a7 a8 b6 b7 b8"),
        (Start::Ago(tidemill::Duration::ZERO), End::Latest, "a7 a8 a9 b7 b8 b9"),
        (Start::Timestamp(at(100, 0)), End::Latest, ""),
        (Start::Latest, End::Latest, ""),
    ];
    for slicing in [Slicing::Arrival, BY_TIME] {
        for (start, end, expected) in &cases {
            let source = KafkaSource::new(broker.bootstrap(), [topic.as_str()]);
            let start = match start {
                // Half a minute before the seventh.
                Start::Ago(_) => Start::Ago(tidemill::Duration::millis(now() - at(7, -30_000).as_millis())),
                start => start.clone(),
            };
            let source = source.start(start.clone()).end(end.clone()).slicing(slicing);
            let batches = run_to_its_end(&unique_name("bounded"), source, Duration::from_millis(200));
            assert_eq!(values(&batches), *expected, "{slicing:?} {start:?} {end:?}");
        }
    }
}

#[test]
fn wrong_beginnings_and_ends_are_refused() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("refused", 1);
    broker.produce(&topic, ["a", "b"]);
    let refused = |sources: &[KafkaSource]| {
        let ssc = StreamingContext::builder(unique_name("refused")).build().unwrap();
        for source in sources {
            ssc.kafka_direct_stream(source.clone()).text().print();
        }
        let error = ssc.start().unwrap_err();
        assert_eq!(error.kind(), tidemill::ErrorKind::Config, "{error}");
        error.to_string()
    };
    let source = || KafkaSource::new(broker.bootstrap(), [topic.as_str()]);
    let at = |partition, offset| [((topic.clone(), partition), offset)].into();
    let error = refused(&[source().start(Start::Offsets(at(0, 3)))]);
    assert!(error.contains(&format!("offset 3 for {topic}-0, which has the offsets 0 to 2")), "{error}");
    let error = refused(&[source().start(Start::Offsets(at(1, 0)))]);
    assert!(error.contains(&format!("{topic}-1, which is not among the partitions")), "{error}");
    let error = refused(&[source().end(End::Offsets(at(1, 0)))]);
    assert!(error.contains(&format!("{topic}-1, which is not among the partitions")), "{error}");
    let other = broker.unique_topic("refused", 1);
    let endless = KafkaSource::new(broker.bootstrap(), [other]);
    let error = refused(&[source().end(End::Latest), endless]);
    assert!(error.contains("give all sources an end, or none"), "{error}");
}

#[test]
fn a_run_with_an_end_under_timestamp_has_the_batches_of_one_without() {
    let broker = Broker::shared();
    let begin = now() / 60_000 * 60_000 - 11 * 60_000 + 500;
    let topic = two_partitions(broker, begin);
    // What ListOffsets finds at the fourth minute is not believed, and what it finds in the other partition is no record.
    broker.produce(&topic, [Record::from("future").partition(0).timestamp(now() + 1_800_000)]);
    broker.produce(&topic, [Record::from("a10").partition(0).timestamp(begin + 10 * 60_000)]);
    let run = |start: Start, end: End| {
        let source = KafkaSource::new(broker.bootstrap(), [topic.as_str()]).slicing(BY_TIME);
        run_to_its_end(&unique_name("batches"), source.start(start).end(end), Duration::from_secs(120))
    };
    let whole = run(Start::Earliest, End::Latest);
    let text = values(&whole);
    assert!(text.contains("a10") && text.contains("future"), "{text}");
    let border =
        Time::from_millis(begin).floor(tidemill::Duration::seconds(120)) + tidemill::Duration::seconds(360);
    let before = run(Start::Earliest, End::Timestamp(border));
    let after = run(Start::Timestamp(border), End::Latest);
    assert_eq!([before.clone(), after].concat(), whole);
    assert!(before.len() > 1 && before.iter().all(|(time, _)| *time <= border), "{before:?}");
}

#[test]
fn a_pipeline_with_an_end_reads_its_backlog_batch_by_batch_and_exits() {
    let broker = Broker::shared();
    let name = unique_name("once");
    broker.create_topic(&name, 2);
    broker.create_topic(&format!("{name}-out"), 1);
    let text = format!(
        r#"
app_id: {name}
# Thirty batches of the clock would take half an hour.
batch_interval: 1m
delivery: exactly-once
checkpoint: data
sources:
  lines:
    kafka:
      brokers: "{}"
      topics: [{name}]
      start: earliest
      end: latest
      max_records_per_batch: 10
    format: text
outputs:
  - {{ from: lines, kafka: {{ topic: {name}-out, format: json }} }}
"#,
        broker.bootstrap()
    );
    let app = broker.run(FILE).file(FILE, &text);
    let expected = |n: usize| (0..n).map(|n| format!(r#"{{"value":"{n:03}"}}"#)).collect::<Vec<_>>();
    let written = || {
        let mut rows: Vec<_> = broker.read(&format!("{name}-out")).iter().map(|row| row.text()).collect();
        rows.sort();
        rows
    };
    let lines = |from: usize, to: usize| {
        (from..to).map(|n| Record::from(format!("{n:03}")).partition((n % 2) as i32)).collect::<Vec<_>>()
    };
    broker.produce(&name, lines(0, 300));
    let mut run = app.start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
    assert_eq!(written(), expected(300));
    // How far it has come is in the log, where there is no terminal for a bar.
    let log = run.stderr();
    for part in
        ["\"records\":300", "reading up to the end", "progress", "records_per_second", "read to the end"]
    {
        assert!(log.contains(part), "no {part:?}: {log}");
    }
    // Each batch has a time of its own, none is ahead of the clock, and none is larger than it may be.
    let times: Vec<_> = broker.read(&format!("{name}-out")).iter().map(|row| row.timestamp).collect();
    assert!(times.iter().all(|time| time % 60_000 == 0 && *time <= now()), "{times:?}");
    let mut batches: Vec<(i64, usize)> = Vec::new();
    for time in times {
        match batches.last_mut() {
            Some((last, count)) if *last == time => *count += 1,
            last => {
                assert!(last.is_none_or(|(last, _)| *last < time));
                batches.push((time, 1));
            }
        }
    }
    assert!(batches.len() >= 30 && batches.iter().all(|(_, count)| *count <= 10), "{batches:?}");
    let lag: Vec<_> = broker.group_lag(&name).iter().map(|row| row.lag).collect();
    assert_eq!(lag, [Some(0), Some(0)]);

    // There is nothing to do, and no batch.
    let mut run = app.start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
    assert_eq!(written(), expected(300));
    // On a terminal there is a bar, which moves: of another application, which has all times of the past for its batches.
    // It has so many batches that frames are drawn between them.
    let again = text
        .replace(&format!("app_id: {name}"), &format!("app_id: {name}-again"))
        .replace("max_records_per_batch: 10", "max_records_per_batch: 2");
    let mut run = broker.run(FILE).file(FILE, &again).env("NO_COLOR", "1").on_terminal().start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stdout());
    the_bar_moves(&run.stdout(), 300);
}

/// A bar with the records that are done of all of them, their rate and the time that is left.
fn the_bar_moves(shown: &str, all: usize) {
    let mut done = Vec::new();
    for frame in shown.split(['\r', '\n']).map(str::trim_end).filter(|frame| frame.ends_with(" left")) {
        let (figures, rate_and_rest) = frame.split_once(" records  ").unwrap_or_else(|| panic!("{frame:?}"));
        let (bar, of) = figures.rsplit_once(' ').expect("a bar");
        assert!(bar.contains('█') || bar.contains('░'), "{frame:?}");
        let (records, total) = of.split_once('/').expect("so many of so many");
        assert_eq!(total, all.to_string(), "{frame:?}");
        assert!(rate_and_rest.contains("/s  ") && rate_and_rest.ends_with("s left"), "{frame:?}");
        done.push(records.parse::<usize>().expect("a number"));
    }
    assert!(done.is_sorted() && done.iter().all(|done| *done <= all), "{done:?}");
    let between = done.iter().collect::<std::collections::BTreeSet<_>>();
    assert!(between.iter().filter(|done| ***done > 0 && ***done < all).count() >= 3, "{done:?} in {shown:?}");
    // Lines of log stand beside it, whole, and it is gone at the end.
    let last = shown.trim_end().rsplit('\r').next().unwrap_or_default();
    assert!(last.contains("read to the end") && last.contains(&format!("records={all}")), "{last:?}");
    assert!(!last.contains(" left") && !shown.contains("{\"timestamp\""), "{last:?}");
}
