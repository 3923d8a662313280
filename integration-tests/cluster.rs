//! A cluster with a second broker, and one that does not allow everything.

use std::time::Duration;

use crate::support::crash::{
    PARTITIONS, Sender, Sent, application, batches, examine, first_batch, numbers, pipeline, read_on,
};
use crate::support::{Broker, Http, Record, Run, eventually, unique_name, word_count_as};

const LIMIT: Duration = Duration::from_secs(120);
const FILE: &str = "pipeline.yaml";
const OUTPUTS: [&str; 2] = ["each", "totals"];

fn exactly_once(name: &str) -> String {
    pipeline(name, "exactly-once", &OUTPUTS)
}

/// Moves all partitions of `topics` to the broker with the number `to`, and waits until they are there.
fn move_partitions(broker: &Broker, topics: &[(&str, i32)], to: i32) {
    let places = topics.iter().flat_map(|(topic, partitions)| {
        (0..*partitions)
            .map(move |p| format!("{{\"topic\":\"{topic}\",\"partition\":{p},\"replicas\":[{to}]}}"))
    });
    let plan = format!("{{\"version\":1,\"partitions\":[{}]}}", places.collect::<Vec<_>>().join(","));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    std::fs::write(&file, plan).unwrap();
    let file = file.to_str().unwrap();
    let reassign = |action: &str| {
        let arguments = ["--bootstrap-server", broker.bootstrap(), "--reassignment-json-file", file, action];
        broker.tool("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", &arguments)
    };
    reassign("--execute");
    eventually(LIMIT, "the partitions' move", || {
        let said = reassign("--verify");
        (!said.contains("in progress")).then_some(()).ok_or(said)
    });
}

#[test]
fn a_coordinator_and_leaders_that_move_lose_nothing() {
    let broker = Broker::start();
    let second = broker.join(2);
    let (name, app) = application(&broker, "moved", exactly_once);
    let sender = Sender::start(&broker, &name, false);
    let mut run = app.start();
    first_batch(&mut run);
    let all = [("__transaction_state", 4), ("__consumer_offsets", 4), (&*name, PARTITIONS)];
    for to in [2, 1] {
        move_partitions(&broker, &all, to);
        let done = batches(&mut run, 0);
        batches(&mut run, done);
    }
    let sent = sender.stop().found_in(&broker, &name);
    read_on(&mut run, sent.records());
    run.stop(LIMIT);
    assert_eq!(examine(&broker, &name, &OUTPUTS, sent), (0, 0));
    drop(second);
}

