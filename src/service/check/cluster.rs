//! Kafka clusters: brokers, and librdkafka's options less those that are ours.

use std::collections::BTreeMap;

use super::config::{ClientOptions, Cluster};
use crate::service::file::{At, Options};
use crate::service::report::Report;

/// Options that Tidemill sets itself, and what to use in their place.
const OURS: [(&str, &str); 19] = [
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
];

/// The checked cluster.
pub(super) fn check(
    brokers: &At<String>,
    options: Option<&At<Options>>,
    report: &mut Report,
) -> Option<Cluster> {
    let list: Vec<&str> = brokers.value.split(',').map(str::trim).collect();
    for broker in &list {
        let fault = match broker.rsplit_once(':') {
            None if broker.is_empty() => Some("expected `host:port`"),
            Some(("", _)) => Some("expected a host before the `:`"),
            Some((_, port)) if port.parse::<u16>().is_err() => Some("expected a port after the `:`"),
            _ => None,
        };
        if let Some(fault) = fault {
            report
                .error(brokers.at.clone(), format!("`{broker}` is not the address of a broker"))
                .label(fault)
                .help("such as `localhost:9092`, several separated by commas");
            return None;
        }
    }
    let options = match options {
        Some(options) => self::options(options, report)?,
        None => ClientOptions::default(),
    };
    Some(Cluster { brokers: list.join(","), options })
}

/// The options that are the author's to set.
pub(super) fn options(options: &At<Options>, report: &mut Report) -> Option<ClientOptions> {
    let mut taken = BTreeMap::new();
    let mut fine = true;
    for option in &options.value.0.0 {
        if let Some((name, instead)) = OURS.iter().find(|(name, _)| *name == option.name) {
            report.error(option.at.clone(), format!("`{name}` is Tidemill's own to set")).help(*instead);
            fine = false;
        }
        match &option.value {
            Some(value) => drop(taken.insert(option.name.clone(), value.value.clone())),
            None => fine = false,
        }
    }
    fine.then_some(ClientOptions(taken))
}

/// Whether both are the same cluster, as far as can be told from here.
pub(super) fn same(one: &Cluster, other: &Cluster) -> bool {
    let sorted = |cluster: &Cluster| {
        let mut brokers: Vec<String> = cluster.brokers.split(',').map(str::to_owned).collect();
        brokers.sort_unstable();
        brokers
    };
    sorted(one) == sorted(other)
}
