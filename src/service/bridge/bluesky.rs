//! Bluesky's Jetstream: every new post as JSON over a websocket, from any moment of the last day or so.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::Bridge;
use super::args::BlueskyArgs;
use super::backoff::{Backoff, Trouble};
use super::tweet::of_bluesky;
use crate::error::{Error, Result};

/// The network is never silent for so long.
const STALL: std::time::Duration = std::time::Duration::from_secs(30);
/// So much earlier than the cursor a new connection begins, in microseconds; what comes twice is left out.
const OVERLAP: i64 = 2_000_000;

/// Takes posts until it is stopped, over as many connections as that needs.
pub(super) async fn run(args: &BlueskyArgs, bridge: &Bridge) -> Result<()> {
    let mut backoff = Backoff::new(bridge.patience);
    let mut last = bridge.from;
    loop {
        let before = last;
        let trouble = connection(args, bridge, &mut last).await?;
        if last != before {
            backoff.reset();
        }
        let pause = backoff.after(trouble);
        tracing::warn!(source = "bluesky", ?trouble, ?pause, "the stream has ended, connecting again");
        tokio::time::sleep(pause).await;
    }
}

/// Takes posts over one connection, and says why it ended.
async fn connection(args: &BlueskyArgs, bridge: &Bridge, last: &mut Option<i64>) -> Result<Trouble> {
    let separator = if args.url.contains('?') { '&' } else { '?' };
    let mut url = format!("{}{separator}wantedCollections=app.bsky.feed.post", args.url);
    if let Some(cursor) = *last {
        url.push_str(&format!("&cursor={}", cursor - OVERLAP));
    }
    let stall = STALL.mul_f64(bridge.patience);
    let connecting = tokio::time::timeout(stall, tokio_tungstenite::connect_async(&url)).await;
    let (mut socket, _) = match connecting {
        Err(_) => return Ok(Trouble::Network),
        Ok(Ok(connected)) => connected,
        Ok(Err(SocketError::Http(answer))) => {
            let (status, wait) = (answer.status(), retry_after(answer.headers()));
            tracing::warn!(source = "bluesky", %status, "the server refused");
            return match status {
                StatusCode::TOO_MANY_REQUESTS => Ok(Trouble::TooMuch { wait }),
                StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN => Err(Error::config(format!(
                    "{} refused with HTTP status {status}: is it a Jetstream?",
                    args.url
                ))),
                _ => Ok(Trouble::Http),
            };
        }
        Ok(Err(SocketError::Url(error))) => {
            return Err(Error::config(format!("`{}` is no address of a websocket: {error}", args.url)));
        }
        Ok(Err(error)) => {
            tracing::warn!(source = "bluesky", %error, "no connection");
            return Ok(Trouble::Network);
        }
    };
    tracing::info!(source = "bluesky", url = args.url, cursor = *last, "connected");
    loop {
        let message = match tokio::time::timeout(stall, socket.next()).await {
            Err(_) => {
                tracing::warn!(source = "bluesky", "nothing has come for {stall:?}");
                return Ok(Trouble::Network);
            }
            Ok(None) => return Ok(Trouble::Network),
            Ok(Some(Err(error))) => {
                tracing::warn!(source = "bluesky", %error, "the connection was cut");
                return Ok(Trouble::Network);
            }
            Ok(Some(Ok(message))) => message,
        };
        match message {
            Message::Text(text) => take(args, bridge, &text, last).await?,
            // The answer has been queued; sending it may wait for nothing.
            Message::Ping(_) => drop(socket.flush().await),
            Message::Close(_) => return Ok(Trouble::Network),
            _ => {}
        }
    }
}

async fn take(args: &BlueskyArgs, bridge: &Bridge, text: &str, last: &mut Option<i64>) -> Result<()> {
    let (cursor, tweet) = match of_bluesky(text) {
        Ok(found) => found,
        Err(why) => return bridge.delivery.bad(text.as_bytes(), &why, *last).await,
    };
    if last.is_some_and(|last| cursor <= last) {
        return Ok(());
    }
    *last = Some(cursor);
    let wanted = |lang: &Option<String>| {
        let is =
            |one: &String| lang.as_deref().is_some_and(|lang| lang.split('-').next() == Some(one.as_str()));
        args.lang.is_empty() || args.lang.iter().any(is)
    };
    match tweet {
        Some(tweet) if wanted(&tweet.lang) => bridge.delivery.send(&tweet, *last).await,
        _ => {
            bridge.delivery.pass(*last);
            Ok(())
        }
    }
}

/// For how long not to ask, as the server said.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<std::time::Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(std::time::Duration::from_secs(seconds))
}
