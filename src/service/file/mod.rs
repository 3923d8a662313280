//! The pipeline file as it is written: YAML to a located tree, the environment's values put in, and typed readers over
//! it. Everything wrong with the file's form is found in one go.

mod cases;
mod env;
mod operators;
mod origin;
mod positions;
mod read;
mod schema;
mod secret;
mod steps;
mod types;
mod values;
mod yaml;

use self::read::Read;
use super::report::Report;

pub(crate) use cases::*;
pub(crate) use operators::*;
pub(crate) use origin::Text;
pub(crate) use positions::time;
pub(crate) use read::{At, Entry, Named};
pub(crate) use secret::is_secret;
pub(crate) use steps::*;
pub(crate) use types::*;
pub(crate) use values::Bytes;

/// The JSON Schema of a pipeline file.
pub(crate) fn json_schema() -> serde_json::Value {
    schema::document::<File>("A Tidemill pipeline")
}

/// The JSON Schema of a file of test cases.
pub(crate) fn cases_json_schema() -> serde_json::Value {
    schema::document::<Cases>("Test cases of a Tidemill pipeline")
}

/// Reads the file of test cases whose text `report` holds; nothing if it has errors.
pub(crate) fn read_cases(report: &mut Report) -> Option<Cases> {
    let Some(mut root) = yaml::parse(report) else {
        if report.is_empty() {
            report.error(0..0, "the file is empty").help("start from config/word-count.test.yaml");
        }
        return None;
    };
    env::substitute(&mut root, report, &|name| std::env::var(name).ok());
    root.key_at = root.at.start..root.at.start;
    Cases::read(&root, report).filter(|_| !report.has_errors())
}

/// Reads the file whose text `report` holds. A file that is returned may still lack what was reported as wrong.
pub(crate) fn read(report: &mut Report) -> Option<File> {
    let Some(mut root) = yaml::parse(report) else {
        if report.is_empty() {
            report.error(0..0, "the file is empty").help("start from config/word-count.yaml");
        }
        return None;
    };
    env::substitute(&mut root, report, &|name| std::env::var(name).ok());
    // A whole file underlined says nothing: what the file itself lacks is shown at its first line.
    root.key_at = root.at.start..root.at.start;
    File::read(&root, report)
}
