//! How long a program takes from the start of its process to its first committed batch that has records: after a clean stop
//! (SIGTERM), and after a kill in the middle of a transaction; and what a batch costs that has nothing to do. A real broker,
//! records at a steady rate, a running count per key, exactly once from topic to topic, batches every 100 ms. At the end the counts
//! must be right, whatever was killed.
//!
//! `BENCH_STARTS` sets how often each start is measured (5), `BENCH_RATE` the records per second (1,000), `BENCH_SECONDS` how long a
//! program runs before it is stopped or killed (2), `BENCH_IDLE_SECONDS` how long it has nothing to do (20), `BENCH_YAML` where the
//! `tidemill` binary is, if the same is to be measured as a pipeline file.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark")]

mod common;
#[path = "../integration-tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{child, child_arguments, cpu_seconds, now, quantile, seconds_of_day, variable};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use support::{Broker, Process, eventually};
use tidemill::{
    BatchInfo, KafkaSinkSettings, KafkaSource, ProducerRecord, Start, State, StateSpec, StreamingContext,
    StreamingListener,
};

const PARTITIONS: i32 = 4;
const KEYS: u64 = 1_000;
const INTERVAL: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(60);
const TARGET: f64 = 1.0;
const EMPTY_TARGET_MS: f64 = 1.0;
/// Where a transaction has all of a batch, and is not committed yet.
const KILL_AT: &str = "commit::offsets_sent";

fn main() {
    if let Some(arguments) = child_arguments() {
        return run(&arguments);
    }
    let starts = variable("BENCH_STARTS", 5);
    let length = Duration::from_secs(variable("BENCH_SECONDS", 2));
    let idle = Duration::from_secs(variable("BENCH_IDLE_SECONDS", 20));
    let (broker, _proxy) = Broker::start_with("");
    let folder = tempfile::tempdir().unwrap();
    println!("seconds, the median of {starts} starts and the worst");
    println!("{:<27}{:>17}{:>17}{:>17}", "", "until main", "ready to read", "first commit");
    let typed = Program { broker: &broker, name: "typed", folder: folder.path(), binary: None };
    measure(&typed, starts, length, idle);
    if let Some(binary) = std::env::var_os("BENCH_YAML").filter(|path| !path.is_empty()) {
        let binary = Some(PathBuf::from(binary));
        measure(&Program { name: "yaml", binary, ..typed }, starts, length, idle);
    }
}

/// The program, typed, or the same as a pipeline file for the binary.
struct Program<'a> {
    broker: &'a Broker,
    name: &'static str,
    folder: &'a Path,
    binary: Option<PathBuf>,
}

/// A process that runs it.
struct Started {
    process: Process,
    at: f64,
    said: PathBuf,
}

/// When what was over, in seconds since the process was made.
struct Times {
    until_main: f64,
    ready: f64,
    first_commit: f64,
}

