//! The command line as it is typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::bridge::BridgeArgs;
use super::checkpoint::CheckpointCommand;
use super::dead_letters::DeadLetterCommand;
use super::health::HealthArgs;
use super::query::Form;
use super::replay::ReplayArgs;
use super::state::StateCommand;
use crate::time::Duration;

/// Spark Streaming's micro-batches over Kafka, in one binary: pipelines in YAML and SQL.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidemill demo                                     a pipeline over a broker of its own
  tidemill check config/trending.yaml               what is wrong, or what it will do
  tidemill test config/trending.yaml                its test cases, without Kafka
  tidemill run config/trending.yaml                 until SIGTERM or Ctrl-C
  tidemill bridge bluesky                           brings live posts to a topic
  tidemill replay config/trending.yaml --from 1h    the past hour again, to the terminal
  tidemill state list config/trending.yaml          what it remembers
  tidemill checkpoint diff config/trending.yaml     whether a changed file fits that
  tidemill dead-letters list config/trending.yaml   what could not be used, and why

Environment:
  TIDEMILL_LOG         error, warn, info (default), debug or trace; or RUST_LOG's syntax
  TIDEMILL_LOG_FORMAT  text or json; text in a terminal and json elsewhere if it is not set
  TIDEMILL_HTTP_TOKEN  what the HTTP port asks for as bearer token; or TIDEMILL_HTTP_TOKEN_FILE, a file that holds it
  NO_COLOR             no colours, also in a terminal

Exit codes:
  0    done, or stopped cleanly
  1    failed while running, or what was asked is not so
  2    wrong usage, or a wrong pipeline file: nothing was begun
  130  a second Ctrl-C, 143 a second SIGTERM: ended at once; the next start goes on from the last commit";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline until it is told to stop.
    #[command(after_help = "\
Examples:
  tidemill run config/word-count.yaml
  KAFKA_BROKERS=broker:9092 TIDEMILL_DATA=/var/lib/tidemill tidemill run config/trending.yaml")]
    Run(RunArgs),
    /// Run a pipeline over a past range into other topics or the terminal, leaving the application alone.
    #[command(after_help = "\
Examples:
  tidemill replay config/trending.yaml --from 2026-11-21T16:00:00Z --to 2026-11-21T17:00:00Z
  tidemill replay config/trending.yaml --from 2h --to 1h --topic-prefix replay.
  tidemill replay config/trending.yaml --from earliest --follow-log trending-batches

It begins with an empty state at --from, ends at --to, and exits with 0. The instance that runs is not disturbed: the
consumer group and the checkpoint stay as they are.")]
    Replay(ReplayArgs),
    /// Find what is wrong with a pipeline file, or show what it will do. Needs no Kafka.
    #[command(after_help = "\
Examples:
  tidemill check config/word-count.yaml
  tidemill check --format mermaid config/trending.yaml > graph.mmd

Exit code 2 if the file has errors; all of them are shown, on standard error.")]
    Check(CheckArgs),
    /// Run the test cases beside a pipeline file. Needs no Kafka.
    #[command(after_help = "\
