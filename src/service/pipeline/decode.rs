//! A source's records to rows, in chunks: good rows go on, bad records go where the source says.

use std::sync::Arc;

use bytes::Bytes;

use crate::DStream;
use crate::error::{Error, ErrorKind, Result};
use crate::rdd::TaskContext;
use crate::service::check::{OnBadRecord, Source};
use crate::source::Stage;
use crate::source::kafka::{Headers, Record};
use crate::sql::{Decoder, RecordBatch, ValueAt};
use crate::time::Time;

/// A chunk is decoded when it has this many records or bytes: what queries make of its rows, several times as much, is to fit into a
/// processor's own cache.
const RECORDS: usize = 2_048;
const BYTES: usize = 1 << 20;

/// Copies of some records' values, and what a dead letter needs besides.
pub(super) struct Chunk<'s> {
    source: &'s SourceDecoder,
    /// The topic and the number of the partition that all of them are of, once there is one.
    partition: Option<(Arc<str>, i32)>,
    bytes: Vec<u8>,
    records: Records,
    /// The batch, of lines without offsets.
    read_in: Option<Time>,
}

/// What is noted of each record, little of which is wanted of most.
#[derive(Default)]
struct Records {
    /// Where the values stand.
    values: Vec<ValueAt>,
    entries: Vec<Entry>,
    /// Of records that may become dead letters.
    rests: Vec<Rest>,
}

struct Entry {
    offset: i64,
    timestamp: Option<i64>,
}

struct Rest {
    key: ValueAt,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Records {
    fn get<'a>(
        &'a self,
        (topic, partition): (&'a Arc<str>, i32),
        bytes: &'a [u8],
        index: usize,
    ) -> Record<'a> {
        let part = |place: ValueAt| place.range().map(|range| &bytes[range]);
        let Entry { offset, timestamp } = self.entries[index];
        let rest = self.rests.get(index);
        Record {
            topic,
            partition,
            offset,
            timestamp,
            key: part(rest.map_or(ValueAt::NONE, |rest| rest.key)),
            value: part(self.values[index]),
            headers: Headers::owned(rest.map_or(&[], |rest| &rest.headers)),
        }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.entries.clear();
        self.rests.clear();
    }

    /// Takes out those of these indices, which ascend.
    fn remove(&mut self, indices: impl Iterator<Item = usize> + Clone) {
        fn keep<T>(all: &mut Vec<T>, indices: impl Iterator<Item = usize>) {
            let (mut index, mut indices) = (0, indices.peekable());
            all.retain(|_| {
                index += 1;
                indices.next_if_eq(&(index - 1)).is_none()
            });
        }
        keep(&mut self.values, indices.clone());
        keep(&mut self.entries, indices.clone());
        keep(&mut self.rests, indices);
    }
}

fn keep(bytes: &mut Vec<u8>, more: &[u8]) -> ValueAt {
    let start = bytes.len();
    bytes.extend_from_slice(more);
    ValueAt::of(start..bytes.len())
}

/// How a source's records are read.
pub(super) struct SourceDecoder {
    pub name: Arc<str>,
    pub decoder: Decoder,
    pub on_bad_record: OnBadRecord,
}

/// The records of a chunk's good rows, in the rows' order.
pub(super) struct Kept {
    partition: (Arc<str>, i32),
    bytes: Bytes,
    records: Records,
}

impl Kept {
    /// The record of row `index`.
    pub fn record(&self, index: usize) -> Record<'_> {
        let (topic, partition) = &self.partition;
        self.records.get((topic, *partition), &self.bytes, index)
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
        Self { source, partition: None, bytes: Vec::new(), records: Records::default(), read_in: None }
    }

    pub fn is_full(&self) -> bool {
        self.records.values.len() >= RECORDS || self.bytes.len() >= BYTES
    }

    /// Takes a line of an input without offsets: its number in the partition stands for one.
    pub fn push_line(&mut self, line: &str, partition: i32, number: i64) {
        if self.partition.is_none() {
            self.partition = Some((self.source.name.clone(), partition));
        }
        self.records.values.push(keep(&mut self.bytes, line.as_bytes()));
        self.records.entries.push(Entry { offset: number, timestamp: None });
    }

    /// Takes records of one partition until it is full, and gives those that are left.
    pub fn extend<'r>(&mut self, records: &'r [Record<'r>]) -> &'r [Record<'r>] {
        let mut size = self.bytes.len();
        let fits = |record: &&Record<'_>| {
            let is_full = size >= BYTES;
            size += record.len();
            !is_full
        };
        let (records, rest) = records.split_at(records.iter().take_while(fits).count());
        if self.partition.is_none() {
            self.partition = records.first().map(|record| (record.topic.clone(), record.partition));
        }
        let Self { source, bytes, records: kept, .. } = self;
        let mut part = |part: Option<&[u8]>| part.map_or(ValueAt::NONE, |part| keep(bytes, part));
        kept.values.extend(records.iter().map(|record| part(record.value)));
        kept.entries
            .extend(records.iter().map(|&Record { offset, timestamp, .. }| Entry { offset, timestamp }));
        // Only a dead letter needs the record whole.
        if source.on_bad_record.dead_letter_topic().is_some() {
            let whole =
                |record: &Record<'_>| Rest { key: part(record.key), headers: record.headers.to_owned() };
            kept.rests.extend(records.iter().map(whole));
        }
        rest
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
        let partition = self.partition.clone();
        Ok(rows.zip(partition).map(|(rows, partition)| (rows, Kept { partition, bytes, records })))
    }

    /// The good records' rows, and the bytes, which the rows' texts may be views of; the bad records are taken out of the chunk.
    fn decode_good(&mut self, task: &TaskContext) -> Result<(Option<RecordBatch>, Bytes)> {
        let Some((topic, partition)) = self.partition.clone() else { return Ok((None, Bytes::new())) };
        // The next chunk will be about as large.
        let next = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        let bytes = Bytes::from(std::mem::replace(&mut self.bytes, next));
        let decoded = self.source.decoder.decode(&bytes, &self.records.values);
        let SourceDecoder { name, on_bad_record, .. } = self.source;
        for (index, error) in &decoded.bad {
            let record = self.records.get((&topic, partition), &bytes, *index);
            let told = on_bad_record.apply(task, &record, Stage::Decode, name, error.clone(), self.read_in);
            told.map_err(|told| {
                if told.kind() != ErrorKind::Data {
                    return told;
                }
                let Record { offset, .. } = record;
                Error::data(format!(
                    "source `{name}`: record {topic}-{partition} at offset {offset} cannot be read: {error}; set \
                     `on_bad_record` to `skip` or `{{ dead_letter: TOPIC }}` to go on without it"
                ))
            })?;
        }
        self.records.remove(decoded.bad.iter().map(|(index, _)| *index));
        Ok(((decoded.batch.num_rows() > 0).then_some(decoded.batch), bytes))
    }
}
