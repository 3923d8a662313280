//! `tidemill state`: looks at what operators keep, and changes it while no instance runs.

mod change;
mod copy;
mod list;
mod look;
mod running;

pub(super) use running::post;
mod transfer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(super) use self::list::{operators, text};
use super::EXIT_CONFIG;
use super::target::{Place, Shape, Target};

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// The operators that have state: types, keys, bytes.
    #[command(
        override_usage = "tidemill state list (FILE | --checkpoint DIR) [--format json]",
        after_help = "\
Examples:
  tidemill state list config/word-count.yaml
  tidemill state list --checkpoint data/word-count --format json"
    )]
    List(ListArgs),
    /// What is kept for one key, as JSON.
    #[command(
        override_usage = "tidemill state get (FILE | --checkpoint DIR) UID KEY",
        after_help = "\
Examples:
  tidemill state get config/word-count.yaml totals be
  tidemill state get --checkpoint data/app pairs '[\"a\",1]'

KEY is JSON; a text key may be given as it is. Exit code 1 if the key is not there."
    )]
    Get(GetArgs),
    /// What is kept for all keys, one JSON object a line.
    #[command(
        override_usage = "tidemill state scan (FILE | --checkpoint DIR) UID [--limit N] [--prefix TEXT]",
        after_help = "\
Examples:
  tidemill state scan config/word-count.yaml totals --prefix to --limit 10"
    )]
    Scan(ScanArgs),
    /// Write state to a file (or standard output) that `import` takes back, byte for byte.
    #[command(
        override_usage = "tidemill state export (FILE | --checkpoint DIR) (UID | --all) [--to PATH]",
        after_help = "\
Examples:
  tidemill state export config/word-count.yaml totals > totals.jsonl
  tidemill state export --checkpoint data/app --all --to state.jsonl

A line has `raw` beside its JSON where JSON cannot say what is stored (bytes, numbers that are none, the order of
members). To change such a line, delete its `raw`."
    )]
    Export(ExportArgs),
    /// Take in what `export` wrote. The operators must not be there yet.
    #[command(
        override_usage = "tidemill state import (FILE | --checkpoint DIR) PATH",
        after_help = "\
Examples:
  tidemill state import --checkpoint data/app state.jsonl

No instance may be running."
    )]
    Import(ImportArgs),
    /// Delete the state of an operator; shows what would be deleted unless `--execute` is given.
    #[command(
        override_usage = "tidemill state drop (FILE | --checkpoint DIR) UID [--execute]",
        after_help = "\
Examples:
  tidemill state drop config/word-count.yaml totals
  tidemill state drop config/word-count.yaml totals --execute

No instance may be running."
    )]
    Drop(DropArgs),
    /// Give the state of an operator another uid.
    #[command(
        override_usage = "tidemill state rename (FILE | --checkpoint DIR) UID NEW_UID",
        after_help = "\
Examples:
  tidemill state rename config/word-count.yaml totals word_totals

No instance may be running. The program can do the same at its start: `was`."
    )]
    Rename(RenameArgs),
    /// Spread all state over another number of partitions.
    #[command(
        override_usage = "tidemill state repartition (FILE | --checkpoint DIR) N",
        after_help = "\
Examples:
  tidemill state repartition config/word-count.yaml 64

No instance may be running. It happens as a whole or not at all, whenever it is interrupted."
    )]
    Repartition(RepartitionArgs),
    /// Copy the checkpoint, also while an instance runs.
    #[command(
        override_usage = "tidemill state backup (FILE | --checkpoint DIR) TO [--http ADDRESS]",
        after_help = "\
Examples:
  tidemill state backup config/word-count.yaml backups/monday
  tidemill state backup --checkpoint data/app --http 127.0.0.1:8080 backups/monday

A running instance is asked through its HTTP port, on the same machine; the port is the file's `http` unless it is given."
    )]
    Backup(BackupArgs),
    /// Make a checkpoint of a backup, in a folder that is empty or not there.
    #[command(
        override_usage = "tidemill state restore (FILE | --checkpoint DIR) BACKUP",
        after_help = "\
Examples:
  tidemill state restore --checkpoint data/app backups/monday

The backup is verified first. If Kafka's consumer group has gone on since, start with `--offsets checkpoint`."
    )]
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    target: Target,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    format: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    target: Target,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only keys whose text begins so; of keys of several parts, the first part's.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    target: Target,
    /// All operators.
    #[arg(long)]
    all: bool,
    /// A new file; standard output unless given.
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    target: Target,
    /// Delete it.
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct RepartitionArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    target: Target,
    /// Where the running instance listens, as its log says; the file's `http` unless given.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    target: Target,
}

/// Does it; the exit code tells whether what was asked for is there.
pub(super) fn run(command: &StateCommand) -> anyhow::Result<ExitCode> {
    let on = |target: &Target, names: &[&str], act: &dyn Fn(&Place, &[&str]) -> anyhow::Result<ExitCode>| {
        match target.resolve(names)? {
            Some((place, words)) => act(&place, &words),
            None => Ok(ExitCode::from(EXIT_CONFIG)),
        }
    };
    match command {
        StateCommand::List(args) => on(&args.target, &[], &|place, _| list::list(place, args.format)),
        StateCommand::Get(args) => {
            on(&args.target, &["UID", "KEY"], &|place, words| look::get(place, words[0], words[1]))
        }
        StateCommand::Scan(args) => on(&args.target, &["UID"], &|place, words| {
            look::scan(place, words[0], args.limit, args.prefix.as_deref())
        }),
        StateCommand::Export(args) => {
            let names: &[&str] = if args.all { &[] } else { &["UID"] };
            on(&args.target, names, &|place, words| {
                transfer::export(place, words.first().copied(), args.to.as_deref())
            })
        }
        StateCommand::Import(args) => {
            on(&args.target, &["PATH"], &|place, words| transfer::import(place, words[0].as_ref()))
        }
        StateCommand::Drop(args) => {
            on(&args.target, &["UID"], &|place, words| change::drop(place, words[0], args.execute))
        }
        StateCommand::Rename(args) => {
            on(&args.target, &["UID", "NEW_UID"], &|place, words| change::rename(place, words[0], words[1]))
        }
        StateCommand::Repartition(args) => {
            on(&args.target, &["N"], &|place, words| change::repartition(place, words[0]))
        }
        StateCommand::Backup(args) => {
            on(&args.target, &["TO"], &|place, words| copy::backup(place, words[0].as_ref(), args.http))
        }
        StateCommand::Restore(args) => {
            on(&args.target, &["BACKUP"], &|place, words| copy::restore(place, words[0].as_ref()))
        }
    }
}