fn measure(program: &Program<'_>, starts: u64, length: Duration, idle: Duration) {
    let (input, output) = (format!("in-{}", program.name), format!("out-{}", program.name));
    let bare = format!("bare-{}", program.name);
    program.broker.create_topic(&input, PARTITIONS);
    program.broker.create_topic(&bare, PARTITIONS);
    let init = |is_killed| init_transactions(program.broker, &bare, &bare, is_killed);
    let stop = AtomicBool::new(false);
    let mut last = None;
    let sent = thread::scope(|scope| {
        let producer = scope.spawn(|| produce(program.broker, &input, &stop));
        let at_end = StopAtEnd(&stop);
        // What is made once is not measured.
        let first = program.start("until stopped");
        program.times(&first);
        stop_after(first, length);
        let (mut clean, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..starts {
            bare.push(init(false));
            let started = program.start("until stopped");
            clean.push(program.times(&started));
            stop_after(started, length);
        }
        report(program, "a clean stop", &clean, &bare);
        bare.clear();
        let mut victim = program.start("to be killed");
        program.times(&victim);
        let mut killed = Vec::new();
        for round in 0..starts {
            kill_after(victim, length, program.binary.is_some());
            bare.push(init(true));
            let is_last = round + 1 == starts;
            victim = program.start(if is_last { "until stopped" } else { "to be killed" });
            killed.push(program.times(&victim));
        }
        report(program, "kill -9", &killed, &bare);
        drop(at_end);
        last = Some(victim);
        producer.join().unwrap()
    });
    let count = sent.values().sum::<u64>();
    let last = last.unwrap();
    eventually(LIMIT, "all counts", || match total(program.broker, &output) {
        total if total == count => Ok(()),
        total => Err(format!("{total} of {count}")),
    });
    thread::sleep(idle);
    let said = last.said.clone();
    stop_after(last, Duration::ZERO);
    check(program, &output, &sent);
    println!("{}: {count} records, all counted once", program.name);
    if program.binary.is_none() {
        empty_batches(&said);
    }
}

/// Prints what the starts took, and what `init_transactions` takes by itself.
fn report(program: &Program<'_>, after: &str, all: &[Times], bare: &[f64]) {
    let text = |of: &dyn Fn(&Times) -> f64| {
        let [median, worst] = [0.5, 1.0].map(|part| quantile(all.iter().map(of), part));
        format!("{median:.3} ({worst:.3})")
    };
    let [bare_median, bare_worst] = [0.5, 1.0].map(|part| quantile(bare.iter().copied(), part));
    let worst = quantile(all.iter().map(|times| times.first_commit), 1.0);
    let is_below = |seconds: f64| if seconds < TARGET { "yes" } else { "no" };
    println!(
        "{:<27}{:>17}{:>17}{:>17}",
        format!("{}, after {after}", program.name),
        text(&|times| times.until_main),
        text(&|times| times.ready),
        text(&|times| times.first_commit)
    );
    println!("    init_transactions of a bare producer then: {bare_median:.3} ({bare_worst:.3})");
    println!(
        "    all below {TARGET} s: {}; without init_transactions: {}",
        is_below(worst),
        is_below(worst - bare_median)
    );
}

/// Seconds that librdkafka takes for a new producer and its `init_transactions`, if the one before with its id ended well, or
/// was killed in the middle of a transaction.
fn init_transactions(broker: &Broker, topic: &str, id: &str, is_killed: bool) -> f64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("transactional.id", id);
    let before: BaseProducer = config.create().unwrap();
    before.init_transactions(LIMIT).unwrap();
    before.begin_transaction().unwrap();
    for partition in 0..PARTITIONS {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload("nothing");
        before.send(record).map_err(|(e, _)| e).unwrap();
    }
    before.flush(LIMIT).unwrap();
    if !is_killed {
        before.commit_transaction(LIMIT).unwrap();
    }
    drop(before);
    let begun = Instant::now();
    config.create::<BaseProducer>().unwrap().init_transactions(LIMIT).unwrap();
    begun.elapsed().as_secs_f64()
}

