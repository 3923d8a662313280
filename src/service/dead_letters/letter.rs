//! A dead letter: the record that it was, and what was noted of it.

use serde_json::{Value, json};

use crate::codec::murmur2;
use crate::sink::kafka::DEAD_LETTER_HEADERS;
use crate::source::kafka::ConsumerRecord;
use crate::time::Time;

pub(super) const HEADING: [&str; 8] =
    ["DEAD LETTER", "FROM", "WRITTEN", "STAGE", "OPERATOR", "KEY", "RESENT", "ERROR"];

pub(super) struct Letter {
    /// As it stands in the dead-letter topic, less the headers that were added to it.
    pub record: ConsumerRecord,
    /// The topic that it is from; empty if it does not say.
    pub origin: String,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub timestamp: Option<i64>,
    pub stage: String,
    pub operator: String,
    pub message: String,
    pub batch_time: Option<i64>,
    /// What of it was too large for the topic of dead letters; empty if it is whole.
    pub left_out: String,
}

impl Letter {
    pub fn of(mut record: ConsumerRecord) -> Self {
        let (noted, own): (Vec<_>, Vec<_>) = std::mem::take(&mut record.headers)
            .into_iter()
            .partition(|(n, _)| n.starts_with(DEAD_LETTER_HEADERS));
        record.headers = own;
        // A record that became a dead letter again has several; the last are the ones.
        let text = |name: &str| {
            let found = noted.iter().rev().find(|(n, _)| n[DEAD_LETTER_HEADERS.len()..] == *name);
            let value = found.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        Self {
            origin: text("topic"),
            partition: text("partition").parse().ok(),
            offset: text("offset").parse().ok(),
            timestamp: text("timestamp").parse().ok(),
            stage: text("stage"),
            operator: text("operator"),
            message: text("message"),
            batch_time: text("batch_time").parse().ok(),
            left_out: text("left_out"),
            record,
        }
    }

    /// What tells it from every other: where it stands, and what it is, should the topic be made anew.
    pub fn mark(&self) -> String {
        let ConsumerRecord { topic, partition, offset, key, value, .. } = &self.record;
        let content =
            [key.as_deref().unwrap_or_default(), b"\0", value.as_deref().unwrap_or_default()].concat();
        let batch = self.batch_time.unwrap_or_default();
        format!("{topic}/{partition}/{offset}/{batch}/{:08x}", murmur2(&content))
    }

    pub fn from(&self) -> String {
        match (self.partition, self.offset) {
            (Some(partition), Some(offset)) => format!("{}-{partition} at {offset}", self.origin),
            _ => self.origin.clone(),
        }
    }

    pub fn place(&self) -> String {
        let ConsumerRecord { topic, partition, offset, .. } = &self.record;
        format!("{topic}-{partition} at {offset}")
    }

    pub fn row(&self, resent: bool) -> Vec<String> {
        vec![
            self.place(),
            self.from(),
            self.timestamp.map_or("-".to_owned(), |at| Time::from_millis(at).to_string()),
            self.stage.clone(),
            self.operator.clone(),
            self.record.key.as_deref().map_or("-".to_owned(), |key| text(key).chars().take(40).collect()),
            if resent { "yes" } else { "no" }.to_owned(),
            match &*self.left_out {
                "" => self.message.replace('\n', " "),
                left_out => format!("{} (without {left_out})", self.message.replace('\n', " ")),
            },
        ]
    }

    pub fn json(&self, resent: bool) -> Value {
        let ConsumerRecord { topic, partition, offset, key, value, headers, .. } = &self.record;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value.as_deref().map(text) }))
            .collect();
        json!({
            "dead_letter": { "topic": topic, "partition": partition, "offset": offset },
            "topic": self.origin,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
            "stage": self.stage,
            "operator": self.operator,
            "message": self.message,
            "batch_time": self.batch_time,
            "resent": resent,
            "left_out": Some(&*self.left_out).filter(|text| !text.is_empty()),
            "key": key.as_deref().map(text),
            "value": value.as_deref().map(text),
            "headers": headers,
        })
    }
}

/// Bytes for the eye.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, value: &str, notes: &[(&str, &str)]) -> Letter {
        let note = |(name, value): &(&str, &str)| {
            (format!("{DEAD_LETTER_HEADERS}{name}"), Some(value.as_bytes().to_vec()))
        };
        let own = ("trace".to_owned(), Some(b"1".to_vec()));
        Letter::of(ConsumerRecord {
            topic: "t.dlq".into(),
            partition: 2,
            offset,
            timestamp: Some(9),
            key: None,
            value: Some(value.into()),
            headers: std::iter::once(own).chain(notes.iter().map(note)).collect(),
        })
    }

    #[test]
    fn what_was_noted_is_told_and_what_was_its_own_is_kept() {
        let notes = [("topic", "t"), ("partition", "1"), ("offset", "7"), ("message", "bad"), ("topic", "u")];
        let letter = letter(3, "x", &notes);
        assert_eq!((letter.from().as_str(), letter.message.as_str()), ("u-1 at 7", "bad"));
        assert_eq!(letter.record.headers, [("trace".to_owned(), Some(b"1".to_vec()))]);
        assert_eq!(letter.json(true)["headers"][0]["value"], "1");
    }

    #[test]
    fn marks_tell_letters_apart() {
        let marks = [letter(3, "x", &[]), letter(4, "x", &[]), letter(3, "y", &[])].map(|l| l.mark());
        assert!(marks[0] != marks[1] && marks[0] != marks[2]);
        assert_eq!(marks[0], letter(3, "x", &[]).mark());
    }
}
