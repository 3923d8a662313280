//! Other stream processors on the same topics, by the script `run.sh SYSTEM WORKLOAD` in a folder of them. It is told the broker, the
//! topics, and a folder where the right answers stand as `NAME=NUMBER`, and prints a line of JSON with what it measured.

use std::path::Path;
use std::process::Command;

use crate::child::Cost;
use crate::load::NEEDLE;
use crate::report::Row;
use crate::support::Broker;
use crate::truth::Truth;
use crate::{Setting, row};

/// `PEERS` names others, separated by spaces.
const SYSTEMS: &str = "spark-dstreams spark-structured kafka-streams flink bytewax";

pub fn run(
    broker: &Broker,
    setting: &Setting,
    folder: &Path,
    workloads: &[&str],
    truth: &Truth,
    note: &mut dyn FnMut(Row),
) {
    let build = std::env::var("PEERS_BUILD")
        .map_or_else(|_| std::env::temp_dir().join("peers-build"), std::path::PathBuf::from);
    write_answers(&build.join("data"), setting, truth);
    let systems = std::env::var("PEERS").unwrap_or_else(|_| SYSTEMS.to_owned());
    for workload in workloads {
        for system in systems.split_whitespace() {
            let (_, records) = setting.input(workload);
            let Some(form) = form(system, workload) else {
                println!("{system} has no {workload}");
                continue;
            };
            let mut command = Command::new(folder.join("run.sh"));
            command
                .arg(system)
                .args(form)
                .env("BOOTSTRAP", broker.bootstrap())
                .env("PEERS_BUILD", &build)
                .env("PEERS_RESULTS", setting.folder.join("peers.jsonl"))
                .env("WORDS_TOPIC", "words")
                .env("ADS_TOPIC", "ads")
                .env("PER_BATCH", "1000000")
                .env("LIMIT_S", std::env::var("LIMIT_S").unwrap_or_else(|_| "1200".to_owned()));
            let said = command.output().unwrap();
            let text = String::from_utf8_lossy(&said.stdout);
            let told =
                text.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let Some((told, seconds)) = told.and_then(|told| Some((told.clone(), told["seconds"].as_f64()?)))
            else {
                println!("{system} {workload}: no result: {text}{}", String::from_utf8_lossy(&said.stderr));
                continue;
            };
            let cost = Cost {
                cpu_seconds: told["cpu"].as_f64().unwrap_or(0.0),
                peak_rss_mb: told["rss_mb"].as_f64().unwrap_or(0.0),
            };
            let right = told["verified"].as_str() == Some("ok");
            note(row(
                workload,
                told["system"].as_str().unwrap_or(system),
                records,
                seconds,
                None,
                cost,
                right,
            ));
        }
    }
}

/// What a system is to run for a workload: the form that its users would choose, and that keeps what Tidemill keeps. None if it has none.
fn form<'a>(system: &str, workload: &'a str) -> Option<Vec<&'a str>> {
    match (system, workload) {
        // Its users would not send every word through a topic: with a combiner it takes a tenth of the time.
        ("kafka-streams", "wordcount") => Some(vec!["wordcount-preagg"]),
        ("kafka-streams", "statecount") => Some(vec![workload, "exactly_once_v2"]),
        ("spark-dstreams", "statecount") => Some(vec![workload, "mapWithState"]),
        ("flink", "statecount" | "windowcount" | "ysb") | ("flink-sql", "statecount") => {
            Some(vec![workload, "hashmap"])
        }
        (_, "topk") => None,
        ("bytewax", "windowcount" | "statecount" | "ysb") | ("flink-sql", _) => None,
        _ => Some(vec![workload]),
    }
}

/// Java's hash of a text, by which the peers add up their answers.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

fn write_answers(folder: &Path, setting: &Setting, truth: &Truth) {
    std::fs::create_dir_all(folder).unwrap();
    let totals = truth.totals();
    let words: u64 = totals.values().sum();
    let check = totals.iter().map(|(word, n)| i64::from(java_hash(word)).wrapping_mul(*n as i64));
    let check = check.fold(0_i64, i64::wrapping_add);
    let rare = truth.lines.iter().filter(|line| line.contains(NEEDLE)).count();
    let answers = format!("lines={}\nwords={words}\ncheck={check}\nrare={rare}\n", setting.records);
    std::fs::write(folder.join("words.properties"), answers).unwrap();
    let views = truth.views();
    let sum: u64 = views.values().sum();
    // The peers name a window by its beginning.
    let check = views.iter().map(|((campaign, end), n)| {
        i64::from(java_hash(&format!("{campaign}@{}", end - 10_000))).wrapping_mul(*n as i64)
    });
    let check = check.fold(0_i64, i64::wrapping_add);
    let answers = format!("lines={}\nviews={sum}\ncheck={check}\n", setting.records / 2);
    std::fs::write(folder.join("ads.properties"), answers).unwrap();
    std::fs::copy(setting.folder.join("campaigns.csv"), folder.join("ad_to_campaign.csv")).unwrap();
}
