//! How often each word came in each batch, exactly once from topic to topic.
//!
//! ```console
//! $ cargo run --example kafka_word_count -- localhost:9092 lines word-counts
//! ```
//!
//! Words are short: a `Text` holds up to 22 bytes in itself, and needs no memory for each of them.

use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, KafkaStream, ProducerRecord, Result, Start, StreamingContext,
    Text,
};

/// Each word of each line, with a one.
fn words(lines: &KafkaStream) -> tidemill::DStream<(Text, u64)> {
    lines.flat_map_with(|record, emit| {
        Text::split_ascii_whitespace(&record.text()).try_for_each(|word| emit((word, 1)))
    })
}

/// Sends the words of `source` and their counts to the topic `output`, those of a batch together.
pub fn program(ssc: &StreamingContext, source: KafkaSource, brokers: &str, output: &str) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 4);
    words(&ssc.kafka_direct_stream(source))
        .reduce_by_key(|a, b| a + b)
        .map(|(word, n)| ProducerRecord::new(word.as_bytes(), n.to_string()))
        .save_to_kafka(&sink, output);
    Ok(())
}

#[allow(dead_code, reason = "benchmarks run the program themselves")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (brokers, input, output) = (next("localhost:9092"), next("lines"), next("word-counts"));
    let ssc = StreamingContext::builder("kafka-word-count")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-word-count")
        .build()?;
    program(&ssc, KafkaSource::new(&*brokers, [input]).start(Start::Earliest), &brokers, &output)?;
    ssc.start()?;
    ssc.await_termination()
}
