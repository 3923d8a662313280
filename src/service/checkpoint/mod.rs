//! `tidemill checkpoint`: what a checkpoint says about batches, whether it is whole, and whether a pipeline fits it.

mod diff;
mod show;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::EXIT_CONFIG;
use super::target::{Shape, Target};

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Whose it is, where it stands, and what it keeps.
    #[command(
        override_usage = "tidemill checkpoint show (FILE | --checkpoint DIR) [--format json]",
        after_help = "\
Examples:
  tidemill checkpoint show config/word-count.yaml
  tidemill checkpoint show --checkpoint data/word-count --format json"
    )]
    Show(LookArgs),
    /// Read all of it, and tell what is wrong.
    #[command(
        override_usage = "tidemill checkpoint verify (FILE | --checkpoint DIR) [--format json]",
        after_help = "\
Examples:
  tidemill checkpoint verify --checkpoint data/word-count

Exit code 1 if anything is wrong."
    )]
    Verify(LookArgs),
    /// What becomes of the state if the pipeline FILE is started on the checkpoint.
    #[command(after_help = "\
Examples:
  tidemill checkpoint diff config/word-count.yaml
  tidemill checkpoint diff config/word-count.yaml --checkpoint backups/monday

Exit code 0 if a start would go on from the checkpoint, 1 if it would be refused, 2 if the file is wrong.")]
    Diff(DiffArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    target: Target,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    format: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Another checkpoint than the file's.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    format: Shape,
}

/// Does it; the exit code tells whether all is well.
pub(super) fn run(command: &CheckpointCommand) -> anyhow::Result<ExitCode> {
    match command {
        CheckpointCommand::Show(args) => match args.target.resolve(&[])? {
            Some((place, _)) => show::show(&place, args.format),
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        },
        CheckpointCommand::Verify(args) => match args.target.resolve(&[])? {
            Some((place, _)) => verify::verify(&place, args.format),
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        },
        CheckpointCommand::Diff(args) => match super::load(&args.file)? {
            Some(config) => {
                let folder = args.checkpoint.clone().unwrap_or_else(|| config.checkpoint.clone());
                diff::diff(&config, &folder, args.format)
            }
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        },
    }
}
