//! Which names stand where SQL has its tables. Only a guess, made without a grammar: it decides in which order queries
//! are planned and how a cycle is named; what a query really reads is what its plan says.

use std::ops::Range;

use crate::service::file::Text;

/// Where a query names the stream that it reads; the whole query if that cannot be told.
pub(super) fn place(query: &Text, stream: &str) -> Range<usize> {
    match tables(query.value()).into_iter().find(|(name, _)| name == stream) {
        Some((_, at)) => query.word_from(at),
        None => query.find_word(stream).unwrap_or(query.at()),
    }
}

/// The identifiers after `from` and `join`, lower-cased unless quoted, each once with the byte where it begins.
pub(super) fn tables(sql: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    // Whether a table's name may come next; and whether a comma may bring another one.
    let (mut expecting, mut in_from) = (false, false);
    let mut tokens = Tokens(sql);
    while let Some(token) = tokens.next() {
        let end = sql.len() - tokens.0.len();
        match token {
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "from" | "join" => (expecting, in_from) = (true, true),
                "where" | "group" | "order" | "having" | "limit" | "select" | "on" | "union" | "using" => {
                    (expecting, in_from) = (false, false);
                }
                "lateral" => {}
                lower if expecting => {
                    found.push((lower.to_owned(), end - word.len()));
                    expecting = false;
                }
                _ => {}
            },
            Token::Quoted(name) if expecting => {
                let begin = end - name.len() - 1;
                found.push((name, begin));
                expecting = false;
            }
            Token::Sign(',') if in_from => expecting = true,
            Token::Sign('(') if expecting => {}
            Token::Sign(_) | Token::Quoted(_) => expecting = false,
        }
    }
    found.sort_unstable();
    found.dedup_by(|one, other| one.0 == other.0);
    found
}

enum Token<'a> {
    Word(&'a str),
    Quoted(String),
    Sign(char),
}

/// Words, quoted names and signs; strings, comments and white space are passed over.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.0 = self.0.trim_start();
            let first = self.0.chars().next()?;
            let text = self.0;
            if text.starts_with("--") {
                self.0 = text.find('\n').map_or("", |end| &text[end..]);
            } else if text.starts_with("/*") {
                self.0 = text.find("*/").map_or("", |end| &text[end + 2..]);
            } else if first == '\'' || first == '"' {
                let end = text[1..].find(first).map_or(text.len(), |end| end + 2);
                self.0 = &text[end..];
                if first == '"' {
                    return Some(Token::Quoted(text[..end].trim_matches('"').to_owned()));
                }
            } else if first.is_alphanumeric() || first == '_' {
                let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
                self.0 = &text[end..];
                return Some(Token::Word(&text[..end]));
            } else {
                self.0 = &text[first.len_utf8()..];
                return Some(Token::Sign(first));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn tables_are_what_stands_after_from_and_join() {
        for (sql, expected) in [
            ("select tag, n from trending order by n desc, tag limit 10", &["trending"][..]),
            ("select * from A a, b as x join \"C\" on a.k = c.k where 'from d' = '-- e'", &["C", "a", "b"]),
            ("select t from (select unnest(hashtags) as t from tweets -- from x\n)", &["tweets"]),
            ("select 1", &[]),
        ] {
            let found: Vec<String> = tables(sql).into_iter().map(|(name, _)| name).collect();
            assert_eq!(found, expected, "{sql}");
            assert!(
                tables(sql)
                    .iter()
                    .all(|(name, at)| sql[*at..].to_lowercase().starts_with(&name.to_lowercase()))
            );
        }
    }
}
