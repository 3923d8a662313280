//! Sources: topics, cluster, columns, and what becomes of bad records.

use std::num::NonZeroU64;
use std::ops::Range;

use super::config::{Input, KafkaInput, OnBadRecord, OnDataLoss, Reader, Slicing, Source, Start, Topics};
use super::{cluster, names};
use crate::service::file::{self, At, Entry, Format, Named};
use crate::service::report::Report;
use crate::source::kafka::{DEFAULT_MAX_BYTES, DEFAULT_MAX_RECORDS};
use crate::sql;
use crate::time::Duration;

/// The column of a text source.
const TEXT_COLUMN: &str = "value";

/// Time for the broker and the topics to come up unless the file says otherwise.
const WAIT: Duration = Duration::seconds(30);

/// Whether what a folder holds at the first start is read, unless the file says otherwise.
const EXISTING: bool = true;

/// The checked source, or nothing if something about it was reported.
pub(super) fn check(source: &Entry<file::Source>, report: &mut Report) -> Option<Source> {
    let named = names::sql_name("source", &source.name, &source.at, report);
    let file = &source.value.as_ref()?.value;
    let given = [
        ("kafka", file.kafka.as_ref().map(|kafka| &kafka.key_at)),
        ("socket", file.socket.as_ref().map(|socket| &socket.key_at)),
        ("files", file.files.as_ref().map(|files| &files.key_at)),
    ];
    let kind = one_kind(&format!("`{}`", source.name), &source.at, &given, report);
    let input = match (&file.kafka, &file.socket, &file.files) {
        (Some(kafka), None, None) => {
            self::kafka(&kafka.value, &kafka.key_at, report).map(|kafka| Input::Kafka(Box::new(kafka)))
        }
        (None, Some(socket), None) => self::socket(&socket.value, report),
        (None, None, Some(files)) => {
            let folder = files.value.folder.as_ref();
            let existing = At::get(&files.value.existing).unwrap_or(EXISTING);
            folder.map(|folder| Input::Files { folder: folder.value.clone(), existing })
        }
        _ => None,
    };
    let format = format(source, file, report);
    let topics = match &input {
        Some(Input::Kafka(kafka)) => Some(&kafka.topics),
        _ => None,
    };
    let on_bad_record = on_bad_record(&file.on_bad_record, topics, report);
    let (kind, input, format) = (kind?, input?, format?);
    Some(Source {
        name: named.then(|| source.name.clone())?,
        place: report.place(kind),
        input,
        schema: match &format {
            sql::Format::Text { column } => sql::schema([(column.as_str(), sql::DataType::Utf8View)]),
            sql::Format::Json { schema } => schema.clone(),
        },
        format,
        on_bad_record: on_bad_record?,
    })
}

/// The place of the one kind that is given; reports none and several.
pub(super) fn one_kind<'a>(
    what: &str,
    at: &Range<usize>,
    kinds: &[(&'static str, Option<&'a Range<usize>>)],
    report: &mut Report,
) -> Option<&'a Range<usize>> {
    let given: Vec<(&str, &Range<usize>)> =
        kinds.iter().filter_map(|(name, at)| at.map(|at| (*name, at))).collect();
    match given[..] {
        [(_, only)] => return Some(only),
        [] => {
            let names = crate::service::report::list(kinds.iter().map(|(name, _)| *name));
            report.error(at.clone(), format!("{what} needs one of the keys {names}"));
        }
        [(first, first_at), (second, second_at), ..] => {
            report
                .error(
                    second_at.clone(),
                    format!("{what} has both `{first}` and `{second}`, and can have one"),
                )
                .also(first_at.clone(), "the other");
        }
    }
    None
}

fn kafka(kafka: &file::KafkaSource, at: &Range<usize>, report: &mut Report) -> Option<KafkaInput> {
    let cluster =
        kafka.brokers.as_ref().and_then(|brokers| cluster::check(brokers, kafka.options.as_ref(), report));
    let topics = topics(kafka, at, report);
    let slicing = slicing(kafka, report);
    Some(KafkaInput {
        cluster: cluster?,
        topics: topics?,
        start: kafka.start.as_ref().map_or(Start::Earliest, |start| start.value.clone()),
        end: kafka.end.as_ref().map(|end| end.value.clone()),
        on_data_loss: match At::get(&kafka.on_data_loss) {
            None | Some(file::OnDataLoss::Fail) => OnDataLoss::Fail,
            Some(file::OnDataLoss::Earliest) => OnDataLoss::Earliest,
            Some(file::OnDataLoss::Latest) => OnDataLoss::Latest,
        },
        discovery_interval: At::get(&kafka.discovery_interval),
        is_replayed: false,
        follow: None,
        slicing: slicing?,
        reader: match At::get(&kafka.reader) {
            None | Some(file::Reader::Auto) => Reader::Auto,
            Some(file::Reader::Native) => Reader::Native,
            Some(file::Reader::RdKafka) => Reader::RdKafka,
        },
        wait: At::get(&kafka.wait).unwrap_or(WAIT),
        max_rate_per_partition: At::get(&kafka.max_rate_per_partition).map(NonZeroU64::get),
        min_rate_per_partition: At::get(&kafka.min_rate_per_partition).map_or(1, NonZeroU64::get),
        max_records_per_batch: At::get(&kafka.max_records_per_batch)
            .map_or(DEFAULT_MAX_RECORDS, NonZeroU64::get),
        max_bytes_per_batch: At::get(&kafka.max_bytes_per_batch).map_or(DEFAULT_MAX_BYTES, |bytes| bytes.0),
    })
}