#[test]
fn a_partition_without_a_leader_is_told_waited_for_and_keeps_no_other_waiting() {
    let broker = Broker::start();
    let name = unique_name("leaderless");
    broker.create_topic(&name, 1);
    let numbers =
        |partition: i32| (0..10).map(move |n| Record::from(format!("word{n}")).partition(partition));
    broker.produce(&name, numbers(0));
    // All that they need is on the first broker, before there is another one.
    let mut running = ["arrival", "timestamp"].map(|slicing| {
        let app = format!("{name}-{slicing}");
        let topics = format!("topics: [{name}]\n      slicing: {slicing}\n      discovery_interval: 500ms");
        let own = format!("topics: [{app}]");
        let text = word_count_as(&app, &[(own.as_str(), topics.as_str())]);
        let mut run = broker.run(FILE).file(FILE, &text).start();
        (run.http(), run)
    });
    let committed = |running: &[(Http, Run)], partition: &str, count: f64| {
        for (http, run) in running {
            eventually(LIMIT, "the records", || {
                let read =
                    http.metrics().sum("tidemill_source_committed_offset", &[("partition", partition)]);
                (read == count).then_some(()).ok_or_else(|| format!("{read} of {count}: {}", run.stderr()))
            });
        }
    };
    committed(&running, "0", 10.0);
    let mut second = broker.join(2);
    let grow = ["--alter", "--topic", &*name, "--partitions", "2", "--replica-assignment", "1,2"];
    let server = ["--bootstrap-server", broker.bootstrap()];
    broker.tool("org.apache.kafka.tools.TopicCommand", &[&server[..], &grow].concat());
    broker.produce(&name, numbers(1));
    committed(&running, "1", 10.0);

    second.kill();
    for (http, run) in &mut running {
        let line = run.wait_for_stderr("no leader now", LIMIT);
        assert!(line.contains(&format!("{name}-1")) && !line.contains(&format!("{name}-0")), "{line}");
        let away = eventually(LIMIT, "what health is to tell", || {
            let (status, text) = http.get("/readyz");
            let is_told = status == 503 && text.contains("no leader");
            is_told.then(|| http.metrics().sum("tidemill_source_away_seconds", &[])).ok_or(text)
        });
        assert!(away > 0.0, "{away}");
    }
    // It stays so, whoever asks the cluster meanwhile; and by arrival the other partition is read on.
    broker.produce(&name, numbers(0));
    committed(&running[..1], "0", 20.0);
    for (http, _) in &running {
        let (status, text) = http.get("/readyz");
        assert_eq!(status, 503, "{text}");
    }
    // Who begins at the end has to know where that is.
    let late = format!("{name}-late");
    let topics = format!("topics: [{name}]");
    let text = word_count_as(
        &late,
        &[
            (&format!("topics: [{late}]"), &topics),
            ("wait: 30s", "wait: 3s"),
            ("start: earliest", "start: latest"),
        ],
    );
    let mut run = broker.run(FILE).file(FILE, &text).start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(1), "{}", run.stderr());
    let told = run.stderr();
    assert!(told.contains(&format!("no leader now for {name}-1")), "{told}");

    second.restart();
    broker.produce(&name, numbers(1));
    committed(&running, "0", 20.0);
    committed(&running, "1", 20.0);
    for (http, run) in &mut running {
        eventually(LIMIT, "readiness", || match http.get("/readyz") {
            (200, _) => Ok(()),
            (_, text) => Err(text),
        });
        run.stop(LIMIT);
    }
}

/// Has the broker refuse `operation` on `resource` (`--topic NAME`, …), or allow it again.
fn deny(broker: &Broker, denied: bool, operation: &str, resource: [&str; 2]) {
    let change = if denied { "--add" } else { "--remove" };
    let rule = [change, "--force", "--deny-principal", "User:ANONYMOUS", "--operation", operation];
    let server = ["--bootstrap-server", broker.bootstrap()];
    broker.tool("org.apache.kafka.tools.AclCommand", &[&server[..], &rule, &resource].concat());
}

#[test]
fn what_kafka_does_not_allow_ends_the_run_with_what_is_missing() {
    let (broker, _proxy) = Broker::start_with(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true",
    );
    let (name, app) = application(&broker, "refused", exactly_once);
    broker.produce(&name, numbers(0..100));
    let mut run = app.start();
    first_batch(&mut run);
    read_on(&mut run, 100);
    run.stop(LIMIT);

    let output = format!("{name}-each");
    let transactional_id = format!("{name}-0");
    let mut sent = 100;
    let mut wrong = Vec::new();
    for (operation, resource, said) in [
        ("read", ["--topic", &*name], &*name),
        ("read", ["--group", &*name], "consumer group"),
        ("write", ["--topic", &*output], &*output),
        ("write", ["--transactional-id", &*transactional_id], &*name),
    ] {
        broker.produce(&name, numbers(sent..sent + 100));
        sent += 100;
        deny(&broker, true, operation, resource);
        let mut run = app.start();
        let code = run.wait_exit(LIMIT).code();
        let shown = run.stderr();
        let message = shown.lines().find(|line| line.starts_with("error: ")).unwrap_or(&shown);
        let lowered = message.to_lowercase();
        let tells = lowered.contains("authoriz") || lowered.contains("not allowed");
        if !matches!(code, Some(1 | 2)) || !tells || !message.contains(said) {
            wrong.push(format!("{operation} {resource:?}, {code:?}: {message}"));
        }
        deny(&broker, false, operation, resource);
        // Allowed again, it goes on where it was.
        let mut run = app.start();
        read_on(&mut run, sent);
        run.stop(LIMIT);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(examine(&broker, &name, &OUTPUTS, Sent::all(sent)), (0, 0));
}
