//! Outputs: from which stream, to where, and that all go to one cluster.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::PathBuf;

use super::cluster;
use super::config::{
    ClientOptions, Cluster, KafkaTopic, OnBadRecord, Output, Sink, Source, Step, Stream, TopicSettings,
};
use super::operators::column;
use super::sources::one_kind;
use super::streams::Declared;
use super::{names, sources};
use crate::service::file::{self, At, Create, Entry, FilesOutput, KafkaOutput, Named, OnRemoved, Text};
use crate::service::report::Report;
use crate::sql::{DataType, FileFormat, SchemaRef, type_name};

/// Partitions of a topic that has to be created, unless the file says otherwise.
const PARTITIONS: u64 = 4;

/// Rows of a batch that are shown in the terminal, unless the file says otherwise.
const ROWS: u64 = 20;

/// Rows that a table in memory keeps, unless the file says otherwise.
const TABLE_ROWS: u64 = 100_000;

/// What outputs may refer to.
pub(super) struct Known<'a> {
    pub(super) declared: &'a Declared<'a>,
    pub(super) sources: &'a [Source],
    pub(super) streams: &'a [Stream],
    /// Whether every source of the file was right.
    pub(super) all_sources: bool,
    /// The columns of a source or stream, if it was right.
    pub(super) schema: &'a dyn Fn(&str) -> Option<SchemaRef>,
}

impl<'a> Known<'a> {
    /// The clusters of the sources that have one, with the sources' names.
    fn clusters(&self) -> impl Iterator<Item = (&'a str, &'a Cluster)> {
        self.sources.iter().filter_map(|source| Some((source.name.as_str(), &source.kafka()?.cluster)))
    }
}

/// The outputs that are right, and the one cluster that they and the dead letters go to.
pub(super) fn check(
    outputs: &At<Vec<At<crate::service::file::Output>>>,
    known: &Known<'_>,
    report: &mut Report,
) -> (Vec<Output>, Option<Cluster>) {
    if outputs.value.is_empty() {
        report
            .error(outputs.key_at.clone(), "the pipeline has no output, so it would do nothing")
            .help("such as `- { from: STREAM, console: {} }`");
    }
    let mut chosen = Chosen::default();
    let mut checked = Vec::new();
    let mut tables = BTreeMap::new();
    for output in &outputs.value {
        let (at, output) = (&output.at, &output.value);
        let from = output.from.as_ref().filter(|from| known.declared.check_stream(from, report));
        let named_at = output.from.as_ref().map_or(at.clone(), |from| from.key_at.clone());
        let given = [
            ("kafka", output.kafka.as_ref().map(|sink| &sink.key_at)),
            ("files", output.files.as_ref().map(|sink| &sink.key_at)),
            ("table", output.table.as_ref().map(|sink| &sink.key_at)),
            ("console", output.console.as_ref().map(|sink| &sink.key_at)),
        ];
        if one_kind("an output", &named_at, &given, report).is_none() {
            report.help_last(match given.iter().any(|(_, at)| at.is_some()) {
                true => "write two outputs with the same `from`",
                false => "such as `kafka: { topic: TOPIC }` or `console: {}`",
            });
            continue;
        }
        let rows = |rows: &Option<At<NonZeroU64>>, default| {
            usize::try_from(At::get(rows).map_or(default, NonZeroU64::get)).unwrap_or(usize::MAX)
        };
        let sink = if let Some(kafka) = &output.kafka {
            self::kafka(kafka, from, known, &mut chosen, report)
        } else if let Some(files) = &output.files {
            self::files(&files.value, from, known, report)
        } else if let Some(table) = &output.table {
            self::table(table, from, &mut tables, report).map(|name| Sink::Table {
                name,
                remember: At::get(&table.value.remember),
                rows: rows(&table.value.rows, TABLE_ROWS),
            })
        } else {
            output.console.as_ref().map(|console| Sink::Console { rows: rows(&console.value.rows, ROWS) })
        };
        if let (Some(from), Some(sink)) = (from, sink) {
            checked.push(Output { from: from.value.clone(), sink });
        }
    }
    // Dead letters go to the output cluster; without one, to where the source is.
    let dead_letters = |source: &&Source| matches!(source.on_bad_record, OnBadRecord::DeadLetter(_));
    for source in known.sources.iter().filter(dead_letters) {
        match source.kafka() {
            _ if chosen.given => {}
            Some(kafka) => chosen.take(kafka.cluster.clone(), &outputs.key_at, report),
            None if chosen.first.is_none() => {
                report
                    .error(
                        outputs.key_at.clone(),
                        format!("the dead letters of `{}` have no cluster to go to", source.name),
                    )
                    .help("set `on_bad_record: skip`, or add an output with `kafka` and `brokers`");
            }
            None => {}
        }
    }
    (checked, chosen.cluster())
}

