//! The command line: help, exit codes, and errors without a panic.

use std::process::{Command, Output};

fn tidemill(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(args)
        .env_remove("TIDEMILL_LOG")
        .env_remove("TIDEMILL_LOG_FORMAT")
        .output()
        .expect("the binary was built for this test")
}

#[test]
fn help_shows_examples() {
    let state =
        ["list", "get", "scan", "export", "import", "drop", "rename", "repartition", "backup", "restore"];
    let state = state.map(|command| ["state", command, "--help"]);
    let checkpoint = ["show", "verify", "diff"].map(|command| ["checkpoint", command, "--help"]);
    let commands = [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["test", "--help"],
        &["schema", "--help"],
        &["demo", "--help"],
        &["query", "--help"],
        &["replay", "--help"],
        &["dead-letters", "--help"],
        &["dead-letters", "list", "--help"],
        &["dead-letters", "resend", "--help"],
    ];
    let more = [&["state", "--help"][..], &["checkpoint", "--help"]].into_iter();
    let sources = ["x", "bluesky", "socket", "file", "generate"].map(|source| ["bridge", source, "--help"]);
    let more = more.chain([&["bridge", "--help"][..], &["health", "--help"], &["completions", "--help"]]);
    let more = more
        .chain(sources.iter().map(|args| &args[..]))
        .chain(state.iter().map(|args| &args[..]))
        .chain(checkpoint.iter().map(|args| &args[..]));
    for args in commands.into_iter().chain(more) {
        let output = tidemill(args);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(shown.contains("Examples:\n  tidemill "), "{args:?}: {shown}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in
        [&["rnu"][..], &["check"], &["demo", "--interval", "soon"], &["check", "--format", "svg", "f.yaml"]]
    {
        let output = tidemill(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_pipeline_file_ends_a_run_with_2_before_anything_is_read() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check/unknown-operator.yaml");
    let output = tidemill(&["run", file]);
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("unknown operator `reduce_by_keys`"), "{shown}");
}

#[test]
fn a_wrong_log_format_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["run", "no-such-file.yaml"])
        .env("TIDEMILL_LOG_FORMAT", "xml")
        .output()
        .expect("the binary was built for this test");
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert_eq!(shown, "error: TIDEMILL_LOG_FORMAT must be `text` or `json`, not `xml`\n");
}

#[test]
fn the_demo_shows_trending_hashtags_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["demo", "--batches", "15", "--interval", "200ms"])
        .env("TMPDIR", temporary.path())
        .output()
        .expect("it starts");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // One table per batch where the output is no terminal, the last with the most used hashtag on top.
    assert_eq!(shown.matches("Trending hashtags").count(), 15, "{shown}");
    assert!(shown.contains("batch 15: "), "{shown}");
    assert!(shown.rsplit("Trending hashtags").next().is_some_and(|last| last.contains(" 1    #")), "{shown}");
    assert_eq!(std::fs::read_dir(temporary.path()).expect("it is there").count(), 0);
}

#[test]
fn shells_complete_commands_and_sources() {
    for shell in ["bash", "zsh", "fish"] {
        let output = tidemill(&["completions", shell]);
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(
            ["checkpoint", "bridge", "bluesky"].iter().all(|word| script.contains(word)),
            "{shell}: {script}"
        );
    }
}

#[test]
fn health_is_asked_of_a_running_instance() {
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let output = tidemill(&["health", &nobody.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&nobody.to_string()));
    assert_eq!(tidemill(&["health", "nothing"]).status.code(), Some(2));
}
