//! Back to where they came from, once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::letter::Letter;
use super::read::resent;
use super::{Place, ResendArgs, summary};
use crate::error::{Error, Result};
use crate::service::target::Out;
use crate::service::topic_reader::TopicReader;
use crate::source::kafka::{client_error, error_text};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);
/// So many are sent in one transaction.
const AT_ONCE: usize = 10_000;

/// Sends those that `args` names, or says which it would send.
pub(super) fn resend(place: &Place, args: &ResendArgs) -> Result<()> {
    let reader = TopicReader::new(&place.client("reader"));
    let marks = place.resent_topic();
    // First of all: whoever else is at it is stopped here, and what that one had begun is settled.
    let sender = match args.execute {
        true => Some(Sender::new(place, &marks)?),
        false => None,
    };
    let before = resent(&reader, &marks)?;
    let mut out = Out::new();
    let (mut sent, mut known, mut kept, mut partitions) = (0, 0, 0, BTreeMap::new());
    let most = args.which.limit.unwrap_or(usize::MAX);
    for topic in &place.topics {
        reader.read(topic, &mut |record| {
            if sent >= most {
                return Ok(false);
            }
            let letter = Letter::of(record);
            if !args.which.wants(&letter) {
                return Ok(true);
            }
            if before.contains(&letter.mark()) && !args.again {
                known += 1;
                return Ok(true);
            }
            if !letter.left_out.is_empty() {
                // What would be sent is another record than the one that was.
                kept += 1;
                let (place, left_out) = (letter.place(), &letter.left_out);
                out.line(format!(
                    "cannot send {place}: it is without {left_out}, for which its topic had no room"
                ))?;
                return Ok(true);
            }
            let to = destination(args, &letter)?;
            if !partitions.contains_key(to) {
                partitions.insert(to.to_owned(), existing(&reader, to)?);
            }
            sent += 1;
            match &sender {
                None => out.line(format!("would send {} to {to}: {}", letter.place(), letter.message))?,
                Some(sender) => {
                    // Where it stood, so that it keeps its order with others of its key.
                    let partition = letter.partition.filter(|p| args.to.is_none() && *p < partitions[to]);
                    sender.send(&letter, to, partition, &marks)?;
                    if sent % AT_ONCE == 0 {
                        sender.commit()?;
                        sender.begin()?;
                    }
                }
            }
            Ok(true)
        })?;
    }
    if let Some(sender) = &sender {
        sender.commit()?;
    }
    out.line(summary(sent, known, kept, args.execute))?;
    out.finish()
}

fn destination<'a>(args: &'a ResendArgs, letter: &'a Letter) -> Result<&'a str> {
    match &args.to {
        Some(to) => Ok(to),
        None if letter.origin.is_empty() => Err(Error::data(format!(
            "{} does not say which topic it is from: name one with --to, or leave it out with --from",
            letter.place()
        ))),
        None => Ok(&letter.origin),
    }
}

fn existing(reader: &TopicReader, topic: &str) -> Result<i32> {
    match reader.partitions(topic)? {
        0 => Err(Error::config(format!("there is no topic `{topic}` to send to; nothing of it was sent"))),
        partitions => Ok(partitions),
    }
}

/// Counts what could not be delivered.
#[derive(Default)]
struct Deliveries(AtomicU64);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer whose records count with their marks, or not at all. A transaction that is not committed is aborted by the
/// broker, or by the next who resends.
struct Sender {
    producer: ThreadedProducer<Deliveries>,
}

impl Sender {
    fn new(place: &Place, marks: &str) -> Result<Self> {
        make_topic(place, marks)?;
        let mut config = place.client("sender").config()?;
        let producer: ThreadedProducer<Deliveries> = config
            .set("transactional.id", format!("{}-dead-letters", place.app_id))
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .create_with_context(Deliveries::default())
            .map_err(|e| client_error("producer", e))?;
        producer.init_transactions(CALL).map_err(|e| failed("begin", &e))?;
        let sender = Self { producer };
        sender.begin()?;
        Ok(sender)
    }

    fn begin(&self) -> Result<()> {
        self.producer.begin_transaction().map_err(|e| failed("begin", &e))
    }

    fn commit(&self) -> Result<()> {
        let flushed = self.producer.flush(CALL).map_err(|e| failed("send", &e));
        let lost = self.producer.context().0.load(Ordering::Relaxed);
        if lost > 0 {
            return Err(Error::output(format!(
                "{lost} records could not be delivered, and none of their transaction was sent"
            )));
        }
        flushed?;
        self.producer.commit_transaction(CALL).map_err(|e| failed("commit", &e))
    }

    fn send(&self, letter: &Letter, to: &str, partition: Option<i32>, marks: &str) -> Result<()> {
        let record = &letter.record;
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: value.as_ref() })
        });
        let mut message = BaseRecord::<[u8], [u8]>::to(to).headers(headers);
        (message.key, message.payload) = (record.key.as_deref(), record.value.as_deref());
        (message.partition, message.timestamp) = (partition, letter.timestamp);
        self.enqueue(message)?;
        let mark = letter.mark();
        self.enqueue(BaseRecord::<[u8], [u8]>::to(marks).key(mark.as_bytes()).payload(to.as_bytes()))
    }

    fn enqueue(&self, mut message: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    self.producer.poll(Duration::from_millis(20));
                }
                Err((error, _)) => return Err(failed("send", &error)),
            }
        }
    }
}

/// The topic of marks, if it is not there yet: one partition, compacted, since a mark is wanted for ever.
fn make_topic(place: &Place, name: &str) -> Result<()> {
    let client: AdminClient<DefaultClientContext> =
        place.client("admin").config()?.create().map_err(|e| client_error("client", e))?;
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new().operation_timeout(Some(CALL)).request_timeout(Some(CALL));
    let made = futures_executor::block_on(client.create_topics(&[topic], &options));
    for result in made.map_err(|e| failed("make its topic of marks", &e))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(Error::output(format!("cannot create topic `{topic}`: {code}")));
            }
        }
    }
    Ok(())
}

fn failed(doing: &str, error: &KafkaError) -> Error {
    let text = match error {
        KafkaError::Transaction(error) => error.string(),
        other => error_text(other),
    };
    Error::output(format!(
        "cannot {doing}: {text}; what was not committed is not sent, give the command again"
    ))
}
