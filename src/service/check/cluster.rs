//! Kafka clusters: brokers, and librdkafka's options less those that are ours.

use std::collections::BTreeMap;

use super::config::{ClientOptions, Cluster};
use crate::service::file::{At, Options};
use crate::service::report::Report;
use crate::source::kafka::OWNED;

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
        if let Some((name, instead)) = OWNED.iter().find(|(name, _)| *name == option.name) {
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
