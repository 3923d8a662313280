//! The tools on a service that runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::words::{counted_by_sort_and_uniq, lines};
use crate::support::{App, Broker, eventually, unique_name, word_count_as};

const LINES: usize = 60_000;
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_backup_of_a_running_service_goes_on_to_the_true_totals() {
    let broker = Broker::shared();
    let name = unique_name("backup");
    broker.create_topic(&name, 4);
    // Many small batches, so that each backup is made in the middle of some.
    let pipeline = |folder: &str| {
        let own = [
            ("/word-count", folder),
            ("batch_interval: 1s", "batch_interval: 100ms"),
            ("wait: 30s", "max_records_per_batch: 1000\n      wait: 30s"),
        ];
        word_count_as(&name, &own)
    };
    let original = broker.run("words.yaml").file("words.yaml", &pipeline("/words"));
    let text = lines(LINES, 7);
    let path = original.dir().join("text");
    std::fs::write(&path, text.join("\n") + "\n").unwrap();
    let truth: BTreeMap<String, u64> = counted_by_sort_and_uniq(&path);
    let records = text.iter().filter(|line| !line.is_empty()).count() as u64;

    // Most of the time a batch is being applied.
    let mut run = original.clone().env("FAILPOINTS", "commit::mid_apply=sleep(100)").start();
    let http = run.http();
    let address = http.address().to_owned();
    let backups = ["backups/1", "backups/2", "backups/3"];
    std::thread::scope(|scope| {
        // While records come, and batches are committed.
        scope.spawn(|| {
            for (number, part) in text.chunks(LINES / 20).enumerate() {
                let file = original.dir().join(format!("part-{number}"));
                std::fs::write(&file, part.join("\n") + "\n").unwrap();
                broker.kcat(&["-P", "-t", &name, "-l", file.to_str().unwrap()], "");
            }
        });
        for (number, to) in backups.iter().enumerate() {
            eventually(LIMIT, "more batches", || {
                let read = http.metrics().sum("tidemill_source_committed_offset", &[]);
                let wanted = (number * 4 + 1) as f64 / 20.0 * records as f64;
                (read >= wanted).then_some(()).ok_or_else(|| format!("{read} of {wanted} are committed"))
            });
            let shown = original.done(&["state", "backup", "words.yaml", to, "--http", &address], LIMIT);
            assert!(shown.contains("left it"), "{shown}");
            original.done(&["state", "list", "words.yaml"], LIMIT);
        }
    });
    let log = run.stderr();
    assert_eq!(log.matches("backup made").count(), 3, "{log}");
    let refused = original
        .arguments(&["state", "backup", "--checkpoint", "backups/1", "backups/4", "--http", &address])
        .start()
        .wait_exit(LIMIT);
    // Nobody has that one open, so it is copied without asking.
    assert_eq!(refused.code(), Some(0));
    http.wait_until_read(4, records, LIMIT);
    run.stop(LIMIT);
    assert_eq!(totals(&original, "data/words"), truth);

    let mut stood = Vec::new();
    for (number, backup) in backups.iter().enumerate() {
        original.done(&["checkpoint", "verify", "--checkpoint", backup], LIMIT);
        let shown = original.done(&["checkpoint", "show", "--checkpoint", backup, "--format", "json"], LIMIT);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        stood.push(shown["committed"]["batch"].as_i64().expect("a batch was committed"));
        let folder = format!("data/restored-{number}");
        original.done(&["state", "restore", "--checkpoint", &folder, backup], LIMIT);
        let file = format!("restored-{number}.yaml");
        std::fs::write(original.dir().join(&file), pipeline(&format!("/restored-{number}"))).unwrap();
        let mut run = original.arguments(&["run", &file, "--offsets", "checkpoint"]).start();
        run.http().wait_until_read(4, records, LIMIT);
        run.stop(LIMIT);
        assert_eq!(totals(&original, &folder), truth, "{backup}");
    }
    assert!(stood.is_sorted() && stood[0] < stood[2], "the backups are all of one batch: {stood:?}");
}

/// The totals of all words, as the tools tell them.
fn totals(app: &App, folder: &str) -> BTreeMap<String, u64> {
    assert!(app.dir().join(Path::new(folder)).exists());
    let shown = app.done(&["state", "scan", "--checkpoint", folder, "totals"], LIMIT);
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let value = match &line["value"] {
            // The state of one aggregate is a row of one column, or the column.
            serde_json::Value::Array(columns) => columns[0].as_u64(),
            other => other.as_u64(),
        };
        (line["key"].as_str().expect("a word").to_owned(), value.expect("a count"))
    };
    shown.lines().map(line).collect()
}

#[test]
fn a_backup_is_asked_for_on_this_machine_and_on_purpose() {
    let broker = Broker::shared();
    let name = unique_name("backup-asked");
    broker.create_topic(&name, 1);
    let app =
        broker.run("words.yaml").file("words.yaml", &word_count_as(&name, &[("/word-count", "/words")]));
    let mut run = app.start();
    let http = run.http();
    eventually(LIMIT, "a batch", || match http.get("/readyz") {
        (200, _) => Ok(()),
        (_, why) => Err(why),
    });
    let folder = app.dir();
    let query = |checkpoint: &str, to: &str| {
        let (checkpoint, to) = (folder.join(checkpoint), folder.join(to));
        format!("/api/v1/backup?checkpoint={}&to={}", checkpoint.display(), to.display())
    };
    let right = query("data/words", "copy");
    assert_eq!(http.get(&right).0, 405, "looking does not write");
    assert_eq!(http.post(&right, &[]).0, 403, "as a page of another site would ask");
    let own = [("x-tidemill", "1")];
    let (status, why) = http.post(&query("data/other", "copy"), &own);
    assert_eq!(status, 409);
    assert!(why.contains("whose checkpoint is not"), "{why}");
    let relative = format!("/api/v1/backup?checkpoint={}&to=copy", folder.join("data/words").display());
    assert_eq!(http.post(&relative, &own).0, 400);
    assert!(!folder.join("copy").exists());
    assert_eq!(http.post(&right, &own).0, 200);
    let (status, why) = http.post(&right, &own);
    assert_eq!(status, 409);
    assert!(why.contains("is there already"), "{why}");
    run.stop(LIMIT);
}
