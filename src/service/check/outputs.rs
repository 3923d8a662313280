//! Outputs: from which stream, to where, and that all go to one cluster.

use std::num::NonZeroU64;
use std::ops::Range;

use super::cluster;
use super::config::{
    ClientOptions, Cluster, KafkaTopic, OnBadRecord, Output, Sink, Source, Step, Stream, TopicSettings,
};
use super::operators::column;
use super::streams::Declared;
use super::{names, sources};
use crate::service::file::{At, Create, Entry, KafkaOutput, Named, OnRemoved, Text};
use crate::service::report::Report;
use crate::sql::{DataType, SchemaRef, type_name};

/// Partitions of a topic that has to be created, unless the file says otherwise.
const PARTITIONS: u64 = 4;

/// Rows of a batch that are shown in the terminal, unless the file says otherwise.
const ROWS: u64 = 20;

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
    for output in &outputs.value {
        let (at, output) = (&output.at, &output.value);
        let from = output.from.as_ref().filter(|from| known.declared.check(from, report));
        let sink = match (&output.kafka, &output.console) {
            (Some(kafka), None) => self::kafka(kafka, from, known, &mut chosen, report),
            (None, Some(console)) => {
                let rows = At::get(&console.value.rows).map_or(ROWS, NonZeroU64::get);
                Some(Sink::Console { rows: usize::try_from(rows).unwrap_or(usize::MAX) })
            }
            (Some(kafka), Some(console)) => {
                report
                    .error(console.key_at.clone(), "an output has one of `kafka` and `console`")
                    .also(kafka.key_at.clone(), "the other")
                    .help("write two outputs with the same `from`");
                None
            }
            (None, None) => {
                let at = output.from.as_ref().map_or(at.clone(), |from| from.key_at.clone());
                report
                    .error(at, "an output needs one of `kafka` and `console`")
                    .help("such as `kafka: { topic: TOPIC }` or `console: {}`");
                None
            }
        };
        if let (Some(from), Some(sink)) = (from, sink) {
            checked.push(Output { from: from.value.clone(), sink });
        }
    }
    // Dead letters go to the output cluster; without one, to where the source is.
    let dead_letters = |source: &&Source| matches!(source.on_bad_record, OnBadRecord::DeadLetter(_));
    for source in known.sources.iter().filter(dead_letters) {
        if !chosen.given {
            chosen.take(source.cluster.clone(), &outputs.key_at, report);
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
            options: (known.sources.iter().find(|source| cluster::same(&source.cluster, &cluster)))
                .map_or(ClientOptions::default(), |source| source.cluster.options.clone()),
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
        let reader = known
            .sources
            .iter()
            .find(|source| cluster::same(&source.cluster, &cluster) && source.topics.contains(topic));
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
        Some(Step::MapWithState { grouping, timeout: Some(_), .. }) => grouping.key_schema(),
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

/// The sources' cluster, if they have only one.
fn of_sources(at: &Range<usize>, known: &Known<'_>, report: &mut Report) -> Option<Cluster> {
    let first = known.sources.first()?;
    if let Some(other) = known.sources.iter().find(|source| !cluster::same(&source.cluster, &first.cluster)) {
        report.error(at.clone(), "the sources are on several clusters, so an output needs `brokers`").help(
            format!(
                "`{}` is on {}, `{}` on {}",
                first.name, first.cluster.brokers, other.name, other.cluster.brokers
            ),
        );
        return None;
    }
    known.all_sources.then(|| first.cluster.clone())
}
