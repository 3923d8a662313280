//! Two outputs of one batch, files and a topic, by a program that is killed again and again: each batch is in both, whole,
//! and once.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidemill::{KafkaSinkSettings, KafkaSource, ProducerRecord, Start, StreamingContext};

use crate::support::words::Random;
use crate::support::{Broker, Process, Record, eventually, pause};

const LIMIT: Duration = Duration::from_secs(60);
const NUMBERS: usize = 20_000;
const SEED: u64 = 11;
/// Between the transaction's commit and the last rename, and before them.
const POINTS: [&str; 4] = ["commit::prepared", "commit::in_transaction", "commit::applied", "commit::ran"];

/// Where the program finds what it needs; without it, it is not run.
const PROGRAM: &str = "TIDEMILL_TEST_FILES_PROGRAM";

/// The program that is killed: numbers from a topic into files and another topic, until a file `stop` is there.
#[test]
fn program() {
    let Ok(place) = env::var(PROGRAM) else { return };
    let _fail_points = fail::FailScenario::setup();
    let [folder, brokers, topic] = place.split(' ').collect::<Vec<_>>()[..] else { panic!("{place}") };
    let folder = Path::new(folder);
    let ssc = StreamingContext::builder(topic)
        .batch_interval(Duration::from_millis(50))
        .checkpoint(folder.join("checkpoint"))
        .build()
        .unwrap();
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    let source = KafkaSource::new(brokers, [topic]).start(Start::Earliest).max_records_per_batch(400);
    let numbers = ssc.kafka_direct_stream(source).text();
    numbers.save_as_text_files(folder.join("out/numbers"), "txt");
    numbers
        .map(|number| ProducerRecord::new(number.clone(), number))
        .save_to_kafka(&sink, &format!("{topic}-out"));
    ssc.start().unwrap();
    eventually(Duration::from_secs(600), "the file `stop`", || {
        folder.join("stop").exists().then_some(()).ok_or_else(|| "it is not there".to_owned())
    });
    ssc.stop(true).unwrap();
}

#[test]
fn a_program_that_is_killed_writes_each_batch_once_into_files_and_topic() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("files", 4);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    broker
        .produce(&topic, (0..NUMBERS).map(|n| Record::from(n.to_string().as_str()).partition(n as i32 % 4)));
    let place = format!("{} {} {topic}", folder.path().display(), broker.bootstrap());
    let start = |fail_point: &str| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["files::program", "--exact", "--nocapture"]).env(PROGRAM, &place);
        command.env("FAILPOINTS", fail_point);
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Process::spawn(command)
    };
    let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let folders = || fs::read_dir(&out).unwrap().count();

    let mut random = Random(SEED);
    for kill in 0..8 {
        if kill % 2 == 0 {
            // At a point of a commit: after some batches, so that each start gets on.
            let point = POINTS[kill / 2];
            let mut child = start(&format!("{point}={}*off->return", 1 + random.below(4)));
            child.wait_exit(LIMIT, log);
        } else {
            let mut child = start("");
            let before = folders();
            eventually(LIMIT, "a batch more", || {
                (folders() > before + 1).then_some(()).ok_or_else(|| format!("{before} folders; {}", log()))
            });
            pause(Duration::from_millis(random.below(60)));
            child.signal(libc::SIGKILL);
            child.wait_exit(LIMIT, log);
        }
    }
    let mut child = start("");
    eventually(LIMIT, "the end of the input", || {
        let committed: i64 = broker.committed(&topic, &topic).values().sum();
        (committed == NUMBERS as i64).then_some(()).ok_or_else(|| format!("{committed}; {}", log()))
    });
    fs::write(folder.path().join("stop"), "").unwrap();
    let status = child.wait_exit(LIMIT, log);
    assert!(status.success(), "{}", log());

    // Each number once, and each batch in both outputs alike.
    let mut in_files: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for entry in fs::read_dir(&out).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let time = name.strip_prefix("numbers-").and_then(|rest| rest.strip_suffix(".txt"));
        let time = time.unwrap_or_else(|| panic!("{name} was left behind")).parse().unwrap();
        assert!(entry.path().join("_SUCCESS").exists(), "{name} is not whole");
        let parts =
            fs::read_dir(entry.path()).unwrap().map(|part| fs::read_to_string(part.unwrap().path()).unwrap());
        let numbers =
            parts.flat_map(|text| text.lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>());
        let mut numbers: Vec<usize> = numbers.collect();
        numbers.sort();
        if !numbers.is_empty() {
            in_files.insert(time, numbers);
        }
    }
    let mut all: Vec<usize> = in_files.values().flatten().copied().collect();
    all.sort();
    assert_eq!(all.len(), NUMBERS, "some are lost or doubled");
    assert!(all.iter().copied().eq(0..NUMBERS));
    let mut in_topic: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for row in broker.read(&format!("{topic}-out")) {
        let number = String::from_utf8(row.value.unwrap()).unwrap().parse().unwrap();
        in_topic.entry(row.timestamp).or_default().push(number);
    }
    in_topic.values_mut().for_each(|numbers| numbers.sort());
    assert!(in_files == in_topic, "files and topic differ");
}
