//! The `tidemill` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemill::service::main_entry(std::env::args_os())
}
