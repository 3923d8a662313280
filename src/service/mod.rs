//! The `tidemill` binary: command line, pipeline file, HTTP port, logs and signals.
//!
//! A pipeline goes through three forms: *as written* (`file`: YAML with the places of everything in it), *as checked*
//! (`check`: names resolved, SQL planned, everything right), and *running* (`pipeline`).

mod args;
mod bridge;
mod check;
mod checkpoint;
mod completions;
mod dead_letters;
mod demo;
mod file;
mod health;
mod http;
mod limit;
mod logs;
mod pipeline;
mod query;
mod replay;
mod report;
mod signals;
mod state;
mod target;
mod test;
mod topic_reader;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use self::args::{CheckArgs, Cli, Command, Format, Side};
use self::check::Config;
use self::report::Report;
use self::signals::StopRequested;
use crate::commit::OffsetsFrom;
use crate::error::ErrorKind;

/// What a run needs beside its pipeline.
pub(crate) struct RunOptions {
    /// Says when to stop.
    pub(crate) stop: StopRequested,
    /// Whose offsets to follow if the checkpoint and the consumer group contradict each other.
    pub(crate) offsets: Option<OffsetsFrom>,
}

/// Wrong usage, or a wrong pipeline file.
const EXIT_CONFIG: u8 = 2;

/// Does what the command line `args` says; its result is the process's.
#[doc(hidden)]
pub fn main_entry(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Named in FAILPOINTS; only the tests' binary has any.
    let _fail_points = fail::FailScenario::setup();
    // clap itself ends the process: with 0 after `--help`, with 2 after wrong usage.
    let cli = Cli::parse_from(args);
    std::panic::set_hook(Box::new(|panic| {
        // One line in place of a backtrace: whoever runs the binary cannot do more with it than report it.
        let _ = writeln!(std::io::stderr(), "error: this is a fault of Tidemill, please report it: {panic}");
    }));
    match std::panic::catch_unwind(|| dispatch(&cli.command)) {
        Err(_) => ExitCode::FAILURE,
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            // All causes in one message; an Error's kind decides the code.
            let kind =
                error.chain().find_map(|cause| cause.downcast_ref::<crate::Error>()).map(crate::Error::kind);
            let _ = writeln!(std::io::stderr(), "error: {}", with_causes(&error));
            if kind == Some(ErrorKind::Config) { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// The message with its causes, as far as it does not quote them already.
fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // What a library says may be led by the kind of its error.
        let quoted = told.contains(&cause)
            || cause.split_once(": ").is_some_and(|(_, what)| !what.is_empty() && told.contains(what));
        if !quoted {
            told = format!("{told}: {cause}");
        }
    }
    told
}

fn dispatch(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::State { command } => state::run(command),
        Command::Checkpoint { command } => checkpoint::run(command),
        Command::DeadLetters { command } => dead_letters::run(command),
        Command::Check(args) => check_file(args),
        Command::Test(args) => {
            logs::init("error")?;
            test::run(args)
        }
        Command::Query(args) => query::run(args),
        Command::Schema(args) => {
            let schema = if args.cases { file::cases_json_schema() } else { file::json_schema() };
            // A reader that has seen enough is no failure.
            let _ = writeln!(std::io::stdout(), "{schema:#}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(args) => {
            logs::init("info")?;
            let Some(config) = load(&args.file)? else {
                return Ok(ExitCode::from(EXIT_CONFIG));
            };
            let offsets = args.offsets.map(|side| match side {
                Side::Checkpoint => OffsetsFrom::Checkpoint,
                Side::Group => OffsetsFrom::Group,
            });
            let options = RunOptions { stop: signals::listen()?, offsets };
            pipeline::run(&config, &options)
                .with_context(|| format!("running {} failed", args.file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bridge(args) => {
            logs::init("info")?;
            bridge::run(args, &signals::listen()?).context("the bridge failed")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Health(args) => {
            let said = health::health(args)?;
            let _ = writeln!(std::io::stdout(), "{said}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let _ = std::io::stdout().write_all(&completions::script(*shell));
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay(args) => {
            logs::init("info")?;
            let Some(config) = load(&args.file)? else {
                return Ok(ExitCode::from(EXIT_CONFIG));
            };
            let options = RunOptions { stop: signals::listen()?, offsets: None };
            replay::run(config, args, &options)
                .with_context(|| format!("replaying {} failed", args.file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(args) => {
            // Lines of log would run through the table.
            logs::init("warn")?;
            demo::demo(args, &signals::listen()?).context("the demo failed")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check_file(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = load(&args.file)? else {
        return Ok(ExitCode::from(EXIT_CONFIG));
    };
    let shown = match args.format {
        Format::Text => check::text(&config),
        Format::Mermaid => check::mermaid(&config),
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = std::io::stdout().write_all(shown.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The checked pipeline of a file; nothing after its errors were shown.
fn load(path: &Path) -> anyhow::Result<Option<Config>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        crate::Error::config(format!("cannot read the pipeline file {}", path.display())).with_source(error)
    })?;
    let mut report = Report::new(path.display().to_string(), text);
    let config = check::check(&mut report);
    show(&report);
    Ok(config)
}

/// Shows what was found in a file, on standard error.
fn show(report: &Report) {
    if !report.is_empty() {
        let mut stderr = std::io::stderr();
        let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = stderr.write_all(report.render(colour).as_bytes());
    }
}
