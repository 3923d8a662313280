//! The rows: medians of the runs, a table, and a file.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::limit_of;

/// One run, or the median of several.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub workload: String,
    pub system: String,
    pub records: u64,
    pub seconds: f64,
    pub records_per_second: f64,
    /// To what a bare loop of Fetch requests reads of the same topic.
    pub ratio_to_limit: Option<f64>,
    pub cpu_seconds: f64,
    pub peak_rss_mb: f64,
    /// From the start of the program until it is ready to read.
    pub startup_seconds: Option<f64>,
    pub right: bool,
}

impl Row {
    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }

    fn is_tidemill(&self) -> bool {
        self.system.starts_with("tidemill")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<12} {:<34} {:>12.0} records/s  {:>5}  CPU s per million {:>6.2}  peak {:>6.0} MB  start-up {:>6}  {}",
            self.workload,
            self.system,
            self.records_per_second,
            self.ratio_to_limit.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            self.cpu_per_million(),
            self.peak_rss_mb,
            self.startup_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s")),
            if self.right { "right" } else { "WRONG" },
        )
    }
}

/// Of each system and workload the run of median time; right if all runs were. Ratios are to the bare loop on the same topic.
pub fn medians(runs: Vec<Row>) -> Vec<Row> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|g| g[0].workload == run.workload && g[0].system == run.system) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    let mut rows: Vec<Row> = groups
        .into_iter()
        .map(|mut group| {
            let right = group.iter().all(|run| run.right);
            group.sort_by(|a, b| a.records_per_second.total_cmp(&b.records_per_second));
            Row { right, ..group[group.len() / 2].clone() }
        })
        .collect();
    let limits: HashMap<String, f64> = rows
        .iter()
        .filter(|row| row.system == "fetch")
        .map(|row| (row.workload.clone(), row.records_per_second))
        .collect();
    for row in &mut rows {
        let limit = limits.get(limit_of(&row.workload));
        row.ratio_to_limit = limit.map(|limit| row.records_per_second / limit);
    }
    rows
}

pub fn print(rows: &[Row], compression: &str) {
    println!("\nmedians, compression: {compression}");
    rows.iter().for_each(|row| println!("{row}"));
}

/// Tidemill's rows beside the best of the other systems that gave a right result, which may be another one for speed, CPU and memory.
pub fn compare(rows: &[Row]) {
    let is_peer = |row: &&Row| !row.is_tidemill() && !row.workload.starts_with("raw") && row.right;
    if !rows.iter().any(|row| is_peer(&row)) {
        return;
    }
    println!("\nbeside the best of the others");
    println!(
        "{:<12} {:<34} {:<38} {:<46} peak MB, least of others",
        "workload", "system", "times as fast as", "CPU s per million, times less than",
    );
    for row in rows.iter().filter(|row| row.is_tidemill()) {
        let peers: Vec<&Row> = rows.iter().filter(is_peer).filter(|p| p.workload == row.workload).collect();
        let least =
            |figure: fn(&Row) -> f64| peers.iter().copied().min_by(|a, b| figure(a).total_cmp(&figure(b)));
        let (Some(fastest), Some(cheapest), Some(smallest)) =
            (least(|p| -p.records_per_second), least(Row::cpu_per_million), least(|p| p.peak_rss_mb))
        else {
            println!("{:<12} {:<34} no other system has it", row.workload, row.system);
            continue;
        };
        let (ours, theirs) = (row.cpu_per_million(), cheapest.cpu_per_million());
        let speed = format!(
            "{:.1}  {} {:.0}/s",
            row.records_per_second / fastest.records_per_second,
            fastest.system,
            fastest.records_per_second
        );
        let cpu = format!("{ours:.2}  {:.1}  {} {theirs:.2}", theirs / ours, cheapest.system);
        println!(
            "{:<12} {:<34} {speed:<38} {cpu:<46} {:.0}, {:.0} {}",
            row.workload, row.system, row.peak_rss_mb, smallest.peak_rss_mb, smallest.system
        );
    }
}

pub fn write(rows: &[Row], path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_string_pretty(rows).unwrap()).unwrap();
    println!("written to {}", path.display());
}
