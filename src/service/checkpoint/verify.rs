//! `checkpoint verify`

use std::process::ExitCode;

use serde_json::json;

use crate::commit::Batches;
use crate::service::target::{Out, Place, Shape};
use crate::state::Verified;

pub(super) fn verify(place: &Place, shape: Shape) -> anyhow::Result<ExitCode> {
    // One that cannot even be opened has its problems, too.
    let Verified { records, bytes, problems, .. } = match place.read() {
        Err(error) => Verified { problems: vec![error.to_string()], ..Verified::default() },
        Ok(store) => Batches::verify(&store),
    };
    let folder = place.folder.display();
    let mut out = Out::new();
    match shape {
        Shape::Json => out.line(json!({
            "checkpoint": folder.to_string(),
            "records": records,
            "bytes": bytes,
            "problems": problems,
        }))?,
        Shape::Text if problems.is_empty() => {
            out.line(format_args!("{folder}: {records} records of {bytes} bytes, nothing is wrong"))?;
        }
        Shape::Text => {
            out.line(format_args!("{folder}: {} problems", problems.len()))?;
            problems.iter().try_for_each(|problem| out.line(format_args!("  {problem}")))?;
        }
    }
    out.finish()?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