Examples:
  tidemill test config/word-count.yaml            the cases of config/word-count.test.yaml
  tidemill test --junit report.xml config/*.test.yaml

Exit code 1 if a case fails, 2 if a file has errors.")]
    Test(TestArgs),
    /// Print the JSON Schema of pipeline files, by which editors complete and check them.
    #[command(after_help = "\
Examples:
  tidemill schema > tidemill.schema.json
  tidemill schema --cases > tidemill-test.schema.json

Name it in a file's first line: # yaml-language-server: $schema=tidemill.schema.json")]
    Schema(SchemaArgs),
    /// Ask a pipeline: a `select` over its tables, states and batches. Changes nothing.
    #[command(after_help = "\
Examples:
  tidemill query 'select * from batches order by batch_time desc limit 5'
  tidemill query --file config/word-count.yaml 'select * from state_totals order by total'
  tidemill query --format csv --checkpoint data/word-count 'select * from states'

Tables: those of outputs `table: {}` (running instances only), `state_NAME` for each state and window, `batches` with the
offsets of the batches that were committed, `states`, and the file's `tables`.")]
    Query(QueryArgs),
    /// Look at the state of a pipeline, copy it, and change it.
    #[command(after_help = "\
Examples:
  tidemill state list config/word-count.yaml
  tidemill state get config/word-count.yaml totals be
  tidemill state backup config/word-count.yaml backups/monday")]
    State {
        /// What to do.
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Look at a checkpoint as a whole, and compare it with a changed pipeline.
    #[command(after_help = "\
Examples:
  tidemill checkpoint show config/word-count.yaml
  tidemill checkpoint verify --checkpoint data/word-count
  tidemill checkpoint diff config/word-count.yaml")]
    Checkpoint {
        /// What to do.
        #[command(subcommand)]
        command: CheckpointCommand,
    },
    /// Look at records that could not be used, and send them back.
    #[command(after_help = "\
Examples:
  tidemill dead-letters list config/trending.yaml
  tidemill dead-letters resend config/trending.yaml --execute")]
    DeadLetters {
        /// What to do.
        #[command(subcommand)]
        command: DeadLetterCommand,
    },
    /// Bring tweets to a topic: of X, of Bluesky, of a socket, of files, or made up.
    #[command(after_help = "\
Examples:
  tidemill bridge generate --rate 2000
  tidemill bridge bluesky --topic posts
  KAFKA_BROKERS=broker:9092 tidemill bridge file --speed max tweets.jsonl.zst

It goes on where it was stopped or killed: nothing is lost that its source can give again, some may come twice.")]
    Bridge(BridgeArgs),
    /// Ask a running instance whether it is well; for containers and supervisors.
    #[command(after_help = "\
Examples:
  tidemill health                     is the process alive? Exit code 0 if so, 1 if not
  tidemill health --ready 127.0.0.1:8080")]
    Health(HealthArgs),
    /// Print what a shell completes of this command line.
    #[command(after_help = "\
Examples:
  tidemill completions bash > ~/.local/share/bash-completion/completions/tidemill
  tidemill completions zsh > ~/.zfunc/_tidemill
  tidemill completions fish > ~/.config/fish/completions/tidemill.fish")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Watch trending hashtags of made-up tweets, on a broker inside this process.
    #[command(after_help = "\
Examples:
  tidemill demo
  tidemill demo --batches 5 --interval 500ms
  tidemill demo --http 127.0.0.1:8080      with the streaming page, for a browser")]
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Whose offsets to follow if the checkpoint and the consumer group contradict each other.
    #[arg(long, value_enum)]
    pub(crate) offsets: Option<Side>,
}

/// Whose offsets are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// The checkpoint's; the group is set to them
    Checkpoint,
    /// The group's, as kafka-consumer-groups --reset-offsets left them; state stays as it is
    Group,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How the pipeline is shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Pipeline files, or files of cases.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Run only the cases whose names hold this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) case: Option<String>,
    /// Write the outcome to this file, too, as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The question.
    #[arg(value_name = "SELECT")]
    pub(crate) sql: String,
    /// The running instance; http://127.0.0.1:8080 unless a file or checkpoint is given.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// The pipeline's file: its instance is asked if it runs here, and else its checkpoint.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A checkpoint alone; columns of states are not known then.
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// How the answer is shown.
    #[arg(long, value_enum, default_value_t = Form::Table)]
    pub(crate) format: Form,
    /// The most rows.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) limit: usize,
    /// How long the answer from a checkpoint may take, at most a minute; a running instance takes at most 10 seconds.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// That of files of test cases.
    #[arg(long)]
    pub(crate) cases: bool,
}

/// How `check` shows a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, slides and the graph, for people
    Text,
    /// The graph, for documents that can draw it
    Mermaid,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Stop after this many batches.
    #[arg(long, value_name = "N")]
    pub(crate) batches: Option<u64>,
    /// The batch interval.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Where to answer HTTP: the streaming page, REST, metrics.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<std::net::SocketAddr>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).map(Duration::from).map_err(|error| error.to_string())?;
    // As for `batch_interval` in a file.
    if parsed < Duration::millis(10) { Err("it must be 10ms or more".to_owned()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["tidemill", "demo", "--batches", "3"]).expect("right");
        assert!(
            matches!(cli.command, Command::Demo(DemoArgs { batches: Some(3), interval, http: None }) if interval == Duration::seconds(1))
        );
        assert!(Cli::try_parse_from(["tidemill", "demo", "--interval", "1ms"]).is_err());
    }
}
