//! Tidemill's pipeline files, run by its binary.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::seconds_of_day;
use crate::report::Row;
use crate::support::Broker;
use crate::truth::Truth;
use crate::{Setting, child, row};

/// Says when each batch has been committed; at `info` some batches share a line.
const ENGINE: &str = "tidemill::batch::engine";

/// Runs `pipelines/WORKLOAD.yaml`. Its times are those of its log: from `streaming started` to the last batch's `batch completed`, which
/// comes after its commit.
pub fn run(
    broker: &Broker,
    setting: &Setting,
    binary: &Path,
    workload: &str,
    truth: &Truth,
    round: usize,
) -> Row {
    let (topic, records) = setting.input(workload);
    let output = format!("{workload}-tidemill-yaml-{round}");
    let folder = setting.folder.join(&output);
    std::fs::create_dir_all(&folder).unwrap();
    let log = folder.join("log");
    let mut command = Command::new(binary);
    command
        .arg("run")
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("benches/throughput/pipelines")
                .join(format!("{workload}.yaml")),
        )
        .env("APP_ID", &output)
        .env("DATA", &folder)
        .env("KAFKA_BROKERS", broker.bootstrap())
        .env("INPUT", topic)
        .env("OUTPUT", &output)
        .env("CAMPAIGNS", setting.folder.join("campaigns-with-header.csv"))
        .env("TIDEMILL_LOG_FORMAT", "json")
        .env("TIDEMILL_LOG", format!("info,{ENGINE}=debug"))
        .stderr(Stdio::from(std::fs::File::create(&log).unwrap()));
    let (_, cost) = child::measured(command);
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let when = |message: &str, target: &str| {
        let line = lines.iter().rev().find(|line| {
            line["message"] == message && line["target"].as_str().is_some_and(|t| t.starts_with(target))
        });
        let line = line.unwrap_or_else(|| panic!("the log has no `{message}`: {log}"));
        seconds_of_day(line["timestamp"].as_str().unwrap())
    };
    let (first, started, committed) = (
        seconds_of_day(lines[0]["timestamp"].as_str().unwrap()),
        when("streaming started", ""),
        when("batch completed", ENGINE),
    );
    let seconds = (committed - started).rem_euclid(86_400.0);
    let startup = (started - first).rem_euclid(86_400.0);
    let right = truth.check("tidemill-yaml", workload, &broker.read(&output));
    std::fs::remove_dir_all(&folder).unwrap();
    row(workload, "tidemill-yaml", records, seconds, Some(startup), cost, right)
}
