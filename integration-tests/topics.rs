//! Topics that change while they are read: more partitions, other topics, records that are gone. The counterparts are Kafka's own
//! tools.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::{
    BatchInfo, ConsumerRecord, HttpServer, HttpSettings, KafkaSource, OffsetRange, OnDataLoss, Reader,
    Slicing, Start, State, StateSpec, StreamingContext, StreamingListener,
};

use crate::support::{Broker, Http, Record, eventually, unique_name};

pub const LIMIT: Duration = Duration::from_secs(90);
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// A program that keeps what it reads, in this process.
pub struct Reading {
    ssc: StreamingContext,
    pub records: Arc<Mutex<Vec<ConsumerRecord>>>,
    lost: Arc<Lost>,
    server: HttpServer,
}

/// What the batches tell to be lost.
#[derive(Default)]
struct Lost(Mutex<Vec<OffsetRange>>);

impl StreamingListener for Lost {
    fn batch_completed(&self, batch: &BatchInfo) {
        self.0.lock().unwrap().extend(batch.lost_ranges.clone());
    }
}

impl Reading {
    pub fn of(group: &str, checkpoint: &Path, source: KafkaSource) -> tidemill::Result<Self> {
        let builder = StreamingContext::builder(group).batch_interval(Duration::from_millis(100));
        let ssc = builder.checkpoint(checkpoint).build()?;
        let (records, lost) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Lost>::default());
        let seen = records.clone();
        ssc.kafka_direct_stream(source).records().foreach_rdd(move |rdd| -> tidemill::Result<()> {
            seen.lock().unwrap().extend(rdd.collect()?);
            Ok(())
        });
        ssc.add_streaming_listener(lost.clone());
        let server = HttpServer::start(&ssc, HttpSettings::new(([127, 0, 0, 1], 0).into()))?;
        ssc.start()?;
        Ok(Self { ssc, records, lost, server })
    }

    /// The values of what was read, sorted, once there are so many.
    #[track_caller]
    pub fn values(&self, count: usize) -> Vec<String> {
        eventually(LIMIT, "the records", || {
            let mut values: Vec<_> = self.records.lock().unwrap().iter().map(text).collect();
            values.sort();
            if values.len() >= count { Ok(values) } else { Err(format!("{values:?}, of {count}")) }
        })
    }

    /// Checks that whoever watches is told of the offsets `from` to `until`, which were lost: Prometheus, and the page.
    #[track_caller]
    fn tells_of(&self, topic: &str, from: i64, until: i64) {
        let http = Http::at(self.server.address());
        let json = |path: &str| -> Value { serde_json::from_str(&http.get(path).1).expect("JSON") };
        let batch = eventually(LIMIT, "a batch that tells of what is lost", || {
            let batches = json("/api/v1/batches?status=completed&limit=10000");
            let told = batches.as_array().unwrap().iter().find(|batch| batch["lostRecords"] != 0).cloned();
            told.ok_or_else(|| batches.to_string())
        });
        assert_eq!(batch["lostRecords"], until - from, "{batch}");
        let expected = json!([{ "topic": topic, "partition": 0, "fromOffset": from, "untilOffset": until }]);
        assert_eq!(json(&format!("/api/v1/batches/{}", batch["batchId"]))["lostRanges"], expected);
        let labels = [("topic", topic), ("partition", "0")];
        assert_eq!(http.metrics().one("tidemill_source_lost_records_total", &labels), (until - from) as f64);
    }

    pub fn stop(self) -> Vec<OffsetRange> {
        self.ssc.stop(true).unwrap();
        std::mem::take(&mut *self.lost.0.lock().unwrap())
    }
}

pub fn text(record: &ConsumerRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or(b"null")).into_owned()
}

/// Kafka's tool for topics.
fn topics(broker: &Broker, arguments: &[&str]) {
    broker.tool(TOPICS, &[&["--bootstrap-server", broker.bootstrap()], arguments].concat());
}

