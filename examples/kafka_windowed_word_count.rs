//! How often each word came in the last 30 seconds, every 10 seconds, by the records' own times.
//!
//! ```console
//! $ cargo run --example kafka_windowed_word_count -- localhost:9092 lines window-counts
//! ```
//!
//! Sliced by timestamp, a topic gives the same windows whenever it is read. With an inverse function a window costs what
//! has come and gone, not what is in it; the filter lets go of words that are in it no more.

use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Result, Slicing, Start, StreamingContext, Text,
    WindowSpec,
};

const WINDOW: Duration = Duration::seconds(30);
const SLIDE: Duration = Duration::seconds(10);

/// Sends the words of `source` and their counts in each window to the topic `output`; the value is the window's end in
/// milliseconds since 1970, and the count.
pub fn program(ssc: &StreamingContext, source: KafkaSource, brokers: &str, output: &str) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 4);
    let words = ssc.kafka_direct_stream(source).flat_map_with(|record, emit| {
        Text::split_ascii_whitespace(&record.text()).try_for_each(|word| emit((word, 1_i64)))
    });
    let counts = WindowSpec::reduce(|a, b| a + b).inverse(|all, gone| all - gone).filter(|_, n| *n > 0);
    words
        .reduce_by_key_and_window_with(counts, WINDOW, SLIDE)?
        .transform_with_time(|counts, end| {
            counts.map(move |(word, n)| {
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
    let (brokers, input, output) = (next("localhost:9092"), next("lines"), next("window-counts"));
    let ssc = StreamingContext::builder("kafka-windowed-word-count")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-windowed-word-count")
        .build()?;
    let source = KafkaSource::new(&*brokers, [input]).start(Start::Earliest).slicing(Slicing::timestamp());
    program(&ssc, source, &brokers, &output)?;
    ssc.start()?;
    ssc.await_termination()
}
