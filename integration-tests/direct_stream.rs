//! The library's Kafka stream: what a record carries, which offsets a batch has, gaps in the offsets, limits, and where a
//! stream starts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidemill::testing::TestContext;
use tidemill::{
    ConsumerRecord, Error, KafkaSource, OffsetRange, Start, State, StateSpec, StreamingContext, Time,
};

use crate::support::{Broker, Record, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(60);

/// What each batch read, with the ranges that its RDD tells.
type Batches = Arc<Mutex<Vec<(Vec<OffsetRange>, Vec<ConsumerRecord>)>>>;

/// Reads `source` in short batches until `enough`, and gives the batches that had something.
fn read_until(
    group: &str,
    checkpoint: Option<&std::path::Path>,
    source: KafkaSource,
    enough: impl Fn(&[ConsumerRecord]) -> bool,
) -> Vec<(Vec<OffsetRange>, Vec<ConsumerRecord>)> {
    let builder = StreamingContext::builder(group).batch_interval(Duration::from_millis(100));
    let ssc = match checkpoint {
        Some(folder) => builder.checkpoint(folder),
        None => builder,
    }
    .build()
    .unwrap();
    let batches = Batches::default();
    let seen = batches.clone();
    ssc.kafka_direct_stream(source).records().foreach_rdd(move |rdd| {
        let ranges = rdd.offset_ranges().ok_or_else(|| Error::internal("no offset ranges"))?;
        let records = rdd.collect()?;
        if !ranges.is_empty() {
            seen.lock().unwrap().push((ranges.to_vec(), records));
        }
        Ok(())
    });
    ssc.start().unwrap();
    eventually(LIMIT, "the records", || {
        let all: Vec<_> = batches.lock().unwrap().iter().flat_map(|(_, records)| records.clone()).collect();
        if enough(&all) { Ok(()) } else { Err(format!("{} so far", all.len())) }
    });
    ssc.stop(true).unwrap();
    std::mem::take(&mut *batches.lock().unwrap())
}

fn earliest(broker: &Broker, topic: &str) -> KafkaSource {
    KafkaSource::new(broker.bootstrap(), [topic]).start(Start::Earliest)
}

#[test]
fn records_carry_all_that_kafka_knows_and_batches_their_ranges() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("direct", 2);
    broker.produce(
        &topic,
        [Record::from(("k", "v")).partition(0).timestamp(1_234).header("h", "1").header("h", "2")],
    );
    broker.produce(
        &topic,
        [Record::tombstone("gone").partition(1).timestamp(5), Record::bytes([0xff, 0]).partition(1)],
    );

    let batches = read_until(&unique_name("direct"), None, earliest(broker, &topic), |all| all.len() == 3);

    let mut records: Vec<_> = batches.iter().flat_map(|(_, records)| records.clone()).collect();
    records.sort_by_key(|r| (r.partition, r.offset));
    let header = |value: &[u8]| ("h".to_owned(), Some(value.to_vec()));
    let first = ConsumerRecord {
        topic: topic.clone(),
        partition: 0,
        offset: 0,
        timestamp: Some(1_234),
        key: Some(b"k".to_vec()),
        value: Some(b"v".to_vec()),
        headers: vec![header(b"1"), header(b"2")],
    };
    assert_eq!(records[0], first);
    assert_eq!((&records[1].key, &records[1].value), (&Some(b"gone".to_vec()), &None));
    assert_eq!((records[2].partition, records[2].offset, &records[2].value), (1, 1, &Some(vec![0xff, 0])));
    assert_ranges_join(&batches, &topic, &[(0, 0, 1), (1, 0, 2)]);
}

/// The ranges of all batches, put together, are these: partition, first offset, end.
#[track_caller]
fn assert_ranges_join(
    batches: &[(Vec<OffsetRange>, Vec<ConsumerRecord>)],
    topic: &str,
    expected: &[(i32, i64, i64)],
) {
    for (partition, from, until) in expected {
        let mut next = *from;
        for range in batches.iter().flat_map(|(ranges, _)| ranges).filter(|r| r.partition == *partition) {
            assert_eq!((&*range.topic, range.from), (topic, next), "{range} does not follow");
            next = range.until;
        }
        assert_eq!(next, *until, "partition {partition} ends elsewhere");
    }
}

