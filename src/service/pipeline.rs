//! From the checked pipeline to a running `StreamingContext`.

use super::RunOptions;
use super::check::Config;

/// Runs the pipeline until it is told to stop.
pub(crate) fn run(config: &Config, options: &RunOptions) -> crate::Result<()> {
    let _ = (config, options);
    Err(crate::Error::internal("running a pipeline is not built yet"))
}
