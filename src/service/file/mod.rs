//! The pipeline file as it is written: YAML to a located tree, the environment's values put in, and typed readers over
//! it. Everything wrong with the file's form is found in one go.

mod env;
mod origin;
mod positions;
mod read;
mod secret;
mod steps;
mod types;
mod values;
mod yaml;

use self::read::Read;
use super::report::Report;

pub(crate) use origin::Text;
pub(crate) use positions::time;
pub(crate) use read::{At, Entry, Named};
pub(crate) use secret::is_secret;
pub(crate) use steps::*;
pub(crate) use types::*;

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
