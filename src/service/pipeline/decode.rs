//! A source's records to rows, in chunks: good rows go on, bad records go where the source says.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::rdd::TaskContext;
use crate::service::check::BadRecord;
use crate::source::DeadLetter;
use crate::source::kafka::{ConsumerRecord, Record};
use crate::sql::{Decoder, RecordBatch};

/// A chunk is decoded when it has this many records or bytes.
const RECORDS: usize = 16_384;
const BYTES: usize = 4 << 20;

/// Copies of some records' values, and what a dead letter needs besides.
pub(super) struct Chunk<'s> {
    source: &'s SourceDecoder,
    topic: Option<Arc<str>>,
    bytes: Vec<u8>,
    records: Vec<Entry>,
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
    pub on_bad_record: BadRecord,
}

impl<'s> Chunk<'s> {
    pub fn new(source: &'s SourceDecoder) -> Self {
        Self { source, topic: None, bytes: Vec::new(), records: Vec::new() }
    }

    pub fn is_full(&self) -> bool {
        self.records.len() >= RECORDS || self.bytes.len() >= BYTES
    }

    pub fn push(&mut self, record: &Record<'_>) {
        let value = record.value.map(|v| self.keep(v));
        // Only a dead letter needs the record whole.
        let whole = matches!(self.source.on_bad_record, BadRecord::DeadLetter(_));
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
        let Some(topic) = self.topic.clone() else { return Ok(None) };
        let values: Vec<_> = self.records.iter().map(|r| r.value.clone().map(|v| &self.bytes[v])).collect();
        let decoded = self.source.decoder.decode(&values);
        drop(values);
        for (index, error) in decoded.bad {
            let entry = &mut self.records[index];
            let destination = match &self.source.on_bad_record {
                BadRecord::Fail => {
                    return Err(Error::data(format!(
                        "source `{}`: record {topic}-{} at offset {} cannot be read: {error}; set `on_bad_record` to \
                         `skip` or `{{ dead_letter: TOPIC }}` to go on without it",
                        self.source.name, entry.partition, entry.offset
                    )));
                }
                BadRecord::Skip => None,
                BadRecord::DeadLetter(topic) => Some(topic.as_str().into()),
            };
            task.bad_record(DeadLetter {
                record: ConsumerRecord {
                    topic: topic.to_string(),
                    partition: entry.partition,
                    offset: entry.offset,
                    timestamp: entry.timestamp,
                    key: entry.key.clone().map(|k| self.bytes[k].to_vec()),
                    value: entry.value.clone().map(|v| self.bytes[v].to_vec()),
                    headers: std::mem::take(&mut entry.headers),
                },
                operator: self.source.name.clone(),
                error,
                destination,
            });
        }
        self.records.clear();
        self.bytes.clear();
        Ok((decoded.batch.num_rows() > 0).then_some(decoded.batch))
    }
}
