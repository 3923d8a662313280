//! Made-up tweets through the bridge and the shipped trending pipeline, a real Prometheus that scrapes it, and every query of every
//! dashboard and alert: all have data. REST tells the same figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Broker, Http, Process, eventually, free_ports, output, shipped, tidemill, unique_name};

const LIMIT: Duration = Duration::from_secs(90);
const TWEETS: u64 = 3_000;

/// The shipped pipeline with names and topics of its own, and windows that slide soon.
fn trending_as(name: &str) -> String {
    let text = fs::read_to_string(shipped("trending")).expect("it is shipped");
    let own = [
        ("app_id: trending", format!("app_id: {name}")),
        ("topics: [tweets]", format!("topics: [{name}]")),
        ("dead_letter: tweets.dlq", format!("dead_letter: {name}.dlq")),
        ("topic: trending", format!("topic: {name}-trending")),
        ("topic: hashtag-totals", format!("topic: {name}-totals")),
        ("slide: 10s", "slide: 1s".to_owned()),
    ];
    own.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "config/trending.yaml has no {from:?} any more");
        text.replace(from, to)
    })
}

fn grafana(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(path)
}

/// A Prometheus that scrapes `target` every second; nothing where none is installed.
struct Prometheus {
    _process: Process,
    _folder: tempfile::TempDir,
    address: String,
}

impl Prometheus {
    fn start(target: &str) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            eprintln!("skipped: there is no prometheus here, run scripts/setup test");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        // The shipped settings, on another target and at another pace.
        let settings = fs::read_to_string(grafana("prometheus/prometheus.yml")).expect("it is shipped");
        assert!(settings.contains("tidemill:8080") && settings.contains("scrape_interval: 5s"), "{settings}");
        let settings = settings.replace("tidemill:8080", target).replace(": 5s", ": 1s");
        fs::write(folder.path().join("prometheus.yml"), settings).expect("a file");
        fs::copy(grafana("prometheus/alerts.yml"), folder.path().join("alerts.yml")).expect("it is shipped");
        let [port, ..] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Some(Self { _process: Process::spawn(command), _folder: folder, address })
    }

    /// The series that a query gives, or what is wrong with it.
    fn ask(&self, query: &str) -> Result<Vec<Value>, String> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--get", &format!("http://{}/api/v1/query", self.address)]);
        command.arg("--data-urlencode").arg(format!("query={query}"));
        let answer = command.output().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&answer.stdout).map_err(|error| error.to_string())?;
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(answer.to_string()),
        }
    }
}

