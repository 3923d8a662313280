//! Kafka clients: their settings, their patience, and what their errors mean.

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::rebootstrap::Rebootstrap;
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::time::{Duration, Stopwatch};

/// Properties that Tidemill sets itself, with what to do instead.
pub(crate) const OWNED: [(&str, &str); 21] = [
    ("bootstrap.servers", "set `brokers`"),
    ("metadata.broker.list", "set `brokers`"),
    ("group.id", "it is the `app_id`"),
    ("group.instance.id", "partitions are assigned by Tidemill, not by the group"),
    ("group.protocol", "partitions are assigned by Tidemill, not by the group"),
    ("partition.assignment.strategy", "partitions are assigned by Tidemill, not by the group"),
    ("client.id", "it is made from the `app_id`"),
    ("auto.offset.reset", "set `start`"),
    ("enable.auto.commit", "offsets are committed with each batch"),
    ("auto.commit.interval.ms", "offsets are committed with each batch"),
    ("enable.auto.offset.store", "offsets are committed with each batch"),
    ("isolation.level", "sources read committed records only"),
    ("enable.partition.eof", "Tidemill needs it to find a slice's end"),
    ("transactional.id", "it is made from the `app_id`"),
    ("enable.idempotence", "the producer is always idempotent"),
    ("enable.gapless.guarantee", "the producer is always idempotent"),
    ("acks", "output counts when all in-sync replicas have it"),
    ("request.required.acks", "output counts when all in-sync replicas have it"),
    ("allow.auto.create.topics", "a missing input topic is an error, a missing output topic is created"),
    ("partitioner", "records are placed as Kafka's default partitioner does, by murmur2 of the key"),
    ("sticky.partitioning.linger.ms", "records without a key fill one partition for a while, then another"),
];

/// Second names that librdkafka has for properties, and the first ones: of two names for one thing, which counts must not be a
/// matter of chance.
const ALIASES: [(&str, &str); 8] = [
    ("compression.codec", "compression.type"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("retries", "message.send.max.retries"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
];

/// The name by which a property goes here.
pub(super) fn first_name(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, first)| first)
}

/// How to reach a cluster.
#[derive(Clone)]
pub(crate) struct ClientSettings {
    pub brokers: String,
    pub client_id: String,
    pub options: Vec<(String, String)>,
}

impl ClientSettings {
    /// A configuration with the user's options under ours.
    ///
    /// # Errors
    /// If an option is one that Tidemill sets itself.
    pub fn config(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        for (name, value) in &self.options {
            if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| owned == name) {
                return Err(Error::config(format!(
                    "Kafka option `{name}` is Tidemill's own to set: {instead}"
                )));
            }
            // Of an option that is given twice the last one counts.
            config.set(first_name(name), value);
        }
        // A broker that is back is found within a second; librdkafka would wait up to ten.
        if config.get("reconnect.backoff.max.ms").is_none() {
            config.set("reconnect.backoff.max.ms", "1000");
        }
        config.set("bootstrap.servers", &self.brokers).set("client.id", &self.client_id);
        // Errors of single connections are told by what waits for them, not by a line each.
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        Ok(config)
    }
}

/// Tries `attempt` until it succeeds or fails for good, at most `wait`; says every few seconds what it waits for.
pub(crate) fn wait_for<T>(
    runner: &Runner,
    what: &str,
    wait: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
    let watch = Stopwatch::start();
    let mut said: Option<std::time::Duration> = None;
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => error,
        };
        let elapsed = watch.elapsed();
        if elapsed >= wait.to_std() || runner.gives_up(elapsed) {
            let waited = if wait == Duration::ZERO { String::new() } else { format!(" (waited {wait})") };
            return Err(Error::unavailable(format!("{error}{waited}")));
        }
        if said.is_none_or(|at| elapsed - at >= SAY_EVERY) {
            tracing::info!("waiting for {what}, up to {wait}: {error}");
            said = Some(elapsed);
        }
        crate::time::pause(PAUSE.min(wait.to_std() - elapsed));
    }
}

