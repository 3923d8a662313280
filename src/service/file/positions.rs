//! Where a source begins and ends: words, times, and offsets.

use std::collections::BTreeMap;

use serde_json::json;

use super::read::{Named, Read, choice, expected, mapping};
use super::schema::Definitions;
use super::yaml::{Node, Scalar, Value};
use crate::service::report::Report;
use crate::source::kafka;
use crate::time::{Duration, Time};

/// Where to begin when there is no checkpoint.
pub(crate) type Start = kafka::Start;

/// Where to end, and stop.
pub(crate) type End = kafka::End;

choice! {
    /// The words among the beginnings.
    StartWord {
        /// At the oldest record that the broker still has.
        "earliest" => Earliest,
        /// At what comes from now on.
        "latest" => Latest,
        /// Where the consumer group stands.
        "committed" => Committed,
    }
}

choice! {
    /// The words among the ends.
    EndWord {
        /// At what is there at the start.
        "latest" => Latest,
    }
}

mapping! {
    /// A beginning that needs a number; exactly one of them.
    StartMapping {
        /// At the records of so long ago.
        optional ago: Duration,
        /// At these offsets, by topic and partition; at the oldest record of partitions that are not named.
        optional offsets: Named<Named<Offset>>,
    }
}

mapping! {
    /// An end that needs numbers.
    EndMapping {
        /// Before these offsets, by topic and partition; partitions that are not named end at what is there at the start.
        required offsets: Named<Named<Offset>>,
    }
}

impl Read for Start {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        const WHAT: &str = "`earliest`, `latest`, `committed`, a time or a mapping, such as `2026-11-21T17:00:00Z`, \
                            `{ ago: 15m }` or `{ offsets: { clicks: { 0: 4711 } } }`";
        match &node.value {
            Value::Mapping(_) => {
                let read = StartMapping::read(node, report)?;
                match (read.ago, read.offsets) {
                    (Some(ago), None) => Some(Self::Ago(ago.value)),
                    (None, Some(of)) => offsets(&of.value, report).map(Self::Offsets),
                    (Some(_), Some(_)) => expected("one of `ago` and `offsets`", node, report),
                    (None, None) if report.has_errors() => None,
                    (None, None) => expected(WHAT, node, report),
                }
            }
            Value::Scalar(scalar) => match time(scalar.text.value()) {
                Some(time) => Some(Self::Timestamp(time)),
                None if is_like_a_time(scalar) => expected(WHAT, node, report),
                None => match StartWord::read(node, report) {
                    Some(StartWord::Earliest) => Some(Self::Earliest),
                    Some(StartWord::Latest) => Some(Self::Latest),
                    Some(StartWord::Committed) => Some(Self::Committed),
                    None => {
                        report
                            .help_last("or a time, `{ ago: 15m }`, or `{ offsets: { TOPIC: { 0: 4711 } } }`");
                        None
                    }
                },
            },
            _ => expected(WHAT, node, report),
        }
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        json!({ "anyOf": [StartWord::schema(definitions), time_schema(), StartMapping::schema(definitions)] })
    }
}

impl Read for End {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        const WHAT: &str = "`latest`, a time or offsets, such as `2026-11-21T18:00:00Z` or `{ offsets: { clicks: { 0: 4711 } } }`";
        match &node.value {
            Value::Mapping(_) => {
                let read = EndMapping::read(node, report)?;
                offsets(&read.offsets?.value, report).map(Self::Offsets)
            }
            Value::Scalar(scalar) => match time(scalar.text.value()) {
                Some(time) => Some(Self::Timestamp(time)),
                None if is_like_a_time(scalar) => expected(WHAT, node, report),
                None => EndWord::read(node, report).map(|EndWord::Latest| Self::Latest),
            },
            _ => expected(WHAT, node, report),
        }
    }

    fn schema(definitions: &mut Definitions) -> serde_json::Value {
        json!({ "anyOf": [EndWord::schema(definitions), time_schema(), EndMapping::schema(definitions)] })
    }
}

/// What looks like a time to [`time`].
fn time_schema() -> serde_json::Value {
    json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}" })
}

fn is_like_a_time(scalar: &Scalar) -> bool {
    scalar.text.value().starts_with(|c: char| c.is_ascii_digit())
}

