//! One Kafka broker, real, in a process of its own: a KRaft node that is broker and controller.

use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::client::{config, has_leaders};
use super::eventually;
use super::process::{Process, output, tail};
use super::proxy::Proxy;

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Of a broker that nobody kills: if a loaded machine lets it miss its heartbeats, that is no reason to count it as gone.
const CALM: &str = "broker.session.timeout.ms=60000\nbroker.heartbeat.interval.ms=2000\n";

/// A running broker. Its data lives as long as the value.
pub struct Broker {
    // First, so that it is dropped first: nobody may write to the folder when that goes.
    process: Option<Process>,
    folder: TempDir,
    bootstrap: String,
    cluster: Cluster,
}

/// What a node has to know of its cluster.
#[derive(Clone)]
struct Cluster {
    id: String,
    controller_port: u16,
}

/// What `kafka-consumer-groups --describe` says of a partition; `None` where it prints a dash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLag {
    pub topic: String,
    pub partition: i32,
    pub current_offset: Option<i64>,
    pub log_end_offset: Option<i64>,
    pub lag: Option<i64>,
}

impl Broker {
    /// The broker that all tests share which do not disturb it.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_with("").0)
    }

    /// A broker of one's own, to be stopped, killed and paused.
    pub fn start() -> Broker {
        Self::start_on(free_ports(), |_| String::new(), &[]).0
    }

    /// A broker of one's own that nobody kills or pauses; it can also be reached through a proxy. With more server properties.
    pub fn start_with(properties: &str) -> (Broker, Proxy) {
        Self::start_on(free_ports(), |_| format!("{CALM}{properties}"), &[])
    }

    /// A broker of one's own with listeners for TLS, for logging in, and for both; gives their addresses. Its certificate and
    /// key are in files. User `alice` has the password `alice's secret`. The way to the first one is a long one: what goes
    /// there or comes from there takes 150 ms. Nobody kills or pauses it.
    pub fn start_secure(certificate: &str, key: &str) -> (Broker, [String; 3]) {
        const LOGIN: &str = "org.apache.kafka.common.security";
        const FAR: Duration = Duration::from_millis(150);
        let address = |port: u16| format!("127.0.0.1:{port}");
        let [tls, plain, both, far] = free_ports().map(address);
        let addresses = [far.clone(), plain.clone(), both.clone()];
        let port = far.rsplit(':').next().and_then(|port| port.parse().ok());
        super::proxy::slow(port.expect("an address ends with its port"), tls.clone(), FAR);
        let one_line = |path: &str| fs::read_to_string(path).expect("a PEM file").trim().replace('\n', "\\n");
        let (certificate, key) = (one_line(certificate), one_line(key));
        let more = |first: &str| {
            let listeners = |tls: &str| format!("SSL://{tls},SASL_PLAINTEXT://{plain},SASL_SSL://{both}");
            let mut text = first
                .lines()
                .map(|line| match line.split_once('=') {
                    Some(("listeners", _)) => format!("{line},{}\n", listeners(&tls)),
                    // As with the proxy: whoever comes the long way goes on taking it.
                    Some(("advertised.listeners", _)) => format!("{line},{}\n", listeners(&far)),
                    Some(("listener.security.protocol.map", _)) => {
                        format!("{line},SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n")
                    }
                    _ => String::new(),
                })
                .collect::<String>();
            text.push_str(CALM);
            text.push_str("sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n");
            for listener in ["sasl_plaintext", "sasl_ssl"] {
                text.push_str(&format!(
                    "listener.name.{listener}.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required user_alice=\"alice's secret\";\n\
                     listener.name.{listener}.scram-sha-256.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;\n\
                     listener.name.{listener}.scram-sha-512.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;\n"
                ));
            }
            text.push_str(&format!(
                "ssl.keystore.type=PEM\nssl.keystore.certificate.chain={certificate}\nssl.keystore.key={key}\n"
            ));
            text
        };
        let user = |mechanism: &str| format!("{mechanism}=[name=alice,password=alice's secret]");
        let (broker, _) =
            Self::start_on(free_ports(), more, &[&user("SCRAM-SHA-256"), &user("SCRAM-SHA-512")]);
        (broker, addresses)
    }

    /// `more` gives further properties to those that it is shown; `users` can log in.
    fn start_on(ports: [u16; 4], more: impl Fn(&str) -> String, users: &[&str]) -> (Broker, Proxy) {
        let [port, controller_port, proxied_port, proxy_port] = ports;
        let bootstrap = format!("127.0.0.1:{port}");
        let cluster_id = format!("{:011}{port:011}", std::process::id());
        let properties = format!(
            "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{bootstrap},PROXIED://127.0.0.1:{proxied_port},CONTROLLER://127.0.0.1:{controller_port}
# Whoever comes through the proxy is told to go on coming through it.
advertised.listeners=PLAINTEXT://{bootstrap},PROXIED://127.0.0.1:{proxy_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
"
        );
        let properties = format!("{properties}{}", more(&properties));
        let mut format = vec!["--standalone"];
        format.extend(users.iter().flat_map(|user| ["--add-scram", user]));
        let broker = Self::node(Cluster { id: cluster_id, controller_port }, bootstrap, &properties, &format);
        (broker, Proxy::start(proxy_port, format!("127.0.0.1:{proxied_port}")))
    }

    /// A second broker of this one's cluster, without partitions at first.
    pub fn join(&self, node: i32) -> Broker {
        let [port, ..] = free_ports();
        let bootstrap = format!("127.0.0.1:{port}");
        let properties = format!(
            "process.roles=broker
node.id={node}
listeners=PLAINTEXT://{bootstrap}
advertised.listeners=PLAINTEXT://{bootstrap}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
        );
        Self::node(self.cluster.clone(), bootstrap, &properties, &[])
    }

    fn node(cluster: Cluster, bootstrap: String, properties: &str, format: &[&str]) -> Broker {
        let folder = new_folder();
        let data = folder.path().join("data");
        // Of a property that is given twice the last one counts.
        let properties = format!(
            "inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
# Small and quick. The cleaner would take 128 MB of the heap for itself, and a broker short of memory answers nobody.
log.cleaner.dedupe.buffer.size=8388608
# Tests write records of long ago; none is to go for its age.
log.retention.ms=-1
# Tests come in crowds; who does not get into the queue waits for seconds.
socket.listen.backlog.size=1024
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# After a kill the node must wait until its former self's session is over.
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=500
{properties}
",
            controller_port = cluster.controller_port,
            data = data.display()
        );
        let config = folder.path().join("server.properties");
        fs::write(&config, properties).expect("a temporary file can be written");
        let config = config.to_str().expect("a temporary path is UTF-8");
        java("kafka.tools.StorageTool", &[&["format", "-t", &cluster.id, "-c", config], format].concat(), "");
        let mut broker = Broker { process: None, folder, bootstrap, cluster };
        broker.launch();
        broker
    }

    /// What a client takes for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Shuts down in good order.
    pub fn stop(&mut self) {
        let log = self.log();
        let mut process = self.process.take().expect("the broker runs");
        process.signal(libc::SIGTERM);
        process.wait_exit(STOP_LIMIT, || tail(&log));
    }

    /// Kills with no chance to tidy up.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the broker runs");
        process.signal(libc::SIGKILL);
    }

    /// Freezes the process: connections stay, answers fail to come.
    pub fn pause(&mut self) {
        self.process.as_mut().expect("the broker runs").signal(libc::SIGSTOP);
    }

    /// Lets a paused process go on.
    pub fn resume(&mut self) {
        self.process.as_mut().expect("the broker runs").signal(libc::SIGCONT);
    }

    /// Starts again with the same ports and data, after stopping if it runs.
    pub fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.launch();
    }

    /// Runs one of Kafka's own command line tools, by the name of its class; panics if it fails.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        java(class, arguments, "")
    }

    /// The same for a tool that reads its standard input, such as the console producer.
    pub fn tool_with_input(&self, class: &str, arguments: &[&str], input: &str) -> String {
        java(class, arguments, input)
    }

    /// A group's offsets as the stock tool reports them, by topic and partition; empty if there is no such group.
    pub fn group_lag(&self, group: &str) -> Vec<GroupLag> {
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let bootstrap = self.bootstrap();
        parse_group_lag(&self.tool(class, &["--bootstrap-server", bootstrap, "--describe", "--group", group]))
    }

    fn launch(&mut self) {
        let log = self.log();
        let file =
            File::options().create(true).append(true).open(&log).expect("a temporary file can be written");
        let mut command = Command::new("java");
        command
            .args(["-Xmx1g", "-XX:+UseSerialGC", "-cp"])
            .arg(classpath())
            // Some hundred lines of settings would push out what the tail of the log is to show.
            .arg("-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn")
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(self.folder.path())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file);
        let process = self.process.insert(Process::spawn(command));

        let client: BaseConsumer = config(&self.bootstrap).create().expect("a sound configuration");
        eventually(START_LIMIT, "the broker's start", || {
            if let Some(status) = process.exit_status() {
                panic!("the broker ended with {status}; {}", tail(&log));
            }
            let reason = match client.fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if metadata.brokers().is_empty() => "it is not registered yet",
                Ok(metadata) if !has_leaders(&metadata) => "a partition has no leader yet",
                Ok(_) => return Ok(()),
                Err(_) => "no answer",
            };
            Err(format!("{reason}; {}", tail(&log)))
        });
    }

    /// Where a partition's first records are on disk.
    pub fn log_segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.path().join("data").join(format!("{topic}-{partition}/00000000000000000000.log"))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }
}

