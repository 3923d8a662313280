//! The shipped word count, killed in the middle, again and again. As it is shipped every word is counted once in every
//! output; at least once nothing is lost, and what is delivered twice is the same record of the same batch, since a batch
//! that was planned runs again as it was planned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::support::words::{
    Counted, Counts, Random, assert_growing, assert_same_counts, counted_by_sort_and_uniq, last, lines, sums,
};
use crate::support::{Broker, Record, eventually, pause, word_count_as};

const LINES: usize = 40_000;
const SEED: u64 = 5;
const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "pipeline.yaml";

#[test]
fn a_word_count_that_is_killed_counts_every_word_once() {
    // The second one leaves a transaction open that holds offsets.
    let (totals, counts, truth) = killed(&[], &["commit::ran", "commit::offsets_sent"]);
    assert_growing(&totals, true);
    assert_same_counts(&last(&totals), &truth);
    assert_same_counts(&sums(&counts), &truth);
    assert_eq!(once(&counts).len(), counts.len(), "a record came twice");
    // A batch changes the totals of the words that it counts, and of no others.
    let changes = |counted: &[Counted]| -> BTreeSet<(i64, String)> {
        counted.iter().map(|it| (it.time, it.word.clone())).collect()
    };
    assert_eq!(totals.len(), counts.len());
    assert_eq!(changes(&totals), changes(&counts));
}

#[test]
fn at_least_once_a_word_count_that_is_killed_loses_nothing() {
    let (totals, counts, truth) =
        killed(&[("delivery: exactly-once", "delivery: at-least-once")], &["commit::ran"]);
    assert_growing(&totals, false);
    assert_same_counts(&last(&totals), &truth);
    assert_same_counts(&sums(&once(&counts)), &truth);
}

/// What a word count with these `changes` wrote that was killed at these `points`, too, and how often each word is there.
#[track_caller]
fn killed(changes: &[(&str, &str)], points: &[&str]) -> (Vec<Counted>, Vec<Counted>, Counts) {
    let broker = Broker::shared();
    let name = broker.unique_topic("killed", 4);
    let text = lines(LINES, SEED);
    broker.produce(
        &name,
        text.iter().enumerate().map(|(i, line)| Record::from(line.as_str()).partition(i as i32 % 4)),
    );
    // Small batches that come faster than they are done, so that one is always being worked at.
    let small = [
        ("batch_interval: 1s", "batch_interval: 10ms"),
        ("wait: 30s", "max_records_per_batch: 1000\n      wait: 30s"),
    ];
    let app = broker.run(FILE).file(FILE, &word_count_as(&name, &[&small, changes].concat()));
    fs::write(app.dir().join("text"), text.join("\n") + "\n").unwrap();
    let truth = counted_by_sort_and_uniq(&app.dir().join("text"));

    let mut random = Random(SEED);
    for fifth in 1..=3 {
        let mut run = app.start();
        let http = run.http();
        let goal = (LINES / 5 * fifth) as f64;
        eventually(LIMIT, "some batches more", || {
            let metrics = http.metrics();
            // All of the input is there from the beginning, and a batch that runs again knows it, too.
            let ends = metrics.all("tidemill_source_latest_offset", &[]);
            assert!(ends.is_empty() || ends.iter().sum::<f64>() == LINES as f64, "{ends:?}");
            let offsets = metrics.sum("tidemill_source_committed_offset", &[]);
            (offsets >= goal).then_some(()).ok_or_else(|| format!("{offsets} of {goal} are committed"))
        });
        // Anywhere between two commits.
        pause(Duration::from_millis(random.below(100)));
        run.sigkill();
        run.wait_exit(LIMIT);
        let committed: i64 = broker.committed(&name, &name).values().sum();
        assert!(committed < LINES as i64, "killed too late");
    }
    // Where those kills came is chance. These leave a batch that has done all its work, and nothing of it is committed.
    for point in points {
        let mut run = app.clone().env("FAILPOINTS", format!("{point}=return")).start();
        assert_eq!(run.wait_exit(LIMIT).code(), None, "{}", run.stderr());
        let committed: i64 = broker.committed(&name, &name).values().sum();
        assert!(committed < LINES as i64, "nothing was left for it");
    }
    let mut run = app.start();
    run.http().wait_until_read(4, LINES as u64, LIMIT);
    run.stop(LIMIT);
    assert!(run.stderr().contains("running an unfinished batch again"));

    let totals = broker.read_counts(&format!("{name}-totals"), "total");
    let counts = broker.read_counts(&format!("{name}-counts"), "count");
    (totals, counts, truth)
}

/// Each batch's record of a word once; those that came again must be the same.
#[track_caller]
fn once(counts: &[Counted]) -> Vec<Counted> {
    let mut once: BTreeMap<(i64, &str), &Counted> = BTreeMap::new();
    for it in counts {
        if let Some(before) = once.insert((it.time, &it.word), it) {
            assert_eq!(before, it);
        }
    }
    once.into_values().cloned().collect()
}
