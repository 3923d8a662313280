//! A Fetch request for one partition, and what its response means.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Trouble;
use super::chunk::Chunk;
use super::connection::{Connection, decode};
use crate::error::Error;
use crate::source::OffsetRange;
use crate::source::kafka::reader::{Answer, answer};

/// The versions of Fetch in which topics have names.
const VERSIONS: (i16, i16) = (4, 12);
const READ_COMMITTED: i8 = 1;
/// How long a broker that has nothing yet may wait for something to come. Slices end where the partition ended when they
/// were planned, so it has.
const WAIT: Duration = Duration::from_millis(100);

/// Sends `request`, after the response to the last one if nobody wanted that any more; `waiting` is called while it does not come, and
/// tells whether to give up.
pub(super) fn send(
    connection: &mut Connection,
    request: &FetchRequest,
    waiting: &mut dyn FnMut() -> bool,
) -> Result<(), Trouble> {
    if connection.is_waiting() {
        connection.receive(&mut Vec::new(), waiting)?;
    }
    let (least, most) = VERSIONS;
    let version = connection.version_of::<FetchRequest>(least, most)?;
    connection.send(request, version)
}

/// What is asked of one partition.
pub(super) struct Asked {
    /// Says which partition it is.
    pub range: OffsetRange,
    /// The first offset of interest.
    pub at: i64,
    pub bytes: usize,
}

/// Asks for the records of the partition of `range` from `at` on.
pub(super) fn request(range: &OffsetRange, at: i64, bytes: usize) -> FetchRequest {
    request_of(&[Asked { range: range.clone(), at, bytes }], bytes, WAIT)
}

/// Asks for the records of several partitions of one leader, those of a topic standing together; `bytes` of all at most, unless one
/// record batch is larger. A broker that has none waits for some to come.
pub(super) fn request_of(asked: &[Asked], bytes: usize, wait: Duration) -> FetchRequest {
    let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let partition = |asked: &Asked| {
        FetchPartition::default()
            .with_partition(asked.range.partition)
            .with_fetch_offset(asked.at)
            .with_partition_max_bytes(number(asked.bytes))
    };
    let topic = |asked: &[Asked]| {
        let name = asked.first().map(|asked| asked.range.topic.to_string()).unwrap_or_default();
        FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(name)))
            .with_partitions(asked.iter().map(partition).collect())
    };
    FetchRequest::default()
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(number(bytes))
        .with_isolation_level(READ_COMMITTED)
        .with_topics(asked.chunk_by(|a, b| a.range.topic == b.range.topic).map(topic).collect())
}

/// Where committed records end.
pub(super) fn end(data: &PartitionData) -> i64 {
    if data.last_stable_offset >= 0 { data.last_stable_offset } else { data.high_watermark }
}

/// The transactions among a response's records that were aborted: producer and first offset.
pub(super) fn aborted(data: &PartitionData) -> Vec<(i64, i64)> {
    data.aborted_transactions.iter().flatten().map(|t| (t.producer_id.0, t.first_offset)).collect()
}

/// What came of a request.
pub(super) enum Fetched {
    /// Records, and the partition's last stable offset.
    Chunk(Chunk, i64),
    /// There is nothing at or past the offset that was asked for; the partition's last stable offset.
    Nothing(i64),
    /// Quotas are exceeded.
    Throttled(Duration),
    /// The broker does not know (any more).
    Elsewhere(&'static str),
    /// The broker has never heard of the topic. After a restart it says so for a while of topics that it has.
    Unheard,
}

/// Lends a response's buffer to what decodes it.
struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Reads the response in `buffer` to the request for `range` from `at` on. The buffer goes into the chunk; one without is given
/// back.
pub(super) fn interpret(
    buffer: Vec<u8>,
    version: i16,
    range: &OffsetRange,
    at: i64,
) -> Result<(Fetched, Option<Vec<u8>>), Trouble> {
    let buffer = Arc::new(buffer);
    let mut frame = Bytes::from_owner(Lent(buffer.clone()));
    let response = decode::<FetchRequest>(&mut frame, version)?;
    drop(frame);
    let throttle = u64::try_from(response.throttle_time_ms).unwrap_or(0);
    if response.error_code != 0 {
        return Err(Trouble::lost(format!("fetching gave Kafka's error {}", response.error_code)));
    }
    let topics = response.responses.into_iter().filter(|topic| *topic.topic.0 == *range.topic);
    let data = topics.flat_map(|topic| topic.partitions).find(|data| data.partition_index == range.partition);
    let fetched = match data {
        // A client over its quota gets an empty response.
        None if throttle > 0 => Fetched::Throttled(Duration::from_millis(throttle)),
        None => return Err(Trouble::lost("a response without the partition that was asked for")),
        Some(data) => match part(data, &buffer, range, at)? {
            // What came is of use; what is asked next comes late by itself, since the broker holds the connection back.
            Some(fetched) => fetched,
            None if throttle > 0 => Fetched::Throttled(Duration::from_millis(throttle)),
            None => Fetched::Elsewhere("no whole record batch"),
        },
    };
    Ok((fetched, Arc::into_inner(buffer)))
}

fn part(
    data: PartitionData,
    buffer: &Arc<Vec<u8>>,
    range: &OffsetRange,
    at: i64,
) -> Result<Option<Fetched>, Trouble> {
    if data.error_code != 0 {
        return match answer(data.error_code) {
            Answer::Transient => Ok(Some(Fetched::Elsewhere("its leader has moved or is not ready"))),
            Answer::NoTopic => Ok(Some(Fetched::Unheard)),
            other => Err(Trouble::Fatal(other.error(range, at))),
        };
    }
    let (end, aborted) = (end(&data), aborted(&data));
    let records = data.records.unwrap_or_default();
    if records.is_empty() {
        return Ok(Some(Fetched::Nothing(end)));
    }
    let records = place_in(buffer, &records).ok_or_else(|| {
        Trouble::Fatal(Error::internal("records that are not in the buffer of their response"))
    })?;
    let chunk = Chunk::new(buffer.clone(), records, at, aborted).map_err(|why| {
        Trouble::Fatal(Error::data(format!(
            "a record batch of {}-{} at or past offset {at} cannot be read: {why}",
            range.topic, range.partition
        )))
    })?;
    Ok(chunk.map(|chunk| Fetched::Chunk(chunk, end)))
}

/// Where `part` stands in `buffer`.
fn place_in(buffer: &[u8], part: &Bytes) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(buffer.as_ptr().addr())?;
    let end = start + part.len();
    (end <= buffer.len()).then_some(start..end)
}
