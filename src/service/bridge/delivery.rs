//! Tweets to Kafka: an idempotent producer, keyed by user.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::args::{self, To};
use super::progress::InFlight;
use super::tweet::Tweet;
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::service::limit::Limit;
use crate::service::signals::StopRequested;
use crate::sink::kafka::{Admin, TopicSettings};
use crate::source::kafka::{ClientSettings, Rebootstrap, client_error, error_text};
use crate::time::Duration;

/// How long a start waits for the brokers.
const WAIT: Duration = Duration::minutes(2);
/// How long a stop waits for what is under way.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(20);
/// How long to wait when librdkafka's queue is full: the broker is slower than the source.
const FULL: std::time::Duration = std::time::Duration::from_millis(10);

/// What was done so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub tweets: u64,
    pub bad: u64,
    pub refused: u64,
}

/// Produces tweets, and knows what has arrived.
pub(super) struct Delivery {
    producer: ThreadedProducer<Acknowledged>,
    acknowledged: Arc<State>,
    topic: String,
    dead_letters: Option<String>,
    source: &'static str,
    tweets: AtomicU64,
    bad: AtomicU64,
    complaints: Limit,
}

struct State {
    in_flight: Mutex<InFlight>,
    refused: AtomicU64,
    fatal: Mutex<Option<String>>,
    complaints: Limit,
    rebootstrap: Rebootstrap,
}

struct Acknowledged(Arc<State>);

impl ClientContext for Acknowledged {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0.fatal.lock().get_or_insert_with(|| reason.to_owned());
        } else if let Some(more) = self.0.complaints.pass() {
            tracing::warn!(more, "Kafka: {}: {reason}", error_text(&error));
        }
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code();
            // What a stop took back comes again at the next start.
            if matches!(code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) {
                return;
            }
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = self.0.complaints.pass() {
                tracing::error!(more, "a tweet was refused by Kafka, and is left out: {}", error_text(error));
            }
        }
        self.0.in_flight.lock().done(number);
    }
}

impl Delivery {
    /// Connects, and makes the topics if they are missing.
    ///
    /// # Errors
    /// Kafka cannot be reached, or an option is wrong.
    pub fn connect(to: &To, source: &'static str, stop: &StopRequested) -> Result<Self> {
        let mut options = to.options.clone();
        if let Some(path) = &to.options_file {
            options.extend(options_of(path)?);
        }
        let settings = ClientSettings {
            brokers: to.brokers.clone(),
            client_id: format!("tidemill-bridge-{source}"),
            options,
        };
        let mut config = settings.config()?;
        // Nothing is given up: as long as Kafka is away, the queue fills up and the source waits.
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            ("linger.ms", "20"),
            ("compression.type", "lz4"),
            ("queue.buffering.max.kbytes", "65536"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let runner = Arc::new(Runner::new(1, 1, 0, None)?);
        let mut topics =
            BTreeMap::from([(Arc::from(&*to.topic), TopicSettings::new().partitions(to.partitions))]);
        if let Some(topic) = &to.dead_letters {
            topics.insert(Arc::from(&**topic), TopicSettings::dead_letters());
        }
        until(stop, &runner, || Admin::new(&settings)?.create(&runner, &topics, WAIT))?;
        let acknowledged = Arc::new(State {
            in_flight: Mutex::default(),
            refused: AtomicU64::new(0),
            fatal: Mutex::default(),
            complaints: Limit::default(),
            rebootstrap: Rebootstrap::new(&to.brokers),
        });
        let producer = config
            .create_with_context(Acknowledged(acknowledged.clone()))
            .map_err(|e| client_error("producer", e))?;
        Ok(Self {
            producer,
            acknowledged,
            topic: to.topic.clone(),
            dead_letters: to.dead_letters.clone(),
            source,
            tweets: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            complaints: Limit::default(),
        })
    }

    /// Hands over a tweet; waits as long as the producer has too many. All up to `cursor` has been handed over then.
    pub async fn send(&self, tweet: &Tweet, cursor: Option<i64>) -> Result<()> {
        let value = serde_json::to_vec(tweet)
            .map_err(|e| Error::internal("a tweet cannot be written as JSON").with_source(e))?;
        self.produce(&self.topic, Some(tweet.user.as_bytes()), &value, None, cursor).await?;
        self.tweets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Hands over a tweet that is written already.
    pub async fn send_written(&self, user: &str, value: &[u8], cursor: Option<i64>) -> Result<()> {
        self.produce(&self.topic, Some(user.as_bytes()), value, None, cursor).await?;
        self.tweets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Something that is no tweet: told, counted, and kept aside if there is a place for it.
    pub async fn bad(&self, value: &[u8], why: &str, cursor: Option<i64>) -> Result<()> {
        self.bad.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.complaints.pass() {
            let shown = String::from_utf8_lossy(&value[..value.len().min(200)]);
            tracing::warn!(source = self.source, more, value = %shown, "not understood: {why}");
        }
        match &self.dead_letters {
            Some(topic) => self.produce(topic, None, value, Some(why), cursor).await,
            None => {
                self.pass(cursor);
                Ok(())
            }
        }
    }

    /// Nothing has to be handed over up to `cursor`.
    pub fn pass(&self, cursor: Option<i64>) {
        let mut in_flight = self.acknowledged.in_flight.lock();
        let number = in_flight.add(cursor);
        in_flight.done(number);
    }

    async fn produce(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        why: Option<&str>,
        cursor: Option<i64>,
    ) -> Result<()> {
        let number = self.acknowledged.in_flight.lock().add(cursor);
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, number).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(why) = why {
            let header = |key, value| Header { key, value: Some(value) };
            let headers = OwnedHeaders::new();
            let headers = headers.insert(header("__tidemill.errors.message", why));
            record = record.headers(headers.insert(header("__tidemill.errors.stage", "bridge")));
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    self.acknowledged.refused.fetch_add(1, Ordering::Relaxed);
                    if let Some(more) = self.complaints.pass() {
                        tracing::error!(
                            more,
                            bytes = value.len(),
                            "a tweet is larger than message.max.bytes, and is left out"
                        );
                    }
                    self.acknowledged.in_flight.lock().done(number);
                    return Ok(());
                }
                Err((error, _)) => {
                    return Err(Error::output(format!(
                        "cannot produce to `{topic}`: {}",
                        error_text(&error)
                    ))
                    .with_source(error));
                }
            }
            tokio::time::sleep(FULL).await;
            self.check()?;
        }
    }

