//! The one schema of tweets, and how those of X, Bluesky and plain text become such.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::time::Time;

/// A tweet as every source gives it: what `config/trending.yaml` reads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tweet {
    pub id: i64,
    /// RFC 3339, in UTC.
    pub created_at: String,
    pub user: String,
    #[serde(default)]
    pub lang: Option<String>,
    /// In full, also where the source gives only a beginning at first sight.
    pub text: String,
    /// Without `#`, as they were written.
    #[serde(default)]
    pub hashtags: Vec<String>,
    /// Which source of the bridge it came by.
    #[serde(default)]
    pub source: String,
    /// As it came, if there is more to know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Box<RawValue>>,
}

/// A point in time as tweets have it.
pub(super) fn rfc3339(time: Time) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or_default();
    let since = std::time::Duration::from_millis(millis);
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

/// Milliseconds since the epoch of an RFC 3339 time, or of one as X wrote it in its first API.
pub(super) fn millis(text: &str) -> Option<i64> {
    let parsed = humantime::parse_rfc3339_weak(text.trim_end_matches("+00:00")).ok().or_else(|| {
        // `Wed Oct 10 20:19:24 +0000 2018`
        let parts: Vec<&str> = text.split(' ').collect();
        let [_, month, day, time, "+0000", year] = parts[..] else { return None };
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = 1 + MONTHS.iter().position(|name| *name == month)?;
        humantime::parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z")).ok()
    })?;
    i64::try_from(parsed.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// When a tweet of X was made, which its id tells.
fn time_of_id(id: i64) -> Time {
    const EPOCH: i64 = 1_288_834_974_657;
    Time::from_millis((id >> 22) + EPOCH)
}

/// The hashtags of a text: a `#` that follows no letter, digit or `_`, then letters, digits and `_`.
pub(super) fn hashtags(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut before = ' ';
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if matches!(c, '#' | '＃') && !is_word(before) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if end > 0 {
                found.push(rest[..end].to_owned());
            }
        }
        before = c;
    }
    found
}

#[derive(Deserialize)]
struct XMessage {
    data: XTweet,
    #[serde(default)]
    includes: XIncludes,
}

#[derive(Deserialize)]
struct XTweet {
    id: String,
    text: String,
    created_at: Option<String>,
    lang: Option<String>,
    author_id: Option<String>,
    #[serde(default)]
    entities: XEntities,
    note_tweet: Option<XNote>,
    #[serde(default)]
    referenced_tweets: Vec<XReference>,
}

#[derive(Deserialize)]
struct XNote {
    text: String,
    #[serde(default)]
    entities: XEntities,
}

#[derive(Deserialize, Default)]
struct XEntities {
    #[serde(default)]
    hashtags: Vec<XTag>,
}

#[derive(Deserialize)]
struct XTag {
    #[serde(alias = "text")]
    tag: String,
}

