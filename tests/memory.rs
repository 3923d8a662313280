//! Batches that are larger than the memory for them: what they give is right, and went on on disk.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::Running;

const KEYS: u64 = 300_000;
/// So many of them come twice.
const TWICE: u64 = 1_000;
/// A stream that cannot be made: its one key has all lines.
const ONE_KEY: &str =
    "  out: { group_by_key: { from: lines, key: [\"length(value) as length\"], values: { all: value } } }";

fn key(n: u64) -> String {
    format!("{n:09}")
}

/// A folder whose `in` has a line for each key, in no order.
fn keys() -> TempDir {
    let folder = tempfile::tempdir().expect("there is room");
    fs::create_dir(folder.path().join("in")).expect("there is room");
    for file in 0..3 {
        let mut text = String::new();
        for n in (file..KEYS + TWICE).step_by(3) {
            writeln!(text, "{}", key(n * 7_919 % KEYS)).expect("a string takes all");
        }
        fs::write(folder.path().join(format!("in/{file}.txt")), text).expect("there is room");
    }
    folder
}

/// Runs `streams` over the keys in 8 MiB; gives the lines of the CSV file of the stream `out`, without the first.
fn run(folder: &Path, name: &str, streams: &str) -> Vec<String> {
    let pipeline = format!(
        "batch_memory_limit: 8MiB\nsources:\n  lines: {{ files: {{ folder: in }}, format: text }}\nstreams:\n{streams}\n\
         outputs:\n  - {{ from: out, files: {{ path: {name}, format: csv }} }}\n"
    );
    let mut running = Running::start(folder, name, &pipeline);
    let file = running.written(name);
    // The batch is told a moment after its files have their names.
    running.wait_for("tidemill_spilled_bytes_total", 1e6);
    let text = fs::read_to_string(file).expect("it can be read");
    text.lines().skip(1).map(str::to_owned).collect()
}

/// How often each key came.
fn counts() -> Vec<String> {
    let twice: BTreeSet<u64> = (KEYS..KEYS + TWICE).map(|n| n * 7_919 % KEYS).collect();
    (0..KEYS).map(|n| format!("{},{}", key(n), 1 + u64::from(twice.contains(&n)))).collect()
}

#[track_caller]
fn assert_same(mut found: Vec<String>, expected: Vec<String>) {
    found.sort_unstable();
    assert_eq!(found.len(), expected.len());
    let different = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(different, None);
}

/// What `streams` say when they end with an error, in `batch_memory_limit: {limit}`, after the commands `before` of a shell.
fn failing(folder: &Path, before: &str, limit: &str, streams: &str) -> String {
    let pipeline = format!(
        "app_id: fails\nbatch_interval: 100ms\ndelivery: at-least-once\ncheckpoint: data\nbatch_memory_limit: {limit}\n\
         sources:\n  lines: {{ files: {{ folder: in }}, format: text }}\nstreams:\n{streams}\noutputs:\n  \
         - {{ from: out, files: {{ path: out, format: json }} }}\n"
    );
    fs::write(folder.join("fails.yaml"), pipeline).expect("there is room");
    let output = Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\" run fails.yaml"), env!("CARGO_BIN_EXE_tidemill")])
        .current_dir(folder)
        .output()
        .expect("there is a shell");
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stderr).expect("it prints UTF-8");
    shown.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn one_key_that_does_not_fit_and_a_full_disk_end_the_run() {
    let folder = keys();
    let shown = failing(folder.path(), "", "8MiB", ONE_KEY);
    assert!(shown.contains("what a key or row has in one batch does not fit in memory"), "{shown}");
    assert!(shown.ends_with("raise `batch_memory_limit`"), "{shown}");
    // No file may have more than some hundred kilobytes.
    let sorted = "  out: { sql: \"select value from lines order by value\" }";
    let shown = failing(folder.path(), "trap '' XFSZ; ulimit -f 600;", "4MiB", sorted);
    assert!(
        shown.contains("cannot write rows that do not fit in memory to a temporary file in data: "),
        "{shown}"
    );
    assert!(shown.ends_with("make room there, or raise `batch_memory_limit`"), "{shown}");
}

/// A service's store alone has more open files than this.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn as_many_files_are_open_as_the_system_allows() {
    let folder = keys();
    let shown = failing(folder.path(), "ulimit -S -n 10;", "8MiB", ONE_KEY);
    assert!(shown.contains("does not fit in memory"), "{shown}");
}

