//! Sources: topics, cluster, columns, and what becomes of bad records.

use std::num::NonZeroU64;

use super::config::{OnBadRecord, Reader, Slicing, Source, Start};
use super::{cluster, names};
use crate::service::file::{self, At, Entry, Format};
use crate::service::report::Report;
use crate::source::kafka::{DEFAULT_MAX_BYTES, DEFAULT_MAX_RECORDS};
use crate::sql;
use crate::time::Duration;

/// The column of a text source.
const TEXT_COLUMN: &str = "value";

/// Time for the broker and the topics to come up unless the file says otherwise.
const WAIT: Duration = Duration::seconds(30);

/// The checked source, or nothing if something about it was reported.
pub(super) fn check(source: &Entry<file::Source>, report: &mut Report) -> Option<Source> {
    let named = names::sql_name("source", &source.name, &source.at, report);
    let file = &source.value.as_ref()?.value;
    let kafka = file.kafka.as_ref().map(|kafka| &kafka.value);
    let cluster =
        kafka.and_then(|kafka| cluster::check(kafka.brokers.as_ref()?, kafka.options.as_ref(), report));
    let topics = kafka.and_then(|kafka| topics(kafka, report));
    let format = format(source, file, report);
    let on_bad_record = on_bad_record(&file.on_bad_record, topics.as_deref(), report);
    let slicing = kafka.and_then(|kafka| slicing(kafka, report));
    let (kafka, format) = (kafka?, format?);
    let source = Source {
        name: named.then(|| source.name.clone())?,
        place: report.place(&file.kafka.as_ref()?.key_at),
        cluster: cluster?,
        topics: topics?,
        start: At::get(&kafka.start).unwrap_or(Start::Earliest),
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
        schema: match &format {
            sql::Format::Text { column } => sql::schema([(column.as_str(), sql::DataType::Utf8View)]),
            sql::Format::Json { schema } => schema.clone(),
        },
        format,
        on_bad_record: on_bad_record?,
    };
    Some(source)
}

/// What says which batch a record belongs to, with its numbers.
fn slicing(kafka: &file::KafkaSource, report: &mut Report) -> Option<Slicing> {
    if kafka.slicing.as_ref().is_some_and(|slicing| slicing.value == file::Slicing::Timestamp) {
        let mut slicing = Slicing::timestamp();
        if let Slicing::Timestamp { max_future, grace } = &mut slicing {
            *max_future = At::get(&kafka.max_future).unwrap_or(*max_future);
            *grace = At::get(&kafka.grace).unwrap_or(*grace);
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
        let kafka = &source.value.as_ref()?.value.kafka.as_ref()?.value;
        let by_time = kafka.slicing.as_ref().filter(|slicing| slicing.value == file::Slicing::Timestamp);
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
    read: Option<&[String]>,
    report: &mut Report,
) -> Option<OnBadRecord> {
    let topic = match At::as_ref(policy) {
        None | Some(file::BadRecord::Fail) => return Some(OnBadRecord::Fail),
        Some(file::BadRecord::Skip) => return Some(OnBadRecord::Skip),
        Some(file::BadRecord::DeadLetter(topic)) => topic,
    };
    let name = names::topic(topic, report)?;
    if let (Some(topic), true) = (topic, read.unwrap_or_default().contains(&name)) {
        report
            .error(topic.at.clone(), format!("the source reads its own dead letters from `{name}`"))
            .label("expected another topic");
        return None;
    }
    Some(OnBadRecord::DeadLetter(name))
}

fn topics(kafka: &file::KafkaSource, report: &mut Report) -> Option<Vec<String>> {
    let list = kafka.topics.as_ref()?;
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
    fine.then_some(topics)
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
        (Format::Json, Some(schema)) => {
            names::not_empty("column", &file.schema, report);
            let columns: Vec<_> = schema
                .value
                .0
                .iter()
                .map(|column| Some((column.name.as_str(), column_type(column, report)?)))
                .collect();
            let columns =
                columns.into_iter().collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty())?;
            Some(sql::Format::Json { schema: sql::schema(columns) })
        }
    }
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
