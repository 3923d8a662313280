//! Object files: stored values one after the other, each with its length and a checksum.
//!
//! A file begins with [`HEADER`], whose last byte is the version. An element is the length of its stored value (4 bytes,
//! little-endian), the value's murmur2 hash (4 bytes), and the value as the checkpoint has it. The end is marked by
//! [`END`] in place of a length and the number of elements (8 bytes), so that a file that was cut off is known.

use std::io::{ErrorKind as IoErrorKind, Read};

use crate::codec::{Stored, decode_value, encode_value, murmur2};
use crate::error::{Error, Result};

pub(super) const HEADER: &[u8] = b"tidemill objects\n\x01";
const END: u32 = u32::MAX;

/// Appends an element.
pub(super) fn write_element<T: Stored>(element: &T, into: &mut Vec<u8>) -> Result<()> {
    let value =
        encode_value(element).map_err(|e| Error::output("an element cannot be saved").with_source(e))?;
    let length = u32::try_from(value.len()).ok().filter(|length| *length != END);
    let length = length
        .ok_or_else(|| Error::output(format!("an element has {} bytes, the limit is 4 GiB", value.len())))?;
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&murmur2(&value).to_le_bytes());
    into.extend_from_slice(&value);
    Ok(())
}

/// Appends the end of a file of `count` elements.
pub(super) fn write_end(count: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(&END.to_le_bytes());
    into.extend_from_slice(&count.to_le_bytes());
}

/// Takes elements from a file; errors do not know its name.
pub(super) struct Reader<R> {
    file: R,
    count: u64,
    value: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub fn new(mut file: R) -> Result<Self> {
        let mut header = Vec::new();
        let read = file.by_ref().take(HEADER.len() as u64).read_to_end(&mut header);
        read.map_err(|e| Error::unavailable(format!("cannot be read: {e}")).with_source(e))?;
        match (header == HEADER, header.split_last()) {
            (true, _) => Ok(Self { file, count: 0, value: Vec::new() }),
            (false, Some((version, name))) if header.len() == HEADER.len() && HEADER.starts_with(name) => {
                Err(Error::data(format!(
                    "is an object file of version {version}, this program reads version 1"
                )))
            }
            _ => Err(Error::data("is no object file")),
        }
    }

    /// The next element; none after the last.
    pub fn next<T: Stored>(&mut self) -> Result<Option<T>> {
        let length = u32::from_le_bytes(self.bytes()?);
        if length == END {
            return self.end().map(|()| None);
        }
        let hash = i32::from_le_bytes(self.bytes()?);
        self.value.clear();
        let read = self.file.by_ref().take(length.into()).read_to_end(&mut self.value);
        read.map_err(|e| self.unreadable(e))?;
        if self.value.len() < length as usize {
            return Err(self.cut_off());
        }
        if murmur2(&self.value) != hash {
            return Err(self.at_element("is damaged: its checksum does not match"));
        }
        let element =
            decode_value(&self.value).map_err(|e| self.at_element(&e.to_string()).with_source(e))?;
        self.count += 1;
        Ok(Some(element))
    }

    fn end(&mut self) -> Result<()> {
        let count = u64::from_le_bytes(self.bytes()?);
        if count != self.count {
            return Err(Error::data(format!("has {} elements, but its end says {count}", self.count)));
        }
        match self.file.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::data(format!("goes on after its end, which is behind element {count}"))),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == IoErrorKind::UnexpectedEof => Err(self.cut_off()),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// An error at the element that is being read, counted from 1.
    fn at_element(&self, what: &str) -> Error {
        Error::data(format!("element {}: {what}", self.count + 1))
    }

    fn cut_off(&self) -> Error {
        self.at_element("the file ends here, it was cut off")
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        Error::unavailable(format!("element {}: cannot be read: {error}", self.count + 1)).with_source(error)
    }
}
