//! [`Words`]: the words of a line as [`Text`]s, found many bytes at a time.
//!
//! Taken one by one, where a word ends and how long it is are two branches that no processor foresees. Here one look at 64 bytes tells where
//! all words in them end, and a word is read with the bytes behind it, which are cut off without asking how many there are.

use super::Text;
use super::block::{self, BLOCK};
use super::text::INLINE;

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
#[inline(always)]
fn whitespace(bytes: &[u8], at: usize) -> u64 {
    block::whitespace(&block::block(bytes, at))
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
