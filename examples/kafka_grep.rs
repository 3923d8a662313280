//! The lines of a topic that contain a word, each once, in another topic.
//!
//! ```console
//! $ cargo run --example kafka_grep -- localhost:9092 lines matches error
//! ```
//!
//! The first operator sees a record where it lies in the reader's buffer, so that only what matches is copied.

use memchr::memmem::Finder;
use tidemill::{Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Result, Start, StreamingContext};

/// Sends the lines of `source` that contain `word` to the topic `output`.
pub fn program(
    ssc: &StreamingContext,
    source: KafkaSource,
    brokers: &str,
    output: &str,
    word: &str,
) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 4);
    let word = Finder::new(word).into_owned();
    ssc.kafka_direct_stream(source)
        .flat_map(move |record| {
            let line = record.value.filter(|line| word.find(line).is_some())?;
            Some(ProducerRecord { value: Some(line.to_vec()), ..ProducerRecord::default() })
        })
        .save_to_kafka(&sink, output);
    Ok(())
}

#[allow(dead_code, reason = "benchmarks run the program themselves")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (brokers, input, output) = (next("localhost:9092"), next("lines"), next("matches"));
    let ssc = StreamingContext::builder("kafka-grep")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-grep")
        .build()?;
    let source = KafkaSource::new(&*brokers, [input]).start(Start::Earliest);
    program(&ssc, source, &brokers, &output, &next("error"))?;
    ssc.start()?;
    ssc.await_termination()
}
