//! Handing records over to librdkafka, which keeps them in a queue of bounded size until the broker has them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use std::sync::Arc;

use super::ProducerRecord;
use super::producer::{Shared, ThisProducer};
use crate::error::{Error, Result};
use crate::source::kafka::error_text;
use crate::time::{Stopwatch, Time};

const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(5);

/// Hands records over for one topic.
pub(super) struct Sender<'a> {
    shared: &'a Shared,
    producer: Option<Arc<ThisProducer>>,
    topic: &'a Arc<str>,
    time: Time,
    count: u64,
}

impl<'a> Sender<'a> {
    /// Records without a timestamp of their own get that of batch `time`.
    pub fn new(shared: &'a Shared, topic: &'a Arc<str>, time: Time) -> Self {
        Self { shared, producer: shared.producer(), topic, time, count: 0 }
    }

    pub fn send(&mut self, record: &ProducerRecord) -> Result<()> {
        let Some(producer) = &self.producer else {
            return Err(Error::internal("the Kafka sink was used before it was started"));
        };
        let at = record.timestamp.unwrap_or(self.time);
        if at <= Time::ZERO {
            // librdkafka would take 0 for the present.
            let key = key_text(record.key.as_deref());
            return Err(Error::output(format!(
                "cannot send a record with {key} to topic `{}`: {}",
                self.topic,
                no_time(at)
            )));
        }
        if self.count == 0 {
            self.shared.open(producer)?;
        }
        self.count += 1;
        let mut message = BaseRecord::<[u8], [u8]>::to(self.topic).timestamp(at.as_millis());
        if let Some(key) = &record.key {
            message = message.key(key.as_slice());
        }
        if let Some(value) = &record.value {
            message = message.payload(value.as_slice());
        }
        if !record.headers.is_empty() {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: name, value: value.as_ref() })
            });
            message = message.headers(headers);
        }
        self.enqueue(producer, message)
    }

    pub fn finish(self) {
        if self.count > 0 {
            self.shared.count(self.topic, self.count);
        }
    }

    fn enqueue(&self, producer: &ThisProducer, mut message: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let (mut was_empty, mut said, waiting) = (false, None, Stopwatch::start());
        loop {
            match producer.send(message) {
                Ok(()) => return Ok(()),
                // The queue is bounded: wait until the broker has taken some of it.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if was_empty {
                        return Err(Error::output(format!(
                            "a record with {} for topic `{}` is larger than the producer's whole queue: raise \
                             `queue.buffering.max.kbytes`, or leave it to the sink's buffer memory",
                            key_text(back.key),
                            back.topic
                        )));
                    }
                    message = back;
                    was_empty = producer.in_flight_count() == 0;
                    producer.poll(LOOK_EVERY);
                    self.shared.check(producer, waiting)?;
                    if said.get_or_insert_with(Stopwatch::start).elapsed() >= SAY_EVERY {
                        let left = producer.in_flight_count();
                        tracing::warn!(
                            topic = &**self.topic,
                            "the producer's queue is full: still waiting for the delivery of {left} records"
                        );
                        said = None;
                    }
                }
                Err((error, message)) => {
                    return Err(Error::output(format!(
                        "cannot send a record with {} to topic `{}`: {}",
                        key_text(message.key),
                        message.topic,
                        error_text(&error)
                    ))
                    .with_source(error));
                }
            }
        }
    }
}

/// Why a record of time `at` cannot be sent.
pub(super) fn no_time(at: Time) -> String {
    format!(
        "its timestamp is {} ms since the epoch, and the first that Kafka's client can send is 1 ms",
        at.as_millis()
    )
}

/// A record's key for a message.
pub(super) fn key_text(key: Option<&[u8]>) -> String {
    const LONGEST: usize = 200;
    match key {
        None => "no key".to_owned(),
        Some(key) if key.len() > LONGEST => {
            format!("key `{}…` of {} bytes", String::from_utf8_lossy(&key[..LONGEST]), key.len())
        }
        Some(key) => format!("key `{}`", String::from_utf8_lossy(key)),
    }
}
