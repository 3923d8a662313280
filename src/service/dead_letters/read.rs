//! What stands in the topics of dead letters and marks.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::service::topic_reader::TopicReader;

/// The marks of those that were sent back.
pub(super) fn resent(reader: &TopicReader, topic: &str) -> Result<BTreeSet<String>> {
    let mut marks = BTreeSet::new();
    reader.read(topic, &mut |record| {
        marks.extend(record.key.and_then(|key| String::from_utf8(key).ok()));
        Ok(true)
    })?;
    Ok(marks)
}
