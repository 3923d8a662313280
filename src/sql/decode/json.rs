//! Each value is one JSON object.
//!
//! Objects of plain members are read [where they stand](members). All else is for Arrow's reader, which takes a whole chunk at once, and
//! fails as a whole. Where it fails, the chunk is split until the bad records stand alone, so that they cost and the good ones do not.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ReaderBuilder;
use serde::de::IgnoredAny;
use simdutf8::basic::from_utf8;

use super::{Decoded, ValueAt, members};
use crate::error::{Error, Result};
use crate::sql::{RecordBatch, SchemaRef};

/// How many records are decoded at once. Bounds what the reader keeps beside the rows, and what a bad record repeats.
const CHUNK: usize = 4096;

/// Whether every column of `schema` can be read from JSON.
///
/// # Errors
/// `Config` when one cannot, or there is none.
pub(super) fn check(schema: &SchemaRef) -> Result<()> {
    if schema.fields().is_empty() {
        return Err(Error::config("a JSON schema needs at least one column"));
    }
    let reader = ReaderBuilder::new(Arc::clone(schema)).build_decoder();
    reader.map(drop).map_err(|error| Error::config(format!("this schema cannot be read from JSON: {error}")))
}

/// Rows of the columns of `schema`.
pub(super) fn decode(schema: &SchemaRef, bytes: &Bytes, values: &[ValueAt]) -> Decoded {
    let mut work = Work { schema, bytes, values, good: Vec::new(), bad: Vec::new() };
    // There may be other bytes than those of values.
    let of_value = |value: Range<usize>| from_utf8(&bytes[value]).is_ok();
    let is_text = from_utf8(bytes).is_ok() || values.iter().filter_map(|place| place.range()).all(of_value);
    let mut start = 0;
    while start < values.len() {
        let end = values.len().min(start + CHUNK);
        match is_text.then(|| members::read(schema, bytes, &values[start..end])).flatten() {
            Some(batch) => work.good.push(batch),
            None => work.range(start, end),
        }
        start = end;
    }
    let batch = match work.good.len() {
        1 => work.good.swap_remove(0),
        // All have the reader's schema, so this fails only beyond 4 GiB of text in an array: not from one chunk of Kafka.
        _ => concat_batches(schema, &work.good).expect("batches of one schema"),
    };
    Decoded { batch, bad: work.bad }
}

struct Work<'a> {
    schema: &'a SchemaRef,
    bytes: &'a [u8],
    values: &'a [ValueAt],
    good: Vec<RecordBatch>,
    bad: Vec<(usize, String)>,
}

/// Why a range could not be decoded as a whole.
enum Failure {
    /// This record is bad.
    At(usize, String),
    /// Some record is.
    Somewhere(String),
}

impl Work<'_> {
    fn value(&self, index: usize) -> Option<&[u8]> {
        self.values[index].range().map(|value| &self.bytes[value])
    }

    /// Decodes the records from `start` up to `end`, which may be bad in any number.
    fn range(&mut self, mut start: usize, end: usize) {
        while start < end {
            match self.try_range(start, end) {
                Ok(batch) => {
                    self.good.push(batch);
                    return;
                }
                Err(Failure::At(index, why)) => {
                    self.range(start, index);
                    self.bad.push((index, why));
                    start = index + 1;
                }
                Err(Failure::Somewhere(why)) if end - start == 1 => {
                    self.bad.push((start, why));
                    return;
                }
                Err(Failure::Somewhere(_)) => {
                    let middle = start + (end - start) / 2;
                    self.range(start, middle);
                    start = middle;
                }
            }
        }
    }

    fn try_range(&self, start: usize, end: usize) -> Result<RecordBatch, Failure> {
        let somewhere = |error: ArrowError| Failure::Somewhere(plain(&error));
        // Room for one more, so that a second object in the last value is seen and not left over.
        let reader = ReaderBuilder::new(Arc::clone(self.schema)).with_batch_size(end - start + 1);
        let mut reader = reader.build_decoder().map_err(somewhere)?;
        for index in start..end {
            let at = |why: String| Failure::At(index, why);
            let value =
                self.value(index).ok_or_else(|| at("expected a JSON object, found no value".to_owned()))?;
            // The line break ends a number on the top level, which would otherwise go on in the next value.
            let read = reader.decode(value).and_then(|read| Ok((read, reader.decode(b"\n")?)));
            let read = read.map_err(|error| at(explain(value, &plain(&error))))?;
            // A record must be complete and alone, or it would take its neighbour's place.
            let whole = read == (value.len(), 1) && !reader.has_partial_record();
            match (reader.len() - (index - start), whole) {
                (1, true) => {}
                (0, _) => return Err(at("expected a JSON object, found nothing but blanks".to_owned())),
                (1, false) => return Err(at(explain(value, "the JSON object is cut off"))),
                _ => return Err(at(explain(value, "expected one JSON object, found more after it"))),
            }
        }
        let batch = reader.flush().map_err(|error| match self.value(start) {
            Some(value) if end - start == 1 => Failure::Somewhere(explain(value, &plain(&error))),
            _ => somewhere(error),
        })?;
        batch.ok_or_else(|| Failure::Somewhere("expected a JSON object, found nothing".to_owned()))
    }
}

/// What is wrong with `value`: its syntax, with the position of the byte, or else what Arrow's reader says.
fn explain(value: &[u8], otherwise: &str) -> String {
    match serde_json::from_slice::<IgnoredAny>(value) {
        Ok(_) => otherwise.to_owned(),
        Err(error) => {
            let lines = value.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
            let position = lines.map(<[u8]>::len).sum::<usize>() + error.column();
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            format!("expected one JSON object: {message} at byte {position}")
        }
    }
}

/// Arrow's message without its preface.
fn plain(error: &ArrowError) -> String {
    let message = error.to_string();
    message.strip_prefix("Json error: ").unwrap_or(&message).replace("whilst decoding field", "member")
}
