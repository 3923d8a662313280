//! The outcome as JUnit's XML, which build servers show.

use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Suite;
use crate::error::Error;

/// Writes one suite per file of cases.
pub(super) fn write(suites: &[Suite], path: &Path) -> anyhow::Result<()> {
    let mut report = Report::new("tidemill test");
    for suite in suites {
        let mut junit = TestSuite::new(&suite.name);
        for (name, outcome) in &suite.cases {
            let status = match &outcome.failure {
                None => TestCaseStatus::success(),
                Some(failure) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(failure.lines().next().unwrap_or_default()).set_description(failure);
                    status
                }
            };
            let mut case = TestCase::new(name, status);
            case.set_classname(&suite.name);
            junit.add_test_case(case);
        }
        report.add_test_suite(junit);
    }
    let failed =
        |error: &dyn std::fmt::Display| Error::output(format!("cannot write {}: {error}", path.display()));
    let xml = report.to_string().map_err(|e| failed(&e))?;
    Ok(std::fs::write(path, xml).map_err(|e| failed(&e))?)
}