/// The output cluster as far as it is known, and what named it first.
#[derive(Default)]
struct Chosen {
    first: Option<(Cluster, Range<usize>)>,
    /// Whether an output named it.
    given: bool,
    /// Options that an output gave; they stand for those of the sources.
    options: Option<(ClientOptions, Range<usize>)>,
}

impl Chosen {
    fn cluster(self) -> Option<Cluster> {
        let (cluster, _) = self.first?;
        let options = self.options.map_or(cluster.options, |(options, _)| options);
        Some(Cluster { brokers: cluster.brokers, options })
    }

    /// Takes `cluster` as the one, or reports that there is another.
    fn take(&mut self, cluster: Cluster, at: &Range<usize>, report: &mut Report) {
        match &self.first {
            Some((first, first_at)) if !cluster::same(first, &cluster) => {
                report
                    .error(at.clone(), "all outputs and dead letters must go to one cluster")
                    .label(format!("this goes to {}", cluster.brokers))
                    .also(first_at.clone(), format!("this goes to {}", first.brokers))
                    .help("a batch is committed in one transaction of one cluster: write a second pipeline");
            }
            Some(_) => {}
            None => self.first = Some((cluster, at.clone())),
        }
    }
}

fn kafka(
    output: &At<KafkaOutput>,
    from: Option<&At<String>>,
    known: &Known<'_>,
    chosen: &mut Chosen,
    report: &mut Report,
) -> Option<Sink> {
    let (at, output) = (&output.key_at, &output.value);
    let topic = names::topic(&output.topic, report);
    let schema = from.and_then(|from| (known.schema)(&from.value));
    let mut fine = true;
    if let (Some(from), Some(schema)) = (from, &schema) {
        let columns = [&output.key, &output.value, &output.timestamp];
        for given in columns.into_iter().flatten() {
            fine &= column(given, &from.value, schema, report);
        }
        fine &= headers(&output.headers, &from.value, schema, report);
        fine = fine && timestamp(&output.timestamp, schema, report);
        fine &= removed(output, &from.value, known, report);
    }
    let settings = settings(output, report);
    let options = output.options.as_ref().map(|options| (cluster::options(options, report), options));
    let cluster = match &output.brokers {
        Some(brokers) => cluster::check(brokers, None, report).map(|cluster| Cluster {
            // The same cluster is spoken to in the same way.
            options: (known.clusters().find(|(_, known)| cluster::same(known, &cluster)))
                .map_or(ClientOptions::default(), |(_, known)| known.options.clone()),
            ..cluster
        }),
        None => of_sources(at, known, report),
    };
    if let Some((given, options)) = options {
        let given = given?;
        match &chosen.options {
            Some((first, first_at)) if *first != given => {
                report
                    .error(
                        options.key_at.clone(),
                        "all outputs share one producer, so their `options` must be the same",
                    )
                    .also(first_at.clone(), "the others");
                fine = false;
            }
            _ => chosen.options = Some((given, options.key_at.clone())),
        }
    }
    let cluster = cluster?;
    if let Some(topic) = &topic {
        let reader = known.sources.iter().find(|source| {
            source
                .kafka()
                .is_some_and(|kafka| cluster::same(&kafka.cluster, &cluster) && kafka.topics.contains(topic))
        });
        if let (Some(reader), Some(place)) = (reader, &output.topic) {
            report
                .error(
                    place.at.clone(),
                    format!("the topic `{topic}` is read by the source `{}`", reader.name),
                )
                .label("the pipeline would feed itself");
            fine = false;
        }
    }
    chosen.given = true;
    chosen.take(cluster, output.brokers.as_ref().map_or(at, |brokers| &brokers.at), report);
    let get = |column: &Option<At<String>>| column.as_ref().map(|column| column.value.clone());
    let headers = At::as_ref(&output.headers).map_or(&[][..], |headers| &headers.0[..]);
    let header =
        |entry: &Entry<Text>| Some((entry.name.clone(), entry.value.as_ref()?.value.value().to_owned()));
    let topic = KafkaTopic {
        topic: topic?,
        settings: settings?,
        key: get(&output.key),
        value: get(&output.value),
        headers: headers.iter().filter_map(header).collect(),
        timestamp: get(&output.timestamp),
        tombstones: At::get(&output.on_removed) == Some(OnRemoved::Tombstone),
    };
    fine.then_some(Sink::Kafka(topic))
}

