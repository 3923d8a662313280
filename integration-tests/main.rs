//! Tests against a real Kafka broker.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod broker;
mod changes;
mod crash;
mod direct_stream;
mod failures;
mod faults;
mod files;
mod metrics;
mod readers;
mod recovery;
mod slicing;
mod start;
mod support;
mod tools;
mod trending;
mod word_count;
