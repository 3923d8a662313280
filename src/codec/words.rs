//! [`Words`]: the words of a line as [`Text`]s, found many bytes at a time.
//!
//! Taken one by one, where a word ends and how long it is are two branches that no processor foresees. Here one look at 64 bytes tells where
//! all words in them end, and a word is read with the bytes behind it, which are cut off without asking how many there are.

use super::Text;
use super::text::INLINE;

/// How many bytes one look takes in.
const BLOCK: usize = 64;
/// From where on a word is read from a copy of the line's end: so many bytes are read of each.
const END: usize = 24;

/// The words of a text, as [`Text::split_ascii_whitespace`] gives them.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    text: &'a str,
    /// Where the next word begins, or whitespace before it.
    start: usize,
    /// What was looked at last, and where whitespace that was not passed yet is in it.
    block: usize,
    whitespace: u64,
    /// The last bytes, and zeros behind them.
    end: [u8; 2 * END],
}

impl<'a> Words<'a> {
    #[inline]
    pub(super) fn of(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut end = [0; 2 * END];
        match bytes.last_chunk::<END>() {
            Some(last) => end[..END].copy_from_slice(last),
            None => end[..bytes.len()].copy_from_slice(bytes),
        }
        Self { text, start: 0, block: 0, whitespace: whitespace(bytes, 0), end }
    }

    /// The word from `start` until `end`.
    #[inline(always)]
    fn word(&self, start: usize, end: usize) -> Text {
        if end - start > INLINE {
            return Text::new(&self.text[start..end]);
        }
        let bytes = self.text.as_bytes();
        match bytes.get(start..start + END) {
            Some(read) => Text::cut(read, end - start),
            None => {
                let at = start - bytes.len().saturating_sub(END);
                Text::cut(&self.end[at..at + END], end - start)
            }
        }
    }
}

impl Iterator for Words<'_> {
    type Item = Text;

    #[inline(always)]
    fn next(&mut self) -> Option<Text> {
        loop {
            while self.whitespace == 0 {
                self.block += BLOCK;
                if self.block >= self.text.len() {
                    let start = std::mem::replace(&mut self.start, self.text.len());
                    self.block = self.text.len();
                    return (start < self.text.len()).then(|| self.word(start, self.text.len()));
                }
                self.whitespace = whitespace(self.text.as_bytes(), self.block);
            }
            let end = self.block + self.whitespace.trailing_zeros() as usize;
            self.whitespace &= self.whitespace - 1;
            let start = std::mem::replace(&mut self.start, end + 1);
            if start < end {
                return Some(self.word(start, end));
            }
        }
    }
}

impl std::iter::FusedIterator for Words<'_> {}

/// Which of the bytes from `at` on are whitespace: the first is the lowest bit.
#[inline]
fn whitespace(bytes: &[u8], at: usize) -> u64 {
    let bytes = &bytes[at.min(bytes.len())..];
    match bytes.first_chunk() {
        Some(block) => of_block(block),
        None => {
            let mut block = [0; BLOCK];
            block[..bytes.len()].copy_from_slice(bytes);
            of_block(&block)
        }
    }
}

/// Which bytes of a block are whitespace, as [`u8::is_ascii_whitespace`] has it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn of_block(block: &[u8; BLOCK]) -> u64 {
    use std::arch::x86_64::*;

    let (sixteens, _) = block.as_chunks::<16>();
    sixteens.iter().rev().fold(0, |found, sixteen| {
        // SAFETY: all processors of this architecture have SSE2, and sixteen bytes are read where there are as many.
        let here = unsafe {
            let bytes = _mm_loadu_si128(sixteen.as_ptr().cast());
            let is = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
            // From tab to carriage return all but the vertical tab.
            let from_tab = _mm_sub_epi8(bytes, _mm_set1_epi8(9));
            let controls = _mm_cmpeq_epi8(_mm_min_epu8(from_tab, _mm_set1_epi8(4)), from_tab);
            _mm_movemask_epi8(_mm_or_si128(is(b' '), _mm_andnot_si128(is(11), controls)))
        };
        found << 16 | u64::from(here as u16)
    })
}

/// Which bytes of a block are whitespace, as [`u8::is_ascii_whitespace`] has it.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn of_any_block(block: &[u8; BLOCK]) -> u64 {
    let (eights, _) = block.as_chunks::<8>();
    eights.iter().rev().fold(0, |found, eight| found << 8 | of_eight(*eight))
}

#[cfg(not(target_arch = "x86_64"))]
use of_any_block as of_block;

/// Which of eight bytes are whitespace, as [`u8::is_ascii_whitespace`] has it.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn of_eight(bytes: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(bytes);
    let low = word & !HIGH;
    // The highest bit of each byte, where it is above the limit: below 128 each, none carries into the next.
    let above = |limit: u64| (low + ONES * (127 - limit)) | word;
    let is = |byte: u64| !(((low ^ (ONES * byte)) + ONES * 127) | word);
    // From tab to carriage return all but the vertical tab.
    let controls = above(8) & !above(13) & !is(11);
    let found = (is(32) | controls) & HIGH;
    // Gathers the eight bits in one byte.
    (found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(text: &str) {
        let words: Vec<_> = Text::split_ascii_whitespace(text).collect();
        assert_eq!(words, text.split_ascii_whitespace().map(Text::new).collect::<Vec<_>>(), "{text:?}");
    }

    #[test]
    fn words_end_at_the_edges_of_blocks_too() {
        for before in 0..140 {
            for word in [
                "",
                "a",
                "of",
                "eightths",
                "twenty-two-bytes-long!",
                "twenty-three-bytes-long",
                "more than one",
                "twenty-three bytes, as one is",
            ] {
                same(&format!("{}{word}", " ".repeat(before)));
                same(&format!("{} {word} ", "x".repeat(before)));
            }
        }
    }

    #[test]
    fn every_byte_is_whitespace_or_not() {
        for (byte, at) in (0..=u8::MAX).flat_map(|byte| (0..BLOCK).map(move |at| (byte, at))) {
            let mut block = [b'x'; BLOCK];
            block[at] = byte;
            let expected = u64::from(byte.is_ascii_whitespace()) << at;
            assert_eq!(of_block(&block), expected, "{byte}");
            assert_eq!(of_any_block(&block), expected, "{byte}");
        }
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_standard_library(text in "[ \t\n\u{b}\u{c}\ra-cé\u{2003}語]{0,200}") {
            same(&text);
        }

        #[test]
        fn any_text_has_its_words(text in any::<String>()) {
            same(&text);
        }
    }
}
