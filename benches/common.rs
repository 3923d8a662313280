//! What several benchmarks share: their settings, processes of their own, and what these cost.
#![allow(dead_code, reason = "each serves whichever benchmarks need it")]

use std::process::Command;
use std::time::SystemTime;

/// The setting `name`, a number.
pub fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")))
}

/// This program with other `arguments`, to be a process of its own.
pub fn child(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("child").args(arguments);
    command
}

/// What a [`child`] was given; nothing if this process is none.
pub fn child_arguments() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "child");
    arguments.next().map(|_| arguments.collect())
}

/// Seconds since the epoch, which processes agree upon.
pub fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

/// The seconds of the processor that this process has used so far.
pub fn cpu_seconds() -> f64 {
    let mut usage = no_usage();
    // SAFETY: it writes to `usage`, and nothing else.
    let outcome = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    seconds_of(&usage)
}

/// What the system is to fill in.
pub fn no_usage() -> libc::rusage {
    // SAFETY: a `rusage` is numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// The seconds of the processor in `usage`.
pub fn seconds_of(usage: &libc::rusage) -> f64 {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Of `2026-01-31T12:34:56.789Z`, the seconds since midnight.
pub fn seconds_of_day(timestamp: &str) -> f64 {
    let time = timestamp.split_once('T').unwrap().1.trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

/// The value that `part` of `all` are below; 0.5 gives the median, 1.0 the largest.
pub fn quantile(all: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut all: Vec<f64> = all.into_iter().collect();
    all.sort_by(f64::total_cmp);
    all.get((all.len().saturating_sub(1) as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}