pub fn source(broker: &Broker, topic: &str) -> KafkaSource {
    KafkaSource::new(broker.bootstrap(), [topic]).start(Start::Earliest).uid("input").discovery_interval(SOON)
}

const SOON: Duration = Duration::from_millis(200);

/// With a grace that is no long wait.
pub const BY_TIME: Slicing = Slicing::Timestamp {
    max_future: tidemill::Duration::seconds(10),
    grace: tidemill::Duration::millis(300),
};

#[test]
fn new_partitions_are_read_from_their_beginning_under_both_slicings() {
    let broker = Broker::shared();
    for slicing in [Slicing::Arrival, BY_TIME] {
        let topic = broker.unique_topic("grows", 1);
        let (group, folder) = (unique_name("grows"), tempfile::tempdir().unwrap());
        let start = || Reading::of(&group, folder.path(), source(broker, &topic).slicing(slicing)).unwrap();
        broker.produce(&topic, ["a"]);
        let reading = start();
        reading.values(1);

        topics(broker, &["--alter", "--topic", &topic, "--partitions", "3"]);
        broker.produce(&topic, [Record::from("b").partition(1), Record::from("c").partition(2)]);
        assert_eq!(reading.values(3), ["a", "b", "c"], "{slicing:?}");
        // The checkpoint and the group have them.
        reading.stop();
        assert_eq!(broker.committed(&group, &topic), [(0, 1), (1, 1), (2, 1)].into(), "{slicing:?}");

        // Those that came while it was down, too; no other is read twice.
        topics(broker, &["--alter", "--topic", &topic, "--partitions", "4"]);
        broker.produce(&topic, [Record::from("d").partition(3), Record::from("e").partition(1)]);
        let reading = start();
        assert_eq!(reading.values(2), ["d", "e"], "{slicing:?}");
        assert_eq!(reading.stop(), []);
    }
}

#[test]
fn new_topics_that_match_the_pattern_are_read() {
    let broker = Broker::shared();
    let prefix = unique_name("logs");
    let (group, folder) = (unique_name("pattern"), tempfile::tempdir().unwrap());
    let matching = || {
        let source = KafkaSource::matching(broker.bootstrap(), format!(r"{prefix}\.[a-z]+"));
        source.start(Start::Earliest).uid("input").discovery_interval(SOON)
    };
    // There may be none yet.
    let reading = Reading::of(&group, folder.path(), matching()).unwrap();
    for (name, value) in [("web", "a"), ("app", "b")] {
        let topic = format!("{prefix}.{name}");
        topics(broker, &["--create", "--topic", &topic, "--partitions", "2"]);
        broker.produce(&topic, [value]);
    }
    broker.create_topic(&format!("{prefix}.Not"), 1);
    broker.produce(&format!("{prefix}.Not"), ["never"]);
    assert_eq!(reading.values(2), ["a", "b"]);
    reading.stop();

    let other = format!("{prefix}.other");
    broker.create_topic(&other, 1);
    broker.produce(&other, ["c"]);
    broker.produce(&format!("{prefix}.web"), ["d"]);
    let reading = Reading::of(&group, folder.path(), matching()).unwrap();
    assert_eq!(reading.values(2), ["c", "d"]);
    reading.stop();

    // One that is deleted is data that may be lost.
    topics(broker, &["--delete", "--topic", &other]);
    let error = eventually(LIMIT, "the deletion", || match Reading::of(&group, folder.path(), matching()) {
        Ok(reading) => {
            reading.stop();
            Err("not noticed".into())
        }
        Err(error) => Ok(error.to_string()),
    });
    assert!(error.contains(&format!("{other}-0")) && error.contains("the topic was deleted"), "{error}");
    let lenient = || matching().on_data_loss(OnDataLoss::Earliest);
    let reading = Reading::of(&group, folder.path(), lenient()).unwrap();
    broker.produce(&format!("{prefix}.app"), ["e"]);
    assert_eq!(reading.values(1), ["e"]);
    reading.stop();
    // It is forgotten, and the group has no say in it.
    Reading::of(&group, folder.path(), matching()).unwrap().stop();
}