#[derive(Deserialize)]
struct XReference {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

#[derive(Deserialize, Default)]
struct XIncludes {
    #[serde(default)]
    users: Vec<XUser>,
    #[serde(default)]
    tweets: Vec<XTweet>,
}

#[derive(Deserialize)]
struct XUser {
    id: String,
    username: String,
}

impl XTweet {
    /// The whole text with its hashtags: of a long tweet X gives the beginning as `text`, and all of it as a note.
    fn whole(&self) -> (&str, &XEntities) {
        match &self.note_tweet {
            Some(note) => {
                (&note.text, if note.entities.hashtags.is_empty() { &self.entities } else { &note.entities })
            }
            None => (&self.text, &self.entities),
        }
    }
}

/// A message of X's filtered stream (API v2).
pub(super) fn of_x(line: &str) -> Result<Tweet, String> {
    let message: XMessage = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let XMessage { data, includes } = &message;
    let id: i64 = data.id.parse().map_err(|_| format!("`{}` is no id of a tweet", data.id))?;
    let (text, entities) = data.whole();
    let (mut text, mut entities) = (text.to_owned(), entities);
    // The text of a retweet ends early too, and the tweet itself comes with it.
    let retweeted = data.referenced_tweets.iter().find(|reference| reference.kind == "retweeted");
    if let Some(retweeted) = retweeted.and_then(|to| includes.tweets.iter().find(|tweet| tweet.id == to.id)) {
        let (whole, own) = retweeted.whole();
        let by = text.split_once(": ").map(|(by, _)| by).filter(|by| by.starts_with("RT @"));
        text = by.map_or_else(|| whole.to_owned(), |by| format!("{by}: {whole}"));
        entities = own;
    }
    let author = data.author_id.clone().unwrap_or_default();
    let user = includes.users.iter().find(|user| user.id == author).map(|user| user.username.clone());
    let made = data.created_at.as_deref().and_then(millis).map_or_else(|| time_of_id(id), Time::from_millis);
    let tags: Vec<String> = entities.hashtags.iter().map(|tag| tag.tag.clone()).collect();
    Ok(Tweet {
        id,
        created_at: rfc3339(made),
        user: user.unwrap_or(author),
        lang: data.lang.clone(),
        hashtags: if tags.is_empty() { hashtags(&text) } else { tags },
        text,
        source: "x".to_owned(),
        original: raw(line),
    })
}

#[derive(Deserialize)]
struct OldTweet {
    id: i64,
    created_at: String,
    text: Option<String>,
    full_text: Option<String>,
    lang: Option<String>,
    user: OldUser,
    #[serde(default)]
    entities: XEntities,
    extended_tweet: Option<OldExtended>,
    retweeted_status: Option<Box<OldTweet>>,
}

#[derive(Deserialize)]
struct OldUser {
    screen_name: String,
}

#[derive(Deserialize)]
struct OldExtended {
    full_text: String,
    #[serde(default)]
    entities: XEntities,
}

impl OldTweet {
    fn whole(&self) -> (String, &XEntities) {
        match (&self.retweeted_status, &self.extended_tweet) {
            (Some(retweeted), _) => {
                let (text, entities) = retweeted.whole();
                (format!("RT @{}: {text}", retweeted.user.screen_name), entities)
            }
            (None, Some(extended)) => (extended.full_text.clone(), &extended.entities),
            (None, None) => {
                (self.full_text.clone().or_else(|| self.text.clone()).unwrap_or_default(), &self.entities)
            }
        }
    }
}

fn of_old_x(line: &str) -> Result<Tweet, String> {
    let tweet: OldTweet = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let (text, entities) = tweet.whole();
    Ok(Tweet {
        id: tweet.id,
        created_at: rfc3339(
            millis(&tweet.created_at).map_or_else(|| time_of_id(tweet.id), Time::from_millis),
        ),
        user: tweet.user.screen_name.clone(),
        lang: tweet.lang.clone(),
        hashtags: entities.hashtags.iter().map(|tag| tag.tag.clone()).collect(),
        text,
        source: "x".to_owned(),
        original: raw(line),
    })
}

#[derive(Deserialize)]
struct Jetstream {
    did: String,
    time_us: i64,
    kind: String,
    commit: Option<JetstreamCommit>,
}

#[derive(Deserialize)]
struct JetstreamCommit {
    operation: String,
    collection: String,
    rkey: String,
    record: Option<JetstreamPost>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JetstreamPost {
    text: Option<String>,
    created_at: Option<String>,
    #[serde(default)]
    langs: Vec<String>,
    #[serde(default)]
    facets: Vec<JetstreamFacet>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct JetstreamFacet {
    #[serde(default)]
    features: Vec<JetstreamFeature>,
}

#[derive(Deserialize)]
struct JetstreamFeature {
    tag: Option<String>,
}

/// A message of Bluesky's Jetstream: its cursor, and the post if it tells of a new one.
pub(super) fn of_bluesky(line: &str) -> Result<(i64, Option<Tweet>), String> {
    let message: Jetstream = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let commit = message.commit.filter(|commit| {
        message.kind == "commit" && commit.operation == "create" && commit.collection == "app.bsky.feed.post"
    });
    let Some(JetstreamCommit { rkey, record: Some(post), .. }) = commit else {
        return Ok((message.time_us, None));
    };
    let text = post.text.unwrap_or_default();
    // A tag may be in the text, as a facet, or beside it.
    let facets = post.facets.into_iter().flat_map(|facet| facet.features).filter_map(|feature| feature.tag);
    let mut tags: Vec<String> = facets.chain(post.tags).collect();
    if tags.is_empty() {
        tags = hashtags(&text);
    }
    // What people's clocks say may be anything; the server's is right.
    let made = post.created_at.as_deref().and_then(millis).unwrap_or(message.time_us / 1_000);
    let tweet = Tweet {
        id: tid(&rkey).unwrap_or(message.time_us),
        created_at: rfc3339(Time::from_millis(made)),
        user: message.did,
        lang: post.langs.into_iter().next(),
        text,
        hashtags: tags,
        source: "bluesky".to_owned(),
        original: raw(line),
    };
    Ok((message.time_us, Some(tweet)))
}

/// The number that a record's key stands for: base 32 in an alphabet that sorts.
fn tid(key: &str) -> Option<i64> {
    const DIGITS: &[u8] = b"234567abcdefghijklmnopqrstuvwxyz";
    let digit = |c: u8| DIGITS.iter().position(|d| *d == c).map(|d| d as i64);
    (key.len() == 13).then(|| key.bytes().try_fold(0i64, |n, c| n.checked_mul(32)?.checked_add(digit(c)?)))?
}

/// A line of a file or a socket: a tweet in any of the forms above or in our own, or plain text, which becomes one that was
/// made `now`.
pub(super) fn of_line(line: &str, source: &str, id: i64, now: Time) -> Result<Tweet, String> {
    if !line.trim_start().starts_with('{') {
        let original = serde_json::value::to_raw_value(line).ok();
        return Ok(Tweet {
            id,
            created_at: rfc3339(now),
            user: source.to_owned(),
            lang: None,
            text: line.to_owned(),
            hashtags: hashtags(line),
            source: source.to_owned(),
            original,
        });
    }
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        time_us: Option<i64>,
        #[serde(borrow)]
        user: Option<&'a RawValue>,
    }
    let shape: Shape<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let is_object = |value: Option<&RawValue>| value.is_some_and(|value| value.get().starts_with('{'));
    let tweet = if is_object(shape.data) {
        of_x(line)?
    } else if shape.time_us.is_some() {
        of_bluesky(line)?.1.ok_or("it is no new post")?
    } else if is_object(shape.user) {
        of_old_x(line)?
    } else {
        let mut own: Tweet = serde_json::from_str(line).map_err(|error| error.to_string())?;
        millis(&own.created_at).ok_or_else(|| format!("`{}` is no time", own.created_at))?;
        if own.source.is_empty() {
            own.source = source.to_owned();
        }
        // What came from the bridge has its original already.
        own.original = own.original.or_else(|| raw(line));
        own
    };
    Ok(tweet)
}

fn raw(line: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(line.trim().to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashtags_are_found_as_the_pipeline_finds_them() {
        for (text, expected) in [
            ("#Rust, (#kafka) c# a#b &#x #", &["Rust", "kafka", "x"][..]),
            ("#Größe #東京 #a_1#b", &["Größe", "東京", "a_1"]),
            ("", &[]),
        ] {
            assert_eq!(hashtags(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_read_in_both_of_xs_forms() {
        assert_eq!(millis("2018-10-10T20:19:24.000Z"), Some(1_539_202_764_000));
        assert_eq!(millis("2018-10-10T20:19:24+00:00"), Some(1_539_202_764_000));
        assert_eq!(millis("Wed Oct 10 20:19:24 +0000 2018"), Some(1_539_202_764_000));
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn a_long_tweet_and_a_retweet_have_their_whole_text() {
        let long = r##"{"data":{"id":"1050118621198921728","text":"It was…","author_id":"7","note_tweet":{"text":"It was a #dark and stormy night","entities":{"hashtags":[{"tag":"dark"}]}}},"includes":{"users":[{"id":"7","username":"ann"}]}}"##;
        let tweet = of_x(long).unwrap();
        assert_eq!((tweet.text.as_str(), tweet.user.as_str()), ("It was a #dark and stormy night", "ann"));
        assert_eq!(
            (tweet.hashtags.concat(), tweet.created_at.as_str()),
            ("dark".to_owned(), "2018-10-10T20:19:24.211Z")
        );
        assert_eq!(tweet.original.unwrap().get(), long);
        let retweet = r##"{"data":{"id":"2","text":"RT @bob: cut…","referenced_tweets":[{"type":"retweeted","id":"1"}]},"includes":{"tweets":[{"id":"1","text":"cut off? #no"}]}}"##;
        let tweet = of_x(retweet).unwrap();
        assert_eq!(
            (tweet.text.as_str(), tweet.hashtags.concat()),
            ("RT @bob: cut off? #no", "no".to_owned())
        );
    }

    #[test]
    fn posts_of_bluesky_become_tweets() {
        let post = r##"{"did":"did:plc:abc","time_us":1725911162329308,"kind":"commit","commit":{"rev":"r","operation":"create","collection":"app.bsky.feed.post","rkey":"3l3qo2vutsw2b","record":{"$type":"app.bsky.feed.post","createdAt":"2024-09-09T19:46:02.102Z","langs":["en"],"text":"high #tide","facets":[{"features":[{"$type":"app.bsky.richtext.facet#tag","tag":"tide"}]}]},"cid":"c"}}"##;
        let (cursor, tweet) = of_bluesky(post).unwrap();
        let tweet = tweet.unwrap();
        assert_eq!((cursor, tweet.user.as_str()), (1_725_911_162_329_308, "did:plc:abc"));
        assert_eq!(
            (tweet.created_at.as_str(), tweet.hashtags.concat()),
            ("2024-09-09T19:46:02.102Z", "tide".to_owned())
        );
        // The upper bits of the key are microseconds.
        assert_eq!(tweet.id >> 10, 1_725_911_162_251_036, "{}", tweet.id);
        let like = post.replace("app.bsky.feed.post\",\"rkey", "app.bsky.feed.like\",\"rkey");
        assert!(of_bluesky(&like).unwrap().1.is_none());
    }

    #[test]
    fn a_line_may_be_anything() {
        let now = Time::from_millis(1_000);
        let plain = of_line("ebb and #flow", "socket", 5, now).unwrap();
        assert_eq!(
            (plain.id, plain.created_at.as_str(), plain.hashtags.concat()),
            (5, "1970-01-01T00:00:01.000Z", "flow".to_owned())
        );
        let own = r#"{"id":1,"created_at":"2026-01-01T00:00:00Z","user":"ann","text":"hi"}"#;
        assert_eq!(of_line(own, "file", 0, now).unwrap().id, 1);
        let old = r#"{"id":2,"created_at":"Wed Oct 10 20:19:24 +0000 2018","text":"x","full_text":"xyz","user":{"screen_name":"bob"},"entities":{"hashtags":[{"text":"a"}]}}"#;
        let tweet = of_line(old, "file", 0, now).unwrap();
        assert_eq!(
            (tweet.user.as_str(), tweet.text.as_str(), tweet.hashtags.concat()),
            ("bob", "xyz", "a".to_owned())
        );
        assert!(of_line(r#"{"id":1,"te"#, "socket", 0, now).is_err());
        assert!(of_line(r#"{"id":1}"#, "socket", 0, now).is_err());
    }
}
