//! The pipeline as it was checked: whatever is here can be run as it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::service::file::is_secret;
use crate::source::FollowedLog;
use crate::sql::{self, Grouping, Query, SchemaRef};
use crate::time::Duration;

pub(crate) use crate::batch::Backpressure;
pub(crate) use crate::commit::Delivery;
pub(crate) use crate::sink::kafka::{Compression, TopicSettings};
pub(crate) use crate::source::OnBadRecord;
pub(crate) use crate::source::kafka::{End, OnDataLoss, Reader, Slicing, Start, Topics};

/// A checked pipeline.
#[derive(Debug)]
pub(crate) struct Config {
    /// Consumer group, and prefix of every other id.
    pub(crate) app_id: String,
    pub(crate) batch_interval: Duration,
    pub(crate) delivery: Delivery,
    pub(crate) checkpoint: PathBuf,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) worker_threads: usize,
    /// The names of state that may be dropped.
    pub(crate) remove_state: Vec<String>,
    pub(crate) backpressure: Backpressure,
    /// In the order of the file.
    pub(crate) sources: Vec<Source>,
    /// Each after the streams that it reads.
    pub(crate) streams: Vec<Stream>,
    /// In the order of the file.
    pub(crate) outputs: Vec<Output>,
    pub(crate) producer: Producer,
    /// The topic of the batch log, if it is wanted.
    pub(crate) batch_log: Option<String>,
    /// The one cluster that outputs and dead letters go to; none if all goes to the terminal.
    pub(crate) output_cluster: Option<Cluster>,
}

/// A Kafka cluster and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// `host:port`, several separated by commas.
    pub(crate) brokers: String,
    pub(crate) options: ClientOptions,
}

/// librdkafka's settings as they were given; none of those that Tidemill sets itself. Secrets are never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct ClientOptions(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| (name, if is_secret(name) { "***" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

/// A Kafka source.
#[derive(Debug)]
pub(crate) struct Source {
    /// The name by which SQL knows it.
    pub(crate) name: String,
    /// Where its `kafka` stands: `file:line`.
    pub(crate) place: String,
    pub(crate) cluster: Cluster,
    pub(crate) topics: Topics,
    pub(crate) start: Start,
    pub(crate) end: Option<End>,
    pub(crate) on_data_loss: OnDataLoss,
    pub(crate) discovery_interval: Option<Duration>,
    /// Whether a past range is read again, outside the consumer group.
    pub(crate) is_replayed: bool,
    /// The batches to run again, with their offsets.
    pub(crate) follow: Option<Arc<FollowedLog>>,
    pub(crate) slicing: Slicing,
    pub(crate) reader: Reader,
    /// How long to wait for the broker and the topics at start.
    pub(crate) wait: Duration,
    /// Records per second.
    pub(crate) max_rate_per_partition: Option<u64>,
    /// Records per batch.
    pub(crate) min_rate_per_partition: u64,
    pub(crate) max_records_per_batch: u64,
    pub(crate) max_bytes_per_batch: u64,
    pub(crate) format: sql::Format,
    pub(crate) schema: SchemaRef,
    /// A dead-letter topic is one of the output cluster.
    pub(crate) on_bad_record: OnBadRecord,
}

/// A stream: one operator over sources and streams before it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    /// The operator's name as the file has it.
    pub(crate) operator: &'static str,
    /// The sources and streams that are read, each once.
    pub(crate) inputs: Vec<String>,
    pub(crate) step: Step,
    /// The columns of the result.
    pub(crate) schema: SchemaRef,
    /// How often there is a result.
    pub(crate) slide: Duration,
}

/// The name of a state in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uid {
    pub(crate) name: String,
    /// The name that it had before.
    pub(crate) was: Option<String>,
}

/// What a stream does in each of its batches.
#[derive(Debug)]
pub(crate) enum Step {
    /// Runs a query over the batch of each input: `sql`, `map`, `filter`, `count`.
    Query(Query),
    /// One row per key of the batch.
    ReduceByKey(Grouping),
    /// One row per key of the last `window`.
    ReduceByKeyAndWindow { uid: Uid, grouping: Grouping, window: Duration },
    /// Keeps a state per key; gives those of the batch's keys.
    MapWithState { uid: Uid, grouping: Grouping, timeout: Option<Duration> },
    /// Keeps a state per key; gives all.
    UpdateStateByKey { uid: Uid, grouping: Grouping },
    /// The rows of the last `window`.
    Window { uid: Uid, window: Duration },
    /// The rows of all inputs.
    Union,
}

/// Where a stream's rows go.
#[derive(Debug)]
pub(crate) struct Output {
    /// The source or stream.
    pub(crate) from: String,
    pub(crate) sink: Sink,
}

/// A kind of output.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A topic of the output cluster.
    Kafka(KafkaTopic),
    /// A table on standard output.
    Console {
        /// The most rows shown of a batch.
        rows: usize,
    },
}

/// An output topic, and which columns go where.
#[derive(Debug)]
pub(crate) struct KafkaTopic {
    pub(crate) topic: String,
    pub(crate) settings: TopicSettings,
    /// The column whose value is the record's key.
    pub(crate) key: Option<String>,
    /// The column whose value is the record's value; without it that is the row as a JSON object.
    pub(crate) value: Option<String>,
    /// Names and columns.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timestamp: Option<String>,
    /// Whether a key whose state has timed out leaves a tombstone.
    pub(crate) tombstones: bool,
}

/// What all outputs to Kafka go through.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    pub(crate) compression: Option<Compression>,
    pub(crate) buffer_memory: Option<u64>,
    pub(crate) transaction_timeout: Option<Duration>,
}

impl Step {
    /// The name of the step's state in the checkpoint, if it keeps any.
    pub(crate) fn uid(&self) -> Option<&str> {
        match self {
            Self::ReduceByKeyAndWindow { uid, .. }
            | Self::MapWithState { uid, .. }
            | Self::UpdateStateByKey { uid, .. }
            | Self::Window { uid, .. } => Some(&uid.name),
            Self::Query(_) | Self::ReduceByKey(_) | Self::Union => None,
        }
    }
}