/// A time as RFC 3339 writes it, in UTC; a day alone is its beginning.
pub(crate) fn time(text: &str) -> Option<Time> {
    let text = text.trim();
    let is_day = text.len() == 10;
    let midnight = format!("{text}T00:00:00Z");
    let parsed = humantime::parse_rfc3339_weak(if is_day { &midnight } else { text }).ok()?;
    let since = parsed.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Time::ZERO + Duration::from(since))
}

/// The number of a record in its partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offset(i64);

impl Read for Offset {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let number = match &node.value {
            Value::Scalar(Scalar { text, quoted: false }) => text.value().replace('_', "").parse().ok(),
            _ => None,
        };
        match number.filter(|number| *number >= 0) {
            Some(number) => Some(Self(number)),
            None => expected("an offset, a whole number from 0 on", node, report),
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

/// Offsets by topic and partition.
fn offsets(topics: &Named<Named<Offset>>, report: &mut Report) -> Option<BTreeMap<(String, i32), i64>> {
    let mut offsets = BTreeMap::new();
    let mut fine = true;
    for topic in &topics.0 {
        for partition in topic.value.iter().flat_map(|partitions| &partitions.value.0) {
            match (partition.name.parse::<i32>(), &partition.value) {
                (Ok(number @ 0..), Some(offset)) => {
                    offsets.insert((topic.name.clone(), number), offset.value.0);
                }
                (Ok(0..), None) => fine = false,
                _ => {
                    report
                        .error(
                            partition.at.clone(),
                            format!("`{}` is not a partition's number", partition.name),
                        )
                        .label("such as 0");
                    fine = false;
                }
            }
        }
        fine &= topic.value.is_some();
    }
    fine.then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::file::yaml;

    fn read<T: Read>(source: &str) -> Result<T, String> {
        let mut report = Report::new("t.yaml", source);
        let root = yaml::parse(&mut report).expect("the test's YAML is right");
        let Value::Mapping(entries) = &root.value else { panic!("a mapping") };
        let read = T::read(&entries[0].1, &mut report);
        read.filter(|_| !report.has_errors()).ok_or_else(|| report.render(false))
    }

    #[test]
    fn beginnings_and_ends_are_words_times_and_offsets() {
        let at = |millis| Start::Timestamp(Time::from_millis(millis));
        for (source, expected) in [
            ("start: committed", Start::Committed),
            ("start: 1970-01-02", at(86_400_000)),
            ("start: \"1970-01-01T00:00:01.5Z\"", at(1_500)),
            ("start: 1970-01-01 00:01:00", at(60_000)),
            ("start: { ago: 15m }", Start::Ago(Duration::minutes(15))),
            (
                "start: { offsets: { a.b: { 0: 0, 1: 1_000 }, c: { 7: 2 } } }",
                Start::Offsets(
                    [(("a.b".into(), 0), 0), (("a.b".into(), 1), 1_000), (("c".into(), 7), 2)].into(),
                ),
            ),
        ] {
            assert_eq!(read::<Start>(source), Ok(expected), "{source}");
        }
        assert_eq!(read::<End>("end: latest"), Ok(End::Latest));
        assert_eq!(read::<End>("end: 1970-01-02"), Ok(End::Timestamp(Time::from_millis(86_400_000))));
        assert_eq!(
            read::<End>("end: { offsets: { a: { 3: 4 } } }"),
            Ok(End::Offsets([(("a".into(), 3), 4)].into()))
        );
    }

    #[test]
    fn what_is_neither_is_told_with_examples() {
        for (source, parts) in [
            ("start: earlyest", ["one of `earliest`", "did you mean `earliest`"]),
            ("start: 2026-13-01", ["must be `earliest`", "ago: 15m"]),
            ("start: { ago: 15 }", ["must be a duration", "15s"]),
            ("start: { ago: 1m, offsets: { a: { 0: 1 } } }", ["one of `ago` and `offsets`", "start"]),
            ("start: { offsets: { a: { x: 1 } } }", ["`x` is not a partition's number", "such as 0"]),
            ("start: { offsets: { a: { 0: -1 } } }", ["a whole number from 0 on", "-1"]),
            ("start: {}", ["must be `earliest`", "mapping"]),
        ] {
            let shown = read::<Start>(source).expect_err(source);
            assert!(parts.iter().all(|part| shown.contains(part)), "{source}: {shown}");
        }
        assert!(read::<End>("end: earliest").is_err());
        assert!(read::<End>("end: {}").expect_err("nothing").contains("`offsets`"));
    }
}
