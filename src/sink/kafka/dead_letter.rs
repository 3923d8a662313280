//! Records that could not be decoded, for a dead-letter topic.

use super::ProducerRecord;
use crate::source::DeadLetter;
use crate::source::kafka::ConsumerRecord;

/// The original record, byte for byte, with headers that tell where it came from (as KIP-1034 does).
pub(super) fn dead_letter_record(app_name: &str, letter: DeadLetter) -> ProducerRecord {
    let ConsumerRecord { topic, partition, offset, timestamp, key, value, mut headers } = letter.record;
    let mut add = |name: &str, value: String| {
        headers.push((format!("__tidemill.errors.{name}"), Some(value.into_bytes())));
    };
    add("topic", topic);
    add("partition", partition.to_string());
    add("offset", offset.to_string());
    if let Some(timestamp) = timestamp {
        add("timestamp", timestamp.to_string());
    }
    add("stage", "decode".into());
    add("operator", letter.operator.to_string());
    add("message", letter.error);
    add("app_id", app_name.into());
    ProducerRecord { key, value, headers }
}
