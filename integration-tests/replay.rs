//! The same topic again: in the same batches, byte for byte, and over a past range beside the application that runs.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tidemill::{Clock, SystemClock};

use crate::support::words::Random;
use crate::support::{App, Broker, Record, Row, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(120);
const FILE: &str = "pipeline.yaml";
const MINUTE: i64 = 60_000;

fn now() -> i64 {
    SystemClock::default().now().as_millis()
}

/// Amounts of twenty keys in three partitions, from an hour ago to ten minutes ago: sums of floats, whose order shows; some that
/// are late, one from the future, one without a time. Each minute has keys that come equally often.
fn amounts(begin: i64) -> Vec<Record> {
    let mut random = Random(11);
    let mut records = Vec::new();
    for second in 0..3_000 {
        for partition in 0..3 {
            let (key, amount) = (random.below(20), random.below(1_000_000) as f64 / 700.0);
            let older = if random.below(20) == 0 { random.below(120_000) as i64 } else { 0 };
            let at = match (second, partition) {
                (1_000, 1) => begin + 100 * MINUTE,
                (1_500, 2) => -1,
                _ => begin + second * 1_000 + random.below(1_000) as i64 - older,
            };
            let value = format!(r#"{{"k":"k{key}","amount":{amount}}}"#);
            records.push(Record::from(value).key(format!("k{key}")).partition(partition).timestamp(at));
        }
    }
    records
}

fn pipeline(broker: &Broker, app: &str, topic: &str, settings: &str, more: &str) -> App {
    for output in ["sums", "windows", "totals", "top"] {
        broker.create_topic(&format!("{app}-{output}"), 2);
    }
    let text = format!(
        r#"
app_id: {app}
batch_interval: 1m
delivery: exactly-once
checkpoint: data
{settings}
sources:
  amounts:
    kafka:
      brokers: "{}"
      topics: [{topic}]
      start: earliest
{more}
    format: json
    schema: {{ k: text, amount: double }}
streams:
  sums:
    reduce_by_key: {{ from: amounts, key: [k], values: {{ n: "count(*)", total: "sum(amount)" }} }}
  windows:
    reduce_by_key_and_window:
      {{ from: amounts, key: [k], values: {{ total: "sum(amount)", mean: "avg(amount)" }}, window: 10m, slide: 2m }}
  totals:
    map_with_state: {{ from: amounts, key: [k], state: {{ total: "sum(amount)" }}, emit: updated }}
  top:
    sql: "select k, n from sums order by n desc limit 5"
outputs:
  - {{ from: sums, kafka: {{ topic: {app}-sums, key: k, format: json }} }}
  - {{ from: windows, kafka: {{ topic: {app}-windows, key: k, format: json }} }}
  - {{ from: totals, kafka: {{ topic: {app}-totals, key: k, format: json }} }}
  - {{ from: top, kafka: {{ topic: {app}-top, key: k, format: json }} }}
  - {{ from: sums, files: {{ path: out/sums, format: csv }} }}
"#,
        broker.bootstrap()
    );
    broker.run(FILE).file(FILE, &text)
}

fn to_its_end(app: &App) -> String {
    let mut run = app.start();
    let status = run.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", run.stderr());
    run.stdout()
}

/// When, what key and what value, in the order of the partition.
fn told(rows: &[Row]) -> Vec<(i32, i64, String, String)> {
    rows.iter().map(|row| (row.partition, row.timestamp, row.key_text(), row.text())).collect()
}

#[test]
fn the_same_topic_gives_the_same_bytes_at_any_caps_and_any_number_of_threads() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("amounts", 3);
    let begin = now() / MINUTE * MINUTE - 60 * MINUTE;
    broker.produce(&topic, amounts(begin));
    let mut former: Option<Vec<Vec<Row>>> = None;
    let mut last = None;
    for (threads, cap) in [(1, 1_000_000), (2, 7), (5, 500)] {
        let name = unique_name("same-bytes");
        let more = format!(
            "      end: latest\n      slicing: timestamp\n      max_records_per_batch: {cap}\n      max_rate_per_partition: {cap}"
        );
        let app = pipeline(broker, &name, &topic, &format!("worker_threads: {threads}"), &more);
        to_its_end(&app);
        let outputs = ["sums", "windows", "totals", "top"];
        let rows: Vec<_> = outputs.iter().map(|output| broker.read(&format!("{name}-{output}"))).collect();
        assert!(
            rows.iter().all(|rows| rows.len() > 50),
            "{:?}",
            rows.iter().map(Vec::len).collect::<Vec<_>>()
        );
        // Offsets, partitions, timestamps, keys, values and headers.
        match &former {
            None => former = Some(rows),
            Some(former) => assert!(rows == *former, "{threads} threads, a cap of {cap}"),
        }
        last = Some((name, app));
    }
    let (name, app) = last.unwrap();
    let group = broker.group_lag(&name);
    assert!(group.iter().all(|row| row.lag == Some(0)), "{group:?}");

    // A part of it again, which does not disturb what the application keeps.
    let at = |minutes: i64| begin + minutes * MINUTE;
    let time = |minutes: i64| humantime_of(at(minutes));
    let (from, to) = (time(20), time(30));
    let replay = ["replay", FILE, "--from", &from, "--to", &to];
    let left = |app: &App| {
        let shown = app.done(&["checkpoint", "show", FILE, "--format", "json"], LIMIT);
        (files(app, "sums"), shown)
    };
    let before = left(&app);
    assert!(before.0.len() >= 50, "{:?}", before.0.keys());
    broker.create_topic(&format!("again.{name}-sums"), 2);
    to_its_end(&app.arguments(&[&replay[..], &["--topic-prefix", "again."]].concat()));
    let again = told(&broker.read(&format!("again.{name}-sums")));
    let mut expected = told(&broker.read(&format!("{name}-sums")));
    expected.retain(|(_, time, ..)| *time > at(20) && *time <= at(30));
    assert!(expected.len() > 50);
    assert_eq!(again, expected);
    assert_eq!(broker.group_lag(&name), group);
    // In files as in topics, and the application's own are as they were.
    let mut expected = before.0.clone();
    expected.retain(|name, _| (at(21)..=at(30)).any(|time| name.contains(&time.to_string())));
    assert_eq!(expected.len(), 10);
    let again: BTreeMap<_, _> =
        expected.into_iter().map(|(name, text)| (format!("again.{name}"), text)).collect();
    assert_eq!(files(&app, "again."), again);
    assert!(left(&app) == before, "{:?}", before.0.keys());

    // Or onto the terminal.
    let shown = to_its_end(&app.arguments(&replay));
    let times: Vec<_> = shown.lines().filter(|line| line.starts_with("Time: ")).collect();
    assert!(times.contains(&format!("Time: {} ms", at(21)).as_str()), "{shown}");
    assert!(
        !shown.contains(&format!("Time: {} ms", at(20))) && !shown.contains(&format!("Time: {} ms", at(31)))
    );
    assert!(shown.contains("| k "), "{shown}");
    assert!(left(&app) == before, "{:?}", before.0.keys());
    assert_eq!(files(&app, "").len(), before.0.len() + again.len());
}

/// What the files hold that an application wrote, by folder, of those whose names begin with `prefix`.
fn files(app: &App, prefix: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for folder in fs::read_dir(app.dir().join("out")).unwrap().flatten() {
        let name = folder.file_name().into_string().unwrap();
        if name.starts_with(prefix) {
            let mut parts: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|part| part.unwrap().path()).collect();
            parts.sort();
            all.insert(name, parts.iter().map(|part| fs::read_to_string(part).unwrap()).collect());
        }
    }
    all
}