#[test]
fn aborted_records_and_control_records_are_gaps() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("gaps", 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", unique_name("gaps"))
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    let transaction = |values: &[&str], commit: bool| {
        producer.begin_transaction().unwrap();
        for value in values {
            producer.send(BaseRecord::<(), str>::to(&topic).payload(value)).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(LIMIT).unwrap();
        if commit {
            producer.commit_transaction(LIMIT).unwrap()
        } else {
            producer.abort_transaction(LIMIT).unwrap()
        }
    };
    transaction(&["a", "b"], true); // offsets 0, 1 and a control record at 2
    transaction(&["never", "seen"], false); // 3, 4 and 5
    transaction(&["c"], true); // 6 and 7
    transaction(&["nor", "this"], false); // 8, 9 and 10

    let group = unique_name("gaps");
    // The last control record may come a moment after all that is read: a batch of its own.
    let batches = read_until(&group, None, earliest(broker, &topic), |all| {
        all.len() == 3 && broker.committed(&group, &topic).get(&0) == Some(&11)
    });

    let read: Vec<_> =
        batches.iter().flat_map(|(_, r)| r).map(|r| (r.offset, r.value.clone().unwrap())).collect();
    assert_eq!(read, [(0, b"a".to_vec()), (1, b"b".to_vec()), (6, b"c".to_vec())]);
    // The end of the log is behind the last control record, and that is where the group stands.
    assert_eq!(broker.committed(&group, &topic), [(0, 11)].into());
    assert_eq!(broker.group_lag(&group).iter().map(|row| row.lag).collect::<Vec<_>>(), [Some(0)]);
}

#[test]
fn batches_keep_to_their_limits() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("limits", 2);
    broker.produce(&topic, (0..60).map(|i| Record::from(i.to_string().as_str()).partition(0)));
    broker.produce(&topic, (0..20).map(|i| Record::from(i.to_string().as_str()).partition(1)));

    // 20 records are shared out by the lag of 60 and 20; 80 records are four such batches.
    let source = earliest(broker, &topic).max_records_per_batch(20);
    let batches = read_until(&unique_name("limits"), None, source, |all| all.len() == 80);
    let sizes: Vec<Vec<u64>> =
        batches.iter().map(|(r, _)| r.iter().map(OffsetRange::count).collect()).collect();
    assert_eq!(sizes, vec![vec![15, 5]; 4]);

    // 100 records a second and partition are 10 in a tenth of a second.
    let source = earliest(broker, &topic).max_rate_per_partition(100);
    let batches = read_until(&unique_name("limits"), None, source, |all| all.len() == 80);
    assert!(batches.iter().flat_map(|(ranges, _)| ranges).all(|range| range.count() <= 10), "{batches:?}");
    assert_ranges_join(&batches, &topic, &[(0, 0, 60), (1, 0, 20)]);
}

#[test]
fn a_stream_starts_where_it_is_told_and_goes_on_where_it_stood() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("starts", 1);
    let group = unique_name("starts");
    let values = |batches: &[(Vec<OffsetRange>, Vec<ConsumerRecord>)]| -> Vec<String> {
        let records = batches.iter().flat_map(|(_, records)| records);
        records.map(|r| String::from_utf8(r.value.clone().unwrap()).unwrap()).collect()
    };
    broker.produce(&topic, ["a", "b"]);
    let all = |n: usize| move |records: &[ConsumerRecord]| records.len() >= n;
    assert_eq!(values(&read_until(&group, None, earliest(broker, &topic), all(2))), ["a", "b"]);

    // The group stands at 2.
    broker.produce(&topic, ["c"]);
    let committed = || KafkaSource::new(broker.bootstrap(), [topic.as_str()]).start(Start::Committed);
    assert_eq!(values(&read_until(&group, None, committed(), all(1))), ["c"]);

    // A new checkpoint begins at the group's offsets, and a kept one goes on by itself.
    let folder = tempfile::tempdir().unwrap();
    broker.produce(&topic, ["d"]);
    assert_eq!(values(&read_until(&group, Some(folder.path()), committed(), all(1))), ["d"]);
    broker.produce(&topic, ["e"]);
    assert_eq!(values(&read_until(&group, Some(folder.path()), earliest(broker, &topic), all(1))), ["e"]);

    // `latest` shows only what comes after the start.
    let (sent, source) = (Mutex::new(false), KafkaSource::new(broker.bootstrap(), [topic.as_str()]));
    let batches = read_until(&unique_name("starts"), None, source, |records| {
        if !std::mem::replace(&mut *sent.lock().unwrap(), true) {
            broker.produce(&topic, ["f"]);
        }
        !records.is_empty()
    });
    assert_eq!(values(&batches), ["f"]);
}

#[test]
fn a_checkpoint_that_stands_in_another_topic_is_refused() {
    let broker = Broker::shared();
    let (topic, other) = (broker.unique_topic("kept", 1), broker.unique_topic("other", 1));
    broker.produce(&topic, ["a"]);
    broker.produce(&other, ["b"]);
    let (group, folder) = (unique_name("kept"), tempfile::tempdir().unwrap());
    let named = |topic: &str| earliest(broker, topic).uid("input");
    read_until(&group, Some(folder.path()), named(&topic), |all| all.len() == 1);

    // Under the same name another topic would be read from its beginning into the state of the first.
    let ssc = StreamingContext::builder(&*group).checkpoint(folder.path()).build().unwrap();
    ssc.kafka_direct_stream(named(&other)).records().foreach_rdd(|_| ());
    let error = ssc.start().unwrap_err();
    assert_eq!(error.kind(), tidemill::ErrorKind::Checkpoint);
    assert!(error.to_string().contains(&format!("stands at {topic}-0")), "{error}");
}