fn parse_group_lag(table: &str) -> Vec<GroupLag> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(header) = lines.find(|fields| fields.first() == Some(&"GROUP")) else {
        return Vec::new();
    };
    let column =
        |name: &str| header.iter().position(|field| *field == name).expect("the tool prints this column");
    let (topic, partition) = (column("TOPIC"), column("PARTITION"));
    let (current_offset, log_end_offset, lag) =
        (column("CURRENT-OFFSET"), column("LOG-END-OFFSET"), column("LAG"));
    let mut rows: Vec<GroupLag> = lines
        .filter(|fields| fields.len() > lag)
        .filter_map(|fields| {
            Some(GroupLag {
                topic: fields[topic].to_owned(),
                partition: fields[partition].parse().ok()?,
                current_offset: fields[current_offset].parse().ok(),
                log_end_offset: fields[log_end_offset].parse().ok(),
                lag: fields[lag].parse().ok(),
            })
        })
        .collect();
    rows.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    rows
}

fn java(class: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(classpath())
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", class])
        .args(arguments);
    output(command, input)
}

fn classpath() -> PathBuf {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("TIDEMILL_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("tidemill")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/tidemill")))
        .expect("one of TIDEMILL_CACHE, XDG_CACHE_HOME and HOME is set");
    let jars = cache.join("kafka-4.1.0");
    assert!(jars.is_dir(), "no Kafka in {}: run scripts/setup test", jars.display());
    jars.join("*")
}

/// A folder below cargo's own for tests. A shared broker's stays behind when the process ends, for the next run to remove.
fn new_folder() -> TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix("kafka-"))
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("kafka-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).expect("cargo made a folder for tests")
}

/// Ports nobody listens on, below those that the system gives to outgoing connections: they stay free during a restart.
pub fn free_ports() -> [u16; 4] {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new((std::process::id() * 97 % u32::from(COUNT)) as u16));
    let mut free = (0..COUNT)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    [(); 4].map(|()| free.next().expect("some port is free"))
}
