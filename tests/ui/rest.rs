//! REST, server-sent events, health, and who may ask.

use std::io::{BufRead, BufReader, Write};

use serde_json::json;
use tidemill::testing::TestContext;
use tidemill::{Error, HttpServer};

use super::{Answer, api, ask, connect, get, serve, settings};

/// Three batches of 3, 1 and 0 numbers, tens of them by their remainder, counted under the uid `sums`.
fn sums() -> (TestContext, HttpServer) {
    let test = TestContext::new("sums").expect("a context");
    let tens = test.input([vec![1, 2, 3], vec![4]]).map(|n| n * 10);
    let sums = tens
        .filter(|n| *n > 10)
        .map(|n| (n % 20, 1))
        .update_state_by_key(|new, sum: Option<u64>| Some(sum.unwrap_or(0) + new.iter().sum::<u64>()));
    sums.uid("sums").expect("it keeps state").foreach_rdd(|rdd| rdd.count().map(drop));
    tens.foreach_rdd(|rdd| rdd.count().map(drop));
    let server = serve(&test);
    (test, server)
}

#[test]
fn statistics_and_batches_are_told_with_sparks_names() {
    let (test, server) = sums();
    assert_eq!(api(&server, "statistics")["state"], "INITIALIZED");
    assert_eq!(get(&server, "/readyz").status, 503);
    test.ssc.start().unwrap();
    (0..3).for_each(|_| test.step().unwrap());
    assert_eq!(get(&server, "/readyz").body, "ready\n");

    let statistics = api(&server, "statistics");
    for (name, value) in [
        ("appName", json!("sums")),
        ("state", json!("ACTIVE")),
        ("startTime", json!("1970-01-01T00:00:00.000Z")),
        ("batchDuration", json!(1_000)),
        ("numTotalCompletedBatches", json!(3)),
        ("numRetainedCompletedBatches", json!(3)),
        ("numActiveBatches", json!(0)),
        ("numReceivers", json!(0)),
        ("avgSchedulingDelay", json!(0.0)),
    ] {
        assert_eq!(statistics[name], value, "{name} of {statistics}");
    }
    assert!(statistics["avgProcessingTime"].as_f64().unwrap() > 0.0, "{statistics}");

    let batches = api(&server, "batches");
    let ids: Vec<_> =
        batches.as_array().unwrap().iter().map(|batch| batch["batchId"].as_i64().unwrap()).collect();
    assert_eq!(ids, [3_000, 2_000, 1_000]);
    assert_eq!(batches[0]["batchTime"], "1970-01-01T00:00:03.000Z");
    assert_eq!(batches[0]["status"], "COMPLETED");
    assert_eq!(batches[0]["numTotalOutputOps"], 2);
    assert_eq!(batches[0]["numFailedOutputOps"], 0);
    assert_eq!(api(&server, "batches?status=failed"), json!([]));
    assert_eq!(api(&server, "batches?after=1000&limit=1")[0]["batchId"], 3_000);
    assert_eq!(get(&server, "/api/v1/batches?status=odd").status, 400);

    let batch = api(&server, "batches/1000");
    let phases: Vec<_> = batch["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
    assert_eq!(phases, ["plan", "process", "output", "commit"]);
    let operations = api(&server, "batches/1000/operations");
    assert_eq!(operations, batch["operations"]);
    assert_eq!(operations[1]["name"], "foreach_rdd");
    assert_eq!(operations[1]["outputOpId"], 1);
    assert!(operations[1]["description"].as_str().unwrap().contains("tests/ui/rest.rs"), "{operations}");
    assert_eq!(get(&server, "/api/v1/batches/999/operations").status, 404);
    assert_eq!(api(&server, "timeline?after=1000")["batchId"], json!([2_000, 3_000]));
    test.ssc.stop(true).unwrap();
    assert!(get(&server, "/readyz").body.contains("stopped"));
}

#[test]
fn the_graph_tells_what_each_operator_gave_and_keeps() {
    let (test, server) = sums();
    test.run(2).unwrap();
    let graph = api(&server, "streams");
    let streams = graph["streams"].as_array().unwrap();
    let told: Vec<_> = streams
        .iter()
        .map(|s| {
            (
                s["operator"].as_str().unwrap(),
                s["numRecords"].as_u64().unwrap(),
                s["numTotalRecords"].as_u64().unwrap(),
            )
        })
        .collect();
    // Of 10, 20, 30 and then 40 all but 10 pass; their remainders are 0, 10 and 0.
    let expected = [
        ("queue_stream", 1, 4),
        ("map", 1, 4),
        ("filter", 1, 3),
        ("map", 1, 3),
        ("update_state_by_key", 2, 4),
    ];
    assert_eq!(told, expected);
    assert_eq!(streams[4]["uid"], "sums");
    assert_eq!(streams[4]["parents"], json!([3]));
    assert_eq!(graph["outputs"][1]["streamId"], 1);
    let state = api(&server, "state");
    assert_eq!((&state[0]["operator"], &state[0]["numKeys"]), (&json!("sums"), &json!(2)));
    assert_eq!(api(&server, "lag"), json!([]));
}

#[test]
fn a_failed_batch_says_why() {
    let test = TestContext::new("failing").unwrap();
    test.input([vec![1], vec![0]]).foreach_rdd(|rdd| match rdd.collect()?.first() {
        Some(0) => Err(Error::output("the disk is full")),
        _ => Ok(()),
    });
    let server = serve(&test);
    assert!(test.run(2).is_err());
    let failed = api(&server, "batches?status=failed");
    assert_eq!(failed.as_array().unwrap().len(), 1, "{failed}");
    let batch = &failed[0];
    assert_eq!((&batch["batchId"], &batch["numFailedOutputOps"]), (&json!(2_000), &json!(1)));
    assert!(batch["firstFailureReason"].as_str().unwrap().contains("the disk is full"), "{batch}");
    let operation = &api(&server, "batches/2000/operations")[0];
    assert_eq!(operation["status"], "FAILED");
    assert!(operation["failureReason"].as_str().unwrap().contains("the disk is full"), "{operation}");
    let statistics = api(&server, "statistics");
    assert_eq!((&statistics["numTotalFailedBatches"], &statistics["state"]), (&json!(1), &json!("STOPPED")));
}

#[test]
fn everything_that_the_description_names_is_there() {
    let (test, server) = sums();
    test.run(1).unwrap();
    let description = api(&server, "openapi.json");
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let real = path.replace("{batchId}", "1000");
        for method in methods.as_object().unwrap().keys() {
            let answer = match method.as_str() {
                // It would never end.
                "get" if path.ends_with("/events") => continue,
                "get" => get(&server, &real),
                _ => ask(
                    server.address(),
                    "POST",
                    &real,
                    &["content-type: application/json"],
                    "{\"sql\":\"select 1\"}",
                ),
            };
            // Without live tables there is nothing to ask, and the answer says so.
            let expected = if path.ends_with("/query") { 404 } else { 200 };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.body);
        }
    }
    let has = |path: &str| paths.contains_key(&format!("/api/v1/{path}"));
    for path in [
        "statistics",
        "batches",
        "batches/{batchId}",
        "batches/{batchId}/operations",
        "streams",
        "state",
        "lag",
        "events",
    ] {
        assert!(has(path), "{path} is not described");
    }
    let fields = &description["components"]["schemas"]["StreamingStatistics"]["properties"];
    assert!(fields["numTotalCompletedBatches"].is_object(), "{fields}");
}

