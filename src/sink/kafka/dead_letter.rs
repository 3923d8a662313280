//! Records that could not be used, for a dead-letter topic.

use super::ProducerRecord;
use crate::source::kafka::ConsumerRecord;
use crate::source::{DeadLetter, short};
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
    add("operator", letter.operator);
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
    error: String,
) -> ProducerRecord {
    let ProducerRecord { key, value, mut headers, timestamp } = record.clone();
    let mut add = |name, value: String| add(&mut headers, name, value);
    add("topic", topic.to_owned());
    add("timestamp", timestamp.unwrap_or(time).as_millis().to_string());
    add("stage", "produce".to_owned());
    add("operator", operator.to_owned());
    add("message", short(error));
    add("batch_time", time.as_millis().to_string());
    add("app_id", app_name.to_owned());
    ProducerRecord { key, value, headers, timestamp: None }
}

/// If `letter` has more than `most` bytes: what of it has no more, and what had to be left out for that: first its value, then
/// the headers that it had, then its key. A header `left_out` says so.
pub(super) fn fitting(letter: &ProducerRecord, most: usize) -> Option<(ProducerRecord, String)> {
    if letter.size() <= most {
        return None;
    }
    let ProducerRecord { key, value, headers, timestamp } = letter;
    let bytes =
        |what: &str, of: &Option<Vec<u8>>| format!("its {what} of {} bytes", of.as_ref().map_or(0, Vec::len));
    let (noted, own): (Vec<_>, Vec<_>) =
        headers.clone().into_iter().partition(|(name, _)| name.starts_with(HEADERS));
    let of_headers = format!("its {} headers", own.len());
    let mut less =
        ProducerRecord { key: key.clone(), value: None, headers: headers.clone(), timestamp: *timestamp };
    let mut left_out = bytes("value", value);
    let told = |mut record: ProducerRecord, left_out: &str| {
        add(&mut record.headers, "left_out", left_out.to_owned());
        record
    };
    if told(less.clone(), &left_out).size() > most {
        less.headers = noted;
        left_out = format!("{left_out}, {of_headers}");
    }
    if told(less.clone(), &left_out).size() > most {
        left_out = format!("{left_out}, {}", bytes("key", key));
        less.key = None;
    }
    Some((told(less, &left_out), left_out))
}

fn add(headers: &mut Vec<(String, Option<Vec<u8>>)>, name: &str, value: String) {
    headers.push((format!("{HEADERS}{name}"), Some(value.into_bytes())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_loses_what_does_not_fit_and_says_so() {
        let record = ProducerRecord::new("key", vec![b'v'; 1_000]).header("own", "h".repeat(500));
        let noted = |record: &ProducerRecord, name: &str| {
            let found = record.headers.iter().find(|(other, _)| *other == format!("{HEADERS}{name}"));
            found.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
        };
        let letter =
            |error: &str| of_unsent("app", Time::from_millis(7), ("to", "map"), &record, error.to_owned());
        let whole = letter("bad");
        assert_eq!(fitting(&whole, whole.size()), None);
        let cases = [
            (whole.size() - 1, "its value of 1000 bytes", true, true),
            (800, "its value of 1000 bytes, its 1 headers", false, true),
            (1, "its value of 1000 bytes, its 1 headers, its key of 3 bytes", false, false),
        ];
        for (most, told, has_headers, has_key) in cases {
            let (less, left_out) = fitting(&whole, most).expect("it is too large");
            assert_eq!(left_out, told, "{most}");
            assert_eq!(noted(&less, "left_out").as_deref(), Some(told), "{most}");
            assert_eq!(noted(&less, "message").as_deref(), Some("bad"), "{most}");
            let own = less.headers.iter().any(|(name, _)| name == "own");
            assert_eq!(
                (less.value.as_ref(), own, less.key.is_some()),
                (None, has_headers, has_key),
                "{most}"
            );
            assert!(less.size() <= most || most == 1, "{most}");
        }
        // Whatever an error says, some of it must do.
        let long = letter(&"é".repeat(10_000));
        assert_eq!(noted(&long, "message").unwrap().chars().count(), 2_049);
    }
}
