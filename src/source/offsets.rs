//! A slice of a partition.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The offsets `from..until` of one partition of a topic; `until` is not included (Spark's `OffsetRange`).
///
/// Offsets are not dense: a range may hold fewer records than [`count`](OffsetRange::count).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The topic.
    #[serde(with = "shared_text")]
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub until: i64,
}

impl OffsetRange {
    /// How many offsets the range spans.
    pub fn count(&self) -> u64 {
        (self.until - self.from).max(0) as u64
    }

    /// The range cut into parts of about the same length, each of at least `least` offsets if the whole has as many; none of an empty
    /// one.
    pub(crate) fn parts(&self, least: i64) -> impl Iterator<Item = OffsetRange> + use<> {
        let (whole, from) = (self.clone(), self.from);
        let count = self.until.saturating_sub(from).max(0);
        let parts = if count == 0 { 0 } else { (count / least.max(1)).max(1) };
        let cut = move |i: i64| from + (i128::from(count) * i128::from(i) / i128::from(parts.max(1))) as i64;
        (0..parts).map(move |i| OffsetRange { from: cut(i), until: cut(i + 1), ..whole.clone() })
    }

    /// Whether the range holds no offset.
    pub fn is_empty(&self) -> bool {
        self.until <= self.from
    }
}

/// `topic-partition [from, until)`
impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} [{}, {})", self.topic, self.partition, self.from, self.until)
    }
}

/// A shared text is written like any other.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_into_parts_that_are_not_too_small() {
        let range = |from, until| OffsetRange { topic: "t".into(), partition: 3, from, until };
        let parts = |least| range(10, 21).parts(least).collect::<Vec<_>>();
        assert_eq!(parts(4), [range(10, 15), range(15, 21)]);
        assert_eq!(parts(3), [range(10, 13), range(13, 17), range(17, 21)]);
        assert_eq!(parts(11), [range(10, 21)]);
        assert_eq!(parts(100), [range(10, 21)]);
        assert_eq!(range(5, 5).parts(1).count(), 0);
        let all = range(i64::MAX - 9, i64::MAX).parts(3).collect::<Vec<_>>();
        assert_eq!(all.last().map(|last| last.until), Some(i64::MAX));
    }
}