#[test]
fn a_topic_that_is_made_anew_is_noticed_by_its_id() {
    let broker = Broker::shared();
    for policy in [OnDataLoss::Fail, OnDataLoss::Earliest, OnDataLoss::Latest] {
        let topic = broker.unique_topic("anew", 1);
        let (group, folder) = (unique_name("anew"), tempfile::tempdir().unwrap());
        let start = || {
            // It is not to be seen as deleted in between: that takes two looks without it.
            let source = source(broker, &topic).discovery_interval(Duration::from_secs(5));
            Reading::of(&group, folder.path(), source.on_data_loss(policy))
        };
        broker.produce(&topic, ["a", "b"]);
        let mut reading = Some(start().unwrap());
        reading.as_ref().unwrap().values(2);
        if policy == OnDataLoss::Latest {
            // While it is down; the others notice it while they run.
            reading.take().unwrap().stop();
        }

        // As many records as the former one had: the offsets alone would tell nothing.
        topics(broker, &["--delete", "--topic", &topic]);
        broker.create_topic(&topic, 1);
        broker.produce(&topic, ["x", "y"]);
        if policy == OnDataLoss::Fail {
            let error = reading.as_ref().unwrap().ssc.await_termination().unwrap_err().to_string();
            for part in [&format!("{topic}-0 [2, "), "made anew", "its id is", "`on_data_loss`"] {
                assert!(error.contains(part), "no {part:?}: {error}");
            }
            // It stays an error until somebody decides.
            drop(reading);
            let error = start().err().unwrap().to_string();
            assert!(error.contains("made anew"), "{error}");
            continue;
        }
        if let Some(reading) = reading {
            assert_eq!(reading.values(4), ["a", "b", "x", "y"]);
            reading.stop();
        } else {
            let reading = start().unwrap();
            broker.produce(&topic, ["z"]);
            assert_eq!(reading.values(1), ["z"]);
            reading.stop();
        }

        // The checkpoint has the new id: what follows is neither lost nor read twice.
        broker.produce(&topic, ["last"]);
        let reading = start().unwrap();
        assert_eq!(reading.values(1), ["last"], "{policy:?}");
        assert_eq!(reading.stop(), [], "{policy:?}");
    }
}

#[test]
fn retention_that_overtakes_is_told_with_what_is_lost() {
    let broker = Broker::shared();
    let delete_below = |topic: &str, offset: i64| delete_below(broker, &[topic], offset);
    let range = |topic: &str, from, until| OffsetRange { topic: topic.into(), partition: 0, from, until };
    for slicing in [Slicing::Arrival, BY_TIME] {
        let topic = broker.unique_topic("retained", 1);
        let (group, folder) = (unique_name("retained"), tempfile::tempdir().unwrap());
        let start = |policy| {
            let source = source(broker, &topic).slicing(slicing).on_data_loss(policy);
            Reading::of(&group, folder.path(), source)
        };
        // From some time ago, so that under `timestamp` their batch is closed.
        let past = |value: &str| Record::from(value).timestamp(now() - 60_000);
        broker.produce(&topic, ["0", "1"].map(past));
        let reading = start(OnDataLoss::Fail).unwrap();
        reading.values(2);
        reading.stop();

        // While it is down.
        broker.produce(&topic, ["2", "3", "4", "5"].map(past));
        delete_below(&topic, 4);
        let error = start(OnDataLoss::Fail).err().expect("two records are lost").to_string();
        for part in [&format!("{topic}-0 [2, 4)"), "retention", "`on_data_loss`"] {
            assert!(error.contains(part), "no {part:?}: {error}");
        }
        let reading = start(OnDataLoss::Earliest).unwrap();
        assert_eq!(reading.values(2), ["4", "5"], "{slicing:?}");
        reading.tells_of(&topic, 2, 4);
        assert_eq!(reading.stop(), [range(&topic, 2, 4)], "{slicing:?}");

        broker.produce(&topic, ["6", "7", "8"].map(past));
        delete_below(&topic, 7);
        let reading = start(OnDataLoss::Latest).unwrap();
        broker.produce(&topic, ["9"].map(past));
        assert_eq!(reading.values(1), ["9"], "{slicing:?}");
        assert_eq!(reading.stop(), [range(&topic, 6, 9)], "{slicing:?}");
    }
}

