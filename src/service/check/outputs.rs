//! Outputs: from which stream, to where, and that all go to one cluster.

use std::num::NonZeroU64;
use std::ops::Range;

use super::cluster;
use super::config::{BadRecord, ClientOptions, Cluster, Output, Sink, Source};
use super::names;
use super::operators::column;
use super::streams::Declared;
use crate::service::file::{At, KafkaOutput};
use crate::service::report::Report;
use crate::sql::SchemaRef;

/// Partitions of a topic that has to be created, unless the file says otherwise.
const PARTITIONS: u64 = 4;

/// Rows of a batch that are shown in the terminal, unless the file says otherwise.
const ROWS: u64 = 20;

/// What outputs may refer to.
pub(super) struct Known<'a> {
    pub(super) declared: &'a Declared<'a>,
    pub(super) sources: &'a [Source],
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
    let dead_letters = |source: &&Source| matches!(source.on_bad_record, BadRecord::DeadLetter(_));
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
    if let (Some(key), Some(from), Some(schema)) = (&output.key, from, &schema) {
        fine = column(key, &from.value, schema, report);
    }
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
    let partitions = At::get(&output.partitions).map_or(PARTITIONS, NonZeroU64::get);
    let Ok(partitions) = i32::try_from(partitions) else {
        let at = output.partitions.as_ref().map_or(at.clone(), |partitions| partitions.at.clone());
        report.error(at, "a topic cannot have that many partitions");
        return None;
    };
    let key = output.key.as_ref().map(|key| key.value.clone());
    fine.then(|| Some(Sink::Kafka { topic: topic?, key, partitions }))?
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
