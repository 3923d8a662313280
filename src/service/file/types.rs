//! The pipeline file as it is written. Nothing here is checked beyond its type; `service::check` makes of it what runs.

use std::num::NonZeroU64;

use super::origin::Text;
use super::positions::{End, Start};
use super::read::{At, Named, Read, choice, expected, mapping};
use super::schema::Definitions;
use super::steps::Stream;
use super::values::{Bytes, Weight};
use super::yaml::{Node, Value};
use crate::service::report::Report;
use crate::time::Duration;

mapping! {
    /// A pipeline.
    File {
        /// The application: its consumer group, and what every other id of it begins with.
        required app_id: String,
        /// How much time one batch stands for.
        required batch_interval: Duration,
        /// What a failure may do to the output.
        required delivery: Delivery,
        /// The folder that keeps state and offsets; relative to the working directory.
        required checkpoint: String,
        /// The address of the port for metrics and health; absent or `off`: none.
        optional http: String,
        /// A topic that is told which offsets each batch had.
        optional batch_log: String,
        /// Names of state that may be dropped, since its stream is gone.
        optional remove_state: Vec<At<String>>,
        /// How batches are kept from growing faster than they are processed; absent: as Spark does it; `off`: not at all.
        optional backpressure: Backpressure,
        /// Threads that run tasks; as many as there are cores.
        optional worker_threads: NonZeroU64,
        /// What all outputs to Kafka go through.
        optional producer: Producer,
        /// What all states together may hold in memory; 256MiB.
        optional state_memory_limit: Bytes,
        /// What the rows of a batch that are grouped, joined, sorted, or wait may hold in memory before they go on on disk; 256MiB.
        optional batch_memory_limit: Bytes,
        /// Where records come from, by name.
        required sources: Named<Source>,
        /// Tables in files that streams are joined with, by name.
        optional tables: Named<Table>,
        /// What is made of them, by name.
        optional streams: Named<Stream>,
        /// Where results go.
        required outputs: Vec<At<Output>>,
    }
}

choice! {
    /// What a failure may do to the output.
    Delivery {
        /// Records may come twice, none is missing.
        "at-least-once" => AtLeastOnce,
        /// Output, state and offsets are committed as one.
        "exactly-once" => ExactlyOnce,
    }
}

/// Backpressure, or none.
#[derive(Debug)]
pub(crate) enum Backpressure {
    /// Only fixed limits hold.
    Off,
    /// Limits follow the batches.
    On(Box<PidSettings>),
}

mapping! {
    /// The numbers of Spark's rate estimator; those that are absent are Spark's own.
    PidSettings {
        /// Records per second and source until there is an estimate.
        optional initial_rate: NonZeroU64,
        /// The weight of the difference to the last batch's rate.
        optional proportional: Weight,
        /// The weight of what has piled up.
        optional integral: Weight,
        /// The weight of how quickly the difference changes.
        optional derived: Weight,
        /// Records per second that are let through in any case.
        optional min_rate: NonZeroU64,
    }
}

impl Read for Backpressure {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.value() == "off" => Some(Self::Off),
            Value::Mapping(_) => PidSettings::read(node, report).map(|numbers| Self::On(Box::new(numbers))),
            _ => expected("`off` or a mapping, such as `{ initial_rate: 10_000 }`", node, report),
        }
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "const": "off" }, PidSettings::schema(definitions)] })
    }
}

mapping! {
    /// Where records come from: exactly one of `kafka`, `socket` and `files`.
    Source {
        /// Topics of a Kafka cluster.
        optional kafka: KafkaSource,
        /// Lines from a TCP server, such as `nc -lk 9999`.
        optional socket: SocketSource,
        /// Lines of the files that appear in a folder.
        optional files: FilesSource,
        /// How a record's value is read.
        required format: Format,
        /// The members of the JSON objects that become columns, each with its type.
        optional schema: Named<Text>,
        /// What becomes of a record that cannot be read.
        optional on_bad_record: BadRecord,
    }
}

