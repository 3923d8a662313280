//! `tidemill replay`: a pipeline over a past range, into other topics or the terminal. It leaves the application alone: its
//! checkpoint is a temporary one, and the consumer group is neither read nor written.

mod log;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::RunOptions;
use super::check::{Config, End, Input, OnBadRecord, Sink, Start};
use super::file::time as time_of_text;
use super::pipeline;
use crate::commit::Delivery;
use crate::error::{Error, Result};
use crate::source::FollowedLog;
use crate::time::{Clock, Duration, SystemClock, Time};

/// Rows of a batch that are shown in the terminal.
const ROWS: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Where to begin, with an empty state: a time (2026-11-21T17:00:00Z, or a day), so long ago (15m), or `earliest`.
    #[arg(long, value_name = "TIME", value_parser = point)]
    from: Point,
    /// Where to end: a time, so long ago, or `latest`.
    #[arg(long, value_name = "TIME", default_value = "latest", value_parser = point)]
    to: Point,
    /// Write into topics and files whose names begin so, in place of the pipeline's own; without it all output is shown on the
    /// terminal.
    #[arg(long, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    /// Run the batches of the batch log in TOPIC, with the offsets that they had; without TOPIC, those of the
    /// checkpoint's own log.
    #[arg(long, value_name = "TOPIC", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "given, and with which topic")]
    follow_log: Option<Option<String>>,
}

/// One end of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    Earliest,
    Latest,
    At(Time),
    Ago(Duration),
}

fn point(text: &str) -> std::result::Result<Point, String> {
    match text {
        "earliest" => return Ok(Point::Earliest),
        "latest" => return Ok(Point::Latest),
        _ => {}
    }
    if let Some(time) = time_of_text(text) {
        return Ok(Point::At(time));
    }
    humantime::parse_duration(text).map(|ago| Point::Ago(ago.into())).map_err(|_| {
        "expected a time such as 2026-11-21T17:00:00Z, a duration such as 15m, `earliest` or `latest`"
            .to_owned()
    })
}

impl Point {
    /// The time that it stands for, if it is one.
    fn time(self, now: Time) -> Option<Time> {
        match self {
            Self::Earliest | Self::Latest => None,
            Self::At(time) => Some(time),
            Self::Ago(ago) => Some(now - ago),
        }
    }
}

/// Runs `config` as `args` say.
///
/// # Errors
/// As a run; and if the range makes no sense, or there is nothing to follow.
pub(super) fn run(mut config: Config, args: &ReplayArgs, options: &RunOptions) -> Result<()> {
    let now = SystemClock::default().now();
    let (from, to) = (args.from.time(now), args.to.time(now));
    if args.from == Point::Latest || args.to == Point::Earliest || from.zip(to).is_some_and(|(f, t)| f >= t) {
        return Err(Error::config("`--from` must be before `--to`"));
    }
    let range = Range { from, to };
    let logs =
        args.follow_log.as_ref().map(|topic| log::batches(&config, topic.as_deref(), range)).transpose()?;
    let folder = tempfile::tempdir().map_err(|e| {
        Error::unavailable("cannot make a temporary folder for the replay's state").with_source(e)
    })?;
    config.checkpoint = folder.path().join("checkpoint");
    // Whoever takes over the application's id would fence the instance that runs.
    config.app_id = format!("{}-replay", config.app_id);
    config.delivery = Delivery::AtLeastOnce;
    config.http = None;
    config.batch_log = None;
    for source in &mut config.sources {
        let Input::Kafka(kafka) = &mut source.input else {
            return Err(Error::config(format!(
                "source `{}` does not read Kafka: only what Kafka keeps can be replayed",
                source.name
            )));
        };
        kafka.is_replayed = true;
        kafka.start = from.map_or(Start::Earliest, Start::Timestamp);
        kafka.end = Some(to.map_or(End::Latest, End::Timestamp));
        kafka.follow = logs.as_ref().map(|logs| {
            let ranges = logs.iter().map(|(time, batch)| {
                let own = batch.inputs.get(&log::input_of(&source.name)).into_iter().flatten();
                (*time, own.map(|logged| logged.range.clone()).collect())
            });
            Arc::new(FollowedLog::new(ranges.collect()))
        });
    }
    redirect(&mut config, args.topic_prefix.as_deref())?;
    pipeline::run(&config, options)
}

