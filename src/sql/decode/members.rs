//! Members of JSON objects, read where they stand: only those that are columns become values, the others are passed over, and a text is
//! a view of its bytes.
//!
//! Whatever is not plain (another type than the column's, a number in a rare form, a member twice, bytes that are no JSON) is
//! left to Arrow's reader, which decides what it is.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringViewArray};
use datafusion::arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

use super::ValueAt;
use crate::sql::views::view;
use crate::sql::{DataType, RecordBatch, SchemaRef};

/// How deep what is passed over may be nested.
const DEPTH: usize = 64;

/// The rows of the objects at these places of `bytes`, which are UTF-8; nothing if not all of them are plain.
pub(super) fn read(schema: &SchemaRef, bytes: &Bytes, values: &[ValueAt]) -> Option<RecordBatch> {
    let column = |of: &DataType| {
        Some(match of {
            DataType::Utf8View => Values::Text(Vec::with_capacity(values.len())),
            DataType::Int64 => Values::Int(Vec::with_capacity(values.len())),
            DataType::Float64 => Values::Float(Vec::with_capacity(values.len())),
            DataType::Boolean => Values::Bool(Vec::with_capacity(values.len())),
            _ => return None,
        })
    };
    let fields = schema.fields().iter();
    let columns = fields.map(|field| {
        Some(Column {
            name: field.name(),
            values: column(field.data_type())?,
            valid: Vec::with_capacity(values.len()),
        })
    });
    let mut reader =
        Reader { bytes, at: 0, end: 0, columns: columns.collect::<Option<_>>()?, unescaped: Vec::new() };
    for (row, value) in values.iter().enumerate() {
        let value = value.range()?;
        (reader.at, reader.end) = (value.start, value.end);
        reader.object(row)?;
    }
    let blocks = [Buffer::from(bytes.clone()), Buffer::from(reader.unescaped)];
    let columns = reader.columns.into_iter().map(|column| column.finish(&blocks)).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).ok()
}

struct Column<'s> {
    name: &'s str,
    values: Values,
    /// Of each row so far, whether there is a value.
    valid: Vec<bool>,
}

enum Values {
    Text(Vec<u128>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
}

impl Column<'_> {
    fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Text(views) => views.push(0),
            Values::Int(numbers) => numbers.push(0),
            Values::Float(numbers) => numbers.push(0.0),
            Values::Bool(values) => values.push(false),
        }
    }

    fn finish(self, blocks: &[Buffer; 2]) -> ArrayRef {
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(self.valid));
        match self.values {
            Values::Text(views) => {
                // SAFETY: each view is of what stands between two quotes in bytes that are UTF-8, or of characters that escapes
                // in such a text stand for.
                let texts = unsafe { StringViewArray::new_unchecked(views.into(), blocks.to_vec(), nulls) };
                Arc::new(texts)
            }
            Values::Int(numbers) => Arc::new(Int64Array::new(ScalarBuffer::from(numbers), nulls)),
            Values::Float(numbers) => Arc::new(Float64Array::new(ScalarBuffer::from(numbers), nulls)),
            Values::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
        }
    }
}

/// Reads one object after the other. Each method gives nothing for what is not plain.
struct Reader<'a> {
    bytes: &'a [u8],
    /// The next byte, and the end of the object's value.
    at: usize,
    end: usize,
    columns: Vec<Column<'a>>,
    /// The texts that have escapes, without them.
    unescaped: Vec<u8>,
}

