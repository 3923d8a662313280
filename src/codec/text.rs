//! [`Text`]: a string that holds what is short in itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Words;

/// How many bytes fit in.
pub(super) const INLINE: usize = 22;

/// A text that never changes, made for keys: up to 22 bytes it is held in the value itself, so that making, cloning, comparing and hashing
/// it take some nanoseconds and no memory; a longer one is shared by its clones.
///
/// It is written to Kafka, to state and to JSON as any string. It is no [`Borrow<str>`](std::borrow::Borrow), since its hash is not that of
/// a `str`.
///
/// ```
/// use tidemill::Text;
/// let word = Text::new("tide");
/// assert_eq!(word, "tide");
/// assert_eq!(word.len(), 4);
/// assert!(word < Text::from("tidemill".to_owned()));
/// ```
pub struct Text(Repr);

/// Three words that are made in registers: bytes that were put together in memory would have to be waited for when they are read as
/// words. The first byte tells which of the two it is.
#[repr(C)]
union Repr {
    /// In memory: [`INLINE_TAG`], the length, and 22 bytes, of which those behind the length are zero.
    inline: [u64; 3],
    shared: ManuallyDrop<Shared>,
}

#[repr(C)]
struct Shared {
    tag: u64,
    text: Arc<str>,
}

const INLINE_TAG: u64 = 0;
const SHARED_TAG: u64 = 1;
/// Where the bytes begin.
const BYTES_AT: usize = 2;

impl Text {
    /// The text `text`.
    #[inline]
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let len = bytes.len();
        // The first sixteen bytes, and the six that may come after them. Two loads that overlap are quicker than a copy of a
        // length that is not known.
        let (head, tail) = match len {
            0..=8 => (u128::from(short(bytes)), 0),
            9..=16 => {
                let last = u128::from(eight(bytes, len - 8)) << (8 * (len - 8));
                (u128::from(eight(bytes, 0)) | last, 0)
            }
            17..=INLINE => {
                let head = u128::from(eight(bytes, 0)) | u128::from(eight(bytes, 8)) << 64;
                (head, eight(bytes, len - 8) >> (8 * (24 - len)))
            }
            _ => return Self::shared(text),
        };
        let first = INLINE_TAG | (len as u64) << 8 | (head as u64) << 16;
        let (second, third) = ((head >> 48) as u64, (head >> 112) as u64 | tail << 16);
        Self(Repr { inline: [first.to_le(), second.to_le(), third.to_le()] })
    }

    /// The words of `text`, which are separated by ASCII whitespace, as [`str::split_ascii_whitespace`] has them: nearly twice as quick as
    /// making a text of each of those, since one look at 64 bytes finds all ends in them. An empty text has none.
    ///
    /// ```
    /// use tidemill::Text;
    /// let words: Vec<_> = Text::split_ascii_whitespace("  time and\ttide ").collect();
    /// assert_eq!(words, ["time", "and", "tide"]);
    /// ```
    #[inline]
    pub fn split_ascii_whitespace(text: &str) -> Words<'_> {
        Words::of(text)
    }

    /// The first `len` bytes of `bytes`, which has 24 of them; they are a text, and fit in.
    #[inline(always)]
    pub(super) fn cut(bytes: &[u8], len: usize) -> Self {
        debug_assert!(len <= INLINE);
        // So many bytes from `at` on, and zeros.
        let part = |at: usize, count: usize| {
            eight(bytes, at) & u64::MAX.checked_shr(64 - 8 * count as u32).unwrap_or(0)
        };
        let first = INLINE_TAG | (len as u64) << 8 | part(0, len.min(6)) << 16;
        let second = part(6, len.saturating_sub(6).min(8));
        let third = part(14, len.saturating_sub(14));
        Self(Repr { inline: [first.to_le(), second.to_le(), third.to_le()] })
    }

    #[cold]
    fn shared(text: &str) -> Self {
        Self(Repr { shared: ManuallyDrop::new(Shared { tag: SHARED_TAG.to_le(), text: text.into() }) })
    }

    /// The words, or the text that they stand for.
    #[inline(always)]
    fn parts(&self) -> Result<[u64; 3], &Arc<str>> {
        // SAFETY: both forms have a word first, whose first byte is the tag; it says which form it is, and all words of the inline
        // form are set.
        unsafe {
            let first = self.0.inline[0];
            if first.to_le() & 0xff == INLINE_TAG { Ok(self.0.inline) } else { Err(&self.0.shared.text) }
        }
    }

    /// The text as a `str`.
    #[inline]
    pub fn as_str(&self) -> &str {
        match self.parts() {
            Ok([first, ..]) => {
                let len = usize::from((first.to_le() >> 8) as u8);
                let start = std::ptr::from_ref(self).cast::<u8>();
                // SAFETY: the inline form has the bytes of a `str` from there on, as many as its length says.
                unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start.add(BYTES_AT), len)) }
            }
            Err(text) => text,
        }
    }
}

