//! Lines of JSON in files, at the speed at which they were tweeted or at any other.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::Bridge;
use super::args::{FileArgs, Speed};
use super::tweet::{millis, of_line};
use crate::error::{Error, Result};
use crate::time::{Clock, Stopwatch, SystemClock};

/// Lines that are read ahead of what is replayed.
const AHEAD: usize = 1_000;

/// Gives the files' lines until there are no more. The cursor is the number of lines that were taken, of all files together.
pub(super) async fn run(args: &FileArgs, bridge: &Bridge) -> Result<()> {
    let (sender, mut lines) = tokio::sync::mpsc::channel(AHEAD);
    let paths = args.paths.clone();
    // Files are read where nobody waits for it; what is read ahead is bounded.
    let reading = tokio::task::spawn_blocking(move || {
        for path in &paths {
            for line in BufReader::new(open(path)?).split(b'\n') {
                let line =
                    line.map_err(|e| Error::data(format!("cannot read {}", path.display())).with_source(e))?;
                if sender.blocking_send(line).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    });
    let clock = SystemClock::default();
    let skip = bridge.from.unwrap_or(0);
    let mut pace: Option<(i64, Stopwatch)> = None;
    let mut number = 0;
    while let Some(line) = lines.recv().await {
        number += 1;
        if number <= skip {
            continue;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            bridge.delivery.pass(Some(number));
            continue;
        }
        let text = std::str::from_utf8(line).map_err(|error| error.to_string());
        match text.and_then(|text| of_line(text, "file", number, clock.now())) {
            Ok(tweet) => {
                if let (Speed::Times(times), Some(at)) = (args.speed, millis(&tweet.created_at)) {
                    let (first, watch) = pace.get_or_insert_with(|| (at, Stopwatch::start()));
                    // One that is older than its predecessor is due at once.
                    let due =
                        std::time::Duration::from_secs_f64((at - *first).max(0) as f64 / 1_000.0 / times);
                    tokio::time::sleep(due.saturating_sub(watch.elapsed())).await;
                }
                bridge.delivery.send(&tweet, Some(number)).await?;
            }
            Err(why) => bridge.delivery.bad(line, &why, Some(number)).await?,
        }
        // Kafka may take them faster than a stop could be heard of.
        if number % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let read: Result<()> =
        reading.await.map_err(|e| Error::internal("reading files ended early").with_source(e))?;
    read?;
    tracing::info!(lines = number, "all files were read");
    Ok(())
}

/// A file as it was before it was compressed.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let failed = |e: std::io::Error| Error::config(format!("cannot read {}", path.display())).with_source(e);
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let mut file = BufReader::new(std::fs::File::open(path).map_err(failed)?);
    // Not every file's name says what is in it.
    let begin = file.fill_buf().map_err(failed)?;
    Ok(match begin {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(failed)?)
        }
        _ => Box::new(file),
    })
}
