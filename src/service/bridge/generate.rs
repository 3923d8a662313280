//! Made-up tweets that look like real ones: Zipf's law for hashtags, users and languages, and bursts.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use serde::Serialize;

use super::Bridge;
use super::args::GenerateArgs;
use super::tweet::rfc3339;
use crate::error::{Error, Result};
use crate::time::{Clock, Stopwatch, SystemClock, Time};

/// What everybody talks about.
const COMMON: [&str; 24] = [
    "rust",
    "kafka",
    "streaming",
    "dataengineering",
    "opensource",
    "sql",
    "spark",
    "linux",
    "devops",
    "wasm",
    "python",
    "postgres",
    "observability",
    "grafana",
    "prometheus",
    "arrow",
    "datafusion",
    "rocksdb",
    "backpressure",
    "exactlyonce",
    "tides",
    "harbour",
    "watermill",
    "eclipse",
];
/// What few talk about is made of two of these.
const PARTS: [&str; 64] = [
    "amber", "anchor", "apple", "autumn", "bay", "beacon", "birch", "blue", "bridge", "bronze", "canal",
    "cedar", "clay", "cliff", "cloud", "coast", "copper", "coral", "creek", "crystal", "dawn", "delta",
    "dune", "dusk", "ebb", "ember", "fern", "field", "flint", "flow", "fog", "forest", "garden", "glass",
    "gold", "granite", "gull", "hazel", "hill", "iron", "island", "ivory", "jade", "lake", "lantern",
    "marsh", "meadow", "mill", "mist", "moon", "moss", "oak", "ocean", "pearl", "pine", "reef", "river",
    "sail", "salt", "shore", "silver", "stone", "storm", "willow",
];
const WORDS: [&str; 32] = [
    "today", "learning", "about", "finally", "shipped", "the", "new", "release", "of", "our", "pipeline",
    "love", "this", "talk", "on", "windows", "why", "does", "nobody", "tell", "you", "that", "it", "works",
    "after", "all", "these", "years", "morning", "coffee", "and", "again",
];
/// With how many of a hundred tweets are in it.
const LANGUAGES: [(&str, u32); 8] =
    [("en", 46), ("ja", 17), ("es", 12), ("pt", 9), ("de", 6), ("fr", 5), ("ar", 3), ("und", 2)];
/// A burst lasts for this part of the time from one to the next.
const BURST: u64 = 5;
/// How often tweets are handed over.
const STEP: std::time::Duration = std::time::Duration::from_millis(20);

/// Makes tweets.
pub(crate) struct Generator {
    random: StdRng,
    hashtags: Vec<String>,
    popularity: Zipf<f64>,
    users: Vec<String>,
    activity: Zipf<f64>,
    /// Tweets from one burst to the next; 0 for none.
    burst_every: u64,
    next_id: i64,
    /// The last time, as text.
    now: (Time, String),
    user: usize,
}

#[derive(Serialize)]
struct Made<'a> {
    id: i64,
    created_at: &'a str,
    user: &'a str,
    lang: &'a str,
    text: &'a str,
    hashtags: &'a [&'a str],
    source: &'static str,
}

impl Generator {
    /// `burst_every` tweets after each other, a hashtag that few use is all over for a while.
    ///
    /// # Errors
    /// There are no hashtags or users to choose from.
    pub(crate) fn new(
        hashtags: u32,
        users: u32,
        burst_every: u64,
        seed: Option<u64>,
        first_id: i64,
    ) -> Result<Self> {
        let law = |n: u32, exponent| {
            Zipf::new(f64::from(n), exponent)
                .map_err(|e| Error::config("hashtags and users must be 1 or more").with_source(e))
        };
        let rare = (0u32..).map(|n| {
            let (first, second) = (n as usize % PARTS.len(), n as usize / PARTS.len());
            let number = second / PARTS.len();
            let name = format!("{}{}", PARTS[first], PARTS[(second + first) % PARTS.len()]);
            if number == 0 { name } else { format!("{name}{number}") }
        });
        let names = COMMON.iter().map(|name| (*name).to_owned()).chain(rare).take(hashtags as usize);
        Ok(Self {
            random: seed.map_or_else(
                || StdRng::from_rng(&mut rand::rng()),
                |seed| StdRng::seed_from_u64(seed ^ first_id as u64),
            ),
            hashtags: names.collect(),
            popularity: law(hashtags, 1.05)?,
            users: (0..users).map(|n| format!("{}_{n}", PARTS[n as usize % PARTS.len()])).collect(),
            activity: law(users, 0.7)?,
            burst_every,
            next_id: first_id,
            now: (Time::ZERO, rfc3339(Time::ZERO)),
            user: 0,
        })
    }

    fn nth(law: &Zipf<f64>, random: &mut StdRng) -> usize {
        law.sample(random) as usize - 1
    }