/// As people write it.
fn humantime_of(millis: i64) -> String {
    let seconds = millis / 1_000;
    let days = seconds / 86_400;
    // Days since 1970 to a date (Hinnant's algorithm).
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[test]
fn a_replay_follows_the_batch_log_beside_the_application_that_runs() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("logged", 3);
    let name = unique_name("logged");
    let log = format!("{name}-batches");
    let settings = format!("batch_log: {log}\nhttp: \"127.0.0.1:0\"");
    let app = pipeline(broker, &name, &topic, &settings, "      max_records_per_batch: 400");
    // What belongs to which batch depends on when it came: the clock would not tell.
    let text = std::fs::read_to_string(app.dir().join(FILE)).unwrap();
    let text = text.replace("batch_interval: 1m", "batch_interval: 500ms");
    let text = text.replace("window: 10m, slide: 2m", "window: 2s, slide: 1s");
    let app = app.file(FILE, &text);
    let mut random = Random(5);
    let mut produce = |count: usize| {
        let record = |_| {
            let (key, amount) = (random.below(20), random.below(1_000) as f64 / 7.0);
            Record::from(format!(r#"{{"k":"k{key}","amount":{amount}}}"#)).partition(random.below(3) as i32)
        };
        broker.produce(&topic, (0..count).map(record).collect::<Vec<_>>());
    };
    produce(1_000);
    let mut run = app.start();
    let http = run.http();
    let mut read = 1_000;
    for _ in 0..3 {
        produce(300);
        read += 300;
        http.wait_until_read(3, read, LIMIT);
    }

    // It goes on, and its group is as it was. `--to` is what keeps the replay from what comes now.
    let sums = || told(&broker.read(&format!("{name}-sums")));
    let to = sums().iter().map(|(_, time, ..)| *time).max().unwrap();
    let committed = broker.committed(&name, &topic);
    let replay = ["replay", FILE, "--from", "1h", "--follow-log", &log, "--topic-prefix", "followed."];
    for output in ["sums", "totals", "top"] {
        broker.create_topic(&format!("followed.{name}-{output}"), 2);
    }
    to_its_end(&app.arguments(&replay));
    assert_eq!(broker.committed(&name, &topic), committed);
    let groups = broker.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &["--bootstrap-server", broker.bootstrap(), "--list"],
    );
    assert!(!groups.contains(&format!("{name}-replay")), "{groups}");
    for output in ["sums", "totals", "top"] {
        let up_to = |topic: &str| {
            let mut rows = told(&broker.read(topic));
            rows.retain(|(_, time, ..)| *time <= to);
            rows
        };
        let original = up_to(&format!("{name}-{output}"));
        assert!(original.len() > 20);
        assert_eq!(up_to(&format!("followed.{name}-{output}")), original, "{output}");
    }
    // The log is in the batches' transactions: Kafka's own consumer reads a record for each batch.
    let logged = broker.read(&log);
    let first: serde_json::Value = serde_json::from_str(&logged[0].text()).unwrap();
    assert_eq!(
        (first["app_id"].as_str(), first["batch_time"].as_i64()),
        (Some(&*name), Some(logged[0].timestamp))
    );
    assert_eq!(first["inputs"]["kafka:amounts"][0]["from"], 0);

    produce(100);
    http.wait_until_read(3, read + 100, LIMIT);
    run.stop(LIMIT);

    // The checkpoint has a log of its own, and a log that says nothing of the range is an error.
    let shown = to_its_end(&app.arguments(&["replay", FILE, "--from", "1h", "--follow-log"]));
    assert!(shown.contains(&format!("Time: {to} ms")), "{shown}");
    let mut nothing = app
        .arguments(&["replay", FILE, "--from", "2001-01-01", "--to", "2001-01-02", "--follow-log"])
        .start();
    assert_eq!(nothing.wait_exit(LIMIT).code(), Some(2));
    assert!(nothing.stderr().contains("has no batch of"), "{}", nothing.stderr());
    // Nor is a source that the log does not know one without records.
    let text = text.replace("amounts", "others");
    let follow = ["replay", FILE, "--from", "1h", "--follow-log", &log];
    let mut nothing = app.clone().file(FILE, &text).arguments(&follow).start();
    assert_eq!(nothing.wait_exit(LIMIT).code(), Some(2));
    let told = nothing.stderr();
    assert!(told.contains("has nothing of the source `others`") && told.contains("are: amounts"), "{told}");
    let mut nothing = app.arguments(&["replay", FILE, "--from", "1h", "--to", "2h"]).start();
    eventually(LIMIT, "the refusal", || nothing.exit_status().ok_or_else(|| "it runs".to_owned()));
    assert!(nothing.stderr().contains("`--from` must be before `--to`"), "{}", nothing.stderr());
}

#[test]
fn what_came_late_or_from_the_future_is_where_it_was_only_if_the_log_is_followed() {
    const STEP: i64 = 10_000;
    let broker = Broker::shared();
    let name = unique_name("arrived");
    let (log, out) = (format!("{name}-batches"), format!("{name}-out"));
    broker.create_topic(&name, 2);
    let text = format!(
        r#"
app_id: {name}
batch_interval: 10s
delivery: exactly-once
checkpoint: data
http: "127.0.0.1:0"
batch_log: {log}
sources:
  lines:
    kafka:
      brokers: "${{KAFKA_BROKERS}}"
      topics: [{name}]
      start: earliest
      slicing: timestamp
      grace: 300ms
      max_future: 1s
    format: text
outputs:
  - {{ from: lines, kafka: {{ topic: {out}, key: value, format: json, partitions: 1 }} }}
"#
    );
    let app = broker.run(FILE).file(FILE, &text);
    let begin = now() / STEP * STEP - 6 * STEP;
    let record =
        |value: &str, partition: i32, at: i64| Record::from(value).partition(partition).timestamp(at);
    broker.produce(&name, [record("a", 0, begin + 1_000), record("b", 0, begin + STEP + 1_000)]);
    let mut run = app.start();
    let http = run.http();
    // Each batch is closed by the grace: of the other partition nothing is known.
    http.wait_until_read(2, 2, LIMIT);
    let future = now() + 6_000;
    broker.produce(
        &name,
        [
            record("future", 0, future),
            record("late", 1, begin + 2_000),
            record("c", 0, begin + 3 * STEP + 1_000),
        ],
    );
    http.wait_until_read(2, 5, LIMIT);
    run.stop(LIMIT);
    // From now on the future is the past.
    eventually(LIMIT, "the future", || (now() > future).then_some(()).ok_or_else(|| "not yet".to_owned()));

    let times = |topic: &str| -> BTreeMap<String, i64> {
        broker.read(topic).iter().map(|row| (row.key_text(), row.timestamp - begin)).collect()
    };
    let original = times(&out);
    assert_eq!((original["a"], original["b"]), (STEP, 2 * STEP), "{original:?}");
    assert!(original.len() == 5 && original["late"] >= 3 * STEP, "{original:?}");
    let replay = ["replay", FILE, "--from", "1h"];
    to_its_end(
        &app.arguments(&[&replay[..], &["--follow-log", &log, "--topic-prefix", "followed."]].concat()),
    );
    assert_eq!(told(&broker.read(&format!("followed.{out}"))), told(&broker.read(&out)));
    // Who does not follow it finds the late record in its place, as a run would have that had begun today.
    let to = humantime_of(begin + 2 * STEP);
    to_its_end(&app.arguments(&[&replay[..], &["--to", &to, "--topic-prefix", "plain."]].concat()));
    let expected = [("a", STEP), ("b", 2 * STEP), ("late", STEP)].map(|(value, at)| (value.to_owned(), at));
    assert_eq!(times(&format!("plain.{out}")), BTreeMap::from(expected));
}
