//! How often each word has come so far: state that outlives the program, and a topic that tells each change exactly once.
//!
//! ```console
//! $ cargo run --example kafka_running_count -- localhost:9092 lines word-totals
//! ```

use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Result, Start, State, StateSpec,
    StreamingContext, Text,
};

/// Sends the words of `source` whose totals have changed, and the totals, to the topic `output` with each batch.
pub fn program(ssc: &StreamingContext, source: KafkaSource, brokers: &str, output: &str) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 4);
    let words = ssc.kafka_direct_stream(source).flat_map_with(|record, emit| {
        Text::split_ascii_whitespace(&record.text()).try_for_each(|word| emit((word, 1_u64)))
    });
    let total = StateSpec::function(|word: &Text, n: Option<u64>, total: &mut State<u64>| {
        let sum = total.get_option().unwrap_or(&0) + n.unwrap_or(0);
        total.update(sum);
        Some(ProducerRecord::new(word.as_bytes(), sum.to_string()))
    });
    words.reduce_by_key(|a, b| a + b).map_with_state(total).save_to_kafka(&sink, output);
    Ok(())
}

#[allow(dead_code, reason = "benchmarks run the program themselves")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (brokers, input, output) = (next("localhost:9092"), next("lines"), next("word-totals"));
    let ssc = StreamingContext::builder("kafka-running-count")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-running-count")
        .build()?;
    program(&ssc, KafkaSource::new(&*brokers, [input]).start(Start::Earliest), &brokers, &output)?;
    ssc.start()?;
    ssc.await_termination()
}
