//! What the output topics take, as the broker tells it at start, and what follows from that for the producer.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::ClientConfig;

use super::ProducerRecord;
use super::sender::no_time;
use crate::time::{Duration, Time};

/// No topic is served by smaller batches than this: a request for each record would be too slow.
const LEAST_BATCH: usize = 1_000;
/// librdkafka's own bound for a record, and about that for a batch of them.
const DEFAULT: usize = 1_000_000;

/// Which records a topic takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicLimits {
    /// `max.message.bytes`: of a whole batch of records, as it is sent.
    pub max_bytes: usize,
    pub is_compacted: bool,
    /// How far behind the broker's clock a record's timestamp may be, and how far ahead of it.
    pub before: Duration,
    pub after: Duration,
}

impl TopicLimits {
    /// What a topic's settings say, by their names; nothing if they do not have its size.
    pub fn of<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let is_appended = value("message.timestamp.type") == Some("LogAppendTime");
        let bound = |name| {
            let told = value(name).and_then(|text| text.parse().ok()).filter(|_| !is_appended);
            // Far enough for all times there are, and near enough to be added to one.
            Duration::millis(told.map_or(i64::MAX / 4, |millis: i64| millis.min(i64::MAX / 4)))
        };
        Some(Self {
            max_bytes: value("max.message.bytes")?.parse().ok()?,
            is_compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            before: bound("message.timestamp.before.max.ms"),
            after: bound("message.timestamp.after.max.ms"),
        })
    }

    /// Why the topic cannot take `record` of batch `time`, if it cannot, at `now`; the producer takes no more than `max_bytes`.
    pub fn refuse(
        self,
        record: &ProducerRecord,
        (time, now): (Time, Time),
        max_bytes: usize,
    ) -> Option<String> {
        let (size, most) = (record.size(), self.max_bytes.min(max_bytes));
        if size > most {
            return Some(format!("it has {size} bytes, and the topic takes {most} (`max.message.bytes`)"));
        }
        if self.is_compacted && record.key.is_none() {
            return Some("it has no key, and the topic is compacted".to_owned());
        }
        let at = record.timestamp.unwrap_or(time);
        if at <= Time::ZERO {
            return Some(no_time(at));
        }
        if at > now + self.after {
            let (ahead, most) = (at - now, self.after);
            return Some(format!(
                "its timestamp is {ahead} ahead of the clock, and the topic takes {most} (`message.timestamp.after.max.ms`)"
            ));
        }
        (at < now - self.before).then(|| {
            let (behind, most) = (now - at, self.before);
            format!(
                "its timestamp is {behind} behind the clock, and the topic takes {most} (`message.timestamp.before.max.ms`)"
            )
        })
    }
}

/// What topics and producer take.
#[derive(Default)]
pub(super) struct Limits {
    pub topics: BTreeMap<Arc<str>, TopicLimits>,
    /// The producer takes no larger record.
    pub max_bytes: usize,
}

impl Limits {
    /// Has the producer take what the topics do, as far as `config` does not say anything else, and no more in a batch than the least of
    /// them: the broker measures batches, and librdkafka does not cut one that is refused.
    pub fn apply(topics: BTreeMap<Arc<str>, TopicLimits>, buffer: u64, config: &mut ClientConfig) -> Self {
        let number = |config: &ClientConfig, name: &str| config.get(name).map(str::parse::<usize>);
        let sizes = || topics.values().map(|limits| limits.max_bytes);
        let max_bytes = match number(config, "message.max.bytes") {
            Some(Ok(given)) => given,
            // Wrong: librdkafka tells.
            Some(Err(_)) => DEFAULT,
            None => {
                let largest = sizes().max().unwrap_or(DEFAULT).max(DEFAULT);
                config.set("message.max.bytes", largest.to_string());
                largest
            }
        };
        if let Some(least) = sizes().min().filter(|least| *least < DEFAULT)
            && number(config, "batch.size").is_none()
        {
            config.set("batch.size", least.max(LEAST_BATCH).to_string());
        }
        if number(config, "queue.buffering.max.kbytes").is_none() {
            // One that is larger than the whole queue would never get into it.
            let kilobytes = (buffer >> 10).max(max_bytes as u64 / 1_024 + 1);
            config.set("queue.buffering.max.kbytes", kilobytes.to_string());
        }
        Self { topics, max_bytes }
    }

