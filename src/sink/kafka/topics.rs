//! Topics that an application needs, made when they are missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use super::TopicSettings;
use super::limits::TopicLimits;
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::source::kafka::{ClientSettings, client_error, cluster_id, error_text, wait_for};
use crate::time::Duration;

const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);

/// Asks a cluster for its topics and its id.
pub(crate) struct Admin {
    client: AdminClient<DefaultClientContext>,
    brokers: String,
}

impl Admin {
    pub fn new(settings: &ClientSettings) -> Result<Self> {
        let client = settings.config()?.create().map_err(|e| client_error("client", e))?;
        Ok(Self { client, brokers: settings.brokers.clone() })
    }

    /// The cluster's id.
    pub fn cluster(&self, runner: &Runner, wait: Duration) -> Result<String> {
        cluster_id(runner, &self.brokers, self.client.inner(), wait)
    }

    /// Makes those of `topics` that are missing and may be made; waits up to `wait` for the brokers.
    ///
    /// # Errors
    /// If one that may not be made is missing.
    pub fn create(
        &self,
        runner: &Runner,
        topics: &BTreeMap<Arc<str>, TopicSettings>,
        wait: Duration,
    ) -> Result<()> {
        let brokers = &self.brokers;
        let metadata = wait_for(runner, &format!("Kafka at {brokers}"), wait, || {
            self.client.inner().fetch_metadata(None, REQUEST).map_err(|e| {
                Error::unavailable(format!("no answer from Kafka at {brokers}: {}", error_text(&e)))
            })
        })?;
        let missing = topics.iter().filter(|(topic, _)| {
            !metadata.topics().iter().any(|t| t.name() == &***topic && !t.partitions().is_empty())
        });
        let (missing, refused): (Vec<_>, Vec<_>) = missing.partition(|(_, settings)| settings.create);
        if let Some((topic, _)) = refused.first() {
            return Err(Error::config(format!(
                "output topic `{topic}` does not exist on {brokers}, and is not to be created by this application: create it"
            )));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let new: Vec<_> = missing.iter().map(|(topic, settings)| new_topic(topic, settings)).collect();
        let names: Vec<_> = new.iter().map(|topic| topic.name).collect();
        tracing::info!("creating output topics: {}", names.join(", "));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST)).request_timeout(Some(REQUEST * 2));
        let created = futures_executor::block_on(self.client.create_topics(&new, &options));
        let created = created.map_err(|e| {
            Error::unavailable(format!("cannot create topics: {}", error_text(&e))).with_source(e)
        })?;
        for result in created {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(Error::output(format!("cannot create topic `{topic}`: {code}")));
                }
            }
        }
        Ok(())
    }

    /// What `topics` take, as far as the broker tells.
    pub(super) fn limits(&self, topics: impl Iterator<Item = Arc<str>>) -> BTreeMap<Arc<str>, TopicLimits> {
        let topics: Vec<_> = topics.collect();
        if topics.is_empty() {
            return BTreeMap::new();
        }
        let wanted: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let told = match futures_executor::block_on(self.client.describe_configs(&wanted, &options)) {
            Ok(told) => told,
            Err(error) => {
                let text = error_text(&error);
                tracing::warn!("the broker does not tell which records the output topics take: {text}");
                return BTreeMap::new();
            }
        };
        let limits = topics.iter().zip(told).filter_map(|(topic, told)| {
            let told = told.ok()?;
            let value = |name: &str| told.get(name).and_then(|entry| entry.value.as_deref());
            Some((topic.clone(), TopicLimits::of(value)?))
        });
        limits.collect()
    }
}

fn new_topic<'a>(topic: &'a str, settings: &'a TopicSettings) -> NewTopic<'a> {
    let replication = TopicReplication::Fixed(settings.replication.unwrap_or(-1));
    let topic = NewTopic::new(topic, settings.partitions, replication);
    settings.config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
}
