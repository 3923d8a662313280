//! What the service says on standard error: JSON with fields to look for, text on a terminal, and no floods.

use std::process::Command;

use serde_json::Value;

use crate::lines::Lines;
use crate::ui::browser::eventually;

/// Lines of JSON, each with what every line must have.
#[track_caller]
fn parsed(log: &str) -> Vec<Value> {
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
    }
    lines
}

fn said<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

#[test]
fn lines_of_a_batch_bear_its_time_and_the_operator() {
    let mut lines = Lines::run(
        "200ms",
        "format: text",
        "streams:
  halves:
    map: { from: lines, select: { value: value, half: \"100 / cast(value as bigint)\" } }
  sums:
    map_with_state: { from: halves, key: [value], state: { sum: \"sum(half)\" } }
outputs:
  - { from: sums, table: {} }
  - { from: halves, table: {} }
",
    );
    lines.send("50");
    let done = lines.running.wait_for_log("\"records\":1,");
    assert!(parsed(&done)[0]["batch_time"].as_i64().is_some(), "{done}");
    lines.send("0");
    assert_eq!(lines.running.end(), Some(1));

    let log = lines.running.log();
    let text = log.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>().join("\n");
    let lines = parsed(&text);
    let [failed] = said(&lines, "batch failed")[..] else { panic!("{log}") };
    let time = failed["batch_time"].as_i64().expect("a number");
    assert_eq!(time % 200, 0, "{failed}");
    // Both that fail tell it, each under its name.
    let operators: Vec<_> = said(&lines, "operator failed").iter().map(|line| &line["operator"]).collect();
    assert_eq!(operators, ["sums"], "{log}");
    let outputs = said(&lines, "output operation failed");
    let told: Vec<_> = outputs.iter().map(|line| (&line["operator"], &line["output_operation"])).collect();
    assert_eq!(told, [(&"table(sums)".into(), &0.into()), (&"table(halves)".into(), &1.into())], "{log}");
    for line in said(&lines, "operator failed").into_iter().chain(outputs) {
        assert_eq!((line["batch_time"].as_i64(), &line["level"]), (Some(time), &"ERROR".into()), "{line}");
        assert!(line["error"].as_str().unwrap().contains("zero"), "{line}");
    }
}

#[test]
fn floods_are_said_now_and_then() {
    let source = "format: json\n    schema: { n: bigint }\n    on_bad_record: skip";
    let mut lines = Lines::run("20ms", source, "outputs:\n  - { from: lines, table: {} }\n");
    let address = lines.address();
    let bad = || {
        let all = super::ui::get_json(address, "timeline");
        all["badRecords"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).sum::<i64>()
    };
    // Bad records in so many batches.
    for n in 1..=40 {
        lines.send("nonsense");
        eventually("a bad record", || if bad() >= n { Ok(()) } else { Err(lines.running.log()) });
    }
    let log = lines.running.log();
    let lines = parsed(&log);
    let seconds = |line: &Value| {
        let time = humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).expect("RFC 3339");
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
    };
    // A line's stamp is taken a moment after the stopwatch has let it pass, so that two may be a little closer.
    let bad = said(&lines, "records could not be decoded");
    assert!(!bad.is_empty() && bad.iter().all(|line| line["batch_time"].is_i64()), "{log}");
    assert!(bad.windows(2).all(|two| seconds(two[1]) - seconds(two[0]) > 9.5), "{log}");
    // Batches come 50 times a second; twice a second there is a line, which tells of several.
    let batches = said(&lines, "batch completed");
    assert!(batches.windows(2).all(|two| seconds(two[1]) - seconds(two[0]) > 0.2), "{log}");
    assert!(batches.iter().any(|line| line["batches"].as_i64() > Some(1)), "{log}");
}

/// Runs the binary on a terminal of its own, and gives its exit code and what it wrote there.
fn on_a_terminal(command: &str, environment: &[(&str, &str)]) -> Option<(Option<i32>, String)> {
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("{} {command}", env!("CARGO_BIN_EXE_tidemill")), "/dev/null"]);
    script.env_remove("NO_COLOR").envs(environment.iter().copied()).stdin(std::process::Stdio::null());
    let output = script.output().ok()?;
    Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that did nothing says so")]
fn there_are_colours_on_a_terminal_only() {
    let wrong = concat!("check ", env!("CARGO_MANIFEST_DIR"), "/tests/check/unknown-operator.yaml");
    let Some((code, shown)) = on_a_terminal(wrong, &[]) else {
        eprintln!("skipped: there is no `script` here, it comes with util-linux");
        return;
    };
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("\u{1b}["), "{shown}");
    let (_, plain) = on_a_terminal(wrong, &[("NO_COLOR", "1")]).unwrap();
    assert!(!plain.contains('\u{1b}') && plain.contains("unknown operator"), "{plain}");
    let piped = Command::new(env!("CARGO_BIN_EXE_tidemill")).args(wrong.split(' ')).output().unwrap();
    assert!(![piped.stdout, piped.stderr].concat().contains(&0x1b));
}
