//! SQL in the service, measured on the built binary: whether a group-by of 20 million distinct keys in one batch stays within
//! 256 MiB, and whether a batch interval of 10 ms holds with three SQL steps. Both fail if not. Needs no broker.
//!
//! `cargo bench --bench sql`, or one of them: `… -- keys 1000000`, `… -- keyed 1000000` (the same as `reduce_by_key`),
//! `… -- interval 5` (seconds).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What the process may have of memory of its own, as the system enforces it.
const ALLOWED: u64 = 256 << 20;
const KEYS: u64 = 20_000_000;
/// How often the interval may be tried: other processes get in its way.
const RUNS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = arguments.get(1).map(|number| number.parse().unwrap());
    let sql = "{ sql: 'select value as key, count(*) as n from lines group by value' }";
    let keyed = "{ reduce_by_key: { from: lines, key: [value as key], values: { n: 'count(*)' } } }";
    match arguments.first().map(String::as_str) {
        Some("keys") => group("sql", sql, number.unwrap_or(KEYS)),
        Some("keyed") => group("reduce_by_key", keyed, number.unwrap_or(KEYS)),
        Some("interval") => interval(number.unwrap_or(20), RUNS),
        _ => {
            interval(20, RUNS);
            group("sql", sql, KEYS);
            group("reduce_by_key", keyed, KEYS);
        }
    }
}

/// A process that ends with the benchmark.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a pipeline that has no more memory than `allowed`, if that is said.
fn run(folder: &Path, pipeline: &str, allowed: Option<u64>) -> Run {
    fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", "pipeline.yaml"]).current_dir(folder).env("TIDEMILL_LOG", "warn");
    if let Some(bytes) = allowed {
        // SAFETY: between fork and exec only `setrlimit` is called, which is safe there.
        unsafe { command.pre_exec(move || limit_memory(bytes)) };
    }
    Run(command.spawn().unwrap())
}

/// Whoever asks for more memory of its own than `bytes` gets none.
fn limit_memory(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: it reads `limit`, and nothing else.
    match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The most memory that the process had, in MiB.
fn peak(run: &Run) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", run.0.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).map_or(0, |kib| kib.parse::<u64>().unwrap() / 1024)
}

/// The file of the first batch that the output `out` has finished.
fn written(folder: &Path) -> Option<PathBuf> {
    let mut batches = fs::read_dir(folder).ok()?.flatten();
    // What is still being written has a name of its own, with a dot.
    let is_done = |batch: &fs::DirEntry| {
        !batch.file_name().to_string_lossy().starts_with('.') && batch.path().join("_SUCCESS").exists()
    };
    Some(batches.find(is_done)?.path().join("part-00000.csv"))
}

