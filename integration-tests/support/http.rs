//! A run's HTTP port: what `curl` would get, and the series of its metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Run, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// The HTTP port of a run.
pub struct Http {
    address: String,
}

/// An exposition of metrics.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Run {
    /// The port that the log says it listens on.
    #[track_caller]
    pub fn http(&mut self) -> Http {
        let line = self.wait_for_stderr("listening for HTTP", LIMIT);
        let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
        Http { address: line["address"].as_str().expect("the line names the address").to_owned() }
    }
}

impl Http {
    pub fn at(address: impl ToString) -> Self {
        Self { address: address.to_string() }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The status and the body of `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &[])
    }

    /// The status and the body of `POST path` with these headers, and nothing sent.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        self.ask("POST", path, headers)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = &self.address;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).expect("a status line");
        (status.parse().expect("a number"), body.to_owned())
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        Metrics(body)
    }

    /// Waits until all `partitions` have their lag told, and it is 0, and `records` were read into committed batches. `limit` is for
    /// how long nothing more may be read: a backlog of many batches takes its time.
    #[track_caller]
    pub fn wait_until_read(&self, partitions: usize, records: u64, limit: Duration) {
        let mut before = 0.0;
        loop {
            let (offsets, done) = eventually(limit, "the end of the input", || {
                let metrics = self.metrics();
                let lag = metrics.all("tidemill_source_lag_records", &[]);
                let offsets = metrics.sum("tidemill_source_committed_offset", &[]);
                let none = lag.len() == partitions && lag.iter().all(|lag| *lag == 0.0);
                let done = none && offsets == records as f64;
                let moved = done || offsets > before;
                moved
                    .then_some((offsets, done))
                    .ok_or_else(|| format!("lag {lag:?}, {offsets} of {records} are committed"))
            });
            if done {
                return;
            }
            before = offsets;
        }
    }
}

impl Metrics {
    /// The values of a metric's series that have these labels.
    pub fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let mut values = Vec::new();
        for line in self.0.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let (found, own) = series.split_once('{').unwrap_or((series, "}"));
            let own: Vec<&str> = own.trim_end_matches('}').split(',').collect();
            let has = |(name, value): &(&str, &str)| own.contains(&format!("{name}=\"{value}\"").as_str());
            if found == name && labels.iter().all(has) {
                values.push(value.parse().expect("a number"));
            }
        }
        values
    }

    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).iter().sum()
    }

    /// The value of the one series that has these labels.
    #[track_caller]
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.all(name, labels)[..] {
            [value] => value,
            ref values => panic!("{name} {labels:?} has {} series in:\n{}", values.len(), self.0),
        }
    }
}
