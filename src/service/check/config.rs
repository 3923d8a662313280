//! The pipeline as it was checked: whatever is here can be run as it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::service::file::is_secret;
use crate::source::FollowedLog;
use crate::sql::{self, Condition, FileFormat, Grouping, Keeping, Query, RecordBatch, SchemaRef};
use crate::time::Duration;

pub(crate) use crate::batch::Backpressure;
pub(crate) use crate::commit::Delivery;
pub(crate) use crate::service::file::Emit;
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
    /// Bytes that all states may hold in memory, if the file says so.
    pub(crate) state_memory_limit: Option<usize>,
    /// Bytes that the rows of a batch may hold in memory.
    pub(crate) batch_memory_limit: usize,
    /// The names of state that may be dropped.
    pub(crate) remove_state: Vec<String>,
    pub(crate) backpressure: Backpressure,
    /// In the order of the file.
    pub(crate) sources: Vec<Source>,
    /// In the order of the file.
    pub(crate) tables: Vec<Table>,
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

impl Config {
    /// The columns of a source or stream.
    pub(crate) fn schema(&self, name: &str) -> Option<&SchemaRef> {
        let source = self.sources.iter().find(|source| source.name == name).map(|source| &source.schema);
        source.or_else(|| self.streams.iter().find(|stream| stream.name == name).map(|stream| &stream.schema))
    }
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

/// Where records come from, and how they become rows.
#[derive(Debug)]
pub(crate) struct Source {
    /// The name by which SQL knows it.
    pub(crate) name: String,
    /// Where its input stands: `file:line`.
    pub(crate) place: String,
    pub(crate) input: Input,
    pub(crate) format: sql::Format,
    pub(crate) schema: SchemaRef,
    /// A dead-letter topic is one of the output cluster.
    pub(crate) on_bad_record: OnBadRecord,
}

/// Where a source's records come from.
#[derive(Debug)]
pub(crate) enum Input {
    Kafka(Box<KafkaInput>),
    /// Lines from a TCP server.
    Socket {
        host: String,
        port: u16,
    },
    /// Lines of the files that appear in a folder.
    Files {
        folder: String,
        /// Whether those that are there at the first start are read, too.
        existing: bool,
    },
}

/// Topics of a Kafka cluster.
#[derive(Debug)]
pub(crate) struct KafkaInput {
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
    /// What fetches the records.
    pub(crate) reader: Reader,
    /// How long to wait for the broker and the topics at start.
    pub(crate) wait: Duration,
    /// Records per second.
    pub(crate) max_rate_per_partition: Option<u64>,
    /// Records per batch.
    pub(crate) min_rate_per_partition: u64,
    pub(crate) max_records_per_batch: u64,
    pub(crate) max_bytes_per_batch: u64,
}

impl Source {
    /// The Kafka input, if it is one.
    pub(crate) fn kafka(&self) -> Option<&KafkaInput> {
        match &self.input {
            Input::Kafka(kafka) => Some(kafka),
            _ => None,
        }
    }

    /// Whether it reads `topic`.
    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.kafka().is_some_and(|kafka| kafka.topics.contains(topic))
    }
}

/// A table that does not change while the pipeline runs.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// The name by which SQL knows it.
    pub(crate) name: String,
    /// Where it was read from, as the file has it.
    pub(crate) path: String,
    pub(crate) schema: SchemaRef,
    pub(crate) rows: Arc<[RecordBatch]>,
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
    /// Runs a query over the batch of each input.
    Query(Query),
    /// The rows of all inputs.
    Union,
    /// The same rows in so many partitions.
    Repartition(usize),
    /// One row: how many there are.
    Count,
    /// One row per key of the batch.
    ReduceByKey(Grouping),
    /// The rows of the last `window`.
    Window { uid: Uid, window: Duration },
    /// One row: how many there are in the last `window`.
    CountByWindow { uid: Uid, window: Duration },
    /// One row per key of the last `window`.
    ReduceByKeyAndWindow {
        uid: Uid,
        grouping: Grouping,
        window: Duration,
        /// Whether values are taken out again as they leave.
        inverse: bool,
        /// What must hold for a row to be given.
        filter: Option<Condition>,
        partitions: Option<usize>,
    },
    /// Keeps a state per key, of which a batch visits its own keys.
    MapWithState { state: KeyedState, timeout: Option<Duration>, emit: Emit },
    /// Keeps a state per key, of which a batch visits all.
    UpdateStateByKey {
        state: KeyedState,
        /// What must hold for a key to be forgotten.
        remove: Option<Condition>,
    },
}

/// A state per key.
#[derive(Debug)]
pub(crate) struct KeyedState {
    pub(crate) uid: Uid,
    pub(crate) keeping: Keeping,
    /// The table whose rows come before all others.
    pub(crate) initial: Option<Table>,
    pub(crate) partitions: Option<usize>,
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
    /// A folder for each batch that has rows.
    Files {
        /// How the folders' names begin.
        path: PathBuf,
        format: FileFormat,
    },
    /// A table in memory.
    Table {
        name: String,
        /// How far back it goes; the last batch with rows if it is absent.
        remember: Option<Duration>,
        /// The most rows kept.
        rows: usize,
    },
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
            Self::Window { uid, .. }
            | Self::CountByWindow { uid, .. }
            | Self::ReduceByKeyAndWindow { uid, .. } => Some(&uid.name),
            Self::MapWithState { state, .. } | Self::UpdateStateByKey { state, .. } => Some(&state.uid.name),
            Self::Query(_) | Self::Union | Self::Repartition(_) | Self::Count | Self::ReduceByKey(_) => None,
        }
    }
}
