//! `tidemill completions`: what a shell completes of this command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;

/// The script for `shell`.
pub(crate) fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
    script
}
