//! Brokers that want to know who is there: TLS and SASL for all that a pipeline does, with secrets that nobody gets to see.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::{Decodable, Request};

use crate::support::{App, Broker, Row, certificate, tidemill, unique_name};

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "secure.yaml";
const PASSWORD: &str = "alice's secret";

/// Copies lines, exactly once; what is no UTF-8 goes to a dead-letter topic.
fn pipeline(name: &str, options: &str) -> String {
    format!(
        "app_id: {name}
batch_interval: 100ms
delivery: exactly-once
checkpoint: data
http: 127.0.0.1:0
sources:
  lines:
    kafka:
      brokers: \"${{KAFKA_BROKERS}}\"
      topics: [lines]
      start: earliest
      wait: 10s
      options: {{ {options} }}
    format: text
    on_bad_record: {{ dead_letter: {name}.dlq }}
outputs:
  - {{ from: lines, kafka: {{ topic: {name}, value: value }} }}
"
    )
}

fn app(name: &str, brokers: &str, options: &str) -> App {
    tidemill(&["run", FILE])
        .file(FILE, &pipeline(name, options))
        .env("KAFKA_BROKERS", brokers)
        .env("KAFKA_PASSWORD", PASSWORD)
        // All that there is.
        .env("TIDEMILL_LOG", "trace")
}

#[test]
fn all_clients_log_in_and_nobody_sees_the_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, own, key) = certificate(folder.path());
    let (broker, [tls, plain, both]) = Broker::start_secure(&own, &key);
    broker.create_topic("lines", 1);
    broker.produce("lines", ["one", "two"]);
    let secret = folder.path().join("password");
    std::fs::write(&secret, format!("{PASSWORD}\n")).unwrap();
    let by_environment = "sasl.username: alice, sasl.password: \"${KAFKA_PASSWORD}\"".to_owned();
    let by_file = format!("sasl.username: alice, sasl.password: \"${{file:{}}}\"", secret.display());
    let trust = format!("ssl.ca.location: \"{ca}\"");
    let ways = [
        ("tls", &tls, format!("security.protocol: ssl, {trust}")),
        ("plain", &plain, format!("security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, {by_file}")),
        (
            "scram",
            &both,
            format!("security.protocol: sasl_ssl, sasl.mechanism: SCRAM-SHA-512, {by_environment}, {trust}"),
        ),
    ];
    let mut runs: Vec<_> = ways
        .iter()
        .map(|(name, address, options)| {
            let mut run = app(name, address, options).start();
            (run.http(), run, name)
        })
        .collect();
    for (http, run, name) in &mut runs {
        http.wait_until_read(1, 2, LIMIT);
        let shown =
            [http.get("/").1, http.get("/metrics").1, http.get("/api/v1/streaming/statistics").1].concat();
        run.sigterm();
        assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{name}: {}", run.stderr());
        let rows: Vec<_> = broker.read(name).iter().map(Row::text).collect();
        assert_eq!(rows, ["one", "two"], "{name}");
        for text in [run.stdout(), run.stderr(), shown] {
            assert!(!text.contains(PASSWORD), "{name} shows the password");
        }
    }

    // Whoever does not know the password is told so, and does not tell it.
    let (_, address, options) = &ways[2];
    let mut stranger = app("stranger", address, options).env("KAFKA_PASSWORD", "guessed 42").start();
    assert_eq!(stranger.wait_exit(LIMIT).code(), Some(1));
    let told = stranger.stderr();
    assert!(told.contains("uthentication"), "{told}");
    assert!(!told.contains("guessed 42"), "it shows the password: {told}");

    // What is wrong with the file is shown without it, too.
    let wrong = options.replace("alice, ", "alice, group.id: mine, ");
    let mut check = app("wrong", address, &wrong).arguments(&["check", FILE]).start();
    assert_eq!(check.wait_exit(LIMIT).code(), Some(2));
    assert!(check.stderr().contains("it is the `app_id`"), "{}", check.stderr());
    assert!(!check.stderr().contains(PASSWORD) && !check.stdout().contains(PASSWORD), "{}", check.stderr());
}

#[test]
fn clients_say_which_application_and_what_of_it_they_are() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let name = unique_name("recognised");
    let mut run = app(&name, &address, "").start();
    let (mut stream, _) = listener.accept().unwrap();
    // Its first request, whatever it is: the client's id stands in its head.
    let mut request = [0; 200];
    let length = stream.read(&mut request).unwrap();
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    assert!(text.contains(&format!("{name}-offsets-lines")), "{text:?}");
    run.sigkill();
}

#[test]
fn every_client_has_its_name_and_the_options_that_were_given() {
    let (broker, proxy) = Broker::start_with("");
    broker.create_topic("lines", 1);
    let line = "x".repeat(1_000);
    // More than a request asks for of which nothing else is said.
    broker.produce("lines", (0..10_000).map(|_| line.as_str()));
    for (reader, name) in [("native", "of-its-own"), ("rdkafka", "of-librdkafka")] {
        let options = "fetch.message.max.bytes: \"70000\"";
        let text =
            pipeline(name, options).replace("wait: 10s", &format!("wait: 10s\n      reader: {reader}"));
        let text =
            text.replace("value: value }", "value: value, options: { request.timeout.ms: \"12345\" } }");
        let mut run = app(name, proxy.bootstrap(), options).file(FILE, &text).start();
        run.http().wait_until_read(1, 10_000, LIMIT);
        run.stop(LIMIT);
        let requests = proxy.requests();
        let own = |kind: ApiKey| -> Vec<_> {
            let of_kind = requests.iter().filter(|((key, _), _)| *key == kind as i16);
            of_kind.filter(|((_, client), _)| client.starts_with(&format!("{name}-"))).collect()
        };
        let mut names: Vec<_> =
            requests.keys().map(|(_, client)| client.strip_prefix(&format!("{name}-"))).collect();
        names.sort_unstable();
        names.dedup();
        let names: Vec<_> = names.into_iter().flatten().collect();
        assert_eq!(
            names,
            ["admin-0", "consumer-lines", "group-0", "offsets-lines", "producer-0"],
            "{reader}"
        );
        let fetch: FetchRequest = the_one(&own(ApiKey::Fetch), &format!("{name}-consumer-lines"));
        let bytes: Vec<_> =
            fetch.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.partition_max_bytes).collect();
        assert!(bytes.iter().all(|bytes| (1..=70_000).contains(bytes)), "{reader}: {bytes:?}");
        let produce: ProduceRequest = the_one(&own(ApiKey::Produce), &format!("{name}-producer-0"));
        assert_eq!(produce.timeout_ms, 12_345, "{reader}");
    }
}

/// The only one of `requests`, which is from `client`.
fn the_one<R: Request>(requests: &[(&(i16, String), &Vec<u8>)], client: &str) -> R {
    let [((_, from), request)] = requests else { panic!("{requests:?}") };
    assert_eq!(from, client);
    let version = i16::from_be_bytes([request[2], request[3]]);
    let mut body = &request[..];
    RequestHeader::decode(&mut body, R::header_version(version)).unwrap();
    R::decode(&mut body, version).unwrap()
}
