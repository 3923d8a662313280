//! All tests that need no Kafka, as one binary.
#![allow(clippy::unwrap_used, reason = "tests")]

#[cfg(feature = "service")]
mod bridge;
#[cfg(feature = "service")]
mod check;
#[cfg(feature = "service")]
mod cli;
#[cfg(feature = "service")]
mod config;
mod engine;
#[cfg(feature = "service")]
mod lines;
#[cfg(feature = "service")]
mod logs;
#[cfg(feature = "service")]
mod memory;
#[cfg(feature = "service")]
mod pipelines;
#[cfg(feature = "service")]
mod running;
#[cfg(feature = "service")]
mod support;
#[cfg(feature = "service")]
mod tools;
#[cfg(feature = "service")]
mod ui;