impl Reader<'_> {
    /// The object that is the whole value, as the row of this number.
    fn object(&mut self, row: usize) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                self.expect(b'"')?;
                let (name, false) = self.text()? else { return None };
                let name = &self.bytes[name];
                let column = self.columns.iter().position(|column| column.name.as_bytes() == name);
                self.expect(b':')?;
                match column {
                    Some(column) if self.columns[column].valid.len() > row => return None,
                    Some(column) => self.value(column)?,
                    None => self.pass(0)?,
                }
                match self.next()? {
                    b',' => {}
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        if self.peek().is_some() {
            return None;
        }
        let missing = self.columns.iter_mut().filter(|column| column.valid.len() == row);
        missing.for_each(Column::push_null);
        Some(())
    }

    /// The value of a column.
    fn value(&mut self, column: usize) -> Option<()> {
        let first = self.peek()?;
        if first == b'n' {
            self.word(b"null")?;
            self.columns[column].push_null();
            return Some(());
        }
        // What stands in the way of the one that is borrowed here.
        let plain = match (&self.columns[column].values, first) {
            (Values::Text(_), b'"') => {
                self.at += 1;
                let (text, is_escaped) = self.text()?;
                Plain::Text(if is_escaped {
                    self.unescape(text)?
                } else {
                    view(self.bytes, 0, text.start, text.end)
                })
            }
            (Values::Int(_), b'-' | b'0'..=b'9') => Plain::Int(integer(self.number()?)?),
            (Values::Float(_), b'-' | b'0'..=b'9') => Plain::Float(float(self.number()?)?),
            (Values::Bool(_), b't') => self.word(b"true").map(|()| Plain::Bool(true))?,
            (Values::Bool(_), b'f') => self.word(b"false").map(|()| Plain::Bool(false))?,
            _ => return None,
        };
        let column = &mut self.columns[column];
        match (&mut column.values, plain) {
            (Values::Text(views), Plain::Text(view)) => views.push(view),
            (Values::Int(numbers), Plain::Int(number)) => numbers.push(number),
            (Values::Float(numbers), Plain::Float(number)) => numbers.push(number),
            (Values::Bool(values), Plain::Bool(value)) => values.push(value),
            _ => return None,
        }
        column.valid.push(true);
        Some(())
    }

    /// Passes over a value, which is nested in so many others.
    fn pass(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.text().map(|_| ())
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            open @ (b'{' | b'[') if depth < DEPTH => {
                self.at += 1;
                // Two on in the alphabet of ASCII.
                let close = open + 2;
                if self.peek()? == close {
                    self.at += 1;
                    return Some(());
                }
                loop {
                    if open == b'{' {
                        self.expect(b'"')?;
                        self.text()?;
                        self.expect(b':')?;
                    }
                    self.pass(depth + 1)?;
                    match self.next()? {
                        b',' => {}
                        byte if byte == close => return Some(()),
                        _ => return None,
                    }
                }
            }
            _ => None,
        }
    }

    /// What stands up to the quote that ends it, and whether it has escapes.
    fn text(&mut self) -> Option<(Range<usize>, bool)> {
        let (start, mut is_escaped) = (self.at, false);
        loop {
            self.at += memchr::memchr2(b'"', b'\\', &self.bytes[self.at..self.end])?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Some((start..self.at - 1, is_escaped));
            }
            is_escaped = true;
            self.escape()?;
        }
    }

    /// The character that an escape stands for.
    fn escape(&mut self) -> Option<char> {
        let letter = *self.bytes[..self.end].get(self.at + 1)?;
        self.at += 2;
        Some(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.unit()? {
                high @ 0xd800..0xdc00 => {
                    if self.bytes[..self.end].get(self.at..self.at + 2)? != b"\\u" {
                        return None;
                    }
                    self.at += 2;
                    char::decode_utf16([high, self.unit()?]).next()?.ok()?
                }
                unit => char::from_u32(unit.into())?,
            },
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u16> {
        let digits = self.bytes[..self.end].get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16))
    }

    /// The view of a text that has escapes, without them.
    fn unescape(&mut self, text: Range<usize>) -> Option<u128> {
        let (start, after) = (self.unescaped.len(), self.at);
        self.at = text.start;
        while self.at < text.end {
            let rest = &self.bytes[self.at..text.end];
            let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            self.unescaped.extend_from_slice(&rest[..plain]);
            self.at += plain;
            if self.at < text.end {
                let character = self.escape()?;
                self.unescaped.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.at = after;
        Some(view(&self.unescaped, 1, start, self.unescaped.len()))
    }

    /// The bytes of a number, of whatever form.
    fn number(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.at..self.end];
        let is_of_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let length = rest.iter().position(|byte| !is_of_number(byte)).unwrap_or(rest.len());
        self.at += length;
        Some(&rest[..length])
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..self.end].starts_with(word).then(|| self.at += word.len())
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        while self.at < self.end {
            match self.bytes[self.at] {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
        None
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }
}

enum Plain {
    Text(u128),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// An integer of digits alone that surely fits.
fn integer(number: &[u8]) -> Option<i64> {
    let (sign, digits) = match number.split_first()? {
        (b'-', digits) => (-1, digits),
        _ => (1, number),
    };
    if !is_digits(digits) || digits.len() > 18 {
        return None;
    }
    Some(sign * digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

/// A number as JSON has it, without an exponent.
fn float(number: &[u8]) -> Option<f64> {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (parts.next()?, parts.next());
    let is_plain = is_digits(whole)
        && fraction.is_none_or(|fraction| !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit));
    is_plain.then(|| std::str::from_utf8(number).ok()?.parse().ok()).flatten()
}

/// Whether these are digits of a number, which has no needless zero before it.
fn is_digits(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits[0] != b'0')
}