#[test]
fn who_has_no_token_learns_nothing() {
    let (test, _) = sums();
    let server = HttpServer::start(&test.ssc, settings().token("open sesame")).unwrap();
    let with = |path: &str, header: &str| ask(server.address(), "GET", path, &[header], "");
    for path in ["/api/v1/statistics", "/api/v1/events", "/metrics", "/api/v1/openapi.json"] {
        for header in ["accept: */*", "authorization: Bearer sesame", "authorization: Basic open sesame"] {
            let answer = with(path, header);
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(!answer.body.contains("sums"), "{}", answer.body);
        }
    }
    assert_eq!(with("/api/v1/statistics", "authorization: bearer open sesame").status, 200);
    // The page asks for the token; supervisors have none.
    for path in ["/", "/page/main.js", "/healthz"] {
        let Answer { status, head, body } = get(&server, path);
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        assert!(!body.contains("sums") && !body.contains("sesame"), "{path}");
    }
    assert_eq!(get(&server, "/page/nothing.js").status, 404);
}

#[test]
fn events_are_told_as_they_happen_and_end_with_the_server() {
    let (test, server) = sums();
    test.ssc.start().unwrap();
    let mut stream = connect(server.address());
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.find(|line| line.is_empty()).expect("the end of the head");
    test.step().unwrap();
    let mut next = |prefix: &str| lines.find(|line| line.starts_with(prefix)).expect("the stream goes on");
    next("event: batchSubmitted");
    next("event: batchStarted");
    next("event: batchCompleted");
    let batch: serde_json::Value = serde_json::from_str(&next("data:")[5..]).unwrap();
    assert_eq!((&batch["batchId"], &batch["status"]), (&json!(1_000), &json!("COMPLETED")));
    // Whoever follows does not keep it from stopping.
    drop(server);
    assert!(lines.all(|line| !line.starts_with("event:")));
}

#[test]
fn ten_thousand_batches_are_kept_and_no_more() {
    let test = TestContext::new("many").unwrap();
    test.input([vec![1]]).foreach_rdd(|_| Ok(()));
    let server = serve(&test);
    test.run(10_020).unwrap();
    let ids = api(&server, "timeline")["batchId"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_i64().unwrap())
        .collect::<Vec<_>>();
    assert_eq!((ids.len(), ids[0], ids[9_999]), (10_000, 21_000, 10_020_000));
    let statistics = api(&server, "statistics");
    assert_eq!(statistics["numTotalCompletedBatches"], 10_020);
    assert_eq!(statistics["numRetainedCompletedBatches"], 10_000);
    assert_eq!(get(&server, "/api/v1/batches/20000").status, 404);
    assert_eq!(api(&server, "batches/21000")["detailed"], true);
    assert_eq!(api(&server, "batches?limit=20000").as_array().unwrap().len(), 10_000);
}