#[test]
fn groups_go_on_on_disk() {
    let folder = keys();
    let query = "  out: { sql: \"select value, count(*) as n from lines group by value\" }";
    assert_same(run(folder.path(), "grouped", query), counts());
    let keyed = "  out: { reduce_by_key: { from: lines, key: [value], values: { n: \"count(*)\" } } }";
    assert_same(run(folder.path(), "keyed", keyed), counts());
}

#[test]
fn what_is_distinct_goes_on_on_disk() {
    let folder = keys();
    let found = run(folder.path(), "unlike", "  out: { sql: \"select distinct value from lines\" }");
    assert_same(found, (0..KEYS).map(key).collect());
}

#[test]
fn sorts_go_on_on_disk() {
    let folder = keys();
    let found =
        run(folder.path(), "sorted", "  out: { sql: \"select value from lines order by value desc\" }");
    let twice = |line: &String| if line.ends_with(",2") { 2 } else { 1 };
    let expected: Vec<String> =
        counts().iter().rev().flat_map(|line| vec![line[..9].to_owned(); twice(line)]).collect();
    assert!(found == expected, "{} lines", found.len());
}

#[test]
fn joins_go_on_on_disk() {
    let folder = keys();
    let joined = run(
        folder.path(),
        "joined",
        "  groups: { sql: \"select value, count(*) as n from lines group by value\" }\n  \
         out: { sql: \"select a.value, b.n from groups a left join (select * from groups where value < '000200000') b \
         on a.value = b.value\" }",
    );
    let expected = counts().into_iter().enumerate();
    let expected = expected.map(|(n, line)| if n < 200_000 { line } else { line[..10].to_owned() });
    assert_same(joined, expected.collect());
}

#[test]
fn parts_of_a_union_may_have_nulls_where_others_have_none() {
    let folder = keys();
    let found = run(
        folder.path(),
        "together",
        "  out: { sql: \"select 'any' as kind, value from lines union all select nullif(value, '000150000'), value from lines\" }",
    );
    let rows = usize::try_from(KEYS + TWICE).expect("it is small");
    assert_eq!(found.len(), 2 * rows);
    assert_eq!(found.iter().filter(|line| line.starts_with("any,")).count(), rows);
    let twice = usize::from(counts()[150_000].ends_with(",2")) + 1;
    let nulls: Vec<_> = found.iter().filter(|line| line.starts_with(',')).collect();
    assert_eq!(nulls, vec![",000150000"; twice]);
}

#[test]
fn arrays_of_texts_count_with_their_texts() {
    let folder = tempfile::tempdir().expect("there is room");
    fs::create_dir(folder.path().join("in")).expect("there is room");
    // 12 MB of texts, in few arrays: their places alone would fit.
    let tags = |n: u32| format!("\"{n:0>100}\"");
    let mut text = String::new();
    for row in 0..1_200 {
        let tags: Vec<String> = (row * 100..row * 100 + 100).map(tags).collect();
        writeln!(text, "{{\"id\":{row},\"tags\":[{}]}}", tags.join(",")).expect("a string takes all");
    }
    fs::write(folder.path().join("in/all.jsonl"), &text).expect("there is room");
    let pipeline = "batch_memory_limit: 16MiB\nsources:\n  rows:\n    files: { folder: in }\n    format: json\n    \
                    schema: { id: bigint, tags: \"text[]\" }\nstreams:\n  all: { map: { from: rows, select: { id: id, tags: tags } } }\n\
                    outputs:\n  - { from: all, files: { path: out, format: json } }\n";
    let mut running = Running::start(folder.path(), "arrays", pipeline);
    let file = running.written("out");
    running.wait_for("tidemill_spilled_bytes_total", 1e6);
    assert!(fs::read_to_string(file).expect("it can be read") == text);
}

#[test]
fn rows_are_spread_over_partitions_on_disk() {
    let folder = keys();
    let found = run(
        folder.path(),
        "spread",
        "  spread: { repartition: { from: lines, partitions: 3 } }\n  out: { sql: \"select value, count(*) as n from spread group by value\" }",
    );
    assert_same(found, counts());
}

#[test]
fn what_windows_give_goes_on_on_disk() {
    let folder = keys();
    let found = run(
        folder.path(),
        "windowed",
        "  out: { reduce_by_key_and_window: { from: lines, key: [value], values: { n: \"count(*)\" }, window: 100ms } }",
    );
    assert_same(found, counts());
}
