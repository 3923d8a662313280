//! `tidemill dead-letters`: what could not be used and why, and the way back.
//!
//! What was sent back is noted in the topic `<app_id>-resent`, in the transaction that sends it, so that nothing is sent
//! twice, whatever is killed and however often the command is given.

mod letter;
mod read;
mod resend;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use self::letter::Letter;
use super::EXIT_CONFIG;
use super::check::{Cluster, Config, Sink};
use super::target::{Out, Shape, columns};
use super::topic_reader::TopicReader;
use crate::error::{Error, Result};
use crate::source::kafka::ClientSettings;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Show them: where each is from, and what was wrong.
    #[command(after_help = "\
Examples:
  tidemill dead-letters list config/trending.yaml
  tidemill dead-letters list config/trending.yaml --message 'found no value' --limit 10
  tidemill dead-letters list config/trending.yaml --format json | jq .value")]
    List(ListArgs),
    /// Send them back to the topics that they are from. Shows what it would do, unless --execute is given.
    #[command(after_help = "\
Examples:
  tidemill dead-letters resend config/trending.yaml
  tidemill dead-letters resend config/trending.yaml --operator tweets --execute
  tidemill dead-letters resend config/trending.yaml --to tweets-again --execute

Each is sent as it first came: key, value, headers, timestamp. What was sent back is noted in the topic APP_ID-resent, in the
same transaction, and is not sent again; --again sends it all the same.")]
    Resend(ResendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// How they are shown.
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    format: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct ResendArgs {
    #[command(flatten)]
    which: Which,
    /// Send all to this topic, and not where they are from.
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Also those that were sent back before.
    #[arg(long)]
    again: bool,
    /// Only show what would be sent; what is done without --execute, too.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Send them.
    #[arg(long)]
    execute: bool,
}

/// Which dead letters a command is about.
#[derive(Debug, Args)]
struct Which {
    /// The pipeline file, whose dead-letter topics are looked at.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only those in this dead-letter topic.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only those that are from this topic.
    #[arg(long, value_name = "TOPIC")]
    from: Option<String>,
    /// Only those of this source, stream or output operation.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Only those that were found bad in this stage: decode, process or produce.
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Only those whose error has this in it.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// No more than so many, the oldest first in each partition.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl Which {
    fn wants(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.from, &letter.origin)
            && is(&self.operator, &letter.operator)
            && is(&self.stage, &letter.stage)
            && self.message.as_ref().is_none_or(|text| letter.message.contains(text.as_str()))
    }
}

/// A pipeline's dead-letter topics, and how to reach them.
struct Place {
    app_id: String,
    cluster: Cluster,
    topics: BTreeSet<String>,
}

impl Place {
    fn of(config: &Config, which: &Which) -> Result<Self> {
        let of_sources = config.sources.iter().map(|source| &source.on_bad_record);
        let of_outputs = config.outputs.iter().filter_map(|output| match &output.sink {
            Sink::Kafka(topic) => Some(topic.settings.bad_records()),
            Sink::Files { .. } | Sink::Table { .. } | Sink::Console { .. } => None,
        });
        let topics: BTreeSet<String> = of_sources
            .chain(of_outputs)
            .filter_map(|policy| policy.dead_letter_topic())
            .map(str::to_owned)
            .collect();
        let file = which.file.display();
        let Some(cluster) = config.output_cluster.clone().filter(|_| !topics.is_empty()) else {
            return Err(Error::config(format!(
                "{file} has no dead-letter topic: `on_bad_record: {{ dead_letter: TOPIC }}` names one"
            )));
        };
        let topics = match &which.topic {
            None => topics,
            Some(topic) if topics.contains(topic) => [topic.clone()].into(),
            Some(topic) => {
                let known: Vec<_> = topics.into_iter().collect();
                return Err(Error::config(format!(
                    "`{topic}` is no dead-letter topic of {file}; these are: {}",
                    known.join(", ")
                )));
            }
        };
        Ok(Self { app_id: config.app_id.clone(), cluster, topics })
    }

    fn client(&self, role: &str) -> ClientSettings {
        ClientSettings {
            brokers: self.cluster.brokers.clone(),
            client_id: format!("{}-dead-letters-{role}", self.app_id),
            options: self.cluster.options.0.clone().into_iter().collect(),
        }
    }

    /// The topic that tells which were sent back.
    fn resent_topic(&self) -> String {
        format!("{}-resent", self.app_id)
    }
}

/// Does it.
pub(super) fn run(command: &DeadLetterCommand) -> anyhow::Result<ExitCode> {
    let which = match command {
        DeadLetterCommand::List(args) => &args.which,
        DeadLetterCommand::Resend(args) => &args.which,
    };
    let Some(config) = super::load(&which.file)? else { return Ok(ExitCode::from(EXIT_CONFIG)) };
    let place = Place::of(&config, which)?;
    match command {
        DeadLetterCommand::List(args) => list(&place, args)?,
        DeadLetterCommand::Resend(args) => resend::resend(&place, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(place: &Place, args: &ListArgs) -> Result<()> {
    let reader = TopicReader::new(&place.client("reader"));
    let resent = read::resent(&reader, &place.resent_topic())?;
    let mut out = Out::new();
    let (mut rows, mut count) = (Vec::new(), 0);
    let most = args.which.limit.unwrap_or(usize::MAX);
    for topic in &place.topics {
        reader.read(topic, &mut |record| {
            let letter = Letter::of(record);
            if count >= most || out.is_closed() {
                return Ok(false);
            }
            if args.which.wants(&letter) {
                count += 1;
                let is_resent = resent.contains(&letter.mark());
                match args.format {
                    Shape::Json => out.line(letter.json(is_resent))?,
                    Shape::Text => rows.push(letter.row(is_resent)),
                }
            }
            Ok(true)
        })?;
    }
    if matches!(args.format, Shape::Text) {
        out.line(match rows.is_empty() {
            true => "no dead letters".to_owned(),
            false => columns(&letter::HEADING, rows),
        })?;
    }
    out.finish()
}

/// A summary of what is sent where, for people and programs alike.
/// `not_whole` are those that cannot be sent, since the topic of dead letters had no room for all of them.
fn summary(sent: usize, before: usize, not_whole: usize, executed: bool) -> String {
    let done = if executed { sent } else { 0 };
    json!({ "sent": done, "would_send": sent, "sent_before": before, "not_whole": not_whole }).to_string()
}
