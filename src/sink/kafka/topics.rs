//! Topics that an application needs, made when they are missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::source::kafka::{ClientSettings, client_error, cluster_id, error_text, wait_for};
use crate::time::Duration;

const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);

/// Asks a cluster for its topics and its id.
pub(super) struct Admin {
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

    /// Makes those of `topics` (with their numbers of partitions) that are missing; waits up to `wait` for the brokers.
    pub fn create(&self, runner: &Runner, topics: &BTreeMap<Arc<str>, i32>, wait: Duration) -> Result<()> {
        let brokers = &self.brokers;
        let metadata = wait_for(runner, &format!("Kafka at {brokers}"), wait, || {
            self.client.inner().fetch_metadata(None, REQUEST).map_err(|e| {
                Error::unavailable(format!("no answer from Kafka at {brokers}: {}", error_text(&e)))
            })
        })?;
        let missing: Vec<_> = topics
            .iter()
            .filter(|(topic, _)| !metadata.topics().iter().any(|t| t.name() == &***topic))
            .map(|(topic, partitions)| NewTopic::new(topic, *partitions, TopicReplication::Fixed(-1)))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|t| t.name).collect();
        tracing::info!("creating output topics: {}", names.join(", "));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST)).request_timeout(Some(REQUEST * 2));
        let created = futures_executor::block_on(self.client.create_topics(&missing, &options));
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
}