/// The batches of times after `from` and up to `to`.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: Option<Time>,
    to: Option<Time>,
}

impl Range {
    fn contains(self, time: Time) -> bool {
        self.from.is_none_or(|from| time > from) && self.to.is_none_or(|to| time <= to)
    }
}

/// Has all output go to topics and files whose names begin with `prefix`, or to the terminal.
fn redirect(config: &mut Config, prefix: Option<&str>) -> Result<()> {
    let sources = &config.sources;
    let topic_of = |sink: &Sink| match sink {
        Sink::Kafka(kafka) => Some(kafka.topic.clone()),
        _ => None,
    };
    let own: Vec<_> = config.outputs.iter().filter_map(|output| topic_of(&output.sink)).collect();
    let renamed = |topic: &str| {
        let name = format!("{}{topic}", prefix.unwrap_or_default());
        if own.contains(&name) {
            return Err(Error::config(format!(
                "the replay would write into topic `{name}`, which the pipeline writes: choose another `--topic-prefix`"
            )));
        }
        match sources.iter().find(|source| source.reads(&name)) {
            Some(source) => Err(Error::config(format!(
                "the replay would write into topic `{name}`, which the source `{}` reads: choose another `--topic-prefix`",
                source.name
            ))),
            None => Ok(name),
        }
    };
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if prefix.is_some_and(|prefix| prefix.is_empty() || !prefix.chars().all(is_letter)) {
        return Err(Error::config(
            "`--topic-prefix` must be letters, digits, `.`, `_` and `-`, at least one: topics and files are to have other names \
             than the pipeline's own",
        ));
    }
    let letters = |policy: &OnBadRecord| match (policy, prefix) {
        (OnBadRecord::DeadLetter(topic), Some(_)) => renamed(topic).map(OnBadRecord::DeadLetter),
        // There they are counted, and told.
        (OnBadRecord::DeadLetter(_), None) => Ok(OnBadRecord::Skip),
        (other, _) => Ok(other.clone()),
    };
    for output in &mut config.outputs {
        match (&mut output.sink, prefix) {
            (Sink::Kafka(kafka), Some(_)) => {
                kafka.topic = renamed(&kafka.topic)?;
                let policy = letters(kafka.settings.bad_records())?;
                kafka.settings = kafka.settings.clone().on_bad_record(policy);
            }
            // A batch that runs again replaces its files: those of the application are not the replay's to replace.
            (Sink::Files { path, .. }, Some(prefix)) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                *path = path.with_file_name(format!("{prefix}{name}"));
            }
            (Sink::Kafka(_) | Sink::Files { .. }, None) => output.sink = Sink::Console { rows: ROWS },
            (Sink::Table { .. } | Sink::Console { .. }, _) => {}
        }
    }
    let letters: Vec<_> =
        config.sources.iter().map(|source| letters(&source.on_bad_record)).collect::<Result<_>>()?;
    for (source, letters) in config.sources.iter_mut().zip(letters) {
        source.on_bad_record = letters;
    }
    if prefix.is_none() {
        config.output_cluster = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_words_times_and_durations() {
        assert_eq!(point("earliest"), Ok(Point::Earliest));
        assert_eq!(point("1970-01-02"), Ok(Point::At(Time::from_millis(86_400_000))));
        assert_eq!(point("15m"), Ok(Point::Ago(Duration::minutes(15))));
        assert!(point("yesterday").unwrap_err().contains("such as"));
        let now = Time::from_millis(1_000_000);
        assert_eq!(Point::Ago(Duration::seconds(1)).time(now), Some(Time::from_millis(999_000)));
    }

    #[test]
    fn a_range_has_the_batches_that_stand_for_it() {
        let t = Time::from_millis;
        let range = Range { from: Some(t(10)), to: Some(t(20)) };
        assert_eq!([10, 11, 20, 21].map(|time| range.contains(t(time))), [false, true, true, false]);
        assert!(Range { from: None, to: None }.contains(t(5)));
    }
}
