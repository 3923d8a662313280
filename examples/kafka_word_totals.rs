//! How often each word has come so far: the totals of all words with each batch, by `update_state_by_key`.
//!
//! ```console
//! $ cargo run --example kafka_word_totals -- localhost:9092 lines word-totals
//! ```
//!
//! See `kafka_running_count` for the words alone whose totals have changed.

use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Result, Start, StreamingContext, Text,
};

/// Sends all words that `source` ever had, and their totals, to the topic `output` with each batch.
pub fn program(ssc: &StreamingContext, source: KafkaSource, brokers: &str, output: &str) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 4);
    let words = ssc.kafka_direct_stream(source).flat_map_with(|record, emit| {
        Text::split_ascii_whitespace(&record.text()).try_for_each(|word| emit((word, 1_u64)))
    });
    words
        .reduce_by_key(|a, b| a + b)
        .update_state_by_key(|new, total: Option<u64>| Some(total.unwrap_or(0) + new.iter().sum::<u64>()))
        .map(|(word, n)| ProducerRecord::new(word.as_bytes(), n.to_string()))
        .save_to_kafka(&sink, output);
    Ok(())
}

#[allow(dead_code, reason = "benchmarks run the program themselves")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (brokers, input, output) = (next("localhost:9092"), next("lines"), next("word-totals"));
    let ssc = StreamingContext::builder("kafka-word-totals")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-word-totals")
        .build()?;
    program(&ssc, KafkaSource::new(&*brokers, [input]).start(Start::Earliest), &brokers, &output)?;
    ssc.start()?;
    ssc.await_termination()
}
