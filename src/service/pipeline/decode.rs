//! A source's records to rows, in chunks: good rows go on, bad records go where the source says.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::DStream;
use crate::error::{Error, ErrorKind, Result};
use crate::rdd::TaskContext;
use crate::service::check::{OnBadRecord, Source};
use crate::source::Stage;
use crate::source::kafka::{Headers, Record};
use crate::sql::{Decoder, RecordBatch};
use crate::time::Time;

/// A chunk is decoded when it has this many records or bytes: what queries make of its rows, several times as much, is to fit into a
/// processor's own cache.
const RECORDS: usize = 2_048;
const BYTES: usize = 1 << 20;

/// Copies of some records' values, and what a dead letter needs besides.
pub(super) struct Chunk<'s> {
    source: &'s SourceDecoder,
    topic: Option<Arc<str>>,
    bytes: Vec<u8>,
    records: Vec<Entry>,
    /// The batch, of lines without offsets.
    read_in: Option<Time>,
}

struct Entry {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    value: Option<Range<usize>>,
    key: Option<Range<usize>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// How a source's records are read.
pub(super) struct SourceDecoder {
    pub name: Arc<str>,
    pub decoder: Decoder,
    pub on_bad_record: OnBadRecord,
}

/// The records of a chunk's good rows, in the rows' order.
pub(super) struct Kept {
    topic: Arc<str>,
    bytes: Bytes,
    records: Vec<Entry>,
}

impl Kept {
    /// The record of row `index`.
    pub fn record(&self, index: usize) -> Record<'_> {
        record(&self.topic, &self.bytes, &self.records[index])
    }
}

fn record<'a>(topic: &'a Arc<str>, bytes: &'a [u8], entry: &'a Entry) -> Record<'a> {
    let part = |range: &Option<Range<usize>>| range.clone().map(|range| &bytes[range]);
    Record {
        topic,
        partition: entry.partition,
        offset: entry.offset,
        timestamp: entry.timestamp,
        key: part(&entry.key),
        value: part(&entry.value),
        headers: Headers::owned(&entry.headers),
    }
}

impl SourceDecoder {
    pub fn new(source: &Source) -> Result<Self> {
        Ok(Self {
            name: source.name.as_str().into(),
            decoder: Decoder::new(source.format.clone())?,
            on_bad_record: source.on_bad_record.clone(),
        })
    }

    /// The rows of records that are lines.
    pub fn lines(self, lines: &DStream<String>) -> DStream<RecordBatch> {
        let source = Arc::new(self);
        lines.each_rdd_with_time("decode", move |rdd, time| {
            let source = source.clone();
            rdd.try_pieces(move |read, partition, task, emit| {
                let (mut chunk, mut number) = (Chunk::new(&source), 0);
                chunk.read_in = Some(time);
                read(&mut |line: String| {
                    chunk.push_line(&line, partition as i32, number);
                    number += 1;
                    if chunk.is_full()
                        && let Some(batch) = chunk.decode(task)?
                    {
                        emit(batch)?;
                    }
                    Ok(())
                })?;
                chunk.decode(task)?.map_or(Ok(()), emit)
            })
        })
    }
}

impl<'s> Chunk<'s> {
    pub fn new(source: &'s SourceDecoder) -> Self {
        Self { source, topic: None, bytes: Vec::new(), records: Vec::new(), read_in: None }
    }

    pub fn is_full(&self) -> bool {
        self.records.len() >= RECORDS || self.bytes.len() >= BYTES
    }

    /// Takes a line of an input without offsets: its number in the partition stands for one.
    pub fn push_line(&mut self, line: &str, partition: i32, number: i64) {
        if self.topic.is_none() {
            self.topic = Some(self.source.name.clone());
        }
        let value = Some(self.keep(line.as_bytes()));
        let (key, headers) = (None, Vec::new());
        self.records.push(Entry { partition, offset: number, timestamp: None, value, key, headers });
    }

    pub fn push(&mut self, record: &Record<'_>) {
        let value = record.value.map(|v| self.keep(v));
        // Only a dead letter needs the record whole.
        let whole = self.source.on_bad_record.dead_letter_topic().is_some();
        let key = record.key.filter(|_| whole).map(|k| self.keep(k));
        let headers = if whole { record.headers.to_owned() } else { Vec::new() };
        if self.topic.is_none() {
            self.topic = Some(record.topic.clone());
        }
        let Record { partition, offset, timestamp, .. } = *record;
        self.records.push(Entry { partition, offset, timestamp, value, key, headers });
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// The good records' rows; the chunk is empty after it. Nothing for an empty chunk.
    ///
    /// # Errors
    /// `Data` at the first bad record, if the source says so.
    pub fn decode(&mut self, task: &TaskContext) -> Result<Option<RecordBatch>> {
        let (rows, _) = self.decode_good(task)?;
        self.records.clear();
        Ok(rows)
    }

    /// As [`decode`](Chunk::decode), with the records of the rows.
    pub fn decode_traced(&mut self, task: &TaskContext) -> Result<Option<(RecordBatch, Kept)>> {
        let (rows, bytes) = self.decode_good(task)?;
        let records = std::mem::take(&mut self.records);
        let topic = self.topic.clone();
        Ok(rows.zip(topic).map(|(rows, topic)| (rows, Kept { topic, bytes, records })))
    }

    /// The good records' rows, and the bytes, which the rows' texts may be views of; the bad records are taken out of the chunk.
    fn decode_good(&mut self, task: &TaskContext) -> Result<(Option<RecordBatch>, Bytes)> {
        let Some(topic) = self.topic.clone() else { return Ok((None, Bytes::new())) };
        // The next chunk will be about as large.
        let next = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        let bytes = Bytes::from(std::mem::replace(&mut self.bytes, next));
        let values: Vec<_> = self.records.iter().map(|record| record.value.clone()).collect();
        let decoded = self.source.decoder.decode(&bytes, &values);
        drop(values);
        let SourceDecoder { name, on_bad_record, .. } = self.source;
        for (index, error) in &decoded.bad {
            let record = record(&topic, &bytes, &self.records[*index]);
            let told = on_bad_record.apply(task, &record, Stage::Decode, name, error.clone(), self.read_in);
            told.map_err(|told| {
                if told.kind() != ErrorKind::Data {
                    return told;
                }
                let Record { partition, offset, .. } = record;
                Error::data(format!(
                    "source `{name}`: record {topic}-{partition} at offset {offset} cannot be read: {error}; set \
                     `on_bad_record` to `skip` or `{{ dead_letter: TOPIC }}` to go on without it"
                ))
            })?;
        }
        if !decoded.bad.is_empty() {
            let (mut index, mut bad) = (0, decoded.bad.iter().map(|(index, _)| *index).peekable());
            self.records.retain(|_| {
                index += 1;
                bad.next_if_eq(&(index - 1)).is_none()
            });
        }
        Ok(((decoded.batch.num_rows() > 0).then_some(decoded.batch), bytes))
    }
}