fn now() -> i64 {
    tidemill::Clock::now(&tidemill::SystemClock::default()).as_millis()
}

#[test]
fn retention_that_overtakes_a_planned_batch_leaves_the_rest_of_it() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("overtaken", 1);
    let (group, folder) = (unique_name("overtaken"), tempfile::tempdir().unwrap());
    broker.produce(&topic, (0..10).map(|n| n.to_string()));
    // A batch that is planned and fails is run again with its offsets, whatever has become of them.
    let run = |fails: bool| {
        let ssc = StreamingContext::builder(&*group).batch_interval(Duration::from_millis(100));
        let ssc = ssc.checkpoint(folder.path()).build().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (records, lost) = (seen.clone(), Arc::<Lost>::default());
        ssc.add_streaming_listener(lost.clone());
        let source = source(broker, &topic).on_data_loss(OnDataLoss::Earliest);
        ssc.kafka_direct_stream(source).text().foreach_rdd(move |rdd| -> tidemill::Result<()> {
            let all = rdd.collect()?;
            if fails && !all.is_empty() {
                return Err(tidemill::Error::task("the world ends"));
            }
            records.lock().unwrap().extend(all);
            Ok(())
        });
        ssc.start().unwrap();
        (ssc, seen, lost)
    };
    let (ssc, ..) = run(true);
    ssc.await_termination().unwrap_err();
    drop(ssc);
    delete_below(broker, &[&topic], 7);

    let (ssc, seen, lost) = run(false);
    eventually(LIMIT, "what is left", || {
        let seen = seen.lock().unwrap();
        (*seen == ["7", "8", "9"]).then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
    ssc.stop(true).unwrap();
    // The start noticed it, and the batch that was planned before it, once.
    let lost: Vec<_> = lost.0.lock().unwrap().iter().map(|range| (range.from, range.until)).collect();
    assert_eq!(lost, [(0, 7)]);
}

/// Has Kafka's own tool delete the records of partition 0 of `topics` below `offset`.
fn delete_below(broker: &Broker, topics: &[&str], offset: i64) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let places =
        topics.iter().map(|topic| format!(r#"{{"topic":"{topic}","partition":0,"offset":{offset}}}"#));
    let json = format!(r#"{{"partitions":[{}],"version":1}}"#, places.collect::<Vec<_>>().join(","));
    std::fs::write(file.path(), json).unwrap();
    let class = "org.apache.kafka.tools.DeleteRecordsCommand";
    let path = file.path().to_str().unwrap();
    broker.tool(class, &["--bootstrap-server", broker.bootstrap(), "--offset-json-file", path]);
}

/// A program that is held while something becomes of its topic.
struct Held {
    ssc: StreamingContext,
    topic: String,
    case: (Reader, Slicing, OnDataLoss),
    seen: Arc<Mutex<Vec<i64>>>,
    lost: Arc<Lost>,
    waits: Arc<AtomicBool>,
    release: Sender<()>,
    _folder: tempfile::TempDir,
}

/// Records per request, so that little is fetched ahead, and in all.
const FIRST: i64 = 20;
const ALL: i64 = 200;
/// So many that no reader has all of them while its program is held, and of these, so many that go.
const MANY: i64 = 1_000;
const GONE: i64 = 900;

impl Held {
    /// Reads the first records, and is held: at the end of their batch, or at the beginning of the next one, which is planned.
    fn start(
        broker: &Broker,
        case: (Reader, Slicing, OnDataLoss),
        at_end: bool,
        discovery: Duration,
    ) -> Self {
        Self::start_with(broker, ALL, case, at_end, discovery)
    }

    /// The same over a topic of `all` records.
    fn start_with(
        broker: &Broker,
        all: i64,
        case: (Reader, Slicing, OnDataLoss),
        at_end: bool,
        discovery: Duration,
    ) -> Self {
        let (reader, slicing, policy) = case;
        let topic = broker.unique_topic("held", 1);
        let filler = "x".repeat(300);
        // Those after the first ones are of a later interval, and of a batch that is closed.
        let record = |n: i64| {
            let at = now() - if n < FIRST { 120_000 } else { 60_000 };
            Record::from(format!("{n} {filler}")).timestamp(at)
        };
        for begin in (0..all).step_by(FIRST as usize) {
            broker.produce(&topic, (begin..begin + FIRST).map(record));
        }
        let folder = tempfile::tempdir().unwrap();
        // At shorter intervals all of it would be fetched as it comes.
        let builder = StreamingContext::builder(&*topic).batch_interval(Duration::from_millis(500));
        let ssc = builder.checkpoint(folder.path()).build().unwrap();
        let source = source(broker, &topic).reader(reader).slicing(slicing).on_data_loss(policy);
        let little = [("fetch.message.max.bytes", "1024"), ("queued.min.messages", "10")];
        let source = little.iter().fold(source, |source, (name, value)| source.option(*name, *value));
        let records = ssc
            .kafka_direct_stream(source.max_records_per_batch(FIRST as u64).discovery_interval(discovery))
            .records();
        let seen = Arc::<Mutex<Vec<i64>>>::default();
        let (waits, (release, gate)) = (Arc::new(AtomicBool::new(false)), channel());
        let hold = {
            let (seen, waits, gate) = (seen.clone(), waits.clone(), Mutex::new(gate));
            move || {
                if seen.lock().unwrap().len() as i64 == FIRST && !waits.swap(true, Ordering::SeqCst) {
                    gate.lock().unwrap().recv().unwrap();
                }
            }
        };
        let hold = Arc::new(hold);
        let before = hold.clone();
        records.foreach_rdd(move |_| -> tidemill::Result<()> {
            if !at_end {
                before();
            }
            Ok(())
        });
        let offsets = seen.clone();
        records.foreach_rdd(move |rdd| -> tidemill::Result<()> {
            offsets.lock().unwrap().extend(rdd.collect()?.iter().map(|record| record.offset));
            if at_end {
                hold();
            }
            Ok(())
        });
        let lost = Arc::<Lost>::default();
        ssc.add_streaming_listener(lost.clone());
        ssc.start().unwrap();
        Self { ssc, topic, case, seen, lost, waits, release, _folder: folder }
    }

    #[track_caller]
    fn wait(&self) {
        eventually(LIMIT, "the first batch", || {
            let is_held = self.waits.load(Ordering::SeqCst);
            is_held.then_some(()).ok_or_else(|| format!("{:?}: {:?}", self.case, self.seen.lock().unwrap()))
        });
    }

    /// What it ends with.
    #[track_caller]
    fn failure(&self) -> String {
        match self.ssc.await_termination_or_timeout(LIMIT) {
            Err(error) => error.to_string(),
            Ok(has_ended) => {
                let seen = self.seen.lock().unwrap();
                panic!("{:?}: no failure, has it ended: {has_ended}; it has read {seen:?}", self.case)
            }
        }
    }

    #[track_caller]
    fn read_up_to(&self, offset: i64) {
        eventually(LIMIT, "the last record", || {
            let last = self.seen.lock().unwrap().last().copied();
            (last == Some(offset)).then_some(()).ok_or_else(|| format!("{:?}: {last:?}", self.case))
        });
    }

    /// The offsets that were lost, in order, once there are so many.
    #[track_caller]
    fn lost(&self, count: i64) -> Vec<i64> {
        let mut lost = eventually(LIMIT, "what is lost", || {
            let lost: Vec<_> = self.lost.0.lock().unwrap().iter().flat_map(|r| r.from..r.until).collect();
            let seen = self.seen.lock().unwrap();
            let told = || format!("{:?}: {lost:?}, and has read {seen:?}", self.case);
            if lost.len() as i64 >= count { Ok(lost.clone()) } else { Err(told()) }
        });
        lost.sort_unstable();
        lost
    }
}

#[test]
fn retention_that_overtakes_a_running_program_costs_what_is_gone_and_no_more() {
    let broker = Broker::shared();
    const NEVER: Duration = Duration::from_secs(3_600);
    let mut all = Vec::new();
    for reader in [Reader::Native, Reader::RdKafka] {
        for slicing in [Slicing::Arrival, BY_TIME] {
            for policy in [OnDataLoss::Fail, OnDataLoss::Earliest, OnDataLoss::Latest] {
                all.push(Held::start_with(broker, MANY, (reader, slicing, policy), true, NEVER));
            }
        }
    }
    all.iter().for_each(Held::wait);
    let topics: Vec<_> = all.iter().map(|held| held.topic.as_str()).collect();
    delete_below(broker, &topics, GONE);
    all.iter().for_each(|held| held.release.send(()).unwrap());
    for held in &all {
        let (topic, (.., policy)) = (&held.topic, held.case);
        if policy == OnDataLoss::Fail {
            let error = held.failure();
            for part in [&format!("{topic}-0 ["), "retention", "`on_data_loss`"] {
                assert!(error.contains(part), "{:?}: no {part:?}: {error}", held.case);
            }
            continue;
        }
        if policy == OnDataLoss::Latest {
            held.lost(MANY - GONE);
            broker.produce(topic, ["new"]);
        }
        held.read_up_to(if policy == OnDataLoss::Latest { MANY } else { MANY - 1 });
        held.ssc.stop(true).unwrap();
        // Each record was read or told to be lost, once; what had been fetched before may have been read.
        let (lost, mut every) = (held.lost(1), held.seen.lock().unwrap().clone());
        let read = every.clone();
        every.extend(&lost);
        every.sort_unstable();
        let end = if policy == OnDataLoss::Latest { MANY + 1 } else { MANY };
        assert_eq!(every, (0..end).collect::<Vec<_>>(), "{:?}: lost {lost:?}", held.case);
        assert!(read.is_sorted(), "{:?}", held.case);
        let last = if policy == OnDataLoss::Latest { MANY } else { GONE } - 1;
        assert_eq!(lost.last(), Some(&last), "{:?}", held.case);
    }
}

#[test]
fn a_topic_that_is_deleted_while_it_is_read_costs_what_was_not_read() {
    let broker = Broker::shared();
    const LATER: Duration = Duration::from_secs(15);
    let mut all = Vec::new();
    for policy in [OnDataLoss::Fail, OnDataLoss::Earliest] {
        // A batch that is planned finds it; or it is noticed by who looks for changes, with records that wait and with none.
        for reader in [Reader::Native, Reader::RdKafka] {
            all.push((Held::start(broker, (reader, Slicing::Arrival, policy), false, LATER), false));
        }
        all.push((Held::start(broker, (Reader::Native, BY_TIME, policy), true, SOON), false));
        for slicing in [Slicing::Arrival, BY_TIME] {
            all.push((Held::start(broker, (Reader::Native, slicing, policy), true, SOON), true));
        }
    }
    all.iter().for_each(|(held, _)| held.wait());
    for (held, _) in all.iter().filter(|(_, reads_all)| *reads_all) {
        held.release.send(()).unwrap();
        held.read_up_to(ALL - 1);
    }
    let topics_of: Vec<_> = all.iter().map(|(held, _)| held.topic.replace('.', r"\.")).collect();
    topics(broker, &["--delete", "--topic", &topics_of.join("|")]);
    for (held, _) in all.iter().filter(|(_, reads_all)| !*reads_all) {
        held.release.send(()).unwrap();
    }
    for (held, reads_all) in &all {
        let (topic, (.., policy)) = (&held.topic, held.case);
        if policy == OnDataLoss::Fail {
            let error = held.failure();
            for part in [&format!("{topic}-0 ["), "the topic was deleted", "`on_data_loss`"] {
                assert!(error.contains(part), "{:?}: no {part:?}: {error}", held.case);
            }
            continue;
        }
        if held.case.1 != Slicing::Arrival && !*reads_all {
            // A batch tells it, and by timestamp there is none before there are records.
            broker.create_topic(topic, 1);
            broker.produce(topic, ["again"]);
        }
        held.lost(if *reads_all { 0 } else { 1 });
        let read = held.seen.lock().unwrap().clone();
        // Less what is of the topic that is there now.
        let of_former = |pair: &[i64]| pair[0] < pair[1];
        let count = read.windows(2).take_while(|pair| of_former(pair)).count() + 1;
        let read = read[..count.min(read.len())].to_vec();
        let mut every = held.lost(ALL - read.len() as i64);
        assert_eq!(every.is_empty(), *reads_all, "{:?}: {every:?}", held.case);
        every.extend(read);
        every.sort_unstable();
        assert_eq!(every, (0..ALL).collect::<Vec<_>>(), "{:?}", held.case);
        // Kafka takes no offsets of a topic that is gone; before that is noticed, a stop tells so.
        let stopped = held.ssc.stop(true);
        assert!(stopped.is_ok() || *reads_all, "{:?}: {stopped:?}", held.case);
    }
}

#[test]
fn states_time_out_behind_a_topic_that_was_made_anew_and_is_shorter() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("shorter", 1);
    broker.produce(&topic, ["a", "b", "c", "d", "e"]);
    let folder = tempfile::tempdir().unwrap();
    let builder = StreamingContext::builder(&*topic).batch_interval(Duration::from_millis(100));
    let ssc = builder.checkpoint(folder.path()).build().unwrap();
    // It is not to be seen as deleted in between.
    let source = source(broker, &topic).discovery_interval(Duration::from_secs(1));
    let spec = StateSpec::function(|key: &String, value: Option<u64>, state: &mut State<u64>| {
        if state.is_timing_out() {
            return Some(format!("{key} ends"));
        }
        state.update(value?);
        Some(key.clone())
    });
    let told = Arc::<Mutex<Vec<String>>>::default();
    let seen = told.clone();
    ssc.kafka_direct_stream(source.on_data_loss(OnDataLoss::Earliest))
        .text()
        .map(|key| (key, 1_u64))
        .map_with_state(spec.timeout(Duration::from_secs(8)))
        .foreach_rdd(move |rdd| -> tidemill::Result<()> {
            seen.lock().unwrap().extend(rdd.collect()?);
            Ok(())
        });
    ssc.start().unwrap();
    let wait = |count: usize| {
        eventually(LIMIT, "the keys", || {
            let mut told = told.lock().unwrap().clone();
            told.sort();
            if told.len() >= count { Ok(told) } else { Err(format!("{told:?}")) }
        })
    };
    assert_eq!(wait(5), ["a", "b", "c", "d", "e"]);
    topics(broker, &["--delete", "--topic", &topic]);
    broker.create_topic(&topic, 1);
    broker.produce(&topic, ["x"]);
    let ends = ["a ends", "b ends", "c ends", "d ends", "e ends", "x ends"];
    let all = wait(12);
    assert!(ends.iter().all(|end| all.iter().any(|told| told == end)), "{all:?}");
    ssc.stop(true).unwrap();
}