/// Has the producer stop, however the measuring ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Program<'_> {
    fn start(&self, how: &str) -> Started {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let said = self.folder.join(format!("said-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let checkpoint = self.folder.join(self.name);
        let [brokers, input, output] =
            [self.broker.bootstrap().to_owned(), format!("in-{}", self.name), format!("out-{}", self.name)];
        let mut command = match &self.binary {
            None => child(&[how, &brokers, &input, &output, checkpoint.to_str().unwrap()]),
            Some(binary) => {
                let file = self.folder.join("running-count.yaml");
                std::fs::write(&file, pipeline(&brokers, &input, &output, &checkpoint)).unwrap();
                let mut command = Command::new(binary);
                command.arg("run").arg(file);
                command
            }
        };
        let file = File::create(&said).unwrap();
        command
            .env("TIDEMILL_LOG", "info")
            .env("TIDEMILL_LOG_FORMAT", "json")
            .stdout(file.try_clone().unwrap());
        if self.binary.is_some() {
            command.stderr(file);
        }
        let at = now();
        Started { process: Process::spawn(command), at, said }
    }

    /// Waits for the first batch that has records.
    fn times(&self, started: &Started) -> Times {
        let all = eventually(LIMIT, "a batch that has records", || {
            let text = std::fs::read_to_string(&started.said).unwrap();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let all = if self.binary.is_some() { times_of_log(&lines) } else { times_told(&lines) };
            all.ok_or(text)
        });
        let [main, ready, committed] = all;
        Times {
            until_main: main - started.at,
            ready: ready - started.at,
            first_commit: committed - started.at,
        }
    }
}

/// What the typed program says of itself: see [`Watch`].
fn times_told(lines: &[Value]) -> Option<[f64; 3]> {
    let told = lines.first()?;
    Some(["main", "ready", "committed"].map(|name| told[name].as_f64().unwrap()))
}

/// What the binary's log says. Of batches it has a line every half a second, and one of the first.
fn times_of_log(lines: &[Value]) -> Option<[f64; 3]> {
    let at = |line: &Value| epoch_seconds(line["timestamp"].as_str().unwrap());
    let of =
        |text: &str| lines.iter().find(|line| line["message"].as_str().is_some_and(|m| m.contains(text)));
    let batch = lines.iter().find(|l| l["message"] == "batch completed" && l["records"] != 0)?;
    let [main, ready] = [of("")?, of("streaming started")?].map(at);
    Some([main, ready, at(batch)])
}

/// Of `2026-01-31T12:34:56.789Z`; only the present day is asked for.
fn epoch_seconds(timestamp: &str) -> f64 {
    const DAY: f64 = 86_400.0;
    let of_day = seconds_of_day(timestamp);
    let midnight = now() - now() % DAY;
    if midnight + of_day > now() + 1.0 { midnight + of_day - DAY } else { midnight + of_day }
}

fn stop_after(started: Started, length: Duration) {
    let Started { mut process, said, .. } = started;
    thread::sleep(length);
    process.signal(libc::SIGTERM);
    let logs = || std::fs::read_to_string(&said).unwrap();
    assert!(process.wait_exit(LIMIT, logs).success(), "{}", logs());
}

/// The typed program kills itself in the middle of a transaction; the binary is killed wherever it is.
fn kill_after(started: Started, length: Duration, from_here: bool) {
    use std::os::unix::process::ExitStatusExt;
    let Started { mut process, said, .. } = started;
    thread::sleep(length);
    process.signal(if from_here { libc::SIGKILL } else { libc::SIGUSR1 });
    let status = process.wait_exit(LIMIT, || std::fs::read_to_string(&said).unwrap());
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
}

/// Sends records at a steady rate until it is told to stop; gives how many of each key.
fn produce(broker: &Broker, topic: &str, stop: &AtomicBool) -> HashMap<String, u64> {
    let rate = variable("BENCH_RATE", 1_000) as f64;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let (mut sent, mut number, begin) = (HashMap::new(), 0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        for i in number..due {
            let key = format!("k{}", i % KEYS);
            producer.send(BaseRecord::to(topic).key(&key).payload(&key)).map_err(|(e, _)| e).unwrap();
            *sent.entry(key).or_default() += 1;
        }
        number = due;
        producer.poll(Duration::ZERO);
        thread::sleep(Duration::from_millis(1));
    }
    producer.flush(LIMIT).unwrap();
    sent
}

/// The counts of a topic, those of a key in their order.
fn counts(broker: &Broker, output: &str) -> HashMap<String, Vec<u64>> {
    let mut counts: HashMap<_, Vec<u64>> = HashMap::new();
    for row in broker.read(output) {
        let text = row.text();
        let count = text.parse().ok().or_else(|| serde_json::from_str::<Value>(&text).ok()?["n"].as_u64());
        let count = count.unwrap_or_else(|| panic!("no count: {text}"));
        counts.entry(row.key_text()).or_default().push(count);
    }
    counts
}

fn total(broker: &Broker, output: &str) -> u64 {
    counts(broker, output).values().filter_map(|counts| counts.last()).sum()
}

/// The typed program tells each record's count, the pipeline file each batch's.
fn check(program: &Program<'_>, output: &str, sent: &HashMap<String, u64>) {
    let counts = counts(program.broker, output);
    assert_eq!(counts.len(), sent.len());
    for (key, counts) in counts {
        let each = program.binary.is_some() || counts.iter().copied().eq(1..=sent[&key]);
        let rising = counts.is_sorted_by(|a, b| a < b) && counts.last() == sent.get(&key);
        assert!(each && rising, "{key}: {counts:?}, sent {}", sent[&key]);
    }
}

fn pipeline(brokers: &str, input: &str, output: &str, checkpoint: &Path) -> String {
    format!(
        "app_id: startup-yaml
batch_interval: {}ms
delivery: exactly-once
checkpoint: {}
http: off
sources:
  words: {{ kafka: {{ brokers: \"{brokers}\", topics: [{input}], start: earliest }}, format: text }}
streams:
  totals: {{ map_with_state: {{ from: words, key: [value], state: {{ n: \"count(*)\" }}, emit: updated }} }}
outputs:
  - from: totals
    kafka: {{ topic: {output}, key: value, format: json, partitions: {PARTITIONS} }}
",
        INTERVAL.as_millis(),
        checkpoint.display()
    )
}

/// What the typed program notes of itself.
#[derive(Default)]
struct Watch {
    main: f64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    ready: f64,
    first: bool,
    /// Of the batches without records since the last one with some: the whole and its phases, in milliseconds.
    empty: Vec<(f64, Vec<(&'static str, f64)>)>,
    /// The processor's seconds then.
    cpu: f64,
}

impl StreamingListener for Watch {
    fn streaming_started(&self, _: tidemill::Time, _: tidemill::Duration) {
        self.told.lock().unwrap().ready = now();
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        assert!(batch.failure.is_none(), "{:?}", batch.failure);
        let mut told = self.told.lock().unwrap();
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        if batch.num_records == 0 {
            let phases = batch.phases.iter().map(|(name, took)| (*name, ms(*took))).collect();
            told.empty.push((ms(batch.processing_duration.unwrap()), phases));
            return;
        }
        told.empty.clear();
        told.cpu = cpu_seconds();
        if !std::mem::replace(&mut told.first, true) {
            let times = json!({ "main": self.main, "ready": told.ready, "committed": now() });
            println!("{times}");
        }
    }
}

static ASKED: AtomicBool = AtomicBool::new(false);
static DOOMED: AtomicBool = AtomicBool::new(false);

extern "C" fn asked(signal: i32) {
    let flag = if signal == libc::SIGTERM { &ASKED } else { &DOOMED };
    flag.store(true, Ordering::Relaxed);
}

/// What a child does: HOW BROKERS INPUT OUTPUT CHECKPOINT.
fn run(arguments: &[String]) {
    let main = now();
    let [how, brokers, input, output, checkpoint] = arguments else { panic!("{arguments:?}") };
    for signal in [libc::SIGTERM, libc::SIGUSR1] {
        // SAFETY: the handler stores a flag, and nothing else.
        unsafe { libc::signal(signal, asked as *const () as libc::sighandler_t) };
    }
    if how == "to be killed" {
        fail::cfg_callback(KILL_AT, || {
            if DOOMED.load(Ordering::Relaxed) {
                // SAFETY: it ends this process.
                unsafe { libc::raise(libc::SIGKILL) };
            }
        })
        .unwrap();
    }
    let ssc = StreamingContext::builder("startup-typed")
        .batch_interval(INTERVAL)
        .checkpoint(checkpoint)
        .build()
        .unwrap();
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, PARTITIONS);
    let counted = StateSpec::function(|key: &Vec<u8>, _: Option<()>, count: &mut State<u64>| {
        let next = count.get_option().unwrap_or(&0) + 1;
        count.update(next);
        Some(ProducerRecord::new(key.clone(), next.to_string()))
    });
    ssc.kafka_direct_stream(KafkaSource::new(brokers, [input]).start(Start::Earliest))
        .map(|record| (record.key.unwrap_or_default().to_vec(), ()))
        .map_with_state(counted)
        .save_to_kafka(&sink, output);
    let watch = Arc::new(Watch { main, ..Watch::default() });
    ssc.add_streaming_listener(watch.clone());
    ssc.start().unwrap();
    while !ASKED.load(Ordering::Relaxed) {
        ssc.await_termination_or_timeout(Duration::from_millis(5)).unwrap();
    }
    let cpu = cpu_seconds();
    ssc.stop(true).unwrap();
    let told = watch.told.lock().unwrap();
    let phases: Vec<_> = told.empty.iter().map(|(_, phases)| phases.iter().copied().collect()).collect();
    let phases: Vec<HashMap<&str, f64>> = phases;
    let names = told.empty.first().map(|(_, phases)| phases.iter().map(|(name, _)| *name).collect());
    let names: Vec<&str> = names.unwrap_or_default();
    let part = |part: f64| quantile(told.empty.iter().map(|(whole, _)| *whole), part);
    let middle = |name: &str| quantile(phases.iter().filter_map(|p| p.get(name).copied()), 0.5);
    println!(
        "{}",
        json!({
            "empty": told.empty.len(), "median": part(0.5), "p99": part(0.99), "worst": part(1.0),
            "phases": names.iter().map(|name| format!("{name} {:.2}", middle(name))).collect::<Vec<_>>().join(", "),
            "cpu": (cpu - told.cpu) * 1e3 / told.empty.len().max(1) as f64,
        })
    );
}

/// Prints what the last run said of its batches without records.
fn empty_batches(said: &Path) {
    let text = std::fs::read_to_string(said).unwrap();
    let told: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let number = |name: &str| told[name].as_f64().unwrap();
    println!(
        "{} batches without records, ms: median {:.2}, p99 {:.2}, worst {:.2} ({}); CPU of the whole process {:.2} each",
        told["empty"],
        number("median"),
        number("p99"),
        number("worst"),
        told["phases"].as_str().unwrap(),
        number("cpu"),
    );
    println!(
        "an empty batch below {EMPTY_TARGET_MS} ms: {}",
        if number("median") < EMPTY_TARGET_MS { "yes" } else { "no" }
    );
}