fn socket(socket: &file::SocketSource, report: &mut Report) -> Option<Input> {
    let port = socket.port.as_ref().and_then(|port| match u16::try_from(port.value.get()) {
        Ok(number) => Some(number),
        Err(_) => {
            report.error(port.at.clone(), format!("{} is no port", port.value)).label("expected 1 to 65535");
            None
        }
    });
    let host = socket.host.as_ref()?.value.trim().to_owned();
    if host.is_empty() {
        report.error(socket.host.as_ref()?.at.clone(), "the host is empty").label("such as `localhost`");
        return None;
    }
    Some(Input::Socket { host, port: port? })
}

/// What says which batch a record belongs to, with its numbers.
fn slicing(kafka: &file::KafkaSource, report: &mut Report) -> Option<Slicing> {
    if kafka.slicing.as_ref().is_some_and(|slicing| slicing.value == file::Slicing::Timestamp) {
        let mut slicing = Slicing::timestamp();
        if let Slicing::Timestamp { max_future, grace } = &mut slicing {
            *max_future = At::get(&kafka.max_future).unwrap_or(*max_future);
            *grace = At::get(&kafka.grace).unwrap_or(*grace);
        }
        for (name, given) in [
            ("max_rate_per_partition", kafka.max_rate_per_partition.as_ref().map(|given| &given.key_at)),
            ("min_rate_per_partition", kafka.min_rate_per_partition.as_ref().map(|given| &given.key_at)),
            ("max_records_per_batch", kafka.max_records_per_batch.as_ref().map(|given| &given.key_at)),
            ("max_bytes_per_batch", kafka.max_bytes_per_batch.as_ref().map(|given| &given.key_at)),
        ] {
            if let Some(at) = given {
                report
                    .warning(at.clone(), format!("`{name}` does nothing here"))
                    .label("under `slicing: timestamp` timestamps alone say what belongs to a batch");
            }
        }
        return Some(slicing);
    }
    let mut fine = true;
    for (name, given) in [("grace", &kafka.grace), ("max_future", &kafka.max_future)] {
        if let Some(given) = given {
            report
                .error(given.key_at.clone(), format!("`{name}` belongs to slicing by timestamp"))
                .label("this source is sliced by arrival")
                .help(format!("add `slicing: timestamp`, or remove `{name}`"));
            fine = false;
        }
    }
    fine.then_some(Slicing::Arrival)
}

/// Reports sources of which some are sliced by arrival and some by timestamp.
pub(super) fn same_slicing(sources: &[Entry<file::Source>], report: &mut Report) {
    let sliced = sources.iter().filter_map(|source| {
        let kafka = source.value.as_ref()?.value.kafka.as_ref().map(|kafka| &kafka.value);
        let slicing = kafka.and_then(|kafka| kafka.slicing.as_ref());
        let by_time = slicing.filter(|slicing| slicing.value == file::Slicing::Timestamp);
        Some((source, by_time))
    });
    let (by_time, by_arrival): (Vec<_>, Vec<_>) = sliced.partition(|(_, by_time)| by_time.is_some());
    if let (Some((_, Some(slicing))), Some((other, _))) = (by_time.first(), by_arrival.first()) {
        report
            .error(slicing.at.clone(), "sources must all be sliced in the same way")
            .also(other.at.clone(), format!("`{}` is sliced by arrival", other.name))
            .help("it is either the clock or the records that say which batches there are");
    }
}

/// What becomes of bad records of a source that reads the topics `read`, or nothing if that was reported.
pub(super) fn on_bad_record(
    policy: &Option<At<file::BadRecord>>,
    read: Option<&Topics>,
    report: &mut Report,
) -> Option<OnBadRecord> {
    let topic = match At::as_ref(policy) {
        None | Some(file::BadRecord::Fail) => return Some(OnBadRecord::Fail),
        Some(file::BadRecord::Skip) => return Some(OnBadRecord::Skip),
        Some(file::BadRecord::DeadLetter(topic)) => topic,
    };
    let name = names::topic(topic, report)?;
    if let (Some(topic), true) = (topic, read.is_some_and(|read| read.contains(&name))) {
        report
            .error(topic.at.clone(), format!("the source reads its own dead letters from `{name}`"))
            .label("expected another topic");
        return None;
    }
    Some(OnBadRecord::DeadLetter(name))
}

