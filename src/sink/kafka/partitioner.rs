//! Where a record goes: as Kafka's own default partitioner has it.

use std::collections::HashMap;

use parking_lot::Mutex;
use rdkafka::producer::Partitioner;

use crate::codec::murmur2;
use crate::time::Time;

/// So many records without a key go to one partition before the next is taken.
const STICK: u64 = 256;

/// A key decides by its murmur2; records without one fill a partition for a while, so that the producer's batches are large
/// ones, and then go to another. Kafka's own takes one at random; here batch time and topic say which, so that a replay
/// puts each record where it was.
#[derive(Default)]
pub(super) struct DefaultPartitioner {
    keyless: Mutex<Keyless>,
}

#[derive(Default)]
struct Keyless {
    batch: i64,
    /// How many records of the batch each topic has had.
    sent: HashMap<String, u64>,
}

impl DefaultPartitioner {
    /// From now on, records belong to the batch `time`, which begins (perhaps again).
    pub fn begin(&self, time: Time) {
        let mut keyless = self.keyless.lock();
        keyless.batch = time.as_millis();
        keyless.sent.clear();
    }
}

impl Partitioner for DefaultPartitioner {
    fn partition(&self, topic: &str, key: Option<&[u8]>, partitions: i32, _: impl Fn(i32) -> bool) -> i32 {
        let hash = |bytes: &[u8]| i64::from(murmur2(bytes) & 0x7fff_ffff);
        let partitions = i64::from(partitions.max(1));
        let place = match key {
            Some(key) => hash(key) % partitions,
            None => {
                let mut keyless = self.keyless.lock();
                let first = hash(&keyless.batch.to_be_bytes()) + hash(topic.as_bytes());
                let sent = match keyless.sent.get_mut(topic) {
                    Some(sent) => sent,
                    None => keyless.sent.entry(topic.to_owned()).or_default(),
                };
                let stretch = i64::try_from(*sent / STICK).unwrap_or(0);
                *sent += 1;
                (first + stretch) % partitions
            }
        };
        // It is less than a number that was an i32.
        place as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partitioner: &DefaultPartitioner, key: Option<&[u8]>, partitions: i32) -> i32 {
        partitioner.partition("t", key, partitions, |_| true)
    }

    /// What `Utils.toPositive(Utils.murmur2(key)) % partitions` gives in Java: murmur2 of `foobar` is -790332482.
    #[test]
    fn keys_go_where_java_puts_them() {
        let partitioner = DefaultPartitioner::default();
        assert_eq!(place(&partitioner, Some(b"foobar"), 7), (-790_332_482 & 0x7fff_ffff) % 7);
        assert_eq!(place(&partitioner, Some(b"foobar"), 1), 0);
        // An empty key is a key: 275646681.
        assert_eq!(place(&partitioner, Some(b""), 10), 1);
    }

    #[test]
    fn keyless_records_stick_for_a_while_and_use_all_partitions() {
        let partitioner = DefaultPartitioner::default();
        let run = |time| {
            partitioner.begin(Time::from_millis(time));
            (0..4 * STICK).map(|_| place(&partitioner, None, 4)).collect::<Vec<_>>()
        };
        let first = run(1_000);
        assert!(first.chunks(STICK as usize).all(|part| part.iter().all(|p| *p == part[0])));
        let mut used = first.clone();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, [0, 1, 2, 3]);
        // The same batch puts them in the same places, also when a topic of its own comes between.
        assert_eq!(run(1_000), first);
        // Batches of few records use all partitions, too.
        let mut starts: Vec<_> = (0..40).map(|n| run(n * 1_000)[0]).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts, [0, 1, 2, 3]);
    }
}
