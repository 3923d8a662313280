//! A pipeline that is changed between two runs, and its topic with it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::{App, Broker, unique_name, word_count_as};

const LIMIT: Duration = Duration::from_secs(90);
type Totals = BTreeMap<String, u64>;

/// How often each word comes in lines of one word.
fn truth(words: &[&str]) -> Totals {
    let mut totals = Totals::new();
    words.iter().for_each(|word| *totals.entry((*word).to_owned()).or_default() += 1);
    totals
}

/// The pipeline NAME with its totals under `uid`, and `changes` besides.
fn pipeline(name: &str, uid: &str, changes: &[(&str, &str)]) -> String {
    let totals = format!("state: {{ total: \"count(*)\" }}, uid: {uid}");
    let own = [("state: { total: \"count(*)\" }", totals.as_str()), ("/word-count", "/words")];
    word_count_as(name, &[&own, changes].concat())
}

/// Runs the pipeline until it has read `records` of so many partitions; gives what it logged.
#[track_caller]
fn session(app: &App, text: &str, partitions: usize, records: usize) -> String {
    let mut run = app.clone().file("words.yaml", text).start();
    run.http().wait_until_read(partitions, records as u64, LIMIT);
    run.stop(LIMIT);
    run.stderr()
}

fn totals(app: &App, uid: &str) -> Totals {
    let shown = app.done(&["state", "scan", "--checkpoint", "data/words", uid], LIMIT);
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let value = line["value"].as_u64().or_else(|| line["value"][0].as_u64()).expect("a count");
        (line["key"].as_str().expect("a word").to_owned(), value)
    };
    shown.lines().map(line).collect()
}

#[test]
fn a_pipeline_goes_on_with_more_partitions_other_names_and_another_interval() {
    let broker = Broker::shared();
    let name = unique_name("changes");
    broker.create_topic(&name, 2);
    let app = broker.run("words.yaml");
    broker.produce(&name, ["to", "be", "or", "not", "to", "be"]);
    session(&app, &pipeline(&name, "totals", &[]), 2, 6);

    // More partitions of the topic, and records in each; batches of half a second.
    broker.tool(
        "org.apache.kafka.tools.TopicCommand",
        &["--bootstrap-server", broker.bootstrap(), "--alter", "--topic", &name, "--partitions", "5"],
    );
    let more = ["that", "is", "the", "question", "to"];
    broker.produce(
        &name,
        more.iter()
            .zip(0..)
            .map(|(word, partition)| crate::support::Record::bytes(*word).partition(partition)),
    );
    session(&app, &pipeline(&name, "totals", &[("batch_interval: 1s", "batch_interval: 500ms")]), 5, 11);
    let words = ["to", "be", "or", "not", "to", "be", "that", "is", "the", "question", "to"];
    assert_eq!(totals(&app, "totals"), truth(&words));

    // Without its name, the state is an orphan: both the tool and a start say so.
    let renamed = pipeline(&name, "sums", &[]);
    let app = app.file("words.yaml", &renamed);
    let mut refused = app.arguments(&["checkpoint", "diff", "words.yaml"]).start();
    assert_eq!(refused.wait_exit(LIMIT).code(), Some(1));
    assert!(refused.stdout().contains("remove_state: [totals]"), "{}", refused.stdout());
    let mut refused = app.start();
    assert_eq!(refused.wait_exit(LIMIT).code(), Some(1));
    assert!(refused.stderr().contains("remove_state: [totals]"), "{}", refused.stderr());

    // With it, in other partitions, and without the windows.
    app.done(&["state", "repartition", "--checkpoint", "data/words", "5"], LIMIT);
    let without_windows = [
        ("uid: sums", "uid: sums, was: totals"),
        ("http:", "remove_state: [window_counts]\nhttp:"),
        ("  window_counts:\n    reduce_by_key_and_window:", "  other_counts:\n    reduce_by_key_and_window:"),
        ("from: window_counts", "from: other_counts"),
    ];
    let changed = without_windows.iter().fold(renamed, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    let app = app.file("words.yaml", &changed);
    let shown = app.done(&["checkpoint", "diff", "words.yaml", "--format", "json"], LIMIT);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["renamed"][0]["to"], "sums");
    assert_eq!((&shown["removed"][0], &shown["new"][0]), (&"window_counts".into(), &"other_counts".into()));
    broker.produce(&name, ["to", "sleep"]);
    let log = session(&app, &changed, 5, 13);
    assert!(log.contains("totals -> sums"), "{log}");
    assert_eq!(totals(&app, "sums"), truth(&[&words[..], &["to", "sleep"]].concat()));
}

#[test]
fn what_was_prepared_is_settled_before_its_state_is_renamed_or_removed() {
    let broker = Broker::shared();
    // Kafka has the transaction, and the state has not got the batch; or Kafka has not.
    for point in ["commit::in_transaction", "commit::prepared"] {
        let name = unique_name("changes-prepared");
        broker.create_topic(&name, 2);
        let app = broker.run("words.yaml").file("words.yaml", &pipeline(&name, "totals", &[]));
        broker.produce(&name, ["to", "be", "or", "not", "to", "be"]);
        let mut killed = app.clone().env("FAILPOINTS", format!("{point}=return")).start();
        assert_eq!(killed.wait_exit(LIMIT).code(), None, "{point}: it was not killed");
        let shown = app.done(&["checkpoint", "show", "words.yaml", "--format", "json"], LIMIT);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert!(shown["prepared"]["batch"].is_i64(), "{point}: {shown}");
        app.done(&["checkpoint", "verify", "words.yaml"], LIMIT);
        let mut refused = app.arguments(&["state", "repartition", "words.yaml", "8"]).start();
        assert_eq!(refused.wait_exit(LIMIT).code(), Some(1));
        assert!(refused.stderr().contains("is prepared"), "{}", refused.stderr());
        let changed = pipeline(&name, "sums, was: totals", &[])
            .replace("http:", "remove_state: [window_counts]\nhttp:")
            .replace("window_counts:", "other_counts:")
            .replace("from: window_counts", "from: other_counts");
        session(&app, &changed, 2, 6);
        assert_eq!(totals(&app, "sums"), truth(&["to", "be", "or", "not", "to", "be"]), "{point}");
    }
}
