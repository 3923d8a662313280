//! `tidemill check`: each wrong file of `tests/check` against the exact message beside it, and what right files print.
//!
//! `UPDATE_EXPECTED=1 cargo test check` writes what is printed now; read the difference before you commit it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

/// Runs `tidemill check` as a user would, in a folder, with an environment that the tests know.
fn check(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("check")
        .args(args)
        .current_dir(folder)
        .env_remove("KAFKA_BROKERS")
        .env_remove("TIDEMILL_DATA")
        .env_remove("TIDEMILL_HTTP")
        .env("BAD_NUMBER", "many")
        .output()
        .expect("the binary was built for this test")
}

/// Compares with the file beside, or writes it if asked to.
fn compare(found: &str, expected: &Path, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(expected, found).expect("the folder can be written");
        return;
    }
    let text = std::fs::read_to_string(expected).unwrap_or_default();
    if text != found {
        wrong.push(format!("--- {}\n{text}+++ found\n{found}", expected.display()));
    }
}

#[test]
fn wrong_files_get_the_expected_messages() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 60, "only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("the names are ours");
        let output = check(&folder(), &[name]);
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() != Some(2) || !output.stdout.is_empty() {
            wrong.push(format!(
                "{name}: {} with\n{}",
                output.status,
                String::from_utf8_lossy(&output.stdout)
            ));
        }
        compare(&shown, &file.with_extension("expected"), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn right_files_are_shown() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut wrong = Vec::new();
    for name in ["word-count", "trending"] {
        for format in ["text", "mermaid"] {
            let output = check(&config, &["--format", format, &format!("{name}.yaml")]);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let expected = folder().join(format!("{name}.{format}"));
            compare(&String::from_utf8_lossy(&output.stdout), &expected, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_most_likely_not_meant_is_a_warning() {
    let output = check(&folder().join("right"), &["unused.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut wrong = Vec::new();
    compare(&String::from_utf8_lossy(&output.stderr), &folder().join("right/unused.expected"), &mut wrong);
    compare(&String::from_utf8_lossy(&output.stdout), &folder().join("right/unused.text"), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_not_there_is_wrong_usage() {
    let output = check(&folder(), &["no-such-file.yaml"]);
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.starts_with("error: cannot read the pipeline file no-such-file.yaml: "), "{shown}");
    assert!(shown.contains("No such file"), "{shown}");
}
