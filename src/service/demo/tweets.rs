//! Made-up tweets: few hashtags that all use, many that few use, and one that bursts now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use serde_json::json;

use crate::error::{Error, Result};
use crate::time::{Clock, SystemClock, Time, pause};

const HASHTAGS: [&str; 24] = [
    "rust",
    "kafka",
    "streaming",
    "dataengineering",
    "opensource",
    "sql",
    "spark",
    "linux",
    "devops",
    "wasm",
    "python",
    "postgres",
    "observability",
    "grafana",
    "prometheus",
    "arrow",
    "datafusion",
    "rocksdb",
    "backpressure",
    "exactlyonce",
    "tides",
    "harbour",
    "watermill",
    "eclipse",
];
const WORDS: [&str; 16] = [
    "today", "learning", "about", "finally", "shipped", "the", "new", "release", "of", "our", "pipeline",
    "love", "this", "talk", "on", "windows",
];
const LANGUAGES: [&str; 5] = ["en", "en", "de", "ja", "pt"];
const USERS: u32 = 5_000;
const PER_SECOND: u32 = 2_000;
const STEPS_PER_SECOND: u32 = 20;
/// Every so many steps, for as many steps as the second number, a hashtag that few use is in every other tweet.
const BURST: (u64, u64) = (300, 60);

/// Produces tweets until it is dropped.
pub(super) struct Producing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Producing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It can only have ended.
            let _ = thread.join();
        }
    }
}

/// Starts producing tweets to `topic`.
///
/// # Errors
/// If the producer or its thread cannot be made.
pub(super) fn produce(brokers: &str, topic: &'static str) -> Result<Producing> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .create()
        .map_err(|e| Error::internal("cannot make the demo's producer").with_source(e))?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name("demo-tweets".to_owned())
        .spawn(move || run(&producer, topic, &stopped))
        .map_err(|e| Error::internal("cannot start the demo's producer").with_source(e))?;
    Ok(Producing { stop, thread: Some(thread) })
}

fn run(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, stop: &AtomicBool) {
    let mut random = rand::rng();
    let clock = SystemClock::default();
    let mut id = 0;
    for step in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // The first burst comes after the table has settled.
        let bursting = (step % BURST.0 >= BURST.0 - BURST.1)
            .then(|| HASHTAGS[HASHTAGS.len() - 1 - (step / BURST.0 % 4) as usize]);
        for _ in 0..PER_SECOND / STEPS_PER_SECOND {
            id += 1;
            let user = format!("user{}", random.random_range(0..USERS));
            let tweet = tweet(&mut random, id, &user, bursting, clock.now());
            let record = BaseRecord::to(topic).key(&user).payload(&tweet);
            match producer.send(record) {
                // The embedded broker is behind: these tweets are made up anyway.
                Ok(()) | Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
                Err((error, _)) => tracing::warn!(%error, "a tweet could not be produced"),
            }
        }
        pause(std::time::Duration::from_secs(1) / STEPS_PER_SECOND);
    }
}

fn tweet(random: &mut impl Rng, id: u64, user: &str, bursting: Option<&str>, now: Time) -> String {
    // Zipf's law: the n-th hashtag is used in proportion to 1/n.
    let weights = (1..=HASHTAGS.len()).map(|n| 1.0 / n as f64);
    let mut hashtags: Vec<&str> = match WeightedIndex::new(weights) {
        Ok(zipf) => (0..random.random_range(1..=2)).map(|_| HASHTAGS[zipf.sample(random)]).collect(),
        Err(_) => Vec::new(),
    };
    hashtags.extend(bursting.filter(|_| random.random_bool(0.5)));
    let mut text: Vec<String> = WORDS.sample(random, 6).map(|word| (*word).to_owned()).collect();
    text.extend(hashtags.iter().map(|tag| format!("#{tag}")));
    json!({
        "id": id,
        // Microseconds, as an integer timestamp is read.
        "created_at": now.as_millis() * 1_000,
        "user": user,
        "lang": LANGUAGES.choose(random),
        "text": text.join(" "),
        "hashtags": hashtags,
    })
    .to_string()
}
