//! What one response holds of a partition: whole record batches, one after the other.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::batch::{Batch, Compression, Malformed, RawRecord};
use super::compression::unpack;
use crate::error::Error;
use crate::rdd::{Flow, Stop};
use crate::source::OffsetRange;
use crate::source::kafka::{Headers, Record};

/// How many records are shown at once, at most: those that fit into a processor's nearest cache beside what is done with them.
const RUN: usize = 32;

/// Record batches as the broker sent them, in the buffer of their response.
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: Arc<Vec<u8>>,
    records: Range<usize>,
    /// The offset that was asked for; what stands before it is of no interest.
    pub from: i64,
    /// The offset after the last batch.
    pub next: i64,
    /// How many bytes the largest batch has.
    pub largest_batch: usize,
    /// Transactions that were aborted: producer, and the first offset; by offset.
    aborted: Vec<(i64, i64)>,
}

impl Chunk {
    /// The whole batches among `records` of `buffer`, fetched from `from` on; none if there is none at or past it.
    pub fn new(
        buffer: Arc<Vec<u8>>,
        records: Range<usize>,
        from: i64,
        mut aborted: Vec<(i64, i64)>,
    ) -> Result<Option<Self>, Malformed> {
        let mut rest = &buffer[records.clone()];
        let (mut next, mut largest_batch) = (from, 0);
        loop {
            let before = rest.len();
            let Some(batch) = Batch::take(&mut rest)? else { break };
            next = next.max(batch.last_offset.saturating_add(1));
            largest_batch = largest_batch.max(before - rest.len());
        }
        let records = records.start..records.end - rest.len();
        aborted.sort_unstable_by_key(|(_, first)| *first);
        Ok((next > from).then_some(Self { buffer, records, from, next, largest_batch, aborted }))
    }

    /// Whether a record at `offset` would be in it.
    pub fn covers(&self, offset: i64) -> bool {
        (self.from..self.next).contains(&offset)
    }

    /// How much memory it keeps.
    pub fn size(&self) -> usize {
        self.buffer.capacity()
    }

    /// How many bytes its batches have.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Its buffer, if nobody else has it.
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        Arc::into_inner(self.buffer)
    }

    /// Pushes the committed records at `at` and after it, and before the end of `range`, into `visit`; gives the offset to go on
    /// from. Batches that have no record from `since` on or later may be left out. `unpacked` is room for compressed batches.
    pub fn visit(
        &self,
        at: i64,
        range: &OffsetRange,
        since: &Cell<i64>,
        unpacked: &mut Vec<u8>,
        visit: &mut dyn FnMut(&[Record<'_>]) -> Flow,
    ) -> Result<i64, Stop> {
        let broken = |batch: &Batch<'_>, why: Malformed| broken(range, batch.base_offset, why);
        let mut aborted = Aborted::new(&self.aborted);
        let mut rest = &self.buffer[self.records.clone()];
        loop {
            let batch = match Batch::take(&mut rest) {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(self.next.min(range.until)),
                Err(why) => return Err(broken_at(range, at, why).into()),
            };
            if batch.base_offset >= range.until {
                return Ok(range.until);
            }
            let skipped = aborted.passes_over(&batch).map_err(|why| broken(&batch, why))?;
            if skipped || batch.last_offset < at || batch.max_timestamp < since.get() {
                continue;
            }
            batch.verify().map_err(|why| broken(&batch, why))?;
            let records = match batch.compression().map_err(|why| broken(&batch, why))? {
                Compression::None => batch.body,
                method => {
                    unpack(method, batch.body, unpacked).map_err(|why| broken(&batch, why))?;
                    &**unpacked
                }
            };
            if !visit_records(&batch, records, at, range, visit)? {
                return Ok(range.until);
            }
            if batch.last_offset + 1 >= range.until {
                return Ok(range.until);
            }
        }
    }
}

/// Pushes a batch's records; false if the range ends in it.
#[inline]
fn visit_records(
    batch: &Batch<'_>,
    mut records: &[u8],
    at: i64,
    range: &OffsetRange,
    visit: &mut dyn FnMut(&[Record<'_>]) -> Flow,
) -> Result<bool, Stop> {
    let append_time = batch.append_time();
    let nothing = Record {
        topic: &range.topic,
        partition: range.partition,
        offset: 0,
        timestamp: None,
        key: None,
        value: None,
        headers: Headers::owned(&[]),
    };
    let (mut run, mut length) = ([nothing; RUN], 0);
    let ends = loop {
        let record = match RawRecord::take(&mut records) {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(true),
            Err(why) => break Err(broken(range, batch.base_offset, why).into()),
        };
        let offset = batch.base_offset.saturating_add(record.offset_delta);
        if offset < at {
            continue;
        }
        if offset >= range.until {
            break Ok(false);
        }
        let timestamp =
            append_time.unwrap_or_else(|| batch.base_timestamp.saturating_add(record.timestamp_delta));
        run[length] = Record {
            topic: &range.topic,
            partition: range.partition,
            offset,
            timestamp: (timestamp >= 0).then_some(timestamp),
            key: record.key,
            value: record.value,
            headers: Headers::raw(record.headers),
        };
        length += 1;
        if length == RUN {
            visit(&run)?;
            length = 0;
        }
    };
    // Those that stand before what is no record are good.
    if length > 0 {
        visit(&run[..length])?;
    }
    ends
}

/// Which transactions are open that will be aborted, at the place where one reads.
struct Aborted<'a> {
    to_come: &'a [(i64, i64)],
    open: HashSet<i64>,
}

impl<'a> Aborted<'a> {
    fn new(to_come: &'a [(i64, i64)]) -> Self {
        Self { to_come, open: HashSet::new() }
    }

    /// Whether nobody is to see the records of `batch`, which is the next one.
    fn passes_over(&mut self, batch: &Batch<'_>) -> Result<bool, Malformed> {
        while let Some(((producer, first), rest)) = self.to_come.split_first()
            && *first <= batch.last_offset
        {
            self.open.insert(*producer);
            self.to_come = rest;
        }
        if batch.is_control() {
            if !self.open.is_empty() && batch.is_abort()? {
                self.open.remove(&batch.producer_id);
            }
            return Ok(true);
        }
        Ok(batch.is_transactional() && self.open.contains(&batch.producer_id))
    }
}

fn broken(range: &OffsetRange, offset: i64, why: Malformed) -> Error {
    Error::data(format!(
        "the record batch {}-{} at offset {offset} cannot be read: {why}",
        range.topic, range.partition
    ))
}

fn broken_at(range: &OffsetRange, at: i64, why: Malformed) -> Error {
    Error::data(format!(
        "a record batch of {}-{} at or past offset {at} cannot be read: {why}",
        range.topic, range.partition
    ))
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
