//! Tidemill: Spark Streaming's model over Kafka, in one binary.
//!
//! Every batch interval the engine fixes what belongs to the batch, turns it into an [`Rdd`], runs the operators of
//! [`DStream`]s over it, and commits state, offsets and output:
//!
//! ```text
//! clock tick ─► plan ─► process ─► output ─► commit
//!               offset  slices →    records    state and offsets in one write,
//!               ranges  operators   delivered  the consumer group's offsets
//! ```
//!
//! A program makes a [`StreamingContext`], gives it streams and output operations, and starts it:
//!
//! ```
//! use tidemill::{Duration, ManualClock, RddQueue, StreamingContext, Time};
//!
//! # fn main() -> tidemill::Result<()> {
//! // A clock that is moved by hand, and batches from a queue: no broker, no waiting.
//! let clock = ManualClock::new(Time::ZERO);
//! let ssc = StreamingContext::builder("word-count").clock(clock.clone()).build()?;
//! let lines = RddQueue::new();
//! lines.push(["to be or not to be".to_owned()]);
//!
//! let words = ssc.queue_stream(&lines).flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
//! words.map(|word| (word, 1)).reduce_by_key(|a, b| a + b).print();
//!
//! ssc.start()?;
//! clock.advance(Duration::seconds(1));
//! ssc.stop(true)
//! # }
//! ```
//!
//! | to | see |
//! |---|---|
//! | read from Kafka | [`StreamingContext::kafka_direct_stream`], [`KafkaSource`] |
//! | read from a socket, a folder, or anything else | [`StreamingContext::socket_text_stream`], [`StreamingContext::text_file_stream`], [`Receiver`] |
//! | write to Kafka | [`StreamingContext::kafka_sink`], [`DStream::save_to_kafka`] |
//! | keep state by key | [`DStream::map_with_state`], [`DStream::update_state_by_key`] |
//! | join streams, or a stream with a table | [`DStream::join`], [`DStream::transform`], [`StreamingContext::text_file`] |
//! | look at the last minutes | [`DStream::window`], [`DStream::reduce_by_key_and_window`], [`DStream::slice`] |
//! | share values with tasks, and count in them | [`StreamingContext::broadcast`], [`StreamingContext::long_accumulator`] |
#![cfg_attr(
    feature = "sql",
    doc = "| query batches with SQL | [`Rdd::create_or_replace_temp_view`], [`SqlSession`], [`DStream::sql`] |"
)]
//! | watch a context | [`StreamingListener`], [`Metrics`] |
#![cfg_attr(
    feature = "service",
    doc = "| look at its batches in a browser, and ask by REST | [`HttpServer`] |"
)]
//! | test a program | [`testing`] |
//!
//! The feature `service` adds the binary's command line, pipeline files and HTTP port, the feature `sql` its expressions;
//! a library needs neither (`default-features = false`).
#![deny(missing_docs)]

pub mod batch;
pub mod codec;
mod commit;
mod context;
mod dstream;
pub mod error;
pub mod metrics;
mod rdd;
pub mod shared;
pub mod sink;
pub mod source;
mod state;
pub mod testing;
pub mod time;

#[cfg(feature = "service")]
#[doc(hidden)]
pub mod service;
#[cfg(feature = "sql")]
mod sql;
#[cfg(feature = "service")]
mod ui;

pub use batch::{
    Backpressure, BatchInfo, OutputOperationInfo, ReceiverInfo, SliceInfo, StreamInputInfo, StreamingListener,
};
pub use codec::{Text, Words};
pub use commit::{Delivery, OffsetsFrom};
pub use context::{ContextState, StreamingContext, StreamingContextBuilder};
pub use dstream::{DStream, MapWithStateDStream, Outcome, State, StateSpec, UpdateStateSpec, WindowSpec};
pub use error::{Error, ErrorKind, Result};
pub use indexmap::IndexMap;
pub use metrics::Metrics;
pub use rdd::{Data, Flow, HashPartitioner, Partitioner, Rdd, Stop, StorageLevel};
pub use shared::{
    Accumulator, AccumulatorInfo, Broadcast, Collection, CollectionAccumulator, DoubleAccumulator, DoubleSum,
    LongAccumulator, LongSum, SharedAccumulator,
};
pub use sink::kafka::{Compression, KafkaSink, KafkaSinkSettings, ProducerRecord, TopicSettings};
pub use source::kafka::{
    ConsumerRecord, End, KafkaSource, KafkaStream, OnDataLoss, Reader, Record, Slicing, Start,
};
pub use source::{FileOptions, OffsetRange, OnBadRecord, PartitionLag, RddQueue, Receiver, ReceiverHandle};
#[cfg(feature = "sql")]
pub use sql::{DataFrame, SqlColumn, SqlSession};
pub use state::StateStats;
pub use time::{Clock, Duration, ManualClock, SystemClock, Time};
#[cfg(feature = "service")]
pub use ui::{HttpServer, HttpSettings};

/// The README's program, compiled with the documentation's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