/// Whether all headers are columns.
fn headers(headers: &Option<At<Named<Text>>>, from: &str, schema: &SchemaRef, report: &mut Report) -> bool {
    let entries = At::as_ref(headers).map_or(&[][..], |headers| &headers.0[..]);
    let mut fine = true;
    for given in entries.iter().filter_map(|entry| entry.value.as_ref()) {
        let name =
            At { value: given.value.value().to_owned(), at: given.at.clone(), key_at: given.key_at.clone() };
        fine &= column(&name, from, schema, report);
    }
    fine
}

/// Whether the column of the timestamp holds one.
fn timestamp(given: &Option<At<String>>, schema: &SchemaRef, report: &mut Report) -> bool {
    let Some(given) = given else { return true };
    let field = schema.fields().iter().find(|field| *field.name() == given.value);
    match field.map(|field| field.data_type()) {
        Some(DataType::Timestamp(..)) => true,
        Some(other) => {
            report
                .error(given.at.clone(), format!("`{}` is no timestamp, but {}", given.value, type_name(other)))
                .help("a record's timestamp is a column of type timestamp; `to_timestamp_millis(n)` makes one of a number");
            false
        }
        None => false,
    }
}

/// Whether the stream can tell which keys it has removed, and these are the records' keys.
fn removed(output: &KafkaOutput, from: &str, known: &Known<'_>, report: &mut Report) -> bool {
    let Some(given) = output.on_removed.as_ref().filter(|given| given.value == OnRemoved::Tombstone) else {
        return true;
    };
    let step = known.streams.iter().find(|stream| stream.name == from).map(|stream| &stream.step);
    let keys = match step {
        Some(Step::MapWithState { state, timeout: Some(_), .. }) => state.keeping.key_schema(),
        _ => {
            report
                .error(given.at.clone(), format!("`{from}` removes no keys"))
                .label("expected the output of a `map_with_state` that has a `timeout`");
            return false;
        }
    };
    let names: Vec<_> = keys.fields().iter().map(|field| field.name().as_str()).collect();
    let key = output.key.as_ref().map(|key| key.value.as_str());
    if names[..] != Vec::from_iter(key)[..] {
        report
            .error(given.at.clone(), "a tombstone needs the key of the state as the record's key")
            .label(format!("the state's key is {}", names.join(", ")))
            .help("set `key` to that column; a key of several columns has to be made one by an expression");
        return false;
    }
    true
}

/// What is said of the topic.
fn settings(output: &KafkaOutput, report: &mut Report) -> Option<TopicSettings> {
    let mut settings =
        TopicSettings::new().partitions(count(&output.partitions, PARTITIONS, "partitions", report)?);
    if output.replication.is_some() {
        settings = settings.replication(count(&output.replication, 1, "copies", report)?);
    }
    let config = At::as_ref(&output.config).map_or(&[][..], |config| &config.0[..]);
    for entry in config {
        settings = settings.config(&entry.name, &entry.value.as_ref()?.value);
    }
    if At::get(&output.create) == Some(Create::Never) {
        let given = [
            output.partitions.as_ref().map(|given| &given.key_at),
            output.replication.as_ref().map(|given| &given.key_at),
            output.config.as_ref().map(|given| &given.key_at),
        ];
        if let Some(at) = given.into_iter().flatten().next() {
            report
                .error(at.clone(), "this is for a topic that has to be created")
                .label("and `create: never` says that it is not");
            return None;
        }
        settings = settings.existing();
    }
    let own = output.topic.as_ref().map(|topic| vec![topic.value.clone()]);
    let policy = sources::on_bad_record(&output.on_bad_record, None, report)?;
    if let (OnBadRecord::DeadLetter(topic), Some(at)) = (&policy, &output.on_bad_record)
        && own.is_some_and(|own| own.contains(topic))
    {
        report
            .error(at.at.clone(), "what a topic cannot take cannot go to the same topic")
            .label("expected another topic");
        return None;
    }
    Some(settings.on_bad_record(policy))
}

