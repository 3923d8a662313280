//! Tidemill's typed programs: the examples, as they stand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tidemill::{BatchInfo, End, KafkaSource, Slicing, Start, StreamingContext, StreamingListener};

use crate::UPDATE_STATE_BY_KEY;
use crate::load::NEEDLE;

#[path = "../../examples/kafka_ad_views.rs"]
mod ad_views;
#[path = "../../examples/kafka_grep.rs"]
mod grep;
#[path = "../../examples/kafka_running_count.rs"]
mod running_count;
#[path = "../../examples/kafka_top_words.rs"]
mod top_words;
#[path = "../../examples/kafka_windowed_word_count.rs"]
mod windowed_word_count;
#[path = "../../examples/kafka_word_count.rs"]
mod word_count;
#[path = "../../examples/kafka_word_totals.rs"]
mod word_totals;

/// Notes when the last batch was committed.
#[derive(Default)]
struct Watch {
    records: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl StreamingListener for Watch {
    fn batch_completed(&self, batch: &BatchInfo) {
        assert!(batch.failure.is_none(), "{:?}", batch.failure);
        if std::env::var_os("BENCH_PHASES").is_some() {
            eprintln!("{}: {} records, {:?}", batch.batch_time, batch.num_records, batch.phases);
        }
        *self.last.lock() = Some(Instant::now());
        self.records.fetch_add(batch.num_records, Ordering::Relaxed);
    }
}

pub fn run(
    system: &str,
    workload: &str,
    brokers: &str,
    topic: &str,
    output: &str,
    folder: &Path,
    records: u64,
) -> serde_json::Value {
    let began = Instant::now();
    let ssc = StreamingContext::builder(output)
        .batch_interval(Duration::from_secs(1))
        .checkpoint(folder.join("checkpoint"))
        .build()
        .unwrap();
    let source = KafkaSource::new(brokers, [topic]).start(Start::Earliest).end(End::Latest);
    let by_time = source.clone().slicing(Slicing::timestamp());
    match workload {
        "grep" => grep::program(&ssc, source, brokers, output, NEEDLE),
        "wordcount" => word_count::program(&ssc, source, brokers, output),
        "windowcount" => windowed_word_count::program(&ssc, by_time, brokers, output),
        "topk" => top_words::program(&ssc, by_time, brokers, output),
        "statecount" if system == UPDATE_STATE_BY_KEY => word_totals::program(&ssc, source, brokers, output),
        "statecount" => running_count::program(&ssc, source, brokers, output),
        "ysb" => {
            let csv = std::fs::read_to_string(std::env::var_os("BENCH_CAMPAIGNS").unwrap()).unwrap();
            ad_views::program(&ssc, by_time, brokers, output, ad_views::campaigns(&csv))
        }
        other => panic!("no workload `{other}`"),
    }
    .unwrap();
    let watch = Arc::new(Watch::default());
    ssc.add_streaming_listener(watch.clone());
    ssc.start().unwrap();
    let started = Instant::now();
    // It ends by itself, at what is the topic's end now.
    ssc.await_termination().unwrap();
    let seconds = (watch.last.lock().unwrap() - started).as_secs_f64();
    assert_eq!(watch.records.load(Ordering::Relaxed), records);
    json!({
        "seconds": seconds,
        "startup_seconds": (started - began).as_secs_f64(),
        "records": watch.records.load(Ordering::Relaxed),
    })
}
