//! X's filtered stream (API v2): rules that tweets have to match, and one long answer with a line for each of them.

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Bridge;
use super::args::XArgs;
use super::backoff::{Backoff, Trouble};
use super::lines::Lines;
use super::tweet::of_x;
use crate::error::{Error, Result};
use crate::time::{Clock, SystemClock};

/// X sends a keep-alive every 20 seconds at least.
const STALL: std::time::Duration = std::time::Duration::from_secs(21);
/// For answers that are no stream.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(30);
const STREAM: &str = "/2/tweets/search/stream";
/// Whole texts, authors' names, and the tweet behind a retweet.
const FIELDS: &str = "tweet.fields=created_at,lang,author_id,entities,note_tweet,referenced_tweets,public_metrics\
     &expansions=author_id,referenced_tweets.id&user.fields=username";
/// What X keeps for those who were cut off, in minutes at most.
const BACKFILL: i64 = 5;

/// The API, and who asks it.
struct Api {
    client: Client,
    url: String,
    token: String,
}

/// Takes tweets until it is stopped, over as many connections as that needs.
pub(super) async fn run(args: &XArgs, bridge: &Bridge) -> Result<()> {
    let client = Client::builder()
        .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(REQUEST)
        .build()
        .map_err(|e| Error::internal("cannot make an HTTP client").with_source(e))?;
    let api = Api { client, url: args.url.trim_end_matches('/').to_owned(), token: token(args)? };
    let mut backoff = Backoff::new(bridge.patience);
    let mut ruled = args.rules.is_empty();
    // The time of the last tweet, in milliseconds.
    let mut last = bridge.from;
    loop {
        let trouble = if ruled {
            let before = last;
            let trouble = api.stream(bridge, &mut last, &mut backoff).await?;
            if last != before {
                backoff.reset();
            }
            trouble
        } else {
            match api.set_rules(&args.rules).await? {
                None => {
                    ruled = true;
                    continue;
                }
                Some(trouble) => trouble,
            }
        };
        let pause = backoff.after(trouble);
        tracing::warn!(source = "x", ?trouble, ?pause, "trying again");
        tokio::time::sleep(pause).await;
    }
}

/// Secrets come from the environment or a file.
fn token(args: &XArgs) -> Result<String> {
    let (text, place) = match &args.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                Error::config(format!("cannot read --token-file {}", path.display())).with_source(e)
            })?;
            (text, path.display().to_string())
        }
        None => (std::env::var("X_BEARER_TOKEN").unwrap_or_default(), "X_BEARER_TOKEN".to_owned()),
    };
    match text.trim() {
        "" => Err(Error::config(format!("{place} holds no bearer token: X gives one to each of its apps"))),
        token => Ok(token.to_owned()),
    }
}

#[derive(Deserialize, Default)]
struct Rules {
    #[serde(default)]
    data: Vec<Rule>,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    value: String,
    #[serde(default)]
    tag: Option<String>,
}

