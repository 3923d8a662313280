//! Record batches, parsed where they stand. Whatever the bytes are: nothing here panics, and nothing is copied.

use std::fmt;

/// Bytes of a batch before its records.
const HEADER: usize = 61;
/// Where the magic number stands, in this format and in all older ones.
const MAGIC_AT: usize = 16;
/// Bytes before those that the length counts.
const LENGTH_END: usize = 12;
/// Where the part begins that the checksum covers.
const CHECKED_FROM: usize = 21;

/// Why bytes are no record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A message set of before Kafka 0.11.
    OldFormat(i8),
    Checksum,
    Length,
    Record,
    Compression(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldFormat(magic) => write!(
                f,
                "it is in format {magic}, from before Kafka 0.11, which only `reader: rdkafka` understands"
            ),
            Self::Checksum => {
                write!(f, "its checksum does not match: it was damaged on its way or on the broker's disk")
            }
            Self::Length => write!(f, "it tells a length that it cannot have"),
            Self::Record => write!(f, "it holds something that is no record"),
            Self::Compression(what) => write!(f, "it cannot be decompressed: {what}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// A batch: its header, and its records as they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub base_offset: i64,
    /// The offset of the last record that the batch had when it was written.
    pub last_offset: i64,
    pub producer_id: i64,
    pub base_timestamp: i64,
    /// The latest timestamp of its records.
    pub max_timestamp: i64,
    attributes: i16,
    crc: u32,
    checked: &'a [u8],
    /// The records, perhaps compressed.
    pub body: &'a [u8],
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl<'a> Batch<'a> {
    /// The batch that `rest` begins with, which is taken off it; none if there is not a whole one.
    pub fn take(rest: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        let bytes = *rest;
        let (Some(base), Some(length), Some([magic])) =
            (array(bytes, 0), array(bytes, 8), array::<1>(bytes, MAGIC_AT))
        else {
            return Ok(None);
        };
        let (base_offset, length) = (i64::from_be_bytes(base), i32::from_be_bytes(length));
        let size = usize::try_from(length).map_err(|_| Malformed::Length)?.saturating_add(LENGTH_END);
        if magic < 2 {
            return Err(Malformed::OldFormat(magic as i8));
        }
        if size < HEADER || base_offset < 0 {
            return Err(Malformed::Length);
        }
        let Some(whole) = bytes.get(..size) else { return Ok(None) };
        *rest = &bytes[size..];
        let checked = &whole[CHECKED_FROM..];
        let number = |at| array(whole, at).map(i64::from_be_bytes).ok_or(Malformed::Length);
        let last_delta = i32::from_be_bytes(array(whole, 23).ok_or(Malformed::Length)?);
        Ok(Some(Self {
            base_offset,
            last_offset: base_offset.checked_add(i64::from(last_delta.max(0))).ok_or(Malformed::Length)?,
            producer_id: number(43)?,
            base_timestamp: number(27)?,
            max_timestamp: number(35)?,
            attributes: i16::from_be_bytes(array(whole, 21).ok_or(Malformed::Length)?),
            crc: u32::from_be_bytes(array(whole, 17).ok_or(Malformed::Length)?),
            checked,
            body: &whole[HEADER..],
        }))
    }

    /// Whether the bytes are those that were written.
    pub fn verify(&self) -> Result<(), Malformed> {
        if crc32c::crc32c(self.checked) == self.crc { Ok(()) } else { Err(Malformed::Checksum) }
    }

    pub fn compression(&self) -> Result<Compression, Malformed> {
        Ok(match self.attributes & 7 {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return Err(Malformed::Compression("with a method that this version does not know")),
        })
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether it holds no records but a mark of the transaction coordinator.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// The timestamp that all records bear, if the broker gave it to them.
    pub fn append_time(&self) -> Option<i64> {
        (self.attributes & 0x08 != 0).then_some(self.max_timestamp)
    }

    /// Whether a control batch is the end of an aborted transaction.
    pub fn is_abort(&self) -> Result<bool, Malformed> {
        let mut body = self.body;
        let marker = RawRecord::take(&mut body)?.ok_or(Malformed::Record)?;
        let kind = marker.key.and_then(|key| array(key, 2)).ok_or(Malformed::Record)?;
        Ok(i16::from_be_bytes(kind) == 0)
    }
}

/// A record as it stands in its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: RawHeaders<'a>,
}

impl<'a> RawRecord<'a> {
    /// The record that `rest` begins with, which is taken off it; none at the end. Inlined with all that it calls, since most of its time was
    /// that of handing over what it had found.
    #[inline(always)]
    pub fn take(rest: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        if rest.is_empty() {
            return Ok(None);
        }
        Self::parse(rest).map(Some).ok_or(Malformed::Record)
    }

    #[inline(always)]
    fn parse(rest: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(varint(rest)?).ok()?;
        let (mut record, after) = rest.split_at_checked(length)?;
        *rest = after;
        // One byte of attributes, of which none is in use.
        record = record.get(1..)?;
        let timestamp_delta = varint(&mut record)?;
        let offset_delta = varint(&mut record)?;
        let key = bytes(&mut record)?;
        let value = bytes(&mut record)?;
        Some(Self { timestamp_delta, offset_delta, key, value, headers: RawHeaders(record) })
    }
}

/// A record's headers, as they stand in it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct RawHeaders<'a>(&'a [u8]);

impl<'a> RawHeaders<'a> {
    /// Names and values, in order. A name that is no UTF-8 has no way to be told.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let mut rest = self.0;
        let count = varint(&mut rest).unwrap_or(0);
        (0..count).map_while(move |_| {
            let name = bytes(&mut rest)??;
            Some((std::str::from_utf8(name).unwrap_or(""), bytes(&mut rest)?))
        })
    }
}

/// A length and as many bytes; a negative length stands for nothing at all.
#[inline(always)]
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(rest)?;
    let Ok(length) = usize::try_from(length) else { return Some(None) };
    let (found, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some(found))
}

/// A number in zigzag form, seven bits a byte. Most lengths and offsets have one byte or two.
#[inline(always)]
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let (number, after) = match **rest {
        [first, ref after @ ..] if first < 0x80 => (u64::from(first), after),
        [first, second, ref after @ ..] if second < 0x80 => {
            (u64::from(first & 0x7f) | u64::from(second) << 7, after)
        }
        _ => return long_varint(rest),
    };
    *rest = after;
    Some(unzigzag(number))
}

#[inline(always)]
fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[inline(never)]
fn long_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return Some(unzigzag(number));
        }
    }
    None
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
