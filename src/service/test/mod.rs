//! `tidemill test`: the cases beside a pipeline, run on a clock that stands still, without Kafka.

mod case;
mod junit;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::case::{Outcome, run_case};
use super::args::TestArgs;
use super::file;
use super::report::Report;
use crate::error::Error;

/// What became of a file of cases.
struct Suite {
    name: String,
    cases: Vec<(String, Outcome)>,
}

/// Runs all cases of all files.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut suites = Vec::new();
    for path in &args.files {
        let Some(suite) = suite(&cases_of(path), args.case.as_deref(), &mut out)? else {
            return Ok(ExitCode::from(super::EXIT_CONFIG));
        };
        suites.push(suite);
    }
    if let Some(path) = &args.junit {
        junit::write(&suites, path)?;
    }
    let cases = || suites.iter().flat_map(|suite| &suite.cases);
    let (all, failed) = (cases().count(), cases().filter(|(_, outcome)| outcome.failure.is_some()).count());
    // Whoever reads this may have gone; the exit code tells, too.
    let _ = match failed {
        0 => writeln!(out, "{all} passed"),
        _ => writeln!(out, "{failed} of {all} failed"),
    };
    if all == 0 {
        return Err(Error::config("there is no such case").into());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The file of cases: `a.test.yaml` beside the pipeline `a.yaml`.
fn cases_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".test.yaml") || name.ends_with(".test.yml") {
        return path.to_owned();
    }
    match name.rsplit_once('.') {
        Some((name, extension)) => path.with_file_name(format!("{name}.test.{extension}")),
        None => path.with_file_name(format!("{name}.test.yaml")),
    }
}

/// Runs the cases of one file, those whose names hold `only`; nothing after what is wrong with the files was shown.
fn suite(path: &Path, only: Option<&str>, out: &mut impl Write) -> anyhow::Result<Option<Suite>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::config(format!("cannot read the test cases {}", path.display())).with_source(error)
    })?;
    let name = path.display().to_string();
    let mut report = Report::new(&*name, text);
    let Some(cases) = file::read_cases(&mut report) else {
        super::show(&report);
        return Ok(None);
    };
    let pipeline = match &cases.pipeline {
        Some(pipeline) => path.parent().unwrap_or(Path::new("")).join(&pipeline.value),
        None => PathBuf::from(name.replace(".test.", ".")),
    };
    let Some(config) = super::load(&pipeline)? else { return Ok(None) };
    for case in cases.cases.iter().flat_map(|cases| &cases.value) {
        case::check(&case.value, &config, &mut report);
    }
    if report.has_errors() {
        super::show(&report);
        return Ok(None);
    }
    let mut suite = Suite { name, cases: Vec::new() };
    for case in cases.cases.iter().flat_map(|cases| &cases.value) {
        let case_name = case.value.name.as_ref().map_or("", |name| &name.value);
        if only.is_some_and(|only| !case_name.contains(only)) {
            continue;
        }
        let outcome = run_case(&case.value, &config, &report);
        let _ = match &outcome.failure {
            None => writeln!(out, "ok      {}: {case_name}", suite.name),
            Some(failure) => writeln!(out, "FAILED  {}: {case_name}\n{}", suite.name, indented(failure)),
        };
        suite.cases.push((case_name.to_owned(), outcome));
    }
    Ok(Some(suite))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