impl Api {
    /// What an answer that is no success means.
    async fn trouble(&self, answer: Response) -> Result<Trouble> {
        let status = answer.status();
        let wait = wait_of(&answer);
        let text = answer.text().await.unwrap_or_default();
        let text: String = text.chars().take(300).collect();
        tracing::warn!(source = "x", %status, answer = text, "X refused");
        match status {
            StatusCode::TOO_MANY_REQUESTS => Ok(Trouble::TooMuch { wait }),
            // Nobody mends these by waiting.
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND => {
                Err(Error::config(format!("X refused with HTTP status {status}: {text}")))
            }
            _ => Ok(Trouble::Http),
        }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<std::result::Result<Rules, Trouble>> {
        let answer = match request.bearer_auth(&self.token).timeout(REQUEST).send().await {
            Ok(answer) if answer.status().is_success() => answer,
            Ok(answer) => return self.trouble(answer).await.map(Err),
            Err(error) => {
                tracing::warn!(source = "x", error = %error.without_url(), "X does not answer");
                return Ok(Err(Trouble::Network));
            }
        };
        Ok(answer.json().await.map_err(|error| {
            tracing::warn!(source = "x", error = %error.without_url(), "X's answer is no JSON");
            Trouble::Http
        }))
    }

    /// Makes X's rules those that were given: adds what is missing, takes away what is too much.
    async fn set_rules(&self, wanted: &[String]) -> Result<Option<Trouble>> {
        let url = format!("{}{STREAM}/rules", self.url);
        let wanted: Vec<(&str, Option<&str>)> = wanted
            .iter()
            .map(|rule| {
                rule.rsplit_once('=').map_or((rule.as_str(), None), |(value, tag)| (value, Some(tag)))
            })
            .collect();
        let has = match self.ask(self.client.get(&url)).await? {
            Ok(rules) => rules.data,
            Err(trouble) => return Ok(Some(trouble)),
        };
        let is = |rule: &Rule, (value, tag): (&str, Option<&str>)| {
            rule.value == value && rule.tag.as_deref() == tag
        };
        let add: Vec<_> = wanted
            .iter()
            .filter(|one| !has.iter().any(|rule| is(rule, **one)))
            .map(|(value, tag)| {
                tag.map_or_else(|| json!({ "value": value }), |tag| json!({ "value": value, "tag": tag }))
            })
            .collect();
        let delete: Vec<_> =
            has.iter().filter(|rule| !wanted.iter().any(|one| is(rule, *one))).map(|rule| &rule.id).collect();
        tracing::info!(source = "x", add = add.len(), delete = delete.len(), "setting the stream's rules");
        let deletion = (!delete.is_empty()).then(|| json!({ "delete": { "ids": delete } }));
        let addition = (!add.is_empty()).then(|| json!({ "add": add }));
        for body in deletion.into_iter().chain(addition) {
            match self.ask(self.client.post(&url).json(&body)).await? {
                Ok(rules) if rules.errors.is_empty() => {}
                Ok(rules) => {
                    let why = serde_json::Value::from(rules.errors);
                    return Err(Error::config(format!("X does not take the rules: {why}")));
                }
                Err(trouble) => return Ok(Some(trouble)),
            }
        }
        Ok(None)
    }

    /// Takes tweets over one connection, and says why it ended.
    async fn stream(
        &self,
        bridge: &Bridge,
        last: &mut Option<i64>,
        backoff: &mut Backoff,
    ) -> Result<Trouble> {
        let mut url = format!("{}{STREAM}?{FIELDS}", self.url);
        if let Some(at) = *last {
            let minutes = (SystemClock::default().now().as_millis() - at) / 60_000 + 1;
            url.push_str(&format!("&backfill_minutes={}", minutes.clamp(1, BACKFILL)));
        }
        let stall = STALL.mul_f64(bridge.patience);
        let asked = self.client.get(&url).bearer_auth(&self.token).send();
        let mut answer = match tokio::time::timeout(REQUEST, asked).await {
            Ok(Ok(answer)) if answer.status().is_success() => answer,
            // Only some are allowed to ask for what they missed.
            Ok(Ok(answer)) if answer.status() == StatusCode::BAD_REQUEST && last.is_some() => {
                tracing::warn!(source = "x", "X does not give what was missed: going on from now");
                *last = None;
                return Ok(Trouble::Network);
            }
            Ok(Ok(answer)) => return self.trouble(answer).await,
            Ok(Err(error)) => {
                tracing::warn!(source = "x", error = %error.without_url(), "no connection");
                return Ok(Trouble::Network);
            }
            Err(_) => return Ok(Trouble::Network),
        };
        tracing::info!(source = "x", "connected");
        let mut lines = Lines::default();
        loop {
            match tokio::time::timeout(stall, answer.chunk()).await {
                Err(_) => {
                    tracing::warn!(source = "x", "no keep-alive for {stall:?}");
                    return Ok(Trouble::Network);
                }
                Ok(Ok(None)) => return Ok(Trouble::Network),
                Ok(Err(error)) => {
                    // What came of the last line is worth nothing: it comes again, or never.
                    tracing::warn!(source = "x", error = %error.without_url(), "the connection was cut");
                    return Ok(Trouble::Network);
                }
                Ok(Ok(Some(piece))) => lines.push(&piece),
            }
            while let Some(line) = lines.next() {
                // An empty one keeps the connection alive.
                if line.trim_ascii().is_empty() {
                    continue;
                }
                backoff.reset();
                if let Some(trouble) = take(&line, bridge, last).await? {
                    return Ok(trouble);
                }
            }
        }
    }
}

/// Takes a line; gives what X says in it about the stream itself.
async fn take(line: &[u8], bridge: &Bridge, last: &mut Option<i64>) -> Result<Option<Trouble>> {
    #[derive(Deserialize)]
    struct Notice {
        errors: Vec<serde_json::Value>,
        data: Option<serde::de::IgnoredAny>,
    }
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            bridge.delivery.bad(line, &error.to_string(), *last).await?;
            return Ok(None);
        }
    };
    match of_x(text) {
        Ok(tweet) => {
            *last = super::tweet::millis(&tweet.created_at).max(*last);
            bridge.delivery.send(&tweet, *last).await?;
        }
        Err(why) => match serde_json::from_str::<Notice>(text) {
            Ok(Notice { errors, data: None }) => {
                tracing::warn!(source = "x", errors = %serde_json::Value::from(errors), "X ends the stream");
                return Ok(Some(Trouble::Http));
            }
            _ => bridge.delivery.bad(line, &why, *last).await?,
        },
    }
    Ok(None)
}

/// For how long not to ask, as X said: until its limit begins anew, by its own clock.
fn wait_of(answer: &Response) -> Option<std::time::Duration> {
    let header = |name: &str| answer.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
    let reset = header("x-rate-limit-reset").map(|at| at - SystemClock::default().now().as_millis() / 1_000);
    let seconds = header("retry-after").or(reset)?;
    Some(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}
