//! The demo's tweets: the bridge's made-up ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};

use crate::error::{Error, Result};
use crate::service::bridge::Generator;
use crate::time::{Clock, SystemClock, pause};

const HASHTAGS: u32 = 24;
const USERS: u32 = 5_000;
const PER_SECOND: u32 = 2_000;
const STEPS_PER_SECOND: u32 = 20;
/// Every so many tweets a hashtag has a burst.
const BURST_EVERY: u64 = 30_000;

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
    let mut generator = Generator::new(HASHTAGS, USERS, BURST_EVERY, None, 0)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name("demo-tweets".to_owned())
        .spawn(move || run(&mut generator, &producer, topic, &stopped))
        .map_err(|e| Error::internal("cannot start the demo's producer").with_source(e))?;
    Ok(Producing { stop, thread: Some(thread) })
}

fn run(
    generator: &mut Generator,
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    stop: &AtomicBool,
) {
    let clock = SystemClock::default();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..PER_SECOND / STEPS_PER_SECOND {
            let tweet = match generator.tweet(clock.now()) {
                Ok(tweet) => tweet,
                Err(error) => return tracing::error!(%error, "no more tweets"),
            };
            let record = BaseRecord::to(topic).key(generator.user()).payload(&tweet);
            match producer.send(record) {
                // The embedded broker is behind: these tweets are made up anyway.
                Ok(()) | Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
                Err((error, _)) => tracing::warn!(%error, "a tweet could not be produced"),
            }
        }
        pause(std::time::Duration::from_secs(1) / STEPS_PER_SECOND);
    }
}
