//! The word count of `examples/kafka_word_count.rs`: over topics that differ in their partitions, and on more or fewer threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use tidemill::{BatchInfo, End, KafkaSource, Start, StreamingContext, StreamingListener};

use crate::common::{child, cpu_seconds, quantile, variable};
use crate::support::Broker;
use crate::support::words::Random;

#[path = "../../examples/kafka_word_count.rs"]
mod word_count;

/// Lines are taken from so many, over and over.
const LINES: u64 = 20_000;
const WORDS_OF_LINE: u64 = 16;
const VOCABULARY: f64 = 10_000.0;
const PARTITIONS: [i32; 3] = [1, 4, 16];
const OF_THREADS: i32 = 4;

/// What a run took.
struct Run {
    seconds: f64,
    cpu: f64,
}

pub fn measure(partitions: bool, threads: bool) {
    let records = variable("BENCH_RECORDS", 2_000_000);
    let rounds = variable("BENCH_ROUNDS", 3);
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut settings: Vec<(i32, usize)> = Vec::new();
    if partitions {
        settings.extend(PARTITIONS.map(|partitions| (partitions, cores)));
    }
    if threads {
        // 1, 2, 4, …, and all cores.
        let counts = (0..).map(|power| 1 << power).take_while(|threads| *threads < cores);
        settings.extend(counts.chain([cores]).map(|threads| (OF_THREADS, threads)));
    }
    settings.sort_unstable();
    settings.dedup();

    let (broker, _proxy) = Broker::start_with("");
    let lines = lines();
    let mut counts: HashMap<String, u64> = HashMap::new();
    for (i, line) in (0..).zip(&lines) {
        let times = records / LINES + u64::from(i < records % LINES);
        line.split(' ').for_each(|word| *counts.entry(word.to_owned()).or_default() += times);
    }
    let mut topics: Vec<i32> = settings.iter().map(|(partitions, _)| *partitions).collect();
    topics.dedup();
    topics.iter().for_each(|partitions| load(&broker, *partitions, records, &lines));

    let mut runs: HashMap<(i32, usize), Vec<Run>> = HashMap::new();
    for round in 0..rounds {
        for setting in &settings {
            runs.entry(*setting).or_default().push(one(&broker, *setting, round, records, &counts));
        }
    }
    let row = |name: String, setting: (i32, usize)| {
        let median = |of: fn(&Run) -> f64| quantile(runs[&setting].iter().map(of), 0.5);
        let millions = records as f64 / 1e6;
        (name, vec![millions * 1e6 / median(|run| run.seconds), median(|run| run.cpu) / millions])
    };
    let figures = ["records/s", "CPU s per million records"];
    if partitions {
        let rows = PARTITIONS.map(|n| row(format!("{n} partitions"), (n, cores)));
        crate::print(&format!("word count, {records} records, {cores} threads"), &figures, &rows);
    }
    if threads {
        let counts = settings.iter().filter(|(partitions, _)| *partitions == OF_THREADS);
        let rows: Vec<_> = counts.map(|setting| row(format!("{} threads", setting.1), *setting)).collect();
        crate::print(&format!("word count, {records} records, {OF_THREADS} partitions"), &figures, &rows);
    }
}

/// Lines of words by Zipf's law, 95 bytes or so.
fn lines() -> Vec<String> {
    let mut random = Random(7);
    let mut word = || {
        let share = random.below(1 << 53) as f64 / (1_u64 << 53) as f64;
        format!("w{}", VOCABULARY.powf(share) as u64)
    };
    (0..LINES).map(|_| (0..WORDS_OF_LINE).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
}

fn topic(partitions: i32) -> String {
    format!("words-{partitions}")
}

fn load(broker: &Broker, partitions: i32, records: u64, lines: &[String]) {
    let topic = topic(partitions);
    broker.create_topic(&topic, partitions);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("linger.ms", "50")
        .set("batch.size", "262144")
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    for i in 0..records {
        let (line, partition) = (&lines[(i % LINES) as usize], (i % partitions as u64) as i32);
        let record = || BaseRecord::<(), str>::to(&topic).partition(partition).payload(line);
        while producer.send(record()).is_err() {
            producer.poll(Duration::from_millis(10));
        }
        if i.is_multiple_of(10_000) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(300)).unwrap();
}

/// Counts once, in a process of its own, and looks whether the counts are right.
fn one(
    broker: &Broker,
    (partitions, threads): (i32, usize),
    round: u64,
    records: u64,
    counts: &HashMap<String, u64>,
) -> Run {
    let output = format!("counts-{partitions}-{threads}-{round}");
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let (topic, threads, records) = (topic(partitions), threads.to_string(), records.to_string());
    let arguments = [broker.bootstrap(), &topic, &output, checkpoint.to_str().unwrap(), &threads, &records];
    let said = crate::support::output(child(&arguments), "");
    let said: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let mut found: HashMap<String, u64> = HashMap::new();
    for row in broker.read(&output) {
        *found.entry(row.key_text()).or_default() += row.text().parse::<u64>().unwrap();
    }
    assert!(found == *counts, "{output}: wrong counts");
    Run { seconds: said["seconds"].as_f64().unwrap(), cpu: said["cpu"].as_f64().unwrap() }
}

/// Notes when the last batch was committed, and what had been used of the processor by then.
#[derive(Default)]
struct Watch {
    records: AtomicU64,
    last: Mutex<Option<(Instant, f64)>>,
}

impl StreamingListener for Watch {
    fn batch_completed(&self, batch: &BatchInfo) {
        assert!(batch.failure.is_none(), "{:?}", batch.failure);
        self.records.fetch_add(batch.num_records, Ordering::Relaxed);
        *self.last.lock() = Some((Instant::now(), cpu_seconds()));
    }
}

/// What a child does: BROKERS TOPIC OUTPUT CHECKPOINT THREADS RECORDS. The start-up is not measured.
pub fn run(arguments: &[String]) {
    let [brokers, topic, output, checkpoint, threads, records] = arguments else { panic!("{arguments:?}") };
    let ssc = StreamingContext::builder(output)
        .batch_interval(Duration::from_secs(1))
        .checkpoint(checkpoint)
        .worker_threads(threads.parse().unwrap())
        .build()
        .unwrap();
    let source = KafkaSource::new(brokers, [topic]).start(Start::Earliest).end(End::Latest);
    word_count::program(&ssc, source, brokers, output).unwrap();
    let watch = Arc::new(Watch::default());
    ssc.add_streaming_listener(watch.clone());
    ssc.start().unwrap();
    let begun = (Instant::now(), cpu_seconds());
    ssc.await_termination().unwrap();
    assert_eq!(watch.records.load(Ordering::Relaxed), records.parse::<u64>().unwrap());
    let (end, cpu) = watch.last.lock().unwrap();
    println!("{}", json!({ "seconds": (end - begun.0).as_secs_f64(), "cpu": cpu - begun.1 }));
}
