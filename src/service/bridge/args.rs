//! The bridge's command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct BridgeArgs {
    #[command(flatten)]
    pub(super) to: To,
    #[command(subcommand)]
    pub(super) source: Source,
}

/// Where tweets go.
#[derive(Debug, Args)]
pub(super) struct To {
    /// Kafka's `host:port`, several separated by commas.
    #[arg(
        long,
        global = true,
        env = "KAFKA_BROKERS",
        default_value = "localhost:9092",
        value_name = "BROKERS"
    )]
    pub brokers: String,
    /// The topic; made if it is missing.
    #[arg(long, global = true, default_value = "tweets")]
    pub topic: String,
    /// The topic's partitions, if it has to be made.
    #[arg(long, global = true, default_value_t = 4, value_name = "N")]
    pub partitions: i32,
    /// Where what cannot be understood goes, as it came; without it, it is counted and told in the log.
    #[arg(long, global = true, value_name = "TOPIC")]
    pub dead_letters: Option<String>,
    /// The folder that keeps where the bridge has got to.
    #[arg(
        long,
        global = true,
        env = "TIDEMILL_BRIDGE_STATE",
        default_value = "data/bridge",
        value_name = "DIR"
    )]
    pub state: PathBuf,
    /// A setting of librdkafka; may be given several times. Secrets belong into --options-file.
    #[arg(long = "option", global = true, value_name = "NAME=VALUE", value_parser = option)]
    pub options: Vec<(String, String)>,
    /// A file with lines NAME=VALUE of the same kind.
    #[arg(long, global = true, value_name = "FILE")]
    pub options_file: Option<PathBuf>,
    /// Pauses after failures are so many times as long: for tests.
    #[arg(long, global = true, hide = true, default_value_t = 1.0)]
    pub patience: f64,
}

pub(super) fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Where tweets come from.
#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Made-up tweets: few hashtags that all use, many that few use, and bursts.
    #[command(after_help = "\
Examples:
  tidemill bridge generate
  tidemill bridge generate --rate 20000 --hashtags 50000
  tidemill bridge generate --limit 1000 --seed 7      the same thousand tweets each time")]
    Generate(GenerateArgs),
    /// Lines of JSON in files, also gzip or zstd, as they came or at any speed.
    #[command(after_help = "\
Examples:
  tidemill bridge file tweets.jsonl.gz
  tidemill bridge file --speed 10 monday.jsonl.zst tuesday.jsonl.zst
  tidemill bridge file --speed max tweets.jsonl")]
    File(FileArgs),
    /// Lines of a TCP connection: text, or JSON.
    #[command(after_help = "\
Examples:
  tidemill bridge socket localhost:9999               and before it: nc -lk 9999
  tidemill bridge socket --listen 127.0.0.1:9999      and elsewhere: nc localhost 9999 < tweets.jsonl")]
    Socket(SocketArgs),
    /// Posts of Bluesky, live and free, by its Jetstream.
    #[command(after_help = "\
Examples:
  tidemill bridge bluesky
  tidemill bridge bluesky --lang en --lang de")]
    Bluesky(BlueskyArgs),
    /// Tweets of X by its filtered stream (API v2), which needs a bearer token.
    #[command(after_help = "\
Examples:
  tidemill bridge x --token-file token.txt            with the rules that X has already
  X_BEARER_TOKEN=... tidemill bridge x --rule '#rustlang' --rule 'kafka lang:en=kafka'")]
    X(XArgs),
}

impl Source {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Generate(_) => "generate",
            Self::File(_) => "file",
            Self::Socket(_) => "socket",
            Self::Bluesky(_) => "bluesky",
            Self::X(_) => "x",
        }
    }

    /// What a cursor is a place in; one of something else is of no use.
    pub fn place(&self) -> String {
        match self {
            Self::Generate(args) => format!("{:?}", args.seed),
            Self::File(args) => {
                args.paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(",")
            }
            Self::Socket(args) => args.address.clone(),
            Self::Bluesky(args) => args.url.clone(),
            Self::X(args) => args.url.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// Tweets per second.
    #[arg(long, default_value_t = 2_000)]
    pub rate: u32,
    /// Stop after so many tweets.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Different hashtags.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub hashtags: u32,
    /// Different users.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub users: u32,
    /// Seconds from one burst of a hashtag to the next; 0 for none.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub burst_every: u32,
    /// Makes the same tweets each time, but for their times.
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// The files, one after the other; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// How many times as fast as they were tweeted; `max` for as fast as Kafka takes them.
    #[arg(long, default_value = "1", value_parser = speed)]
    pub speed: Speed,
}

/// How fast a file is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Speed {
    Max,
    Times(f64),
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.trim_end_matches('x').parse() {
        Ok(times) if times > 0.0 && f64::is_finite(times) => Ok(Speed::Times(times)),
        _ => Err("expected a number above 0, or `max`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(super) struct SocketArgs {
    /// `host:port` to connect to, again when the connection is cut; with --listen, the address to listen on.
    pub address: String,
    /// Let others connect, one after the other.
    #[arg(long)]
    pub listen: bool,
}

impl SocketArgs {
    /// The address to listen on.
    pub fn own(&self) -> Result<SocketAddr, std::net::AddrParseError> {
        self.address.parse()
    }
}

#[derive(Debug, Args)]
pub(super) struct BlueskyArgs {
    /// The Jetstream server.
    #[arg(long, default_value = "wss://jetstream2.us-east.bsky.network/subscribe")]
    pub url: String,
    /// Only posts in this language; may be given several times.
    #[arg(long, value_name = "LANG")]
    pub lang: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct XArgs {
    /// A rule that tweets have to match, `VALUE` or `VALUE=TAG`; may be given several times. X then has these and no others.
    #[arg(long = "rule", value_name = "RULE")]
    pub rules: Vec<String>,
    /// A file that holds the bearer token; else it is in X_BEARER_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the API is.
    #[arg(long, default_value = "https://api.x.com")]
    pub url: String,
}
