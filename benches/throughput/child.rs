//! Runs in processes of their own, and what they cost.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::{common, raw, typed};

/// What a process took of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu_seconds: f64,
    pub peak_rss_mb: f64,
}

/// Runs this program with `arguments` in a process of its own; gives what it says, and what it cost.
pub fn spawn(arguments: &[&str], campaigns: &Path) -> (serde_json::Value, Cost) {
    let mut command = common::child(arguments);
    command.env("BENCH_CAMPAIGNS", campaigns);
    let (said, cost) = measured(command);
    let line = said.lines().last().unwrap_or_default();
    (serde_json::from_str(line).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said}")), cost)
}

/// Runs `command`; gives what it prints, and what it cost.
pub fn measured(mut command: Command) -> (String, Cost) {
    #[expect(clippy::zombie_processes, reason = "it is waited for below, with what it cost")]
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // The system's own figure has in it what this process held when the child was made.
    let (over, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let status = format!("/proc/{}/status", child.id());
    let mut said = String::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                peak.fetch_max(kib.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        over.store(true, Ordering::Relaxed);
    });
    let (mut status, mut usage) = (0, common::no_usage());
    // SAFETY: both pointers are to live values, and nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    assert_eq!(waited, child.id() as i32);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{command:?} failed");
    let cost =
        Cost { cpu_seconds: common::seconds_of(&usage), peak_rss_mb: peak.into_inner() as f64 / 1024.0 };
    (said, cost)
}

/// What a child does: SYSTEM WORKLOAD BROKERS TOPIC OUTPUT FOLDER RECORDS.
pub fn run(arguments: &[String]) {
    let [system, workload, brokers, topic, output, folder, records] = arguments else {
        panic!("not {} arguments: {arguments:?}", arguments.len())
    };
    let records: u64 = records.parse().unwrap();
    let said = match &**system {
        "fetch" => raw::fetch(brokers, topic, records),
        "rdkafka" => raw::rdkafka(brokers, topic, records),
        _ => typed::run(system, workload, brokers, topic, output, Path::new(folder), records),
    };
    println!("{said}");
}
