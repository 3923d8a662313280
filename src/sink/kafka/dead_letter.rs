//! Records that could not be used, for a dead-letter topic.

use super::ProducerRecord;
use crate::source::DeadLetter;
use crate::source::kafka::ConsumerRecord;
use crate::time::Time;

/// What the names of the headers begin with that tell where a dead letter is from (as KIP-1034 has them).
pub(crate) const HEADERS: &str = "__tidemill.errors.";

/// The original record, byte for byte, with headers that tell where it came from.
pub(super) fn of_read(app_name: &str, time: Time, letter: DeadLetter) -> ProducerRecord {
    let ConsumerRecord { topic, partition, offset, timestamp, key, value, mut headers } = letter.record;
    let mut add = |name, value: String| add(&mut headers, name, value);
    add("topic", topic);
    add("partition", partition.to_string());
    add("offset", offset.to_string());
    if let Some(timestamp) = timestamp {
        add("timestamp", timestamp.to_string());
    }
    add("stage", letter.stage.name().to_owned());
    add("operator", letter.operator.to_string());
    add("message", letter.error);
    add("batch_time", time.as_millis().to_string());
    add("app_id", app_name.to_owned());
    ProducerRecord { key, value, headers, timestamp: None }
}

/// A record that was for `topic` and cannot be sent there.
pub(super) fn of_unsent(
    app_name: &str,
    time: Time,
    (topic, operator): (&str, &str),
    record: &ProducerRecord,
    error: &str,
) -> ProducerRecord {
    let ProducerRecord { key, value, mut headers, timestamp } = record.clone();
    let mut add = |name, value: String| add(&mut headers, name, value);
    add("topic", topic.to_owned());
    add("timestamp", timestamp.unwrap_or(time).as_millis().to_string());
    add("stage", "produce".to_owned());
    add("operator", operator.to_owned());
    add("message", error.to_owned());
    add("batch_time", time.as_millis().to_string());
    add("app_id", app_name.to_owned());
    ProducerRecord { key, value, headers, timestamp: None }
}

fn add(headers: &mut Vec<(String, Option<Vec<u8>>)>, name: &str, value: String) {
    headers.push((format!("{HEADERS}{name}"), Some(value.into_bytes())));
}
