//! A scalar's text as the program sees it, each byte with the place in the file that it came from: what is wrong
//! inside an SQL text can be shown where it stands, through quotes, folds, indentation and `${NAME}`.

use std::ops::Range;

/// A scalar's text and where each of its bytes stands in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    value: String,
    /// One place per byte of `value`, and one for its end; empty if they could not be told.
    places: Vec<usize>,
    at: Range<usize>,
}

impl Text {
    /// The scalar `value`, which is written at the bytes `at` of `source`.
    pub(crate) fn new(value: &str, source: &str, at: Range<usize>) -> Self {
        let places = source.get(at.clone()).and_then(|raw| align(value, raw, at.start)).unwrap_or_default();
        Self { value: value.to_owned(), places, at }
    }

    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    /// The bytes of the scalar in the file, its quotes with it.
    pub(crate) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Where the bytes `part` of the value stand in the file; the whole scalar if that cannot be told.
    pub(crate) fn place(&self, part: Range<usize>) -> Range<usize> {
        match (self.places.get(part.start), self.places.get(part.end)) {
            (Some(&start), Some(&end)) => start..end.max(start),
            _ => self.at(),
        }
    }

    /// The word at a line and column (both from 1, columns in characters) of the value.
    pub(crate) fn word_at(&self, line: u64, column: u64) -> Range<usize> {
        let lines = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        let columns = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let line_start: usize = self.value.split_inclusive('\n').take(lines).map(str::len).sum();
        let rest = &self.value[line_start..];
        self.word_from(line_start + rest.char_indices().nth(columns).map_or(rest.len(), |(at, _)| at))
    }

    /// The word that begins at a byte of the value.
    pub(crate) fn word_from(&self, start: usize) -> Range<usize> {
        self.place(start..start + word_len(&self.value[start..]))
    }

    /// Where `word` stands for the first time as a whole word.
    pub(crate) fn find_word(&self, word: &str) -> Option<Range<usize>> {
        if word.is_empty() {
            return None;
        }
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        self.value.match_indices(word).map(|(start, _)| start..start + word.len()).find_map(|part| {
            let before = self.value[..part.start].chars().next_back();
            let after = self.value[part.end..].chars().next();
            let whole = !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word);
            whole.then(|| self.place(part))
        })
    }

    /// The same text with the bytes `part` replaced; what is put in stands where the replaced text stood.
    pub(super) fn replace(&mut self, part: Range<usize>, with: &str) {
        if !self.places.is_empty() {
            let place = self.places[part.start];
            self.places.splice(part.clone(), std::iter::repeat_n(place, with.len()));
        }
        self.value.replace_range(part, with);
    }
}

/// The length of the identifier or number that `text` begins with; else that of its first character.
fn word_len(text: &str) -> usize {
    let word = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    if word > 0 { word } else { text.chars().next().map_or(0, char::len_utf8) }
}

/// The place of each byte of `value`, which a YAML parser made from `raw`, and of its end.
///
/// Both are walked side by side: what the parser leaves out (indentation, quotes, folded line ends) is passed over,
/// and an escape stands for one character. Where they cannot be matched there is no answer rather than a wrong one.
fn align(value: &str, raw: &str, base: usize) -> Option<Vec<usize>> {
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''));
    let block = raw.starts_with(['|', '>']);
    let mut at = match (quote, block) {
        (Some(_), _) => 1,
        (None, true) => raw.find('\n')? + 1,
        (None, false) => 0,
    };
    let mut places = Vec::with_capacity(value.len() + 1);
    for c in value.chars() {
        let start = loop {
            let rest = &raw[at..];
            let Some(next) = rest.chars().next() else {
                // A block's last line may end with the file; its line end is then nowhere.
                break (c == '\n').then_some(at)?;
            };
            if quote == Some('"') && next == '\\' && (c != '\\' || rest.starts_with("\\\\")) {
                let len = escape_len(rest)?;
                if len > 0 {
                    at += len;
                    break at - len;
                }
                // An escaped line end: nothing of it is in the value.
                at += 1;
            } else if c == '\n' && rest.starts_with("\r\n") {
                at += 2;
                break at - 2;
            } else if next == c {
                at += if quote == Some('\'') && rest.starts_with("''") { 2 } else { next.len_utf8() };
                break at - next.len_utf8();
            } else if next.is_whitespace() {
                if c == ' ' && next == '\n' {
                    // A folded line end is a space; what indents the next line is passed over.
                    at += rest.len() - rest.trim_start().len();
                    break at;
                }
                at += next.len_utf8();
            } else {
                return None;
            }
        };
        places.extend(std::iter::repeat_n(base + start, c.len_utf8()));
    }
    places.push(base + at);
    Some(places)
}

/// How long the escape at the start of `text` is in a double-quoted scalar; 0 for an escaped line end.
fn escape_len(text: &str) -> Option<usize> {
    Some(match text[1..].chars().next()? {
        'x' => 4,
        'u' => 6,
        'U' => 10,
        '\n' | '\r' => 0,
        c => 1 + c.len_utf8(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::file::yaml::{self, Value};
    use crate::service::report::Report;

    /// Where the parser's value for the key `k` says that `word` stands.
    fn found(source: &str, word: &str) -> String {
        let mut report = Report::new("t.yaml", source);
        let root = yaml::parse(&mut report).expect("the test's YAML is right");
        let Value::Mapping(entries) = root.value else { panic!("a mapping") };
        let Value::Scalar(scalar) = &entries[0].1.value else { panic!("a scalar") };
        let at = scalar.text.find_word(word).expect("the word is there");
        source[at].to_owned()
    }

    #[test]
    fn words_are_found_through_every_style() {
        for source in [
            "k: select a from wordz\n",
            "k: 'select ''x'' from wordz'\n",
            "k: \"select \\\"q\\\" \\u00e9 \\\\ from wordz\"\n",
            "k: |\n    select a\n      from wordz\n  \n",
            "k: >-\n    select a,\n    b, c\n\n    from wordz\n",
            "k: select a,\n   b\n   from wordz\n",
            "k: \"select a, \\\n   b\n   from wordz\"\n",
            "k: |\r\n  select a\r\n  from wordz\r\n",
        ] {
            assert_eq!(found(source, "wordz"), "wordz", "{source:?}");
        }
    }

    #[test]
    fn lines_and_columns_are_of_the_value() {
        let source = "k: |\n    select é\n    from b\n";
        let at = source.find('|').expect("there");
        let text = Text::new("select é\nfrom b\n", source, at..source.len());
        assert_eq!(&source[text.word_at(2, 6)], "b");
        assert_eq!(&source[text.word_at(1, 8)], "é");
    }

    #[test]
    fn what_was_put_in_stands_where_its_name_stood() {
        let source = "a ${X} b";
        let mut text = Text::new(source, source, 0..source.len());
        text.replace(2..6, "longer");
        assert_eq!(text.value(), "a longer b");
        assert_eq!(text.place(9..10), 7..8);
        assert_eq!(text.place(2..4).start, 2);
    }
}
