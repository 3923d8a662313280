//! Tests against a real Kafka broker.

mod broker;
mod support;
