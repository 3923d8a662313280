//! Topics as they are: compacted, transactional, empty in parts, with nulls, headers and large records. The counterparts are Kafka's
//! own tools.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::Slicing;

use crate::support::{Broker, Record, eventually, pause, unique_name};
use crate::topics::{BY_TIME, LIMIT, Reading, source, text};

/// The records that Kafka's own consumer shows of a topic, with `read_committed`.
fn console_consumer(broker: &Broker, topic: &str, count: usize) -> Vec<String> {
    let server = ["--bootstrap-server", broker.bootstrap(), "--topic", topic, "--from-beginning"];
    let count = count.to_string();
    let how = ["--isolation-level", "read_committed", "--max-messages", &count, "--timeout-ms", "60000"];
    let shown = broker.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &[&server[..], &how].concat());
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn what_a_java_producer_aborts_is_not_read() {
    let broker = Broker::shared();
    let (from, to) = (broker.unique_topic("copied", 1), broker.unique_topic("copies", 1));
    const COUNT: usize = 400;
    broker.produce(&from, (0..COUNT).map(|n| n.to_string()));
    let (copier, count) = (unique_name("copier"), COUNT.to_string());
    let server = ["--broker-list", broker.bootstrap(), "--input-topic", &from, "--output-topic", &to];
    let how = ["--input-partition", "0", "--transaction-size", "10", "--max-messages", &count];
    let who = ["--transactional-id", &copier, "--consumer-group", &copier, "--enable-random-aborts"];
    broker.tool("org.apache.kafka.tools.TransactionalMessageCopier", &[&server[..], &how, &who].concat());

    let (group, folder) = (unique_name("copies"), tempfile::tempdir().unwrap());
    let reading = Reading::of(&group, folder.path(), source(broker, &to)).unwrap();
    let read = reading.values(COUNT);
    let order: Vec<_> = reading.records.lock().unwrap().iter().map(text).collect();
    let end = reading.records.lock().unwrap().last().map(|record| record.offset).unwrap();
    reading.stop();
    assert_eq!(read.len(), COUNT);
    assert_eq!(order, console_consumer(broker, &to, COUNT));
    // There are gaps for aborted records, not for the markers of the commits alone.
    assert!(end as usize > COUNT + COUNT / 10, "nothing was aborted: {end}");
    // The group stands behind the last marker.
    let lag: Vec<_> = broker.group_lag(&group).iter().map(|row| row.lag).collect();
    assert_eq!(lag, [Some(0)]);
}

#[test]
fn a_compacted_topic_has_gaps_and_tombstones() {
    let (broker, _proxy) = Broker::start_with("log.cleaner.backoff.ms=200");
    let topic = unique_name("compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "500"),
        ("max.compaction.lag.ms", "1000"),
    ];
    broker.create_topic_with(&topic, 1, &settings);
    for round in 0..5 {
        let record = |key: u32| Record::from((format!("k{key}").as_str(), format!("v{round}").as_str()));
        broker.produce(&topic, (0..20).map(record));
    }
    broker.produce(&topic, [Record::tombstone("k0"), Record::tombstone("k1")]);
    // The last segment is not compacted: records later in time close it.
    eventually(LIMIT, "the compaction", || {
        broker.produce(&topic, [("last", "last")]);
        let rows = broker.read(&topic);
        let left = rows.iter().filter(|row| row.key_text() != "last").count();
        if left <= 20 { Ok(()) } else { Err(format!("{left} records are left")) }
    });
    // Another segment may be compacted still: it is over once what is left stays the same.
    let mut before = broker.read(&topic);
    let rows = eventually(LIMIT, "the end of the compaction", || {
        pause(Duration::from_secs(2));
        let rows = broker.read(&topic);
        if rows == before {
            return Ok(rows);
        }
        let changed = format!("{} records are left, {} were", rows.len(), before.len());
        before = rows;
        Err(changed)
    });
    let expected: BTreeMap<i64, (String, Option<Vec<u8>>)> =
        rows.into_iter().map(|row| (row.offset, (row.key_text(), row.value))).collect();
    assert!(expected.values().any(|(_, value)| value.is_none()), "no tombstone is left: {expected:?}");
    let end = *expected.keys().max().unwrap();
    assert!(expected.len() < 60 && end > 100, "no gaps: {expected:?}");

    for slicing in [Slicing::Arrival, BY_TIME] {
        let (group, folder) = (unique_name("compacted"), tempfile::tempdir().unwrap());
        let source = source(&broker, &topic).slicing(slicing).max_records_per_batch(7);
        let reading = Reading::of(&group, folder.path(), source).unwrap();
        reading.values(expected.len());
        let records = reading.records.lock().unwrap().clone();
        let read = records.into_iter().map(|r| {
            let key = String::from_utf8(r.key.unwrap()).unwrap();
            (r.offset, (key, r.value))
        });
        assert_eq!(read.collect::<BTreeMap<_, _>>(), expected, "{slicing:?}");
        assert_eq!(reading.stop(), []);
        assert_eq!(broker.committed(&group, &topic), [(0, end + 1)].into(), "{slicing:?}");
    }
}

#[test]
fn nulls_headers_and_records_up_to_the_brokers_limit_come_from_javas_producer_as_they_are() {
    let broker = Broker::shared();
    let topic = unique_name("odd");
    // Beyond what a fetch asks for, and beyond the client's usual limit for a record.
    const SIZE: usize = 6_000_000;
    broker.create_topic_with(&topic, 3, &[("max.message.bytes", "6291456")]);
    let large = "x".repeat(SIZE);
    let input = format!(
        "h1:v1,h2:NULL\tkey\tvalue\nNULL\tNULL\tonly a value\nh:é\tonly a key\tNULL\nNULL\tNULL\tNULL\nNULL\tbig\t{large}\n"
    );
    let server = ["--bootstrap-server", broker.bootstrap(), "--topic", &topic];
    let how = [
        "--property",
        "parse.headers=true",
        "--property",
        "parse.key=true",
        "--property",
        "null.marker=NULL",
    ];
    let size = ["--producer-property", "max.request.size=6500000", "--max-partition-memory-bytes", "6500000"];
    let producer = "org.apache.kafka.tools.ConsoleProducer";
    broker.tool_with_input(producer, &[&server[..], &how, &size].concat(), &input);

    for slicing in [Slicing::Arrival, BY_TIME] {
        let (group, folder) = (unique_name("odd"), tempfile::tempdir().unwrap());
        // A record's partition is the producer's choice: some may be empty, and are waited for by nobody.
        let reading = Reading::of(&group, folder.path(), source(broker, &topic).slicing(slicing)).unwrap();
        reading.values(5);
        let mut records = reading.records.lock().unwrap().clone();
        reading.stop();
        records.sort_by_key(|r| (r.key.clone(), r.value.clone()));
        let shown: Vec<_> = records
            .iter()
            .map(|r| {
                let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(|b| String::from_utf8(b).unwrap());
                let headers: Vec<_> = r.headers.iter().map(|(n, v)| (n.as_str(), text(v))).collect();
                (
                    text(&r.key),
                    text(&r.value).map(|v| if v.len() > 100 { v.len().to_string() } else { v }),
                    headers,
                )
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            (None, None, vec![]),
            (None, some("only a value"), vec![]),
            (some("big"), Some(SIZE.to_string()), vec![]),
            (some("key"), some("value"), vec![("h1", some("v1")), ("h2", None)]),
            (some("only a key"), None, vec![("h", some("é"))]),
        ];
        assert_eq!(shown, expected, "{slicing:?}");
    }
}
