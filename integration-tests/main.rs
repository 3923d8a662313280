//! Tests against a real Kafka broker.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod backpressure;
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
mod latency;
mod metrics;
mod readers;
mod recovery;
mod security;
mod sink;
mod slicing;
mod start;
mod support;
mod tools;
mod trending;
mod word_count;
