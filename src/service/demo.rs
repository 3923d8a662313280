//! `tidemill demo`: the trending pipeline over a broker inside the process.

use super::args::DemoArgs;

/// Runs the demo until Ctrl-C, or for as many batches as were asked for.
pub(crate) fn demo(args: &DemoArgs) -> crate::Result<()> {
    let _ = (args.batches, args.interval);
    Err(crate::Error::internal("the demo is not built yet"))
}
