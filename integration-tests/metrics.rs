//! The HTTP port of a running pipeline: the series that people watch, with the values that a known input must give, in a
//! form that Prometheus' own linter has nothing against.

use std::process::Command;
use std::time::Duration;

use crate::support::{Broker, Metrics, Record, eventually, output, unique_name, word_count_as};

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "pipeline.yaml";

/// Four words of three kinds in two records of 3 and 4 bytes, and one of 1 byte with a key of 2.
const FIRST: [&str; 2] = ["a b", "a\tc "];

#[test]
fn metrics_tell_what_was_done() {
    let broker = Broker::shared();
    let name = unique_name("measured");
    let mut run = broker.run(FILE).file(FILE, &word_count_as(&name, &[])).start();
    let http = run.http();
    assert_eq!(http.get("/healthz").0, 200);
    // It waits for its topic.
    let (status, body) = http.get("/readyz");
    assert_eq!(status, 503, "{body}");
    assert_eq!(http.get("/nothing").0, 404);

    broker.create_topic(&name, 2);
    eventually(LIMIT, "readiness", || match http.get("/readyz") {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
    broker.produce(&name, FIRST.map(|line| Record::from(line).partition(0)));
    broker.produce(&name, [Record::from(("k1", "a")).partition(1)]);
    http.wait_until_read(2, 3, LIMIT);
    // One line per word and window comes with every tenth second, so the window's state has been shown.
    let windows = format!("{name}-window-counts");
    let metrics = eventually(LIMIT, "a window", || {
        let metrics = http.metrics();
        let sent = metrics.sum("tidemill_sink_records_total", &[("topic", &windows)]);
        if sent >= 3.0 { Ok(metrics) } else { Err(metrics.0) }
    });
    assert_eq!(http.get("/readyz"), (200, "ready\n".to_owned()));

    let lint = check_metrics(&metrics);
    assert_eq!(lint, "", "{}", metrics.0);
    assert_values(&metrics, &name);

    run.stop(LIMIT);
    assert_eq!(broker.committed(&name, &name), [(0, 2), (1, 1)].into());
}

#[track_caller]
fn assert_values(metrics: &Metrics, name: &str) {
    let value = |metric: &str, labels: &[(&str, &str)]| {
        let app = [("app", name)];
        metrics.one(&format!("tidemill_{metric}"), &[&app[..], labels].concat())
    };
    for (partition, records) in [("0", 2.0), ("1", 1.0)] {
        let place = [("topic", name), ("partition", partition)];
        assert_eq!(value("source_records_total", &place), records);
        assert_eq!(value("source_committed_offset", &place), records);
        assert_eq!(value("source_latest_offset", &place), records);
        assert_eq!(value("source_lag_records", &place), 0.0);
        assert_eq!(value("source_lag_seconds", &place), 0.0);
    }
    assert_eq!(value("source_bytes_total", &[]), 3.0 + 4.0 + 1.0 + 2.0);
    assert_eq!(value("source_bad_records_total", &[]), 0.0);

    // In one batch three words have new totals; in two, `a` of the second batch comes again.
    for output in ["counts", "totals"] {
        let topic = format!("{name}-{output}");
        let sent = value("sink_records_total", &[("topic", &topic)]);
        assert!((3.0..=4.0).contains(&sent), "{topic}: {sent}");
    }
    let batches = value("batches_total", &[("status", "succeeded")]);
    assert!(batches >= 1.0, "{batches}");
    assert_eq!(value("batches_total", &[("status", "failed")]), 0.0);
    for histogram in ["batch_processing_seconds", "batch_total_delay_seconds"] {
        assert_eq!(value(&format!("{histogram}_count"), &[]), batches, "{histogram}");
    }
    let [processing, total] =
        ["processing", "total_delay"].map(|it| value(&format!("batch_{it}_seconds_sum"), &[]));
    assert!(0.0 < processing && processing <= total, "{processing} {total}");
    // A batch may be submitted, and not completed yet.
    assert!(value("batch_scheduling_delay_seconds_count", &[]) >= batches);
    assert_eq!(value("batch_interval_seconds", &[]), 1.0);

    for operator in ["totals", "window_counts"] {
        assert_eq!(value("state_keys", &[("operator", operator)]), 3.0, "{operator}");
        assert!(value("state_size_bytes", &[("operator", operator)]) > 0.0, "{operator}");
    }
}

/// What the linter complains of. It came with `scripts/setup test`; on a machine without it there is nothing to ask.
fn check_metrics(metrics: &Metrics) -> String {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: there is no promtool here, run scripts/setup test");
        return String::new();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "promtool check metrics 2>&1 || true"]);
    output(command, &metrics.0)
}