/// Groups `count` distinct keys of one batch, by the stream `groups`.
fn group(name: &str, groups: &str, count: u64) {
    let folder = tempfile::tempdir().unwrap();
    let inputs = folder.path().join("in");
    fs::create_dir(&inputs).unwrap();
    for file in 0..4 {
        let mut out = BufWriter::new(File::create(inputs.join(format!("{file}.txt"))).unwrap());
        for key in (file..count).step_by(4) {
            // Mixed up, so that neighbours in a file are no neighbours in order.
            writeln!(out, "{:09}", key * 7_919 % count).unwrap();
        }
        out.flush().unwrap();
    }
    let pipeline = format!(
        "app_id: keys\nbatch_interval: 1s\ndelivery: at-least-once\ncheckpoint: data\nbatch_memory_limit: 64MiB\n\
         state_memory_limit: 16MiB\nsources:\n  lines: {{ files: {{ folder: in }}, format: text }}\nstreams:\n  \
         groups: {groups}\n  all: {{ sql: 'select count(*) as keys, coalesce(sum(n), 0) as rows from groups' }}\n  \
         some: {{ filter: {{ from: all, where: 'keys > 0' }} }}\noutputs:\n  \
         - {{ from: some, files: {{ path: out/all, format: csv }} }}\n"
    );
    let started = Instant::now();
    let mut run = run(folder.path(), &pipeline, Some(ALLOWED));
    let text = loop {
        match written(&folder.path().join("out")) {
            Some(file) => break fs::read_to_string(file).unwrap(),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
        assert!(run.0.try_wait().unwrap().is_none(), "{name}: it ended");
        assert!(started.elapsed() < Duration::from_secs(1_800), "{name}: no result");
    };
    let (took, most) = (started.elapsed().as_secs_f64(), peak(&run));
    println!("{name}: {count} distinct keys in one batch: {took:.1} s, at most {most} MiB");
    assert_eq!(text, format!("keys,rows\n{count},{count}\n"));
    assert!(most > 0 && most < ALLOWED >> 20, "{most} MiB");
}

fn get(http: &str, path: &str) -> String {
    let mut answer = String::new();
    let mut ask = TcpStream::connect(http).unwrap();
    write!(ask, "GET {path} HTTP/1.0\r\nHost: {http}\r\n\r\n").unwrap();
    ask.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// How many processes want to run now for each core, the average of the last minute; none where the system does not tell.
fn load() -> Option<f64> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let cores = std::thread::available_parallelism().ok()?.get();
    Some(load.split(' ').next()?.parse::<f64>().ok()? / cores as f64)
}

/// Runs three SQL steps every 10 ms for so many seconds, over 5,000 lines a second: one of so many runs has to hold the interval,
/// unless the machine has other things to do.
fn interval(seconds: u64, runs: usize) {
    let mut busy = false;
    for _ in 0..runs {
        busy |= load().is_some_and(|load| load > 1.0);
        let (processing, total) = every_10_ms(seconds);
        if processing < 10.0 && total < 20.0 {
            return;
        }
    }
    match busy {
        true => println!("not judged: the machine is busy"),
        false => panic!("in none of {runs} runs half of the batches keep to the interval"),
    }
}

/// The connection that the pipeline of `run` makes.
fn accepted(lines: &TcpListener, run: &mut Run) -> TcpStream {
    lines.set_nonblocking(true).unwrap();
    loop {
        match lines.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(false).unwrap();
                return connection;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(error) => panic!("{error}"),
        }
        assert!(run.0.try_wait().unwrap().is_none(), "it ended");
    }
}

/// The medians of processing and of total delay, in milliseconds.
fn every_10_ms(seconds: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let lines = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let pipeline = format!(
        "app_id: interval\nbatch_interval: 10ms\ndelivery: at-least-once\ncheckpoint: data\nhttp: \"{http}\"\n\
         sources:\n  lines: {{ socket: {{ host: 127.0.0.1, port: {} }}, format: text }}\nstreams:\n  \
         words: {{ sql: \"select unnest(string_to_array(value, ' ')) as word from lines\" }}\n  \
         counts: {{ sql: 'select word, count(*) as n from words group by word' }}\n  \
         top: {{ sql: 'select word, n from counts order by n desc, word limit 3' }}\noutputs:\n  \
         - {{ from: top, table: {{ name: top }} }}\n",
        lines.local_addr().unwrap().port()
    );
    let mut run = run(folder.path(), &pipeline, None);
    let mut connection = accepted(&lines, &mut run);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        connection.write_all("to be or not to be that is the question\n".repeat(10).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let timeline: serde_json::Value = serde_json::from_str(&get(&http, "/api/v1/timeline")).unwrap();
    let column = |name: &str| -> Vec<f64> {
        timeline[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or_default()).collect()
    };
    let batches: Vec<(f64, f64, f64)> = column("inputSize")
        .into_iter()
        .zip(column("processingTime"))
        .zip(column("totalDelay"))
        .map(|((records, processing), total)| (records, processing, total))
        .collect();
    // The first second is the start's.
    let busy: Vec<_> = batches.iter().skip(100).filter(|(records, ..)| *records > 0.0).collect();
    assert!(!busy.is_empty(), "of {} batches none has records", batches.len());
    let part = |of: &dyn Fn(&(f64, f64, f64)) -> f64, part: f64| {
        let mut values: Vec<f64> = busy.iter().map(|batch| of(batch)).collect();
        values.sort_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * part) as usize]
    };
    let (processing, total) = (|batch: &(f64, f64, f64)| batch.1, |batch: &(f64, f64, f64)| batch.2);
    let records = busy.iter().map(|batch| batch.0).sum::<f64>() / busy.len() as f64;
    println!(
        "three SQL steps every 10 ms: {} batches, {} with records ({records:.0} each); processing p50 {:.2} ms, p99 {:.2} ms; \
         total delay p50 {:.2} ms, p99 {:.2} ms",
        batches.len(),
        busy.len(),
        part(&processing, 0.5),
        part(&processing, 0.99),
        part(&total, 0.5),
        part(&total, 0.99)
    );
    (part(&processing, 0.5), part(&total, 0.5))
}