mapping! {
    /// Topics of a Kafka cluster.
    KafkaSource {
        /// `host:port`, several separated by commas.
        required brokers: String,
        /// The topics to read; or else `topics_pattern`.
        optional topics: Vec<At<String>>,
        /// A regular expression that matches the whole names of the topics to read, later ones too.
        optional topics_pattern: Text,
        /// Where to begin when there is no checkpoint.
        optional start: Start,
        /// Where to end, and stop.
        optional end: End,
        /// What to do about records that are gone before they were read.
        optional on_data_loss: OnDataLoss,
        /// How often to look for new partitions and topics.
        optional discovery_interval: Duration,
        /// What says which batch a record belongs to.
        optional slicing: Slicing,
        /// How long after its time a batch waits for partitions that have shown no record at or past it.
        optional grace: Duration,
        /// How far ahead of the clock a record's timestamp is still believed.
        optional max_future: Duration,
        /// How long to wait for the broker and the topics at start.
        optional wait: Duration,
        /// The most records that a batch takes from a partition, per second of the interval.
        optional max_rate_per_partition: NonZeroU64,
        /// The fewest records that a batch takes from a partition that has them.
        optional min_rate_per_partition: NonZeroU64,
        /// The most records that a batch takes.
        optional max_records_per_batch: NonZeroU64,
        /// The most bytes of keys and values that a batch takes.
        optional max_bytes_per_batch: Bytes,
        /// Who reads the records.
        optional reader: Reader,
        /// librdkafka's own settings, passed on untouched.
        optional options: Options,
    }
}

mapping! {
    /// Lines from a TCP server, which is connected to again whenever the connection ends.
    SocketSource {
        /// The server's name or address.
        required host: String,
        /// The server's port.
        required port: NonZeroU64,
    }
}

mapping! {
    /// Lines of the files that appear in a folder. A file must be complete when it gets its name there.
    FilesSource {
        /// The folder; relative to the working directory.
        required folder: String,
        /// Whether files that are there at the first start are read, too; true unless set.
        optional existing: bool,
    }
}

mapping! {
    /// A table that does not change while the pipeline runs: exactly one of `csv`, `json` and `parquet`, a file's path. A
    /// relative one is looked for beside the pipeline file.
    Table {
        /// A file whose first line names the columns; all are text unless `schema` says otherwise.
        optional csv: String,
        /// A file of JSON objects, one a line.
        optional json: String,
        /// A Parquet file, which has its own columns and types.
        optional parquet: String,
        /// The columns, each with its type.
        optional schema: Named<Text>,
    }
}

choice! {
    /// Who reads the records.
    Reader {
        /// The native reader, unless an option is understood by librdkafka alone.
        "auto" => Auto,
        /// Tidemill's own.
        "native" => Native,
        /// librdkafka.
        "rdkafka" => RdKafka,
    }
}

choice! {
    /// What to do about records that are gone before they were read.
    OnDataLoss {
        /// Stop with an error.
        "fail" => Fail,
        /// Go on with the first record that there still is.
        "earliest" => Earliest,
        /// Go on with what comes from now on.
        "latest" => Latest,
    }
}

choice! {
    /// What says which batch a record belongs to.
    Slicing {
        /// When it is there to be read.
        "arrival" => Arrival,
        /// Its timestamp.
        "timestamp" => Timestamp,
    }
}

choice! {
    /// How a source's record values are read.
    Format {
        /// The whole value is the column `value`.
        "text" => Text,
        /// The value is a JSON object, its members the columns.
        "json" => Json,
    }
}

/// What becomes of a record that cannot be read.
#[derive(Debug, Clone)]
pub(crate) enum BadRecord {
    /// The batch fails, and the pipeline stops.
    Fail,
    /// It is counted and left out.
    Skip,
    /// It goes to this topic as it came, with headers that say why.
    DeadLetter(Option<At<String>>),
}

choice! {
    /// The words among the policies for bad records.
    Policy {
        /// The batch fails, and the pipeline stops.
        "fail" => Fail,
        /// It is counted and left out.
        "skip" => Skip,
    }
}

mapping! {
    /// The policy that needs a topic.
    DeadLetter {
        /// The topic that the record goes to as it came, with headers that say why.
        required dead_letter: String,
    }
}

impl Read for BadRecord {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Mapping(_) => Some(Self::DeadLetter(DeadLetter::read(node, report)?.dead_letter)),
            Value::Scalar(scalar) if !matches!(scalar.text.value(), "fail" | "skip") => {
                expected("`fail`, `skip` or `{ dead_letter: TOPIC }`", node, report)
            }
            _ => Policy::read(node, report).map(|policy| match policy {
                Policy::Fail => Self::Fail,
                Policy::Skip => Self::Skip,
            }),
        }
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "anyOf": [Policy::schema(definitions), DeadLetter::schema(definitions)] })
    }
}

/// librdkafka's settings, secrets among them: those are hidden from whatever is printed of the file.
#[derive(Debug)]
pub(crate) struct Options(pub(crate) Named<String>);

