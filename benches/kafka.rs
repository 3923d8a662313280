//! Records per second from a real broker: grep and word count beside a bare rdkafka consumer, on the same topic in
//! one run. Every result is checked against what the loader counted; a wrong one fails the benchmark.
//!
//! `BENCH_RECORDS` sets the number of records (1,000,000 unless set), `BENCH_ROUNDS` how often all are measured (3).
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../integration-tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use smol_str::SmolStr;
use support::Broker;
use tidemill::{
    BatchInfo, KafkaSinkSettings, KafkaSource, ProducerRecord, Start, StateSpec, StreamingContext,
    StreamingListener,
};

const PARTITIONS: i32 = 4;
const WORDS_PER_RECORD: usize = 16;
const VOCABULARY: usize = 10_000;
/// What grep looks for: a word that about one record in 6,000 has.
const NEEDLE: &str = "w9998";
const TOPIC: &str = "words";

fn main() {
    let records: u64 = variable("BENCH_RECORDS", 1_000_000);
    let rounds: u64 = variable("BENCH_ROUNDS", 3);
    let broker = Broker::start();
    println!("loading {records} records of about 100 bytes into {PARTITIONS} partitions");
    let truth = load(&broker, records);
    let mut rates: Vec<(&str, Vec<f64>)> = Vec::new();
    for round in 0..rounds {
        let systems: [(&str, &dyn Fn() -> f64); 4] = [
            ("rdkafka, bare poll loop", &|| bare(&broker, records)),
            ("tidemill grep", &|| grep(&broker, round, records, &truth)),
            ("tidemill word count", &|| word_count(&broker, round, records, &truth)),
            ("tidemill running count", &|| running_count(&broker, round, records, &truth)),
        ];
        for (i, (name, run)) in systems.iter().enumerate() {
            let rate = run();
            println!("round {round}: {name}: {rate:.0} records/s");
            if rates.len() <= i {
                rates.push((name, Vec::new()));
            }
            rates[i].1.push(rate);
        }
    }
    println!("\n{:<26} {:>14} {:>9}", "median of rounds", "records/s", "to bare");
    let medians: Vec<f64> = rates.iter_mut().map(|(_, all)| median(all)).collect();
    for ((name, _), rate) in rates.iter().zip(&medians) {
        println!("{name:<26} {rate:>14.0} {:>9.2}", rate / medians[0]);
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")))
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// What the answers must be.
struct Truth {
    matches: u64,
    counts: HashMap<String, u64>,
}

/// Writes the records: Zipf-distributed words from a fixed seed.
fn load(broker: &Broker, records: u64) -> Truth {
    broker.create_topic(TOPIC, PARTITIONS);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    let mut cumulative = Vec::with_capacity(VOCABULARY);
    let mut total = 0.0;
    for rank in 1..=VOCABULARY {
        total += 1.0 / rank as f64;
        cumulative.push(total);
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut truth = Truth { matches: 0, counts: HashMap::new() };
    let mut line = String::new();
    for i in 0..records {
        line.clear();
        for _ in 0..WORDS_PER_RECORD {
            // xorshift64*
            seed ^= seed >> 12;
            seed ^= seed << 25;
            seed ^= seed >> 27;
            let at = (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64 * total;
            let rank = cumulative.partition_point(|c| *c < at);
            if !line.is_empty() {
                line.push(' ');
            }
            let word = format!("w{rank:04}");
            line.push_str(&word);
            *truth.counts.entry(word).or_default() += 1;
        }
        truth.matches += u64::from(line.contains(NEEDLE));
        let partition = (i % PARTITIONS as u64) as i32;
        while producer.send(BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&line)).is_err() {
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(120)).unwrap();
    truth
}

/// The limit of librdkafka's common interface: one thread that polls.
fn bare(broker: &Broker, records: u64) -> f64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.min.messages", "1000000")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut seen, mut start, mut bytes) = (0, None, 0);
    while seen < records {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            start.get_or_insert_with(Instant::now);
            bytes += message.unwrap().payload_len();
            seen += 1;
        }
    }
    assert!(bytes > 0);
    records as f64 / start.unwrap().elapsed().as_secs_f64()
}

fn context(name: &str, folder: &tempfile::TempDir) -> StreamingContext {
    StreamingContext::builder(name)
        .batch_interval(Duration::from_millis(100))
        .checkpoint(folder.path())
        .build()
        .unwrap()
}

/// Tells when as many records were read and committed as there are.
struct Done {
    wanted: u64,
    seen: AtomicU64,
    first: std::sync::Mutex<Option<Instant>>,
    finished: std::sync::mpsc::Sender<Duration>,
}

impl StreamingListener for Done {
    fn batch_started(&self, _: &BatchInfo, _: usize) {
        if self.seen.load(Ordering::Relaxed) == 0 {
            *self.first.lock().unwrap() = Some(Instant::now());
        }
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        assert!(batch.failure.is_none(), "{:?}", batch.failure);
        let seen = self.seen.fetch_add(batch.num_records, Ordering::Relaxed) + batch.num_records;
        if seen == self.wanted
            && let Some(first) = self.first.lock().unwrap().take()
        {
            let _ = self.finished.send(first.elapsed());
        }
    }
}

/// Runs a program over the whole topic; from the start of the first batch with records to the last commit.
fn timed(broker: &Broker, name: &str, records: u64, program: impl FnOnce(&StreamingContext)) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let ssc = context(name, &folder);
    program(&ssc);
    let (finished, done) = std::sync::mpsc::channel();
    ssc.add_streaming_listener(Arc::new(Done {
        wanted: records,
        seen: AtomicU64::new(0),
        first: Default::default(),
        finished,
    }));
    ssc.start().unwrap();
    let took = done.recv_timeout(Duration::from_secs(600)).unwrap();
    ssc.stop(false).unwrap();
    let lag: i64 = broker.group_lag(name).iter().filter_map(|row| row.lag).sum();
    assert_eq!(lag, 0, "all was committed");
    records as f64 / took.as_secs_f64()
}

fn source(broker: &Broker) -> KafkaSource {
    KafkaSource::new(broker.bootstrap(), [TOPIC]).start(Start::Earliest)
}

fn grep(broker: &Broker, round: u64, records: u64, truth: &Truth) -> f64 {
    let output = format!("grep-{round}");
    let finder = memchr::memmem::Finder::new(NEEDLE).into_owned();
    let rate = timed(broker, &output, records, |ssc| {
        let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
        sink.create_topic(&output, PARTITIONS);
        ssc.kafka_direct_stream(source(broker))
            .flat_map_with(move |record, emit| match record.value {
                Some(value) if finder.find(value).is_some() => {
                    emit(ProducerRecord { value: Some(value.to_vec()), ..ProducerRecord::default() })
                }
                _ => Ok(()),
            })
            .save_to_kafka(&sink, &output);
    });
    assert_eq!(broker.read(&output).len() as u64, truth.matches, "grep found other records");
    rate
}

fn word_count(broker: &Broker, round: u64, records: u64, truth: &Truth) -> f64 {
    let output = format!("wordcount-{round}");
    let rate = timed(broker, &output, records, |ssc| {
        let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
        sink.create_topic(&output, PARTITIONS);
        words(ssc, broker)
            .reduce_by_key(|a, b| a + b)
            .map(|(word, n)| ProducerRecord::new(word.as_bytes(), n.to_string()))
            .save_to_kafka(&sink, &output);
    });
    let mut counts: HashMap<String, u64> = HashMap::new();
    for row in broker.read(&output) {
        *counts.entry(row.key_text()).or_default() += row.text().parse::<u64>().unwrap();
    }
    assert!(counts == truth.counts, "word count gave other counts");
    rate
}

fn running_count(broker: &Broker, round: u64, records: u64, truth: &Truth) -> f64 {
    let output = format!("statecount-{round}");
    let rate = timed(broker, &output, records, |ssc| {
        let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()));
        sink.create_topic(&output, PARTITIONS);
        let total =
            StateSpec::function(|word: &SmolStr, n: Option<u64>, total: &mut tidemill::State<u64>| {
                let sum = total.get_option().unwrap_or(&0) + n.unwrap_or(0);
                total.update(sum);
                Some(ProducerRecord::new(word.as_bytes(), sum.to_string()))
            });
        words(ssc, broker).reduce_by_key(|a, b| a + b).map_with_state(total).save_to_kafka(&sink, &output);
    });
    // The last record of a key is its total.
    let totals: HashMap<_, _> =
        broker.read(&output).iter().map(|row| (row.key_text(), row.text().parse::<u64>().unwrap())).collect();
    assert!(totals == truth.counts, "the running count gave other totals");
    rate
}

fn words(ssc: &StreamingContext, broker: &Broker) -> tidemill::DStream<(SmolStr, u64)> {
    ssc.kafka_direct_stream(source(broker)).flat_map_with(|record, emit| {
        record.text().split_ascii_whitespace().try_for_each(|word| emit((SmolStr::new(word), 1)))
    })
}
