//! The ten most frequent words of the last 30 seconds, every 10 seconds, by the records' own times.
//!
//! ```console
//! $ cargo run --example kafka_top_words -- localhost:9092 lines top-words
//! ```
//!
//! Every partition finds its own first ten, so that no more than ten pairs of each are brought together.

use std::cmp::Reverse;

use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Result, Slicing, Start, StreamingContext, Text,
    WindowSpec,
};

const WINDOW: Duration = Duration::seconds(30);
const SLIDE: Duration = Duration::seconds(10);
const MOST: usize = 10;

/// The greatest counts, greatest first; among equals, the first in the alphabet.
fn first(mut counts: Vec<(Text, i64)>) -> Vec<(Text, i64)> {
    counts.sort_unstable_by(|(a, n), (b, m)| (Reverse(n), a).cmp(&(Reverse(m), b)));
    counts.truncate(MOST);
    counts
}

/// Sends the most frequent words of `source` in each window to the one partition of the topic `output`, in their order; the value is
/// the window's end in milliseconds since 1970, and the count.
pub fn program(ssc: &StreamingContext, source: KafkaSource, brokers: &str, output: &str) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 1);
    let words = ssc.kafka_direct_stream(source).flat_map_with(|record, emit| {
        Text::split_ascii_whitespace(&record.text()).try_for_each(|word| emit((word, 1_i64)))
    });
    let counts = WindowSpec::reduce(|a, b| a + b).inverse(|all, gone| all - gone).filter(|_, n| *n > 0);
    words
        .reduce_by_key_and_window_with(counts, WINDOW, SLIDE)?
        .transform_with_time(|counts, end| {
            counts.map_partitions(first).coalesce(1).map_partitions(first).map(move |(word, n)| {
                ProducerRecord::new(word.as_bytes(), format!("{} {n}", end.as_millis()))
            })
        })
        .save_to_kafka(&sink, output);
    Ok(())
}

#[allow(dead_code, reason = "benchmarks run the program themselves")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (brokers, input, output) = (next("localhost:9092"), next("lines"), next("top-words"));
    let ssc = StreamingContext::builder("kafka-top-words")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-top-words")
        .build()?;
    let source = KafkaSource::new(&*brokers, [input]).start(Start::Earliest).slicing(Slicing::timestamp());
    program(&ssc, source, &brokers, &output)?;
    ssc.start()?;
    ssc.await_termination()
}
