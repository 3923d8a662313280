//! Tidemill: Spark Streaming's model over Kafka, in one binary.

pub mod error;
pub mod time;

#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "sql")]
pub mod sql;

pub use error::{Error, ErrorKind, Result};
pub use time::{Clock, Duration, ManualClock, SystemClock, Time};