#[inline]
fn eight(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// Up to eight bytes, filled up with zeros.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    let four = |at: usize| bytes[at..].first_chunk().map_or(0, |four| u64::from(u32::from_le_bytes(*four)));
    match bytes.len() {
        0 => 0,
        1..=3 => {
            let at = |i: usize| u64::from(bytes[i]) << (8 * i);
            at(0) | at(bytes.len() / 2) | at(bytes.len() - 1)
        }
        len => four(0) | four(len - 4) << (8 * (len - 4)),
    }
}

impl Clone for Text {
    #[inline]
    fn clone(&self) -> Self {
        match self.parts() {
            Ok(inline) => Self(Repr { inline }),
            Err(text) => Self(Repr {
                shared: ManuallyDrop::new(Shared { tag: SHARED_TAG.to_le(), text: text.clone() }),
            }),
        }
    }
}

impl Drop for Text {
    #[inline]
    fn drop(&mut self) {
        if self.parts().is_err() {
            // SAFETY: the tag says that it is this form, and nobody looks at it again.
            unsafe { ManuallyDrop::drop(&mut self.0.shared) }
        }
    }
}

impl Hash for Text {
    // Always: with a call, a key's words go through memory, twice.
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.parts() {
            Ok([first, second, third]) => {
                // Nearly all keys: two words tell them, with their length.
                state.write_u128(u128::from(first) | u128::from(second) << 64);
                if third != 0 {
                    state.write_u64(third);
                }
            }
            Err(text) => text.hash(state),
        }
    }
}

impl PartialEq for Text {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        match (self.parts(), other.parts()) {
            // What is behind the text is zero in both.
            (Ok([a, b, c]), Ok([x, y, z])) => (a ^ x) | (b ^ y) | (c ^ z) == 0,
            (Err(one), Err(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new("")
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::new(text))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_text_that_it_was_made_of(one in ".{0,30}", other in ".{0,30}") {
            let (a, b) = (Text::new(&one), Text::new(&other));
            prop_assert_eq!(a.as_str(), &one);
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            let hasher = ahash::RandomState::with_seed(1);
            prop_assert_eq!(hasher.hash_one(&a), hasher.hash_one(Text::from(one.clone())));
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&one).unwrap());
            prop_assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), a);
        }
    }

    #[test]
    fn every_length_comes_back_and_differs_from_others() {
        let letters = "abcdefghijklmnopqrstuvwxyz0123456789";
        let texts: Vec<_> = (0..letters.len()).map(|n| Text::new(&letters[..n])).collect();
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(text, &letters[..n]);
            assert_eq!(texts.iter().filter(|other| *other == text).count(), 1);
        }
        // A NUL is a letter like others.
        assert_ne!(Text::new("a"), Text::new("a\0"));
        assert_ne!(Text::new("abcdefgh"), Text::new("abcdefgh\0"));
    }

    #[test]
    fn long_texts_are_shared_and_let_go() {
        let long = Text::new(&"long ".repeat(10));
        let clones = vec![long.clone(); 3];
        let Err(text) = long.parts() else { panic!("it is held in itself") };
        assert_eq!(Arc::strong_count(text), 4);
        assert!(clones.iter().all(|clone| *clone == long));
        drop(clones);
        assert_eq!(Arc::strong_count(text), 1);
    }

    #[test]
    fn it_is_as_small_as_a_string() {
        assert_eq!(size_of::<Text>(), 24);
    }
}
