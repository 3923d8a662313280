//! The shipped word count over a million lines, stopped and started again in the middle: all that it writes follows from
//! the text, as other tools see it, and nothing is counted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::support::words::{
    Counted, assert_growing, assert_same_counts, counted_by_sort_and_uniq, last, lines, sums,
};
use crate::support::{Broker, eventually, shipped};

const LINES: usize = 1_000_000;
const SEED: u64 = 20_260_101;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_million_lines_are_counted_as_sort_and_uniq_count_them() {
    let broker = Broker::shared();
    broker.create_topic("lines", 4);
    let app = broker.run(&shipped("word-count"));

    let text = lines(LINES, SEED);
    // kcat sends no empty records, as the console producer does.
    let [first, second, third] = [&text[..300_000], &text[300_000..600_000], &text[600_000..]];
    let records = first.len() + [second, third].concat().iter().filter(|line| !line.is_empty()).count();
    let file = |name: &str, lines: &[String]| {
        let path = app.dir().join(name);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    };
    let kcat = |name: &str, lines: &[String]| {
        broker.kcat(&["-P", "-t", "lines", "-l", file(name, lines).to_str().unwrap()], "")
    };
    let truth = counted_by_sort_and_uniq(&file("text", &text));
    assert!(truth.len() > 4_000, "a poor text: {} words", truth.len());

    // The first part is there before the start; the second comes while it runs, the third while it does not.
    let console_producer = ["--bootstrap-server", broker.bootstrap(), "--topic", "lines"];
    broker.tool_with_input(
        "org.apache.kafka.tools.ConsoleProducer",
        &console_producer,
        &(first.join("\n") + "\n"),
    );
    let mut run = app.start();
    let http = run.http();
    eventually(LIMIT, "the first tenth", || {
        let offsets = http.metrics().sum("tidemill_source_committed_offset", &[]);
        (offsets >= LINES as f64 / 10.0).then_some(()).ok_or_else(|| format!("{offsets} are committed"))
    });
    kcat("second", second);
    run.stop(LIMIT);

    let committed: i64 = broker.committed("word-count", "lines").values().sum();
    let share = committed as f64 / LINES as f64;
    assert!((0.1..0.9).contains(&share), "stopped at {committed} of {LINES} records");

    kcat("third", third);
    let mut run = app.start();
    run.http().wait_until_read(4, records as u64, LIMIT);
    let end = broker.read_counts("word-counts", "count").iter().map(|it| it.time).max().unwrap();
    eventually(LIMIT, "the window with the last batch", || {
        let windows = broker.read("word-window-counts");
        let shown = windows.iter().any(|row| row.timestamp >= end);
        shown.then_some(()).ok_or_else(|| format!("none since {end}"))
    });
    run.stop(LIMIT);

    let lag = broker.group_lag("word-count");
    assert_eq!(lag.iter().map(|it| it.partition).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(lag.iter().all(|it| it.topic == "lines" && it.lag == Some(0)), "{lag:?}");
    assert!(lag.iter().all(|it| it.current_offset == it.log_end_offset), "{lag:?}");
    assert_eq!(lag.iter().filter_map(|it| it.log_end_offset).sum::<i64>(), records as i64);

    let totals = broker.read_counts("word-totals", "total");
    let counts = broker.read_counts("word-counts", "count");
    let windows = broker.read_counts("word-window-counts", "count");
    assert_growing(&totals, true);
    assert_same_counts(&last(&totals), &truth);
    assert_same_counts(&sums(&counts), &truth);
    assert_windows(&windows, &counts);

    assert_four_partitions(broker, &["word-counts", "word-window-counts", "word-totals"]);
    let places = places_by_java(broker, truth.keys());
    for it in counts.iter().chain(&totals).chain(&windows) {
        assert_eq!(Some(&it.partition), places.get(&it.word), "{it:?}");
    }
}

/// Every ten seconds, each word of the last 30 seconds with the sum of what its batches had counted.
#[track_caller]
fn assert_windows(windows: &[Counted], counts: &[Counted]) {
    let times: BTreeSet<i64> = windows.iter().map(|it| it.time).collect();
    for time in times {
        assert_eq!(time % 10_000, 0);
        let shown: Vec<&Counted> = windows.iter().filter(|it| it.time == time).collect();
        let sums_of_batches = sums(counts.iter().filter(|it| (time - 30_000 < it.time) && (it.time <= time)));
        assert_eq!(shown.len(), sums_of_batches.len(), "a word comes twice or not at all in {time}");
        assert_same_counts(&sums(shown), &sums_of_batches);
    }
}

#[track_caller]
fn assert_four_partitions(broker: &Broker, topics: &[&str]) {
    let server = ["--bootstrap-server", broker.bootstrap(), "--describe"];
    let described = broker.tool("org.apache.kafka.tools.TopicCommand", &server);
    for topic in topics {
        let line = described.lines().find(|line| line.starts_with(&format!("Topic: {topic}\t")));
        assert!(line.is_some_and(|line| line.contains("PartitionCount: 4\t")), "{topic}: {line:?}");
    }
}

/// The partition of four that Kafka's own producer puts each of these keys into.
fn places_by_java<'a>(broker: &Broker, keys: impl Iterator<Item = &'a String>) -> BTreeMap<String, i32> {
    let topic = broker.unique_topic("places", 4);
    let input: String = keys.map(|key| format!("{key}\t-\n")).collect();
    let arguments = ["--bootstrap-server", broker.bootstrap(), "--topic", &topic];
    let arguments = [&arguments[..], &["--property", "parse.key=true"]].concat();
    broker.tool_with_input("org.apache.kafka.tools.ConsoleProducer", &arguments, &input);
    broker.read(&topic).iter().map(|row| (row.key_text(), row.partition)).collect()
}
