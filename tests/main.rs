//! All tests that need no Kafka, as one binary.
#![allow(clippy::unwrap_used, reason = "tests")]

mod check;
mod cli;
mod engine;
