//! Tests against a real Kafka broker.

mod broker;
mod failures;
mod metrics;
mod recovery;
mod support;
mod trending;
mod word_count;