    /// Whether the producer can go on; to be called now and then.
    ///
    /// # Errors
    /// It cannot, for good.
    pub fn check(&self) -> Result<()> {
        self.acknowledged.rebootstrap.look(self.producer.client());
        match &*self.acknowledged.fatal.lock() {
            Some(why) => Err(Error::output(format!("the producer of `{}` cannot go on: {why}", self.topic))),
            None => Ok(()),
        }
    }

    /// Waits for what is under way.
    ///
    /// # Errors
    /// Some of it has not arrived; it comes again at the next start.
    pub fn finish(&self) -> Result<()> {
        self.producer.flush(FLUSH).map_err(|e| {
            let left = self.producer.in_flight_count();
            Error::unavailable(format!(
                "{left} tweets did not arrive in Kafka ({}): the next start brings them again, if the source can",
                error_text(&e)
            ))
        })
    }

    /// The cursor up to which everything has arrived; none if nothing has yet.
    pub fn delivered(&self) -> Option<i64> {
        self.acknowledged.in_flight.lock().delivered()
    }

    pub fn told(&self) -> Told {
        Told {
            tweets: self.tweets.load(Ordering::Relaxed),
            bad: self.bad.load(Ordering::Relaxed),
            refused: self.acknowledged.refused.load(Ordering::Relaxed),
        }
    }
}

/// The settings in a file of NAME=VALUE, which may hold secrets: no message shows a line.
fn options_of(path: &std::path::Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::config(format!("cannot read --options-file {}", path.display())).with_source(e)
    })?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(n, line)| {
            args::option(line).map_err(|why| Error::config(format!("{}:{}: {why}", path.display(), n + 1)))
        })
        .collect()
}

/// Runs `body`, whose waiting ends when a stop is asked for.
fn until<R: Send>(
    stop: &StopRequested,
    runner: &Arc<Runner>,
    body: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(body);
        while !thread.is_finished() {
            if stop.wait(std::time::Duration::from_millis(50)) {
                runner.cancel();
                break;
            }
        }
        thread.join().unwrap_or_else(|_| Err(Error::internal("connecting to Kafka panicked")))
    })
}