/// Every query of the dashboards, by dashboard and panel, as it is sent for the application `app`.
fn queries(app: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(grafana("dashboards")).expect("they are shipped").flatten() {
        let text = fs::read_to_string(entry.path()).expect("text");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        for name in ["uid", "title", "schemaVersion", "panels", "templating", "time"] {
            assert!(!dashboard[name].is_null(), "{:?} has no {name}", entry.path());
        }
        let mut ids = Vec::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
            ids.push(panel["id"].as_u64().expect("a number"));
            let kind = panel["type"].as_str().expect("a type");
            assert!(["row", "stat", "timeseries", "heatmap"].contains(&kind), "{kind}");
            for name in ["fieldConfig", "options", "targets", "description"] {
                assert!(kind == "row" || !panel[name].is_null(), "{} has no {name}", panel["title"]);
            }
            for target in panel["targets"].as_array().into_iter().flatten() {
                assert_eq!(target["datasource"]["uid"], "$datasource", "{panel}");
                let query = target["expr"].as_str().expect("a query");
                let query = query.replace("$__rate_interval", "10s").replace("$app", app);
                let query = query.replace("$topic", ".*").replace("$operator", ".*");
                assert!(!query.contains('$'), "{query}");
                let name = format!("{}: {} {}", dashboard["title"], panel["title"], target["refId"]);
                assert!(found.insert(name.clone(), query).is_none(), "{name} twice");
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{:?} has panels of the same id", entry.path());
    }
    found
}

#[test]
fn every_panel_has_data() {
    let broker = Broker::shared();
    let name = unique_name("watched");
    let bridge = ["bridge", "generate", "--rate", "300", "--topic", &name, "--state", "bridge"];
    let mut bridge = tidemill(&bridge).env("KAFKA_BROKERS", broker.bootstrap()).start();
    bridge.wait_for_stderr("bridge starts", LIMIT);
    let file = "pipeline.yaml";
    let mut run = broker.run(file).file(file, &trending_as(&name)).start();
    let http = run.http();
    eventually(LIMIT, "readiness", || match http.get("/readyz") {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
    let Some(prometheus) = Prometheus::start(http.address()) else { return };
    eventually(LIMIT, "tweets", || {
        let records = rest(&http, "statistics")["numProcessedRecords"].as_u64().unwrap();
        if records >= TWEETS { Ok(()) } else { Err(records.to_string()) }
    });
    let queries = queries(&name);
    assert!(queries.len() > 50, "{}", queries.len());
    eventually(LIMIT, "data in every panel", || {
        let mut empty = Vec::new();
        for (panel, query) in &queries {
            match prometheus.ask(query) {
                Ok(series) if !series.is_empty() => {}
                Ok(_) if may_be_empty(panel) => {}
                Ok(_) => empty.push(format!("{panel}: {query}")),
                // It may not answer yet.
                Err(error) => empty.push(format!("{panel}: {query}: {error}")),
            }
        }
        if empty.is_empty() { Ok(()) } else { Err(empty.join("\n")) }
    });
    for name in ["TidemillDown", "TidemillNoBatchFinished", "TidemillDeadLetters"] {
        // One that is pending may pass: that is what its `for` is there for.
        let query = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        let firing = prometheus.ask(&query).unwrap();
        assert!(firing.is_empty(), "{firing:?}");
    }
    rest_tells_the_same(&http, &name);
    bridge.stop(LIMIT);
    run.stop(LIMIT);
}

/// What is drawn only while there is something to draw.
fn may_be_empty(panel: &str) -> bool {
    // Without lag nothing is left to drain.
    panel.contains("Time to drain")
}

#[track_caller]
fn rest(http: &Http, path: &str) -> Value {
    let (status, body) = http.get(&format!("/api/v1/{path}"));
    assert_eq!(status, 200, "{path}: {body}");
    // Answers may come in chunks, whose sizes stand on lines of their own.
    let json: String = if body.starts_with(['{', '[']) { body } else { unchunked(&body) };
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{path}: {error}: {json}"))
}

fn unchunked(body: &str) -> String {
    let (mut text, mut rest) = (String::new(), body);
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        text.push_str(&more[..size]);
        rest = more[size..].trim_start_matches("\r\n");
    }
    text
}

fn rest_tells_the_same(http: &Http, topic: &str) {
    let batches = rest(http, "batches?status=completed&limit=10000");
    let batches = batches.as_array().unwrap();
    let last =
        batches.iter().find(|batch| batch["inputSize"].as_u64().unwrap() > 0).expect("one with records");
    let details = rest(http, &format!("batches/{}", last["batchId"]));
    let ranges = details["offsetRanges"].as_array().unwrap();
    let sum = |name: &str| ranges.iter().map(|range| range[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!(sum("records"), last["inputSize"].as_i64().unwrap());
    assert_eq!(sum("untilOffset") - sum("fromOffset"), sum("records"));
    assert!(ranges.iter().all(|range| range["topic"] == topic), "{details}");
    assert_eq!(details["operations"].as_array().unwrap().len(), 2);
    let outputs = details["outputs"].as_array().unwrap();
    assert!(outputs.iter().any(|output| output["name"] == format!("{topic}-totals")), "{details}");

    // What was read of the topic so far is what the source's stream gave.
    let streams = rest(http, "streams");
    let tweets = streams["streams"].as_array().unwrap().iter().find(|s| s["streamName"] == "tweets").unwrap();
    let lag = rest(http, "lag");
    let committed: i64 =
        lag.as_array().unwrap().iter().map(|lag| lag["committedOffset"].as_i64().unwrap()).sum();
    let given = tweets["numTotalRecords"].as_i64().unwrap();
    assert!((given..given + 2_000).contains(&committed), "{given} of {committed}");
    let state = rest(http, "state");
    let operators: Vec<_> =
        state.as_array().unwrap().iter().map(|state| state["operator"].as_str().unwrap()).collect();
    assert_eq!(operators, ["last_ten_minutes", "totals"]);
}

#[test]
fn grafana_finds_what_compose_gives_it() {
    let read = |path: &str| fs::read_to_string(grafana(path)).expect("it is shipped");
    let compose = read("../docker-compose.yml");
    let dashboards = read("provisioning/dashboards/tidemill.yml");
    assert!(dashboards.contains("path: /var/lib/grafana/dashboards"), "{dashboards}");
    assert!(compose.contains("./grafana/dashboards:/var/lib/grafana/dashboards:ro"), "{compose}");
    assert!(compose.contains("./grafana/provisioning:/etc/grafana/provisioning:ro"), "{compose}");
    let source = read("provisioning/datasources/prometheus.yml");
    assert!(
        source.contains("type: prometheus") && source.contains("url: http://prometheus:9090"),
        "{source}"
    );
    let scrapes = read("prometheus/prometheus.yml");
    assert!(scrapes.contains("targets: [\"tidemill:8080\"]") && compose.contains("8080\"]"), "{scrapes}");
}

#[test]
fn alerting_rules_do_what_they_say() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: there is no promtool here, run scripts/setup test");
        return;
    }
    for arguments in
        [["check", "rules", "prometheus/alerts.yml"], ["test", "rules", "prometheus/alerts.test.yml"]]
    {
        let mut command = Command::new("promtool");
        command.args(arguments).current_dir(grafana(""));
        let told = output(command, "");
        assert!(told.contains("SUCCESS"), "{told}");
    }
}