impl Read for Options {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let options = Named::<String>::read(node, report)?;
        for option in options.0.iter().filter(|option| super::secret::is_secret(&option.name)) {
            report.hide(option.value.as_ref().map_or(0..0, |value| value.at.clone()));
        }
        Some(Self(options))
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        Named::<String>::schema(definitions)
    }
}

mapping! {
    /// The application's one producer.
    Producer {
        /// How records are compressed; `lz4`.
        optional compression: Compression,
        /// How many bytes of records may be in memory on their way out.
        optional buffer_memory: Bytes,
        /// How long a batch's transaction may stay open.
        optional transaction_timeout: Duration,
    }
}

choice! {
    /// How records are compressed.
    Compression {
        /// Not at all.
        "none" => None,
        /// The smallest of the old ones, and slow.
        "gzip" => Gzip,
        /// Quick.
        "snappy" => Snappy,
        /// The quickest.
        "lz4" => Lz4,
        /// The smallest.
        "zstd" => Zstd,
    }
}

mapping! {
    /// Where results go: exactly one of `kafka`, `files`, `console` and `table`.
    Output {
        /// The stream.
        required from: String,
        /// A topic.
        optional kafka: KafkaOutput,
        /// A folder for each batch that has rows.
        optional files: FilesOutput,
        /// The terminal.
        optional console: Console,
        /// A table in memory that `tidemill query` reads.
        optional table: TableOutput,
    }
}

mapping! {
    /// A topic to write to.
    KafkaOutput {
        /// The topic; it is created if there is none, unless `create` says otherwise.
        required topic: String,
        /// The column that is the records' key; without it they have none.
        optional key: String,
        /// How values are written.
        #[expect(dead_code, reason = "there is one format yet")]
        optional format: OutputFormat,
        /// The column that is the records' value, as it is; without it a value is the row in the `format`. NULL is a tombstone.
        optional value: String,
        /// The columns that become headers, by the header's name.
        optional headers: Named<Text>,
        /// The column that is the records' timestamp; the batch time without it, and where it is NULL.
        optional timestamp: String,
        /// What a key leaves behind whose state has timed out; nothing.
        optional on_removed: OnRemoved,
        /// What becomes of a record that the topic cannot take.
        optional on_bad_record: BadRecord,
        /// Whether the topic is created.
        optional create: Create,
        /// Partitions of the topic if it has to be created.
        optional partitions: NonZeroU64,
        /// Copies of the topic if it has to be created; what the broker has as its default.
        optional replication: NonZeroU64,
        /// Kafka's settings of the topic if it has to be created.
        optional config: Named<String>,
        /// The cluster; the sources' if it is absent.
        optional brokers: String,
        /// librdkafka's own settings, passed on untouched.
        optional options: Options,
    }
}

choice! {
    /// Whether an output topic is created.
    Create {
        /// When the pipeline starts and there is none.
        "missing" => Missing,
        /// It has to be there.
        "never" => Never,
    }
}

choice! {
    /// What a key leaves behind whose state was removed.
    OnRemoved {
        /// Nothing.
        "nothing" => Nothing,
        /// A record with the key and no value.
        "tombstone" => Tombstone,
    }
}

choice! {
    /// How values are written.
    OutputFormat {
        /// One JSON object per row.
        "json" => Json,
    }
}

mapping! {
    /// A folder for each batch that has rows, `PATH-BATCH_TIME.FORMAT`: there in full, once the batch is committed.
    FilesOutput {
        /// How the folders' names begin; relative to the working directory.
        required path: String,
        /// How rows are written.
        required format: FileFormat,
    }
}

choice! {
    /// How rows are written to files.
    FileFormat {
        /// The one column, a row a line.
        "text" => Text,
        /// One JSON object per row, a row a line.
        "json" => Json,
        /// A line that names the columns, then a row a line.
        "csv" => Csv,
        /// Parquet, with the columns' types.
        "parquet" => Parquet,
    }
}

mapping! {
    /// A table in memory that `tidemill query` reads: the stream's rows of the last batches, with their `batch_time`.
    TableOutput {
        /// Its name; the stream's unless set.
        optional name: String,
        /// How far back it goes; the last batch with rows unless set.
        optional remember: Duration,
        /// The most rows that are kept, the latest; 100000 unless set.
        optional rows: NonZeroU64,
    }
}

mapping! {
    /// The terminal as an output.
    Console {
        /// The most rows that are shown of a batch.
        optional rows: NonZeroU64,
    }
}
