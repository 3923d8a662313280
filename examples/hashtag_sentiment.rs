//! How people feel about the hashtags they use: positive, neutral and negative tweets of the last ten minutes per
//! hashtag, every ten seconds.
//!
//! A tweet's sentiment is judged by a small word list. The three counts of a hashtag are one value, which a window adds up.
//!
//! Reads the text of tweets from a Kafka topic:
//!
//! ```console
//! $ cargo run --example hashtag_sentiment -- localhost:9092 tweets
//! $ echo 'What a great day, I love it #summer' |
//!     kafka-console-producer.sh --bootstrap-server localhost:9092 --topic tweets
//! ```

use serde::{Deserialize, Serialize};
use tidemill::{DStream, Duration, KafkaSource, Result, StreamingContext};

const POSITIVE: [&str; 10] =
    ["amazing", "awesome", "best", "fantastic", "good", "great", "happy", "love", "thanks", "win"];
const NEGATIVE: [&str; 10] =
    ["angry", "awful", "bad", "fail", "hate", "horrible", "sad", "terrible", "worst", "wrong"];

/// How many tweets were positive, neutral and negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sentiment {
    positive: u64,
    neutral: u64,
    negative: u64,
}

impl Sentiment {
    /// The sentiment of one text: whichever of good and bad words it has more of.
    fn of(text: &str) -> Self {
        let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        let score: i64 = words
            .map(|word| {
                i64::from(POSITIVE.contains(&word.as_str())) - i64::from(NEGATIVE.contains(&word.as_str()))
            })
            .sum();
        Self {
            positive: u64::from(score > 0),
            neutral: u64::from(score == 0),
            negative: u64::from(score < 0),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            positive: self.positive + other.positive,
            neutral: self.neutral + other.neutral,
            negative: self.negative + other.negative,
        }
    }
}

/// The hashtags of a text, each once, in lower case and without their `#`.
fn hashtags(text: &str) -> Vec<String> {
    let mut tags: Vec<_> = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('#'))
        .map(|tag| tag.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|tag| !tag.is_empty())
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

/// Every `slide`, each hashtag of the last `window` and the sentiment of its tweets.
fn sentiments(
    tweets: &DStream<String>,
    window: Duration,
    slide: Duration,
) -> Result<DStream<(String, Sentiment)>> {
    let pairs = tweets.flat_map(|text| {
        let sentiment = Sentiment::of(&text);
        hashtags(&text).into_iter().map(move |tag| (tag, sentiment))
    });
    pairs.reduce_by_key_and_window(Sentiment::plus, window, slide)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "tweets".to_owned());

    let ssc = StreamingContext::builder("hashtag-sentiment").batch_interval(Duration::seconds(1)).build()?;
    let tweets = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    sentiments(&tweets, Duration::minutes(10), Duration::seconds(10))?.print_n(50);
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches_sorted;

    use super::*;

    #[test]
    fn good_and_bad_words_are_weighed() {
        let of = |positive, neutral, negative| Sentiment { positive, neutral, negative };
        assert_eq!(Sentiment::of("Great! I LOVE this, though the end was bad"), of(1, 0, 0));
        assert_eq!(Sentiment::of("good and bad"), of(0, 1, 0));
        assert_eq!(Sentiment::of("the goodness of badgers"), of(0, 1, 0));
        assert_eq!(Sentiment::of("worst. day. ever."), of(0, 0, 1));
        assert_eq!(Sentiment::of(""), of(0, 1, 0));
    }

    #[test]
    fn a_tweet_counts_once_for_each_of_its_hashtags() {
        assert_eq!(hashtags("#Summer, what a #day #summer! # a#b"), ["day", "summer"]);
    }

    #[test]
    fn sentiments_add_up_in_the_window() {
        let tweets = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let batches = vec![
            tweets(&["love #rust", "hate #rust and #monday", "#rust"]),
            tweets(&["good #rust"]),
            tweets(&["no hashtag, sad"]),
            tweets(&[]),
        ];
        let output = run_batches_sorted(batches, |tweets| {
            let sentiments = sentiments(tweets, Duration::seconds(2), Duration::seconds(1)).unwrap();
            sentiments.map(|(tag, s)| (tag, [s.positive, s.neutral, s.negative]))
        });
        let (monday, rust) = (|n| ("monday".to_owned(), n), |n| ("rust".to_owned(), n));
        assert_eq!(
            output.unwrap(),
            [
                vec![monday([0, 0, 1]), rust([1, 1, 1])],
                vec![monday([0, 0, 1]), rust([2, 1, 1])],
                vec![rust([1, 0, 0])],
                vec![],
            ]
        );
    }
}
