//! The limits: what a bare loop reads of a topic, each with two threads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use crate::PARTITIONS;

/// The parser that Tidemill's reader has.
#[allow(dead_code, reason = "a loop without transactions needs less")]
#[path = "../../src/source/kafka/native/batch.rs"]
mod batch;
#[path = "../../src/source/kafka/native/compression.rs"]
mod compression;

use batch::{Batch, Compression, RawRecord};

const THREADS: i32 = 2;
const FETCH_BYTES: i32 = 4 << 20;
const VERSION: i16 = 12;
/// A topic is read again until so much time has passed: half a second tells of the machine's mood, and not of what it can do for as long as a
/// program runs. Half as much where all is to be quick.
fn least() -> Duration {
    Duration::from_secs(if std::env::var_os("BENCH_QUICK").is_some() { 1 } else { 2 })
}

/// Fetch requests over plain sockets, one at a time per thread; checksums are verified, and every record is
/// unpacked and parsed. Gives the mean of as many passes as it takes.
pub fn fetch(brokers: &str, topic: &str, records: u64) -> serde_json::Value {
    let (began, mut passes) = (Instant::now(), 0_u32);
    let (seen, bytes) = loop {
        let read = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || fetch_every(brokers, topic, thread, records)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
        });
        assert_eq!(read.0, records, "a pass that was cut short");
        passes += 1;
        if began.elapsed() >= least() {
            break read;
        }
    };
    let seconds = began.elapsed().as_secs_f64() / f64::from(passes);
    json!({ "seconds": seconds, "records": seen, "bytes": bytes, "passes": passes })
}

/// Reads every second partition to its end: records, and bytes of their values.
fn fetch_every(broker: &str, topic: &str, first: i32, records: u64) -> (u64, u64) {
    let mut socket = TcpStream::connect(broker).unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut seen, mut bytes, mut frame, mut unpacked) = (0, 0, Vec::new(), Vec::new());
    for partition in (first..PARTITIONS).step_by(THREADS as usize) {
        let wanted =
            records / PARTITIONS as u64 + u64::from((partition as u64) < records % PARTITIONS as u64);
        let mut next = 0;
        while (next as u64) < wanted {
            ask(&mut socket, topic, partition, next);
            let length = {
                let mut length = [0; 4];
                socket.read_exact(&mut length).unwrap();
                u32::from_be_bytes(length) as usize
            };
            frame.clear();
            frame.reserve_exact(length);
            (&mut socket).take(length as u64).read_to_end(&mut frame).unwrap();
            frame = parse(frame, |batch| {
                next = batch.last_offset + 1;
                batch.verify().unwrap();
                let mut body = match batch.compression().unwrap() {
                    Compression::None => batch.body,
                    method => {
                        compression::unpack(method, batch.body, &mut unpacked).unwrap();
                        &unpacked
                    }
                };
                while let Some(record) = RawRecord::take(&mut body).unwrap() {
                    seen += 1;
                    bytes += record.value.map_or(0, <[u8]>::len) as u64;
                }
            });
        }
    }
    (seen, bytes)
}

fn ask(socket: &mut TcpStream, topic: &str, partition: i32, at: i64) {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(at)
        .with_partition_max_bytes(FETCH_BYTES);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES)
        .with_topics(vec![topic]);
    let header =
        RequestHeader::default().with_request_api_key(ApiKey::Fetch as i16).with_request_api_version(VERSION);
    let mut frame = BytesMut::from(&[0; 4][..]);
    header.encode(&mut frame, FetchRequest::header_version(VERSION)).unwrap();
    request.encode(&mut frame, VERSION).unwrap();
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    socket.write_all(&frame).unwrap();
}

/// Shows the batches of a response, and gives its buffer back.
fn parse(frame: Vec<u8>, mut visit: impl FnMut(Batch<'_>)) -> Vec<u8> {
    struct Lent(std::sync::Arc<Vec<u8>>);
    impl AsRef<[u8]> for Lent {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let frame = std::sync::Arc::new(frame);
    let mut bytes = Bytes::from_owner(Lent(frame.clone()));
    ResponseHeader::decode(&mut bytes, FetchResponse::header_version(VERSION)).unwrap();
    let response = FetchResponse::decode(&mut bytes, VERSION).unwrap();
    for part in response.responses.iter().flat_map(|topic| &topic.partitions) {
        assert_eq!(part.error_code, 0);
        let mut rest = part.records.as_deref().unwrap_or_default();
        while let Some(batch) = Batch::take(&mut rest).unwrap() {
            visit(batch);
        }
    }
    drop((response, bytes));
    std::sync::Arc::into_inner(frame).unwrap()
}

/// librdkafka's queues, one a partition, emptied in batches: the quickest that it gives.
pub fn rdkafka(brokers: &str, topic: &str, records: u64) -> serde_json::Value {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", "65536")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let name = std::ffi::CString::new(topic).unwrap();
    let mut list = TopicPartitionList::new();
    let queues: Vec<usize> = (0..PARTITIONS)
        .map(|partition| {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            // SAFETY: the consumer lives to the end, and the name is a C string; the queue is cut off from the common one.
            unsafe {
                let queue = rd::rd_kafka_queue_get_partition(
                    consumer.client().native_ptr(),
                    name.as_ptr(),
                    partition,
                );
                rd::rd_kafka_queue_forward(queue, std::ptr::null_mut());
                queue as usize
            }
        })
        .collect();
    let began = Instant::now();
    consumer.assign(&list).unwrap();
    let seen = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as usize {
            let mine: Vec<usize> = queues.iter().copied().skip(thread).step_by(THREADS as usize).collect();
            let seen = &seen;
            scope.spawn(move || {
                let mut messages = vec![std::ptr::null_mut(); 4096];
                while seen.load(std::sync::atomic::Ordering::Relaxed) < records {
                    for queue in &mine {
                        let queue = *queue as *mut rd::rd_kafka_queue_t;
                        // SAFETY: the array has room for as many messages, each of which is destroyed once.
                        let taken = unsafe {
                            let taken = rd::rd_kafka_consume_batch_queue(
                                queue,
                                1,
                                messages.as_mut_ptr(),
                                messages.len(),
                            );
                            let taken = usize::try_from(taken).unwrap();
                            messages[..taken].iter().for_each(|m| rd::rd_kafka_message_destroy(*m));
                            taken
                        };
                        seen.fetch_add(taken as u64, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    for queue in queues {
        // SAFETY: each queue is given back once.
        unsafe { rd::rd_kafka_queue_destroy(queue as *mut rd::rd_kafka_queue_t) };
    }
    json!({ "seconds": seconds, "records": seen.into_inner() })
}
