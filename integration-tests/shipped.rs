//! Each shipped pipeline once on a real broker, as it is but for times that a test cannot wait for.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{App, Broker, Record, Run, eventually, shipped, tidemill};

const LIMIT: Duration = Duration::from_secs(90);

/// The shipped pipeline `name`, started with these changes, each of which must find its place.
fn start(
    broker: &Broker,
    name: &str,
    changes: &[(&str, &str)],
    more: &[&str],
    environment: &[(&str, String)],
) -> (App, Run) {
    let text = std::fs::read_to_string(shipped(name)).unwrap();
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "config/{name}.yaml has no {from:?} any more");
        text.replace(from, to)
    });
    let mut app = tidemill(&["run", "pipeline.yaml"]).file("pipeline.yaml", &text);
    for file in more {
        let path = format!("{}/config/{file}", env!("CARGO_MANIFEST_DIR"));
        app = app.file(file, &std::fs::read_to_string(path).unwrap());
    }
    let app = app.env("KAFKA_BROKERS", broker.bootstrap()).env("TIDEMILL_HTTP", "127.0.0.1:0");
    let app = environment.iter().fold(app, |app, (name, value)| app.env(name, value.clone()));
    let run = app.start();
    (app, run)
}

/// Waits for a record of `topic` that is `expected`.
#[track_caller]
fn wait_for(broker: &Broker, topic: &str, expected: &Value) {
    eventually(LIMIT, &format!("{expected} in {topic}"), || {
        let rows: Vec<Value> = broker
            .read(topic)
            .iter()
            .filter_map(|row| serde_json::from_slice(row.value.as_deref()?).ok())
            .collect();
        if rows.contains(expected) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
}

#[test]
fn every_other_shipped_pipeline_works_on_a_broker() {
    let broker = Broker::shared();
    let records = |topic: &str, values: &[Value]| {
        broker.create_topic(topic, 2);
        // In one partition, for their order.
        broker
            .produce(topic, values.iter().map(|value| Record::from(value.to_string().as_str()).partition(0)));
    };
    for topic in ["account-totals", "best-selling", "sessions", "campaign-views", "happiest-hashtags"] {
        broker.create_topic(topic, 4);
    }
    records(
        "payments",
        &[json!({"account": "ann", "amount": 10}), json!({"account": "ann", "amount": -2.5})],
    );
    records("orders", &[json!({"id": 1, "product": "tea", "quantity": 2, "price": 3.5})]);
    records("clicks", &[json!({"user": "ann", "page": "/", "at": "2026-03-01T12:00:01Z"})]);
    records(
        "ad-events",
        &[json!({"ad_id": "ad-1", "event_type": "view", "event_time": "2026-03-01T12:00:01Z"})],
    );
    records("happy-tweets", &[json!({"id": 1, "text": "I love #Rust"})]);
    let mut runs = vec![
        start(broker, "running-totals", &[], &[], &[]),
        start(
            broker,
            "best-selling",
            &[("batch_interval: 1m", "batch_interval: 1s"), ("slide: 1m", "slide: 1s")],
            &[],
            &[],
        ),
        start(
            broker,
            "sessions",
            &[("batch_interval: 10s", "batch_interval: 1s"), ("timeout: 30m", "timeout: 3s")],
            &[],
            &[],
        ),
        start(broker, "clickstream", &[], &["campaigns.csv"], &[]),
        start(
            broker,
            "hashtag-sentiment",
            &[("topics: [tweets]", "topics: [happy-tweets]")],
            &["sentiment.csv"],
            &[],
        ),
    ];
    wait_for(
        broker,
        "account-totals",
        &json!({"account": "ann", "payments": 2, "paid": -2.5, "received": 10.0, "largest": 10.0, "last": -2.5}),
    );
    eventually(LIMIT, "tea among the best-selling", || {
        let rows = broker.read("best-selling");
        let tea = rows.iter().any(|row| {
            row.key_text() == "tea" && row.text().contains("\"quantity\":2,\"orders\":1,\"revenue\":7.0")
        });
        if tea { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    wait_for(
        broker,
        "sessions",
        &json!({"user": "ann", "clicks": 1, "pages": 1, "entered_at": "/", "left_at": "/",
                "began": "2026-03-01T12:00:01Z", "ended": "2026-03-01T12:00:01Z"}),
    );
    eventually(LIMIT, "a view of the campaign", || {
        let rows = broker.read("campaign-views");
        let seen = rows.iter().any(|row| row.key_text() == "spring" && row.text().contains("\"views\":1"));
        if seen { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    wait_for(broker, "happiest-hashtags", &json!({"tag": "rust", "value": 3.0, "tweets": 1}));

    // While it runs, its tables, states and batches can be asked for; from its checkpoint afterwards, too.
    let (totals, mut run) = runs.remove(0);
    let url = format!("http://{}", run.http().address());
    let ask = |arguments: &[&str]| {
        let mut run = totals.arguments(arguments).start();
        let status = run.wait_exit(LIMIT);
        assert!(status.success(), "{status}: {}", run.stderr());
        run.stdout()
    };
    let csv = |question: &str| ask(&["query", "--url", &url, "--format", "csv", question]);
    assert_eq!(csv("select account, balance from balances"), "account,balance\nann,7.5\n");
    assert_eq!(csv("select account, payments from state_totals"), "account,payments\nann,2\n");
    let read = "select sum(until_offset - from_offset) as records from batches where topic = 'payments'";
    assert_eq!(csv(read), "records\n2\n");
    let json: Value = serde_json::from_str(&ask(&[
        "query",
        "--url",
        &url,
        "--format",
        "json",
        "--limit",
        "1",
        "select 1 as one union all select 2",
    ]))
    .unwrap();
    assert_eq!(json["truncated"], true);
    assert_eq!(json["columns"][0]["name"], "one");
    run.stop(LIMIT);
    let offline = ask(&[
        "query",
        "--file",
        "pipeline.yaml",
        "--format",
        "csv",
        "select account, balance from state_balances",
    ]);
    assert_eq!(offline, "account,balance\nann,7.5\n");
    assert!(
        ask(&["query", "--checkpoint", "data/running-totals", "select uid, keys from states"])
            .contains("totals")
    );
    for (_, mut run) in runs {
        run.stop(LIMIT);
    }
}

#[test]
fn log_levels_are_counted_from_a_socket() {
    let broker = Broker::shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let environment = [("LOG_HOST", "127.0.0.1".to_owned()), ("LOG_PORT", port)];
    let (app, mut run) = start(broker, "log-levels", &[], &[], &environment);
    let (mut connection, _) = listener.accept().unwrap();
    connection.write_all(b"12:00 INFO started\n12:01 ERROR no such file\n").unwrap();
    run.wait_for_stdout("| ERROR | 1     |", LIMIT);
    let folder = app.dir().join("data");
    eventually(LIMIT, "the file of errors", || {
        let folders = std::fs::read_dir(&folder).map_err(|e| e.to_string())?;
        let names: Vec<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let named = names.iter().find(|name| name.starts_with("errors-") && name.ends_with(".txt"));
        let name = named.ok_or_else(|| format!("{names:?}"))?;
        let text =
            std::fs::read_to_string(folder.join(name).join("part-00000.txt")).map_err(|e| e.to_string())?;
        if text == "12:01 ERROR no such file\n" { Ok(()) } else { Err(text) }
    });
    run.stop(LIMIT);
}
