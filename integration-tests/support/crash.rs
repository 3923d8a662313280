//! The crash harness: a steady stream of numbered records, a service that is killed again and again, and the proof that
//! its outputs hold each record's effect once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::Value;

use super::client::config;
use super::words::Random;
use super::{App, Broker, Record, Row, Run, eventually, pause, unique_name};

pub const PARTITIONS: i32 = 4;
pub const FILE: &str = "pipeline.yaml";
/// How many keys are in use at a time, and in all; some make room for others after so many records.
const KEYS: u64 = 10;
const ALL_KEYS: u64 = 40;
const RENEWED_AFTER: u64 = 3_000;
const LIMIT: Duration = Duration::from_secs(120);
/// Records that go out every ten milliseconds.
const AT_ONCE: u64 = 10;
/// One of so many records is no JSON.
const ONE_BAD_IN: u64 = 50;

const INTERVAL: i64 = 100;
pub const WINDOW: i64 = 2_000;
pub const SLIDE: i64 = 500;
/// Windows of fewer records are left out of `filtered`. About as many come in a window for a key.
const LEAST: i64 = 150;

/// All kinds of output of the application `name` over the topic of that name. `KAFKA_BROKERS` is the environment's.
pub fn pipeline(name: &str, delivery: &str, outputs: &[&str]) -> String {
    pipeline_over(name, name, delivery, Slicing::Arrival, outputs)
}