    /// How large a record for `topic` may be.
    pub fn largest(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(self.max_bytes, |limits| limits.max_bytes.min(self.max_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &[(&str, &str)]) -> TopicLimits {
        let settings: BTreeMap<_, _> = settings.iter().copied().collect();
        TopicLimits::of(|name| settings.get(name).copied()).unwrap()
    }

    #[test]
    fn what_a_topic_does_not_take_is_told() {
        let t = Time::from_millis;
        let now = t(10_000_000);
        let limits = limits(&[
            ("max.message.bytes", "1000"),
            ("cleanup.policy", "compact,delete"),
            ("message.timestamp.before.max.ms", "5000"),
            ("message.timestamp.after.max.ms", "3600000"),
        ]);
        let refused = |record: ProducerRecord| limits.refuse(&record, (now, now), 900);
        let record = || ProducerRecord::new("k", "v");
        assert_eq!(refused(record()), None);
        // 128 bytes are what may be around it.
        assert_eq!(refused(ProducerRecord::new("k", vec![0; 771])), None);
        assert!(refused(ProducerRecord::new("k", vec![0; 772])).unwrap().contains("takes 900"));
        assert!(refused(ProducerRecord { key: None, ..record() }).unwrap().contains("no key"));
        for (millis, told) in [
            (now.as_millis() + 3_600_000, None),
            (now.as_millis() + 3_600_001, Some("after.max.ms")),
            (now.as_millis() - 5_000, None),
            (now.as_millis() - 5_001, Some("before.max.ms")),
            (0, Some("0 ms since the epoch")),
            (-1, Some("-1 ms since the epoch")),
        ] {
            let why = refused(record().timestamp(t(millis)));
            assert_eq!(why.is_some(), told.is_some(), "{millis}: {why:?}");
            assert!(why.unwrap_or_default().contains(told.unwrap_or_default()), "{millis}");
        }
    }

    #[test]
    fn a_broker_that_sets_the_time_itself_takes_any() {
        let limits = limits(&[
            ("max.message.bytes", "1000"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.after.max.ms", "10"),
        ]);
        let (now, ahead) = (Time::from_millis(1_000), Time::from_millis(1_000_000));
        assert_eq!(limits.refuse(&ProducerRecord::new("k", "v").timestamp(ahead), (now, now), 1_000), None);
    }

    #[test]
    fn the_producer_takes_what_the_topics_do_unless_told_otherwise() {
        let told = |sizes: &[&str], given: &[(&str, &str)]| {
            let topics = (0..).zip(sizes);
            let topics =
                topics.map(|(n, size)| (Arc::from(format!("t{n}")), limits(&[("max.message.bytes", size)])));
            let mut config = ClientConfig::new();
            for (name, value) in given {
                config.set(*name, *value);
            }
            let most = Limits::apply(topics.collect(), 4 << 20, &mut config).max_bytes;
            let names = ["message.max.bytes", "batch.size", "queue.buffering.max.kbytes"];
            (most, names.map(|name| config.get(name).unwrap_or("-").to_owned()))
        };
        let values = |of: [&str; 3]| of.map(str::to_owned);
        assert_eq!(told(&[], &[]), (1_000_000, values(["1000000", "-", "4096"])));
        assert_eq!(told(&["1048588"], &[]), (1_048_588, values(["1048588", "-", "4096"])));
        // Batches for the least of them, records for the largest, and a queue that one of these fits in.
        assert_eq!(told(&["2000", "16777216"], &[]), (16_777_216, values(["16777216", "2000", "16385"])));
        let given = [("message.max.bytes", "5000"), ("batch.size", "7"), ("queue.buffering.max.kbytes", "1")];
        assert_eq!(told(&["2000"], &given), (5_000, values(["5000", "7", "1"])));
    }
}
