//! The ten most used hashtags of the last ten minutes, every ten seconds.
//!
//! Counts in a window, and then the top of each window: every partition finds its own first, so that no more than ten
//! pairs of each are brought together.
//!
//! Reads the text of tweets from a Kafka topic:
//!
//! ```console
//! $ cargo run --example hashtag_count -- localhost:9092 tweets
//! $ echo 'All aboard #rust #streaming' |
//!     kafka-console-producer.sh --bootstrap-server localhost:9092 --topic tweets
//! ```

use std::cmp::Reverse;

use tidemill::{DStream, Duration, KafkaSource, Rdd, Result, StreamingContext};

const WINDOW: Duration = Duration::minutes(10);
const SLIDE: Duration = Duration::seconds(10);

/// The hashtags of a text, in lower case and without their `#`.
fn hashtags(text: &str) -> Vec<String> {
    let tag = |after: &str| {
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        after[..end].to_lowercase()
    };
    text.split('#').skip(1).map(tag).filter(|tag| !tag.is_empty()).collect()
}

/// Every `slide`, each hashtag of the last `window` and its count.
fn hashtag_counts(
    tweets: &DStream<String>,
    window: Duration,
    slide: Duration,
) -> Result<DStream<(String, u64)>> {
    tweets.flat_map(|text| hashtags(&text)).count_by_value_and_window(window, slide)
}

/// The `n` greatest counts, greatest first; among equals, the first in the alphabet.
fn top(counts: &DStream<(String, u64)>, n: usize) -> DStream<(String, u64)> {
    let first = move |mut counts: Vec<(String, u64)>| {
        counts.sort_by(|(a, n), (b, m)| (Reverse(n), a).cmp(&(Reverse(m), b)));
        counts.truncate(n);
        counts
    };
    let of_partition =
        move |counts: Rdd<(String, u64)>| counts.map_partitions(move |counts| [((), first(counts))]);
    counts.transform(move |counts| {
        let all = of_partition(counts).reduce_by_key_with(move |a, b| first([a, b].concat()), 1);
        all.flat_map(|((), top)| top)
    })
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "tweets".to_owned());

    let ssc = StreamingContext::builder("hashtag-count").batch_interval(Duration::seconds(1)).build()?;
    let tweets = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    top(&hashtag_counts(&tweets, WINDOW, SLIDE)?, 10).print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches;

    use super::*;

    fn counts(all: &[(&str, u64)]) -> Vec<(String, u64)> {
        all.iter().map(|(tag, n)| ((*tag).to_owned(), *n)).collect()
    }

    #[test]
    fn a_hashtag_ends_with_its_word() {
        assert_eq!(hashtags("#Rust, #rust!#Go_1 # no #é"), ["rust", "rust", "go_1", "é"]);
        assert!(hashtags("none at all").is_empty());
    }

    #[test]
    fn the_greatest_come_first_and_then_the_alphabet() {
        let batch = counts(&[("d", 1), ("c", 5), ("b", 5), ("a", 2), ("e", 9)]);
        let top_three = counts(&[("e", 9), ("b", 5), ("c", 5)]);
        let output = run_batches(vec![batch, vec![], counts(&[("x", 1)])], |all| top(all, 3)).unwrap();
        assert_eq!(output, [top_three, vec![], counts(&[("x", 1)])]);
    }

    #[test]
    fn hashtags_count_as_long_as_they_are_in_the_window() {
        let batches = vec![vec!["#a #b", "#a"], vec!["#b #B #c"], vec![], vec![]];
        let output = run_batches(batches, |tweets| {
            let tweets = tweets.map(str::to_owned);
            top(&hashtag_counts(&tweets, Duration::seconds(2), Duration::seconds(1)).unwrap(), 2)
        });
        let expected = [
            counts(&[("a", 2), ("b", 1)]),
            counts(&[("b", 3), ("a", 2)]),
            counts(&[("b", 2), ("c", 1)]),
            counts(&[]),
        ];
        assert_eq!(output.unwrap(), expected);
    }
}