/// All kinds of output of `app` over `topic`.
pub fn pipeline_over(app: &str, topic: &str, delivery: &str, slicing: Slicing, outputs: &[&str]) -> String {
    let (interval, slicing) = match slicing {
        Slicing::Arrival => (INTERVAL, "max_records_per_batch: 5000"),
        Slicing::Behind => (20, "max_records_per_batch: 30"),
        Slicing::Timestamp => (INTERVAL, "slicing: timestamp, grace: 2s"),
    };
    let mut text = format!(
        "app_id: {app}
batch_interval: {interval}ms
delivery: {delivery}
checkpoint: data
http: 127.0.0.1:0
worker_threads: 2
sources:
  numbers:
    kafka: {{ brokers: \"${{KAFKA_BROKERS}}\", topics: [{topic}], start: earliest, wait: 60s, {slicing} }}
    format: json
    schema: {{ n: bigint, k: text }}
    on_bad_record: {{ dead_letter: {app}.dlq }}
streams:
  each: {{ sql: \"select k, n from numbers\" }}
  totals: {{ map_with_state: {{ from: numbers, key: [k], state: {{ total: \"count(*)\", sum: \"sum(n)\" }} }} }}
  windows:
    reduce_by_key_and_window: {{ from: numbers, key: [k], values: {{ total: \"count(*)\", sum: \"sum(n)\" }}, window: {WINDOW}ms }}
  slides:
    reduce_by_key_and_window:
      {{ from: numbers, key: [k], values: {{ total: \"count(*)\", sum: \"sum(n)\" }}, window: {WINDOW}ms, slide: {SLIDE}ms }}
  inverse:
    reduce_by_key_and_window:
      {{ from: numbers, key: [k], values: {{ total: \"count(*)\", sum: \"sum(n)\" }}, window: {WINDOW}ms, inverse: true }}
  filtered:
    reduce_by_key_and_window:
      {{ from: numbers, key: [k], values: {{ total: \"count(*)\", sum: \"sum(n)\" }}, window: {WINDOW}ms, slide: {SLIDE}ms,
        inverse: true, filter: \"total >= {LEAST}\" }}
outputs:
"
    );
    for output in outputs {
        text +=
            &format!("  - {{ from: {output}, kafka: {{ topic: {app}-{output}, key: k, partitions: 2 }} }}\n");
    }
    text
}

/// What says which batch a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slicing {
    /// The moment of planning: what a batch held is to be seen in its output only.
    Arrival,
    /// The same in batches that are too small for what comes: each finds the records of the next one waiting, which therefore
    /// begins while it is committed.
    Behind,
    /// The broker's timestamps: another run over the same topic gives the same batches.
    Timestamp,
}

/// A thread that sends numbered records until it is told to stop.
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Sent>,
}

/// What was sent: the numbers below `numbers`, of which some came as no JSON.
#[derive(Debug, Clone)]
pub struct Sent {
    pub numbers: u64,
    pub bad_records: bool,
    /// How often those are in the topic that are there more than once: a producer that loses its broker may send again what had arrived.
    again: BTreeMap<u64, usize>,
}

/// The records of these numbers.
pub fn numbers(range: std::ops::Range<u64>) -> impl Iterator<Item = Record> {
    range.map(|n| {
        let value = format!("{{\"n\":{n},\"k\":\"{}\"}}", Sent::key(n));
        Record::from(value).partition((n % PARTITIONS as u64) as i32)
    })
}

impl Sent {
    /// The numbers below `numbers`, all of them good.
    pub fn all(numbers: u64) -> Sent {
        Sent { numbers, bad_records: false, again: BTreeMap::new() }
    }

    /// With what is in the topic more than once. All numbers must be there.
    #[track_caller]
    pub fn found_in(self, broker: &Broker, topic: &str) -> Sent {
        let mut times = vec![0; self.numbers as usize];
        for row in broker.read(topic) {
            let text = row.text();
            let digits = text.trim_start_matches("bad ").trim_start_matches("{\"n\":");
            let digits = digits.split(',').next().expect("a split has a first part");
            times[digits.parse::<usize>().expect("a number")] += 1;
        }
        assert!(times.iter().all(|times| *times > 0), "a number that is not in {topic}");
        let again = (0..).zip(times).filter(|(_, times)| *times > 1).collect();
        Sent { again, ..self }
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.numbers + self.again.values().map(|times| *times as u64 - 1).sum::<u64>()
    }

    fn times(&self, n: u64) -> usize {
        self.again.get(&n).copied().unwrap_or(1)
    }

    fn is_bad(&self, n: u64) -> bool {
        self.bad_records && n % ONE_BAD_IN == ONE_BAD_IN - 1
    }

    /// Some keys are no longer used after a while, so that windows lose them, and come back later.
    fn key(n: u64) -> String {
        format!("k{}", (n * 7 % KEYS + n / RENEWED_AFTER * 3) % ALL_KEYS)
    }
}

impl Sender {
    pub fn start(broker: &Broker, topic: &str, bad_records: bool) -> Sender {
        let stop = Arc::new(AtomicBool::new(false));
        let producer: ThreadedProducer<DefaultProducerContext> = config(broker.bootstrap())
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .create()
            .expect("a sound configuration");
        let (stopped, topic) = (stop.clone(), topic.to_owned());
        let brokers = CString::new(broker.bootstrap()).expect("an address");
        let thread = thread::spawn(move || {
            let mut sent = Sent { bad_records, ..Sent::all(0) };
            while !stopped.load(Ordering::Relaxed) {
                remind(&producer, &brokers);
                for _ in 0..AT_ONCE {
                    let n = sent.numbers;
                    let key = Sent::key(n);
                    let good = format!("{{\"n\":{n},\"k\":\"{key}\"}}");
                    let value = if sent.is_bad(n) { format!("bad {n}") } else { good };
                    let record = BaseRecord::<str, str>::to(&topic).payload(&value);
                    let record = record.partition((n % PARTITIONS as u64) as i32);
                    // A full queue (the broker is away) is tried again.
                    if producer.send(record).is_err() {
                        break;
                    }
                    sent.numbers += 1;
                }
                pause(Duration::from_millis(10));
            }
            eventually(LIMIT, "the delivery of the numbers", || {
                remind(&producer, &brokers);
                let left = producer.in_flight_count();
                (left == 0).then_some(()).ok_or_else(|| format!("{left} are in flight"))
            });
            sent
        });
        Sender { stop, thread }
    }

    /// Stops, and waits until the broker has everything.
    pub fn stop(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the numbers are sent")
    }
}

/// Gives a producer that was told of no broker its brokers again: librdkafka has let go of all of them for good.
fn remind(producer: &ThreadedProducer<DefaultProducerContext>, brokers: &CStr) {
    let client = producer.client().native_ptr();
    // SAFETY: the client is alive; the first call does not wait, the second one copies the text.
    unsafe {
        if rdkafka::bindings::rd_kafka_controllerid(client, 0) < 0 {
            rdkafka::bindings::rd_kafka_brokers_add(client, brokers.as_ptr());
        }
    }
}

/// What a run of the harness saw.
#[derive(Debug, Default)]
pub struct Report {
    pub kills: usize,
    pub records: u64,
    pub lost: usize,
    pub doubled: usize,
    /// From a kill to the next start's first committed batch.
    pub recoveries: Vec<Duration>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.recoveries.clone();
        times.sort();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().max(1) - 1)).copied();
        write!(
            f,
            "{} kills, {} records, {} lost, {} doubled; recovery median {:.2?}, p90 {:.2?}, longest {:.2?} ({} timed)",
            self.kills,
            self.records,
            self.lost,
            self.doubled,
            at(50).unwrap_or_default(),
            at(90).unwrap_or_default(),
            at(100).unwrap_or_default(),
            times.len()
        )
    }
}

/// How a run of the service ends.
#[derive(Debug, Clone, Copy)]
pub enum Blow {
    /// So long after its start.
    Early(Duration),
    /// So long after its first committed batch.
    Later(Duration),
    /// At a fail point, after it was passed so often.
    At(&'static str, u64),
}

impl Blow {
    pub const EXACTLY_ONCE: [&str; 7] = [
        "commit::planned",
        "commit::ran",
        "commit::prepared",
        "commit::offsets_sent",
        "commit::in_transaction",
        "commit::mid_apply",
        "commit::applied",
    ];
    pub const AT_LEAST_ONCE: [&str; 3] = ["commit::planned", "commit::ran", "commit::applied"];

    /// All points in turn, between them any moments.
    pub fn nth(n: usize, points: &[&'static str], random: &mut Random) -> Blow {
        let milliseconds = Duration::from_millis;
        match n % 2 {
            0 if !points.is_empty() => Blow::At(points[n / 2 % points.len()], random.below(12)),
            _ if random.below(4) == 0 => Blow::Early(milliseconds(random.below(1_500))),
            _ => Blow::Later(milliseconds(random.below(400))),
        }
    }

    /// Starts the service and ends it; tells when its first batch was committed, if that was waited for.
    pub fn strike(self, app: &App) -> Option<Instant> {
        match self {
            Blow::Early(delay) => {
                let mut run = app.start();
                pause(delay);
                kill(&mut run);
                None
            }
            Blow::Later(delay) => {
                let mut run = app.start();
                let first = first_batch(&mut run);
                pause(delay);
                kill(&mut run);
                Some(first)
            }
            Blow::At(point, after) => {
                let points = format!("{point}={after}*off->return");
                let mut run = app.clone().env("FAILPOINTS", points).start();
                let status = run.wait_exit(LIMIT);
                assert_eq!(status.code(), None, "{self:?}: {}", run.stderr());
                None
            }
        }
    }
}

/// An application with a topic of its own, whose pipeline file `text` gives for its name.
pub fn application(broker: &Broker, prefix: &str, text: impl Fn(&str) -> String) -> (String, App) {
    let name = unique_name(prefix);
    broker.create_topic(&name, PARTITIONS);
    let app = broker.run(FILE).file(FILE, &text(&name));
    (name, app)
}

/// Waits until `sent` numbers were read.
#[track_caller]
pub fn read_on(run: &mut Run, sent: u64) {
    run.http().wait_until_read(PARTITIONS as usize, sent, LIMIT);
}

#[track_caller]
pub fn kill(run: &mut Run) {
    if let Some(status) = run.exit_status() {
        panic!("it ended by itself with {status}: {}", run.stderr());
    }
    run.sigkill();
    run.wait_exit(LIMIT);
}

/// Waits for the first committed batch.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "other processes live by the clock on the wall")]
pub fn first_batch(run: &mut Run) -> Instant {
    batches(run, 0);
    Instant::now()
}

/// Waits until more than `done` batches were committed, and tells how many.
#[track_caller]
pub fn batches(run: &mut Run, done: u64) -> u64 {
    let http = run.http();
    eventually(LIMIT, "a committed batch", || {
        if let Some(status) = run.exit_status() {
            panic!("it ended by itself with {status}: {}", run.stderr());
        }
        let count = http.metrics().sum("tidemill_batches_total", &[("status", "succeeded")]) as u64;
        (count > done).then_some(count).ok_or_else(|| format!("{count} are: {}", run.stderr()))
    })
}

/// Waits until `app`, which reads no more records, has written the last of its windows, and gives all that it wrote.
pub fn drained(broker: &Broker, app: &str, outputs: &[&str]) -> BTreeMap<String, Vec<(i64, String, String)>> {
    let read = |output: &str| {
        let rows = broker.read(&format!("{app}-{output}"));
        let mut rows: Vec<_> = rows.iter().map(|row| (row.timestamp, row.key_text(), row.text())).collect();
        rows.sort();
        rows
    };
    let time = |rows: &[(i64, String, String)]| rows.last().map_or(0, |row| row.0);
    eventually(LIMIT, "the last window", || {
        // Both anew each time: a reader may see a transaction only a moment after it was committed.
        let (last, latest) = (time(&read("each")) + WINDOW - INTERVAL, time(&read("windows")));
        (latest == last).then_some(()).ok_or_else(|| format!("{latest} instead of {last}"))
    });
    outputs.iter().map(|output| ((*output).to_owned(), read(output))).collect()
}

/// A record of an output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Effect {
    time: i64,
    key: String,
    value: Vec<i64>,
}

type ByKey = BTreeMap<String, (i64, i64)>;

/// Reads the outputs and compares them with what was sent; gives how many records are missing and how many come again.
/// Panics if anything else is wrong: a number in two batches, a total or a window that does not follow from the batches.
pub fn examine(broker: &Broker, name: &str, outputs: &[&str], sent: Sent) -> (usize, usize) {
    let mut doubled = 0;
    let rows = |output: &str, fields: &[&str]| {
        let mut rows: BTreeMap<Effect, usize> = BTreeMap::new();
        for row in &broker.read(&format!("{name}-{output}")) {
            *rows.entry(effect(row, fields)).or_default() += 1;
        }
        rows
    };
    // Where each number came, and how often.
    let each = rows("each", &["n"]);
    let mut places: BTreeMap<u64, Vec<(&Effect, usize)>> = BTreeMap::new();
    for (it, count) in &each {
        let n = it.value[0] as u64;
        assert_eq!(it.key, Sent::key(n));
        assert!(n < sent.numbers && !sent.is_bad(n), "{n} was not sent");
        places.entry(n).or_default().push((it, *count));
    }
    let mut lost = 0;
    let mut batches: BTreeMap<i64, ByKey> = BTreeMap::new();
    for n in (0..sent.numbers).filter(|n| !sent.is_bad(*n)) {
        let (places, times) = (places.remove(&n).unwrap_or_default(), sent.times(n));
        assert!(
            places.len() <= times,
            "{n}, of which there are {times}, came in several batches: {places:?}"
        );
        let found: usize = places.iter().map(|(_, count)| count).sum();
        lost += times.saturating_sub(found);
        doubled += found.saturating_sub(times);
        for (it, count) in places {
            let count = if found > times { 1 } else { count as i64 };
            let sum = batches.entry(it.time).or_default().entry(it.key.clone()).or_default();
            *sum = (sum.0 + count, sum.1 + count * it.value[0]);
        }
    }

    let flat = |time: i64, by_key: &ByKey| {
        let effect = |(key, (count, sum)): (&String, &(i64, i64))| Effect {
            time,
            key: key.clone(),
            value: vec![*count, *sum],
        };
        by_key.iter().map(effect).collect::<Vec<_>>()
    };
    for output in outputs.iter().filter(|output| **output != "each") {
        let found = rows(output, &["total", "sum"]);
        doubled += found.values().map(|count| count - 1).sum::<usize>();
        let found: BTreeSet<Effect> = found.into_keys().collect();
        let mut expected = BTreeSet::new();
        if *output == "totals" {
            let mut totals = ByKey::new();
            for (time, batch) in &batches {
                add(&mut totals, batch);
                let changed = totals.iter().filter(|(key, _)| batch.contains_key(*key));
                expected.extend(flat(*time, &changed.map(|(k, v)| (k.clone(), *v)).collect()));
            }
        } else {
            let slide = if ["slides", "filtered"].contains(output) { SLIDE } else { 1 };
            let least = if *output == "filtered" { LEAST } else { 0 };
            let times = batches.keys().copied().filter(|time| time % slide == 0);
            let times: BTreeSet<i64> = times.chain(found.iter().map(|it| it.time)).collect();
            for time in times {
                let mut window = ByKey::new();
                batches.range(time - WINDOW + 1..=time).for_each(|(_, batch)| add(&mut window, batch));
                window.retain(|_, (count, _)| *count >= least);
                expected.extend(flat(time, &window));
            }
        }
        let wrong: Vec<_> = found.symmetric_difference(&expected).take(8).collect();
        assert!(wrong.is_empty(), "{name}-{output} differs from what its batches say: {wrong:#?}");
    }
    if sent.bad_records {
        let letters = broker.read(&format!("{name}.dlq"));
        let distinct: BTreeMap<_, _> =
            letters.iter().map(|row| ((row.noted("partition"), row.noted("offset")), row.text())).collect();
        doubled += letters.len() - distinct.len();
        let bad: Vec<String> =
            (0..sent.numbers).filter(|n| sent.is_bad(*n)).map(|n| format!("bad {n}")).collect();
        let texts: BTreeSet<String> = distinct.into_values().collect();
        lost += bad.iter().filter(|text| !texts.contains(*text)).count();
        assert!(texts.len() <= bad.len(), "{texts:?}");
    }
    (lost, doubled)
}

fn add(sums: &mut ByKey, batch: &ByKey) {
    for (key, (count, sum)) in batch {
        let sums = sums.entry(key.clone()).or_default();
        *sums = (sums.0 + count, sums.1 + sum);
    }
}

#[track_caller]
fn effect(row: &Row, fields: &[&str]) -> Effect {
    let value: Value = serde_json::from_slice(row.value.as_deref().expect("a value")).expect("JSON");
    let field = |name: &&str| value[*name].as_i64().unwrap_or_else(|| panic!("no {name} in {value}"));
    Effect { time: row.timestamp, key: row.key_text(), value: fields.iter().map(field).collect() }
}