/// The id of the cluster at `brokers`, which decides whether a transaction can hold a source's offsets.
pub(crate) fn cluster_id<C: ClientContext>(
    runner: &Runner,
    brokers: &str,
    client: &rdkafka::client::Client<C>,
    wait: Duration,
) -> Result<String> {
    const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);
    wait_for(runner, "the cluster's id", wait, || {
        let id = client.fetch_cluster_id(REQUEST);
        id.ok_or_else(|| Error::unavailable(format!("Kafka at {brokers} does not tell its cluster's id")))
    })
}

/// What a client's error says, without the type names around it.
pub(crate) fn error_text(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => {
            "no broker could be reached".to_owned()
        }
        Some(RDKafkaErrorCode::OperationTimedOut) => "the broker did not answer in time".to_owned(),
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

/// A consumer whose commits in the background are not lost sight of.
pub(crate) type Client = BaseConsumer<Events>;

/// Hears what became of things that nobody waits for.
pub(crate) struct Events {
    group: String,
    refused: Mutex<Refusals>,
    pub rebootstrap: Rebootstrap,
}

/// What brokers say that refuse something. Whoever waits for their answer just gets none; and they say so once, and not each time.
#[derive(Default)]
struct Refusals {
    /// Why they do not serve this client.
    client: Option<String>,
    /// Why they do not let it use its group.
    group: Option<String>,
}

impl Events {
    /// For a client in `group` of the cluster at `brokers`.
    pub fn new(group: &str, brokers: &str) -> Self {
        let rebootstrap = Rebootstrap::new(brokers);
        Self { group: group.to_owned(), refused: Mutex::default(), rebootstrap }
    }

    /// Why the brokers do not serve this client, if they have said so since they last did; it must have been polled.
    pub fn refusal(&self) -> Option<String> {
        self.refused.lock().client.clone()
    }

    /// What was said since the last call of why the group may not be used; the client must have been polled.
    pub fn take_refusal_of_group(&self) -> Option<String> {
        self.refused.lock().group.take()
    }

    /// Says that a broker has answered this client.
    pub fn is_served(&self) {
        self.refused.lock().client = None;
    }
}

impl ClientContext for Events {
    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        tracing::debug!("{error}: {reason}");
        let mut refused = self.refused.lock();
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => {
                refused.client = Some(reason.to_owned());
            }
            Some(Code::GroupAuthorizationFailed) => refused.group = Some(reason.to_owned()),
            _ => {}
        }
    }
}

impl ConsumerContext for Events {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(
                group = self.group,
                "offsets were not committed, the next batch tries again: {}",
                error_text(&error)
            );
        }
    }
}

/// Why a client cannot be made. The value of a wrong option may be a secret: it is not told.
pub(crate) fn client_error(kind: &str, error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, what, option, _) => {
            Error::config(format!("cannot make a Kafka {kind}: option `{option}`: {what}"))
        }
        other => Error::config(format!("cannot make a Kafka {kind}: {other}")).with_source(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[(&str, &str)]) -> Result<ClientConfig> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ClientSettings { brokers: "b:1".into(), client_id: "app".into(), options: options.collect() }.config()
    }

    #[test]
    fn of_two_names_for_one_option_the_last_that_is_given_counts() {
        for (options, name, value) in [
            (&[("compression.codec", "gzip")][..], "compression.type", "gzip"),
            (&[("linger.ms", "7"), ("queue.buffering.max.ms", "9")], "linger.ms", "9"),
            (&[("queue.buffering.max.ms", "9"), ("linger.ms", "7")], "linger.ms", "7"),
            (&[("max.partition.fetch.bytes", "4096")], "fetch.message.max.bytes", "4096"),
            (&[("sasl.mechanisms", "PLAIN")], "sasl.mechanism", "PLAIN"),
        ] {
            assert_eq!(config(options).unwrap().get(name), Some(value), "{options:?}");
        }
        assert!(config(&[("metadata.broker.list", "x")]).unwrap_err().to_string().contains("set `brokers`"));
    }
}