fn count(given: &Option<At<NonZeroU64>>, otherwise: u64, what: &str, report: &mut Report) -> Option<i32> {
    let number = At::get(given).map_or(otherwise, NonZeroU64::get);
    // Kafka counts copies in 16 bits.
    let most = if what == "copies" { i64::from(i16::MAX) } else { i64::from(i32::MAX) };
    let fits = i64::try_from(number).ok().filter(|number| *number <= most);
    if fits.is_none() {
        let at = given.as_ref().map_or(0..0, |given| given.at.clone());
        report.error(at, format!("a topic cannot have that many {what}"));
    }
    fits.and_then(|number| i32::try_from(number).ok())
}

fn files(
    output: &FilesOutput,
    from: Option<&At<String>>,
    known: &Known<'_>,
    report: &mut Report,
) -> Option<Sink> {
    let (path, format) = (output.path.as_ref()?, output.format.as_ref()?);
    if path.value.trim().is_empty() || path.value.ends_with('/') {
        report
            .error(path.at.clone(), format!("`{}` cannot begin the names of folders", path.value))
            .help("such as `out/counts`, which gives the folders `out/counts-BATCH_TIME.csv`");
        return None;
    }
    let format = match format.value {
        file::FileFormat::Text => FileFormat::Text,
        file::FileFormat::Json => FileFormat::Json,
        file::FileFormat::Csv => FileFormat::Csv,
        file::FileFormat::Parquet => FileFormat::Parquet,
    };
    let from = from?;
    let schema = (known.schema)(&from.value)?;
    if let Err(message) = format.check(&schema) {
        let at = output.format.as_ref().map_or(path.at.clone(), |format| format.at.clone());
        report.error(at, format!("`{}` cannot be written like this: {message}", from.value));
        return None;
    }
    Some(Sink::Files { path: PathBuf::from(&path.value), format })
}

/// The name of a table in memory; no two have the same.
fn table(
    table: &At<file::TableOutput>,
    from: Option<&At<String>>,
    tables: &mut BTreeMap<String, Range<usize>>,
    report: &mut Report,
) -> Option<String> {
    let (name, at) = match &table.value.name {
        Some(name) => (name.value.clone(), name.at.clone()),
        None => (from?.value.clone(), table.key_at.clone()),
    };
    if !names::sql_name("table", &name, &at, report) {
        return None;
    }
    if let Some(first) = tables.insert(name.clone(), at.clone()) {
        report.error(at, format!("two tables are called `{name}`")).also(first, "the other");
        return None;
    }
    if crate::service::query::BUILT_IN.contains(&name.as_str()) {
        report
            .error(at, format!("`{name}` is the name of a table that every pipeline has"))
            .help("give this one another `name`");
        return None;
    }
    Some(name)
}

/// The sources' cluster, if they have only one.
fn of_sources(at: &Range<usize>, known: &Known<'_>, report: &mut Report) -> Option<Cluster> {
    let Some((first_name, first)) = known.clusters().next() else {
        if known.all_sources {
            report
                .error(at.clone(), "no source is on Kafka, so an output needs `brokers`")
                .help("such as `brokers: \"localhost:9092\"`");
        }
        return None;
    };
    if let Some((other_name, other)) = known.clusters().find(|(_, other)| !cluster::same(other, first)) {
        report
            .error(at.clone(), "the sources are on several clusters, so an output needs `brokers`")
            .help(format!("`{first_name}` is on {}, `{other_name}` on {}", first.brokers, other.brokers));
        return None;
    }
    known.all_sources.then(|| first.clone())
}
