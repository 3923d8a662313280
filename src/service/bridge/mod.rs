//! `tidemill bridge`: brings tweets from where they are to a topic, in one schema and with the original beside it.
//!
//! A *source* gives tweets with a cursor; [`Delivery`] produces them, and knows up to which cursor everything has arrived. That
//! cursor is what a restart goes on from: nothing is lost, and what had not been acknowledged comes again.

mod args;
mod backoff;
mod bluesky;
mod cursor;
mod delivery;
mod file;
mod generate;
mod lines;
mod progress;
mod socket;
mod tweet;
mod x;

use std::sync::Arc;

pub(crate) use self::args::BridgeArgs;
use self::args::Source;
use self::cursor::CursorFile;
use self::delivery::Delivery;
pub(crate) use self::generate::Generator;
use super::signals::StopRequested;
use crate::error::{Error, Result};

/// How often the cursor is written down, and a stop is looked for.
const SAVE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// What every source works with.
pub(super) struct Bridge {
    delivery: Arc<Delivery>,
    /// Where the run before had got to.
    from: Option<i64>,
    /// Pauses after failures are so many times as long.
    patience: f64,
}

/// Runs a bridge until its source ends, or it is told to stop.
pub(crate) fn run(args: &BridgeArgs, stop: &StopRequested) -> Result<()> {
    // Somebody else's TLS may have chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal("cannot start the bridge").with_source(e))?;
    let cursor = CursorFile::open(&args.to.state, &args.to.topic, &args.source)?;
    let delivery = Arc::new(Delivery::connect(&args.to, args.source.name(), stop)?);
    let bridge = Bridge { delivery: delivery.clone(), from: cursor.found, patience: args.to.patience };
    match bridge.from {
        Some(from) => tracing::info!(
            source = args.source.name(),
            topic = args.to.topic,
            cursor = from,
            "bridge goes on"
        ),
        None => tracing::info!(source = args.source.name(), topic = args.to.topic, "bridge starts"),
    }
    let outcome = runtime.block_on(async {
        tokio::select! {
            ended = source(&args.source, &bridge) => ended,
            failed = keep_cursor(&cursor, &delivery) => failed,
            () = stopped(stop) => Ok(()),
        }
    });
    let flushed = delivery.finish();
    cursor.save(delivery.delivered())?;
    let told = delivery.told();
    tracing::info!(tweets = told.tweets, bad = told.bad, refused = told.refused, "bridge stopped");
    outcome.and(flushed)
}

async fn source(source: &Source, bridge: &Bridge) -> Result<()> {
    match source {
        Source::Generate(args) => generate::run(args, bridge).await,
        Source::File(args) => file::run(args, bridge).await,
        Source::Socket(args) => socket::run(args, bridge).await,
        Source::Bluesky(args) => bluesky::run(args, bridge).await,
        Source::X(args) => x::run(args, bridge).await,
    }
}

async fn stopped(stop: &StopRequested) {
    while !stop.is_requested() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Writes down where the topic stands, and ends when the producer cannot go on.
async fn keep_cursor(cursor: &CursorFile, delivery: &Delivery) -> Result<()> {
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        cursor.save(delivery.delivered())?;
        delivery.check()?;
    }
}