/// The topics, by their names or by a pattern.
fn topics(kafka: &file::KafkaSource, at: &Range<usize>, report: &mut Report) -> Option<Topics> {
    match (&kafka.topics, &kafka.topics_pattern) {
        (Some(topics), None) => listed(topics, report),
        (None, Some(pattern)) => {
            let topics = Topics::Pattern(pattern.value.value().to_owned());
            if let Err(error) = topics.check() {
                report.error(pattern.at.clone(), error.to_string());
                return None;
            }
            Some(topics)
        }
        (Some(topics), Some(pattern)) => {
            report
                .error(pattern.key_at.clone(), "a source has one of `topics` and `topics_pattern`")
                .also(topics.key_at.clone(), "the other")
                .help("a pattern can name topics, too: `clicks|logs\\..*`");
            None
        }
        (None, None) => {
            if !report.has_errors() {
                report
                    .error(at.clone(), "a source needs the key `topics`")
                    .help(r"such as `topics: [clicks]` or `topics_pattern: 'logs\..*'`");
            }
            None
        }
    }
}

fn listed(list: &At<Vec<At<String>>>, report: &mut Report) -> Option<Topics> {
    if list.value.is_empty() {
        report.error(list.at.clone(), "a source needs at least one topic");
        return None;
    }
    let mut topics: Vec<String> = Vec::new();
    let mut fine = true;
    for topic in &list.value {
        match names::topic(&Some(topic.clone()), report) {
            Some(name) if topics.contains(&name) => {
                report.error(topic.at.clone(), format!("the topic `{name}` is given twice"));
                fine = false;
            }
            Some(name) => topics.push(name),
            None => fine = false,
        }
    }
    fine.then_some(Topics::List(topics))
}

/// Reports sources of which some have an end and some have none.
pub(super) fn same_ends(sources: &[Entry<file::Source>], report: &mut Report) {
    let with_ends = sources.iter().filter_map(|source| {
        let kafka = &source.value.as_ref()?.value.kafka.as_ref()?.value;
        Some((source, kafka.end.as_ref()))
    });
    let (ending, endless): (Vec<_>, Vec<_>) = with_ends.partition(|(_, end)| end.is_some());
    if let (Some((_, Some(end))), Some((other, _))) = (ending.first(), endless.first()) {
        report
            .error(end.at.clone(), "either all sources have an end or none has")
            .also(other.at.clone(), format!("`{}` has none", other.name))
            .help("a pipeline stops when all of its sources have ended");
    }
}

fn format(source: &Entry<file::Source>, file: &file::Source, report: &mut Report) -> Option<sql::Format> {
    let format = file.format.as_ref()?;
    match (format.value, &file.schema) {
        (Format::Text, None) => Some(sql::Format::Text { column: TEXT_COLUMN.to_owned() }),
        (Format::Text, Some(schema)) => {
            report
                .error(schema.key_at.clone(), format!("`{}` is text and has no schema", source.name))
                .label(format!("a text source has the one column `{TEXT_COLUMN}`"))
                .help("remove `schema`, or set `format: json`");
            None
        }
        (Format::Json, None) => {
            report
                .error(format.at.clone(), format!("`{}` is JSON and needs a schema", source.name))
                .label("expected a `schema` beside this")
                .help("such as `schema: { id: bigint, text: text }`");
            None
        }
        (Format::Json, Some(_)) => Some(sql::Format::Json { schema: columns(&file.schema, report)? }),
    }
}

/// The columns of a schema as it is written.
pub(super) fn columns(schema: &Option<At<Named<file::Text>>>, report: &mut Report) -> Option<sql::SchemaRef> {
    names::not_empty("column", schema, report);
    let columns = &schema.as_ref()?.value.0;
    let columns: Vec<_> =
        columns.iter().map(|column| Some((column.name.as_str(), column_type(column, report)?))).collect();
    let columns = columns.into_iter().collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty())?;
    Some(sql::schema(columns))
}

fn column_type(column: &Entry<file::Text>, report: &mut Report) -> Option<sql::DataType> {
    let name = &column.value.as_ref()?;
    match sql::data_type(name.value.value()) {
        Ok(found) => Some(found),
        Err(message) => {
            report.error(name.at.clone(), message).label(format!("the type of `{}`", column.name));
            None
        }
    }
}
