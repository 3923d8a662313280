//! [`Text`]: a string that holds what is short in itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many bytes fit in.
const INLINE: usize = 22;

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
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    /// The bytes behind `len` are zero.
    Inline { len: u8, bytes: [u8; INLINE] },
    /// Longer than what fits in.
    Shared(Arc<str>),
}

impl Text {
    /// The text `text`.
    #[inline]
    pub fn new(text: &str) -> Self {
        let from = text.as_bytes();
        let mut bytes = [0; INLINE];
        // Two loads that may overlap are quicker than a copy of a length that is not known.
        match from.len() {
            0..=8 => bytes[..8].copy_from_slice(&short(from).to_le_bytes()),
            9..=16 => {
                let (head, tail) = (eight(from, 0), eight(from, from.len() - 8));
                bytes[..8].copy_from_slice(&head.to_le_bytes());
                bytes[from.len() - 8..from.len()].copy_from_slice(&tail.to_le_bytes());
            }
            17..=INLINE => bytes[..from.len()].copy_from_slice(from),
            _ => return Self(Repr::Shared(text.into())),
        }
        Self(Repr::Inline { len: from.len() as u8, bytes })
    }

    /// The text as a `str`.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // SAFETY: the first `len` bytes are those of the `str` that it was made of.
            Repr::Inline { len, bytes } => unsafe {
                std::str::from_utf8_unchecked(bytes.get_unchecked(..usize::from(*len)))
            },
            Repr::Shared(text) => text,
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

impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Repr::Inline { len, bytes } => {
                let (head, next) = (eight(bytes, 0), eight(bytes, 8));
                // Nearly all keys: two words tell them, with their length in a byte that is free.
                if *len < 16 {
                    return state
                        .write_u128(u128::from(head) | u128::from(next | u64::from(*len) << 56) << 64);
                }
                state.write_u128(u128::from(head) | u128::from(next) << 64);
                state.write_u64(eight(bytes, INLINE - 8));
                state.write_u8(*len);
            }
            Repr::Shared(text) => text.hash(state),
        }
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Inline { len, bytes }, Repr::Inline { len: other_len, bytes: other }) => {
                // All of it, whatever the length: what is behind it is zero on both sides.
                let differ = (eight(bytes, 0) ^ eight(other, 0))
                    | (eight(bytes, 8) ^ eight(other, 8))
                    | (eight(bytes, INLINE - 8) ^ eight(other, INLINE - 8));
                len == other_len && differ == 0
            }
            (Repr::Shared(one), Repr::Shared(other)) => one == other,
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
    fn it_is_as_small_as_a_string() {
        assert_eq!(size_of::<Text>(), 24);
        assert_eq!(size_of::<Option<Text>>(), 24);
    }
}
