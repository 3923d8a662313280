//! `tidemill bridge` against servers that speak its sources' protocols, with their faults, and a broker in this process.

mod bluesky;
mod file;
mod generate;
mod socket;
mod x;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tempfile::TempDir;

use super::running::Running;
use super::ui::browser::eventually;

const PARTITIONS: i32 = 2;
/// Pauses and patience are this part of what they are otherwise.
const PATIENCE: &str = "0.03";

/// A record of a topic.
struct Row {
    key: Option<String>,
    value: Value,
    why: Option<String>,
}

/// A broker and a place for cursors.
struct Place {
    cluster: MockCluster<'static, DefaultProducerContext>,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("a broker");
        for topic in ["tweets", "bad"] {
            cluster.create_topic(topic, PARTITIONS, 1).expect("a topic");
        }
        Self { cluster, folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bridge(&self, args: &[&str]) -> Running {
        let log = self.path("log");
        let state = self.path("state");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command
            .arg("bridge")
            .args(args)
            .args([
                "--dead-letters",
                "bad",
                "--patience",
                PATIENCE,
                "--brokers",
                &self.cluster.bootstrap_servers(),
            ])
            .args([Path::new("--state"), &state])
            .env("TIDEMILL_LOG_FORMAT", "json")
            .env("X_BEARER_TOKEN", "open sesame")
            .env_remove("TIDEMILL_LOG");
        Running::start(command, log)
    }

    /// What a topic holds, in the order in which it came to each partition.
    fn read(&self, topic: &str) -> Vec<Row> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&all).expect("it takes it");
        let (mut rows, mut ends) = (Vec::new(), 0);
        while ends < PARTITIONS {
            match consumer.poll(Duration::from_secs(10)).expect("the broker answers") {
                Ok(message) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let value = message.payload().map(text).unwrap_or_default();
                    let why = message.headers().and_then(|headers| headers.iter().next()?.value.map(text));
                    let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
                    rows.push(Row { key: message.key().map(text), value, why });
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        rows
    }

    /// The ids of all tweets that came, sorted; doublets stay.
    fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<_> =
            self.read("tweets").iter().map(|row| row.value["id"].as_i64().expect("an id")).collect();
        ids.sort_unstable();
        ids
    }

    #[track_caller]
    fn wait_for(&self, tweets: usize) -> Vec<Row> {
        eventually("tweets", || {
            let rows = self.read("tweets");
            if rows.len() >= tweets { Ok(rows) } else { Err(format!("{} of {tweets}", rows.len())) }
        })
    }
}

/// Answers connections with one step of a script after the other.
struct Server {
    address: String,
    /// What was asked, in order.
    asked: mpsc::Receiver<String>,
}

type Step = Box<dyn FnOnce(TcpStream, &mpsc::Sender<String>) + Send>;

impl Server {
    fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for step in steps {
                let (stream, _) = listener.accept().expect("a connection");
                step(stream, &sender);
            }
        });
        Self { address, asked }
    }

    #[track_caller]
    fn asked(&self) -> String {
        self.asked.recv_timeout(Duration::from_secs(60)).expect("it is asked")
    }
}

/// Reads an HTTP request: its first line, and its body.
fn request(stream: &mut TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut line) = (String::new(), 0, String::new());
    reader.read_line(&mut first).expect("a request");
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if let Some(value) = line.to_lowercase().strip_prefix("authorization:") {
            assert_eq!(value.trim(), "bearer open sesame");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    format!("{} {}", first.trim(), String::from_utf8(body).expect("text"))
}

/// Answers a request with a status, headers and a body.
fn answer(status: &'static str, body: &'static str) -> Step {
    Box::new(move |mut stream, asked| {
        asked.send(request(&mut stream)).expect("the test listens");
        let length = body.split("\r\n\r\n").last().map_or(0, str::len);
        let head = if body.contains("\r\n\r\n") { "\r\n" } else { "\r\n\r\n" };
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}{head}{body}")
            .expect("it reads");
    })
}
