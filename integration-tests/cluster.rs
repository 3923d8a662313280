//! A cluster with a second broker, and one that does not allow everything.

use std::time::Duration;

use crate::support::crash::{
    PARTITIONS, Sender, Sent, application, batches, examine, first_batch, numbers, pipeline, read_on,
};
use crate::support::{Broker, eventually};

const LIMIT: Duration = Duration::from_secs(120);
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
    let sent = sender.stop();
    read_on(&mut run, sent.numbers);
    run.stop(LIMIT);
    assert_eq!(examine(&broker, &name, &OUTPUTS, sent), (0, 0));
    drop(second);
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
