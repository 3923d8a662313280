//! Records per second from a real broker, side by side: Tidemill's programs, the bare readers that are their limit, and, if a folder of
//! them is named by `PEERS_DIR`, other stream processors on the same topics. Every result is compared with what the loader counted.
//!
//! Each run is a process of its own, so that its CPU time and its memory are its own. `BENCH_RECORDS` sets the number of records
//! (5,000,000), `BENCH_ROUNDS` how often all are run (3; the median counts), `PEERS_ROUNDS` how often the other stream processors are (1),
//! `BENCH_ONLY` which workloads (`grep,ysb`), `BENCH_COMPRESSION` how the topics are compressed (none), `BENCH_YAML` where the `tidemill`
//! binary is, if pipeline files are to be run, and `BENCH_RESULTS` the file that is written (`target/bench.json`). With `BENCH_QUICK` set,
//! no workload has a second typed program; with `BENCH_PHASES`, the typed programs print each batch's records and how long its phases took.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

#[path = "../common.rs"]
mod common;
#[path = "../../integration-tests/support/mod.rs"]
mod support;

mod child;
mod load;
mod peers;
mod raw;
mod report;
mod truth;
mod typed;
mod yaml;

use std::path::{Path, PathBuf};

use child::Cost;
use common::variable;
use report::Row;
use support::Broker;
use truth::Truth;

/// The topics have four partitions.
pub const PARTITIONS: i32 = 4;
pub const WORKLOADS: [&str; 6] = ["grep", "wordcount", "windowcount", "topk", "statecount", "ysb"];
/// The running count once more, by an operator that goes over all keys in each batch.
pub const UPDATE_STATE_BY_KEY: &str = "tidemill-typed-update_state_by_key";

/// The workload of the bare readers on the topic that a workload reads.
pub fn limit_of(workload: &str) -> &'static str {
    if workload.ends_with("ysb") { "raw-ysb" } else { "raw" }
}

/// What is run, and on what.
pub struct Setting {
    pub records: u64,
    pub folder: PathBuf,
}

impl Setting {
    /// The topic that a workload reads, and how many records it has.
    pub fn input(&self, workload: &str) -> (&'static str, u64) {
        if workload.ends_with("ysb") { ("ads", self.records / 2) } else { ("words", self.records) }
    }
}

fn main() {
    if let Some(arguments) = common::child_arguments() {
        return child::run(&arguments);
    }
    let records = variable("BENCH_RECORDS", 5_000_000);
    let rounds = variable("BENCH_ROUNDS", 3) as usize;
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted: Vec<&str> =
        WORKLOADS.into_iter().filter(|w| only.is_empty() || only.split(',').any(|o| o == *w)).collect();
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let compression = std::env::var("BENCH_COMPRESSION").unwrap_or_else(|_| "none".to_owned());

    let (broker, _proxy) = Broker::start_with("");
    let folder = tempfile::tempdir().unwrap();
    let setting = Setting { records, folder: folder.path().to_owned() };
    println!("loading {records} lines and {} ads, compression: {compression}", records / 2);
    let truth = load::load(&broker, &setting, &compression);

    let binary = std::env::var("BENCH_YAML").ok().map(PathBuf::from);
    // The typed programs' code is this process's own, and in memory all the time.
    binary.iter().for_each(|binary| load::hold_file(binary));
    let limits: Vec<&str> =
        ["raw", "raw-ysb"].into_iter().filter(|raw| *raw == "raw" || wanted.contains(&"ysb")).collect();
    for topic in &limits {
        // The first reader finds a broker whose code is not compiled yet; it does not count.
        println!("thrown away: {}", one(&broker, &setting, "fetch", topic, &truth, 0));
    }
    // Nor does the first program, which is the first to commit a transaction there.
    if let Some(workload) = wanted.first() {
        println!("thrown away: {}", one(&broker, &setting, "tidemill-typed", workload, &truth, rounds));
    }
    let mut runs: Vec<Row> = Vec::new();
    for round in 0..rounds {
        let mut note = |row: Row| {
            println!("round {}: {row}", round + 1);
            runs.push(row);
        };
        for topic in &limits {
            note(one(&broker, &setting, "fetch", topic, &truth, round));
            note(one(&broker, &setting, "rdkafka", topic, &truth, round));
        }
        for workload in &wanted {
            // A machine is now fast, now slow: the limit is measured where the workloads are, and as often.
            note(one(&broker, &setting, "fetch", limit_of(workload), &truth, round));
            note(one(&broker, &setting, "tidemill-typed", workload, &truth, round));
            if *workload == "statecount" && !quick {
                note(one(&broker, &setting, UPDATE_STATE_BY_KEY, workload, &truth, round));
            }
            if let Some(binary) = &binary {
                note(yaml::run(&broker, &setting, binary, workload, &truth, round));
            }
        }
    }
    if let Some(folder) = std::env::var_os("PEERS_DIR").filter(|folder| !folder.is_empty()) {
        for _ in 0..variable("PEERS_ROUNDS", 1) {
            peers::run(&broker, &setting, Path::new(&folder), &wanted, &truth, &mut |row| {
                println!("{row}");
                runs.push(row);
            });
        }
    }
    let rows = report::medians(runs);
    report::print(&rows, &compression);
    report::compare(&rows);
    let results = std::env::var_os("BENCH_RESULTS").map_or_else(|| "target/bench.json".into(), PathBuf::from);
    report::write(&rows, &results);
    assert!(rows.iter().all(|row| row.right), "a result was wrong");
}

/// Runs one of Tidemill's programs, or a bare reader, in a process of its own, and looks whether its result is right.
fn one(broker: &Broker, setting: &Setting, system: &str, workload: &str, truth: &Truth, round: usize) -> Row {
    let (topic, records) = setting.input(workload);
    let output = format!("{workload}-{system}-{round}");
    let folder = setting.folder.join(&output);
    std::fs::create_dir_all(&folder).unwrap();
    let arguments = [
        system,
        workload,
        broker.bootstrap(),
        topic,
        &output,
        folder.to_str().unwrap(),
        &records.to_string(),
    ];
    let (said, mut cost) = child::spawn(&arguments, &setting.folder.join("campaigns.csv"));
    cost.cpu_seconds /= said["passes"].as_f64().unwrap_or(1.0);
    let seconds = said["seconds"].as_f64().unwrap();
    let right = match system {
        "fetch" | "rdkafka" => said["records"].as_u64() == Some(records),
        _ => truth.check(system, workload, &broker.read(&output)),
    };
    std::fs::remove_dir_all(&folder).unwrap();
    row(workload, system, records, seconds, said["startup_seconds"].as_f64(), cost, right)
}

pub fn row(
    workload: &str,
    system: &str,
    records: u64,
    seconds: f64,
    startup_seconds: Option<f64>,
    cost: Cost,
    right: bool,
) -> Row {
    Row {
        workload: workload.to_owned(),
        system: system.to_owned(),
        records,
        seconds,
        records_per_second: records as f64 / seconds,
        ratio_to_limit: None,
        cpu_seconds: cost.cpu_seconds,
        peak_rss_mb: cost.peak_rss_mb,
        startup_seconds,
        right,
    }
}
