//! What the tests of the service share: a pipeline that runs as a process of its own.
#![allow(clippy::disallowed_methods, reason = "other processes live by the clock on the wall")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A pipeline that runs until this is dropped.
pub(crate) struct Running {
    process: Child,
    folder: PathBuf,
    http: String,
}

impl Running {
    /// Runs the pipeline with these streams and outputs in `folder`. Its source `source` has lines of the files in `in`.
    pub(crate) fn start(folder: &Path, name: &str, pipeline: &str) -> Self {
        let file = folder.join(format!("{name}.yaml"));
        let head = format!(
            "app_id: {name}\nbatch_interval: 100ms\ndelivery: at-least-once\ncheckpoint: data-{name}\nhttp: 127.0.0.1:0\n"
        );
        fs::write(&file, head + pipeline).expect("there is room");
        let log = folder.join(format!("{name}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .arg("run")
            .arg(&file)
            .env("TIDEMILL_LOG_FORMAT", "json")
            .env_remove("TIDEMILL_LOG")
            .env_remove("RUST_LOG")
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("there is room"))
            .spawn()
            .expect("the binary was built for this test");
        let mut running = Self { process, folder: folder.to_owned(), http: String::new() };
        running.http = running.address(&log);
        running
    }

    /// Where it listens, as the log of this run says.
    fn address(&mut self, log: &Path) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            // Asked first: what an ended process wrote is there in full.
            let ended = self.process.try_wait().expect("it can be asked");
            let text = fs::read_to_string(log).expect("it was made before the start");
            // The last line may not be whole yet.
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.find(|line| line["message"] == "listening for HTTP") {
                return line["address"].as_str().expect("the line names the address").to_owned();
            }
            assert!(ended.is_none() && Instant::now() < until, "it does not listen: {ended:?}; {text}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The one file that the output `files: { path: PATH, format: … }` has written for its first batch with rows.
    pub(crate) fn written(&mut self, path: &str) -> PathBuf {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = fs::read_dir(&self.folder).expect("the folder is there").find_map(|entry| {
                let entry = entry.expect("it can be read");
                let ours =
                    entry.file_name().to_str().is_some_and(|name| name.starts_with(&format!("{path}-")));
                (ours && entry.path().join("_SUCCESS").exists()).then(|| entry.path())
            });
            if let Some(folder) = found {
                let files =
                    fs::read_dir(folder).expect("it is there").map(|file| file.expect("it can be read"));
                let parts: Vec<_> =
                    files.map(|file| file.path()).filter(|path| !path.ends_with("_SUCCESS")).collect();
                assert_eq!(parts.len(), 1, "{parts:?}");
                return parts[0].clone();
            }
            let ended = self.process.try_wait().expect("it can be asked");
            assert!(
                ended.is_none() && Instant::now() < until,
                "{path} is not written: {ended:?}; {}",
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until a metric without labels of its own has at least this value.
    pub(crate) fn wait_for(&self, name: &str, least: f64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(name) < least {
            assert!(Instant::now() < until, "{name} is not yet {least}: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// The value of a metric without labels of its own.
    fn metric(&self, name: &str) -> f64 {
        let mut answer = String::new();
        let mut ask = TcpStream::connect(&self.http).expect("it listens");
        write!(ask, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http)
            .expect("it reads");
        ask.read_to_string(&mut answer).expect("it answers");
        let line = answer.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let line = line.unwrap_or_else(|| panic!("there is no {name}: {answer}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("it is a number")
    }

    fn log(&self) -> String {
        let logs = fs::read_dir(&self.folder).expect("it is there").flatten().map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
