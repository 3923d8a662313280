//! Tidemill: Spark Streaming's model over Kafka, in one binary.
#![deny(missing_docs)]

pub mod batch;
pub mod codec;
mod commit;
mod context;
mod dstream;
pub mod error;
pub mod metrics;
mod rdd;
pub mod sink;
pub mod source;
mod state;
pub mod testing;
pub mod time;

#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "sql")]
pub mod sql;

pub use batch::{BatchInfo, OutputOperationInfo, SliceInfo, StreamingListener};
pub use context::{ContextState, StreamingContext, StreamingContextBuilder};
pub use dstream::{DStream, Outcome, State, StateSpec};
pub use error::{Error, ErrorKind, Result};
pub use metrics::Metrics;
pub use rdd::{Data, Flow, HashPartitioner, Rdd, Stop};
pub use sink::kafka::{KafkaSink, KafkaSinkSettings, ProducerRecord};
pub use source::kafka::{ConsumerRecord, KafkaSource, KafkaStream, Record, Start};
pub use source::{OffsetRange, PartitionLag, RddQueue};
pub use state::StateStats;
pub use time::{Clock, Duration, ManualClock, SystemClock, Time};
