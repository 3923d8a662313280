//! All tests that need no Kafka, as one binary.

mod check;
mod cli;
mod engine;

// Used by tests of other branches; named so that their builds are shared.
use {datafusion as _, proptest as _};