    /// The next tweet as JSON, made `now`; [`user`](Self::user) wrote it.
    pub(crate) fn tweet(&mut self, now: Time) -> Result<Vec<u8>> {
        if self.now.0 != now {
            self.now = (now, rfc3339(now));
        }
        let random = &mut self.random;
        let id = self.next_id;
        self.next_id += 1;
        self.user = Self::nth(&self.activity, random);
        // One in five tweets has no hashtag, few have many.
        let tags = [0, 1, 1, 1, 2, 2, 3, 0, 1, 2][random.random_range(0..10)];
        let mut hashtags: Vec<&str> = Vec::with_capacity(4);
        for _ in 0..tags {
            let tag = self.hashtags[Self::nth(&self.popularity, random)].as_str();
            if !hashtags.contains(&tag) {
                hashtags.push(tag);
            }
        }
        if let Some(tag) = Self::bursting(&self.hashtags, self.burst_every, id as u64)
            && random.random_range(0..3) == 0
        {
            hashtags.push(tag);
        }
        // Long ones are rare, and there.
        let words = if random.random_range(0..50) == 0 { 60 } else { random.random_range(4..18) };
        let mut text = String::with_capacity(words * 7 + hashtags.len() * 14);
        for _ in 0..words {
            text.push_str(WORDS.choose(random).copied().unwrap_or_default());
            text.push(' ');
        }
        for tag in &hashtags {
            text.push('#');
            text.push_str(tag);
            text.push(' ');
        }
        text.pop();
        let mut share = random.random_range(0..100u32);
        let lang = LANGUAGES.iter().find(|(_, part)| {
            let found = share < *part;
            share = share.saturating_sub(*part);
            found
        });
        let (created_at, user) = (self.now.1.as_str(), self.users[self.user].as_str());
        let lang = lang.map_or("en", |(lang, _)| lang);
        let made = Made { id, created_at, user, lang, text: &text, hashtags: &hashtags, source: "generate" };
        serde_json::to_vec(&made).map_err(|e| Error::internal("a tweet cannot be written").with_source(e))
    }

    /// Who wrote the last tweet.
    pub(crate) fn user(&self) -> &str {
        &self.users[self.user]
    }

    /// The hashtag that is all over at the tweet `id`: another one each time, and none of the common ones. The first burst comes
    /// after things have settled.
    fn bursting(hashtags: &[String], every: u64, id: u64) -> Option<&str> {
        if every == 0 || id % every < every - every / BURST {
            return None;
        }
        let rare = hashtags.get(COMMON.len()..).filter(|rare| !rare.is_empty()).unwrap_or(hashtags);
        let step = (id / every) as usize;
        Some(&rare[(step * 37 + rare.len() / 2) % rare.len()])
    }
}

/// Makes tweets at a rate until there are enough.
pub(super) async fn run(args: &GenerateArgs, bridge: &Bridge) -> Result<()> {
    let first = bridge.from.unwrap_or(0);
    let burst_every = u64::from(args.burst_every) * u64::from(args.rate.max(1));
    let mut generator = Generator::new(args.hashtags, args.users, burst_every, args.seed, first)?;
    let clock = SystemClock::default();
    let (watch, mut sent, mut steps) = (Stopwatch::start(), 0u64, tokio::time::interval(STEP));
    // A rate that Kafka does not keep up with is not made up for later: at most a second's tweets.
    let mut skipped = 0u64;
    loop {
        steps.tick().await;
        let due = (watch.elapsed().as_secs_f64() * f64::from(args.rate)) as u64;
        skipped = skipped.max(due.saturating_sub(sent + u64::from(args.rate)));
        let now = clock.now();
        while sent + skipped < due {
            if args.limit.is_some_and(|limit| first as u64 + sent >= limit) {
                return Ok(());
            }
            let tweet = generator.tweet(now)?;
            bridge.delivery.send_written(generator.user(), &tweet, Some(generator.next_id)).await?;
            sent += 1;
            // A stop is heard of between two tweets, also at a high rate.
            if sent.is_multiple_of(1_000) {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use serde_json::Value;

    fn tweets(n: usize, burst_every: u64) -> Vec<Value> {
        let mut generator = Generator::new(500, 100, burst_every, Some(1), 0).expect("right");
        let tweets = (0..n).map(|_| generator.tweet(Time::from_millis(1_000)).expect("a tweet"));
        tweets.map(|tweet| serde_json::from_slice(&tweet).expect("JSON")).collect()
    }

    fn counts(tweets: &[Value]) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for tag in tweets.iter().flat_map(|tweet| tweet["hashtags"].as_array().expect("a list")) {
            *counts.entry(tag.as_str().expect("text").to_owned()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn few_hashtags_are_used_by_all_and_many_by_few() {
        let tweets = tweets(5_000, 0);
        assert_eq!(tweets[7]["created_at"], "1970-01-01T00:00:01.000Z");
        let counts = counts(&tweets);
        assert!(counts["rust"] > counts["kafka"] && counts["kafka"] > counts["sql"], "{counts:?}");
        let rare = counts.values().filter(|n| **n <= 3).count();
        assert!(rare > 50, "{rare} of {} are rare", counts.len());
        let languages: BTreeSet<_> =
            tweets.iter().map(|tweet| tweet["lang"].as_str().expect("text")).collect();
        assert_eq!(languages.len(), LANGUAGES.len());
        let text = |tweet: &Value| tweet["text"].as_str().expect("text").len();
        assert!(tweets.iter().any(|tweet| text(tweet) > 280));
    }

    #[test]
    fn a_burst_brings_a_rare_hashtag_up() {
        let tweets = tweets(1_000, 1_000);
        let (before, burst) = tweets.split_at(800);
        let (tag, often) = counts(burst).into_iter().max_by_key(|(_, n)| *n).expect("some");
        assert!(!COMMON.contains(&tag.as_str()) && often > 40, "{tag} {often}");
        assert!(counts(before).get(&tag).is_none_or(|n| *n < 5), "{tag}");
    }

    #[test]
    fn a_seed_gives_the_same_tweets() {
        assert_eq!(tweets(50, 20), tweets(50, 20));
    }
}
