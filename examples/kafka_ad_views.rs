//! How often the ads of each campaign were seen, in windows of 10 seconds: JSON, a filter, a join with a table, a window. It is
//! the pipeline of the Yahoo streaming benchmark.
//!
//! ```console
//! $ cargo run --example kafka_ad_views -- localhost:9092 ads campaign-views campaigns.csv
//! ```
//!
//! `campaigns.csv` has a line `ad,campaign` for each ad.

use std::collections::HashMap;

use serde::Deserialize;
use tidemill::{
    Duration, KafkaSinkSettings, KafkaSource, ProducerRecord, Result, Slicing, Start, StreamingContext, Text,
};

const WINDOW: Duration = Duration::seconds(10);

/// What is of interest of an event. Its texts are parts of the record.
#[derive(Deserialize)]
struct Event<'a> {
    ad_id: &'a str,
    event_type: &'a str,
}

/// Each ad's campaign.
pub fn campaigns(csv: &str) -> HashMap<String, Text> {
    let mut names: HashMap<&str, Text> = HashMap::new();
    let pairs = csv.lines().filter_map(|line| line.split_once(','));
    pairs
        .map(|(ad, name)| (ad.to_owned(), names.entry(name).or_insert_with(|| name.into()).clone()))
        .collect()
}

/// Sends the campaigns of which ads were seen and how often to the topic `output`, every 10 seconds; the value is the
/// window's end in milliseconds since 1970, and the count. An event that is no JSON, or of an ad that nobody knows, is left out.
pub fn program(
    ssc: &StreamingContext,
    source: KafkaSource,
    brokers: &str,
    output: &str,
    campaigns: HashMap<String, Text>,
) -> Result<()> {
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(brokers));
    sink.create_topic(output, 4);
    let views = ssc.kafka_direct_stream(source).flat_map(move |record| {
        let event: Event<'_> = serde_json::from_slice(record.value?).ok()?;
        let campaign = (event.event_type == "view").then(|| campaigns.get(event.ad_id)).flatten()?;
        Some((campaign.clone(), 1_u64))
    });
    views
        .reduce_by_key_and_window(|a, b| a + b, WINDOW, WINDOW)?
        .transform_with_time(|views, end| {
            views.map(move |(campaign, n)| {
                ProducerRecord::new(campaign.as_bytes(), format!("{} {n}", end.as_millis()))
            })
        })
        .save_to_kafka(&sink, output);
    Ok(())
}

#[allow(dead_code, reason = "benchmarks run the program themselves")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (brokers, input, output) = (next("localhost:9092"), next("ads"), next("campaign-views"));
    let file = next("campaigns.csv");
    let csv = std::fs::read_to_string(&file)
        .map_err(|e| tidemill::Error::config(format!("cannot read {file}")).with_source(e))?;
    let ssc = StreamingContext::builder("kafka-ad-views")
        .batch_interval(Duration::seconds(1))
        .checkpoint("data/kafka-ad-views")
        .build()?;
    let source = KafkaSource::new(&*brokers, [input]).start(Start::Earliest).slicing(Slicing::timestamp());
    program(&ssc, source, &brokers, &output, campaigns(&csv))?;
    ssc.start()?;
    ssc.await_termination()
}