#[test]
fn a_topic_that_was_made_anew_while_the_program_was_down_is_an_error() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("anew", 1);
    broker.produce(&topic, ["a", "b", "c"]);
    let (group, folder) = (unique_name("anew"), tempfile::tempdir().unwrap());
    read_until(&group, Some(folder.path()), earliest(broker, &topic), |all| all.len() == 3);

    let server = ["--bootstrap-server", broker.bootstrap()];
    let delete = [&server[..], &["--delete", "--topic", &topic]].concat();
    broker.tool("org.apache.kafka.tools.TopicCommand", &delete);
    broker.create_topic(&topic, 1);
    broker.produce(&topic, ["x"]);

    let builder = StreamingContext::builder(&*group).batch_interval(Duration::from_millis(100));
    let ssc = builder.checkpoint(folder.path()).build().unwrap();
    ssc.kafka_direct_stream(earliest(broker, &topic)).records().foreach_rdd(|_| ());
    let error = ssc.start().unwrap_err();
    for part in [&format!("records of {topic}-0 [3, 3) are lost"), "made anew", "its id is", "`on_data_loss`"]
    {
        assert!(error.to_string().contains(part), "no {part:?}: {error}");
    }
}

#[test]
fn two_operators_on_one_stream_see_the_same_records() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("twice", 2);
    broker.produce(
        &topic,
        (0..50).map(|i| Record::from(("k", "v")).partition(i % 2).header("n", i.to_string())),
    );
    let test = TestContext::new(&unique_name("twice")).unwrap();
    let stream = test.ssc.kafka_direct_stream(earliest(broker, &topic));
    let records = test.collect(&stream.records());
    let again = test.collect(&stream.map(|record| record.to_owned()));
    test.run(1).unwrap();
    let records = records.take();
    assert_eq!(records[0].1.len(), 50);
    assert_eq!(records, again.take());
    // Each record counts once, however many operators see it.
    assert_eq!(test.completed_batches()[0].num_records, 50);
}

#[test]
fn nothing_times_out_before_the_backlog_has_been_read() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("backlog", 1);
    let (app, folder) = (unique_name("backlog"), tempfile::tempdir().unwrap());
    // Counts per key, which are forgotten after ten quiet minutes; ten records a batch.
    let run = |start_minutes: i64, batches: usize| {
        let builder = StreamingContext::builder(&*app).checkpoint(folder.path());
        let test = TestContext::from_builder(builder, Time::from_millis(start_minutes * 60_000)).unwrap();
        let count = StateSpec::function(|key: &String, seen: Option<()>, count: &mut State<u64>| {
            seen?;
            let n = count.get_option().unwrap_or(&0) + 1;
            count.update(n);
            Some((key.clone(), n))
        });
        let source = earliest(broker, &topic).max_records_per_batch(10);
        let keys = test.ssc.kafka_direct_stream(source).map(|record| (record.text().into_owned(), ()));
        let counts = test.collect(&keys.map_with_state(count.timeout(Duration::from_secs(600))));
        test.run(batches).unwrap();
        let sizes = test.completed_batches().iter().map(|batch| batch.num_records).collect::<Vec<_>>();
        assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
        counts
            .take()
            .into_iter()
            .flat_map(|(_, counts)| counts)
            .filter(|(key, _)| key != "filler")
            .collect::<Vec<_>>()
    };
    let one = |key: &str, n| vec![(key.to_owned(), n)];
    broker.produce(&topic, ["a"]);
    assert_eq!(run(0, 1), one("a", 1));

    // An hour later its next record waits behind 25 others: the first two batches must not forget it.
    broker.produce(&topic, (0..25).map(|_| "filler").chain(["a"]));
    assert_eq!(run(60, 3), one("a", 2));

    // With no backlog left, an hour of silence does what it says.
    run(120, 1);
    broker.produce(&topic, ["a"]);
    assert_eq!(run(121, 1), one("a", 1));
}

#[test]
fn the_value_of_a_wrong_option_is_not_told() {
    let ssc = StreamingContext::builder(unique_name("secret")).build().unwrap();
    let source = KafkaSource::new("127.0.0.1:1", ["lines"]).option("sasl.pasword", "hunter2");
    ssc.kafka_direct_stream(source).records().foreach_rdd(|_| ());
    let error = ssc.start().unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let told: Vec<_> = causes.map(|e| format!("{e} {e:?}")).collect();
    assert!(told[0].contains("sasl.pasword"), "{told:?}");
    assert!(!told.concat().contains("hunter2"), "{told:?}");
}
