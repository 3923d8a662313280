//! Tests against a real Kafka broker.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod backpressure;
mod bad_records;
mod bounded;
mod broker;
mod changes;
mod cluster;
mod crash;
mod dashboards;
mod dead_letters;
mod direct_stream;
mod failures;
mod faults;
mod files;
mod large_slices;
mod latency;
mod metrics;
mod outage;
mod readers;
mod recovery;
mod replay;
mod security;
mod shipped;
mod sink;
mod slicing;
mod start;
mod support;
mod tools;
mod topic_contents;
mod topics;
mod trending;
mod word_count;
mod yaml_and_rust;
