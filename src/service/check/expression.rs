//! SQL made from the file's expressions, and the way back: where in the file a planner's error stands.

use crate::service::file::{At, Text};
use crate::service::report::Report;
use crate::sql::SqlError;

/// A query put together from parts of the file and words of ours.
#[derive(Default)]
pub(super) struct Built<'a> {
    pub(super) sql: String,
    /// Where in `sql` each part of the file begins.
    parts: Vec<(usize, &'a Text)>,
}

impl<'a> Built<'a> {
    /// Words of ours.
    pub(super) fn words(mut self, words: &str) -> Self {
        self.sql.push_str(words);
        self
    }

    /// A name, in quotes, so that it is taken as it is.
    pub(super) fn name(mut self, name: &str) -> Self {
        self.sql.push_str(&quoted(name));
        self
    }

    /// An expression of the file. The line end before the `)` closes a comment at its end.
    pub(super) fn expression(mut self, text: &'a Text) -> Self {
        self.sql.push('(');
        self.parts.push((self.sql.len(), text));
        self.sql.push_str(text.value());
        self.sql.push_str("\n)");
        self
    }

    /// An expression of the file without brackets, since it may end in `as …`.
    pub(super) fn written(mut self, text: &'a Text) -> Self {
        self.parts.push((self.sql.len(), text));
        self.sql.push_str(text.value());
        self.sql.push('\n');
        self
    }

    /// As [`report`](Built::report), at `or` if nothing of the file is in the query.
    pub(super) fn report_or(&self, error: &SqlError, or: std::ops::Range<usize>, report: &mut Report) {
        if self.parts.is_empty() { finding(error, or, true, report) } else { self.report(error, report) }
    }

    /// Reports the planner's error where the file has the words that it is about; else at the first expression.
    pub(super) fn report(&self, error: &SqlError, report: &mut Report) {
        let (mut at, mut exact) = (self.parts.first().map_or(0..0, |(_, text)| text.at()), false);
        if error.offset.is_none()
            && let Some(found) = self.parts.iter().find_map(|(_, text)| text.find_word(named(error)))
        {
            (at, exact) = (found, true);
        }
        if let Some(found) = error.offset.and_then(|(line, column)| byte_at(&self.sql, line, column)) {
            for (start, text) in &self.parts {
                if (*start..start + text.value().len()).contains(&found) {
                    (at, exact) = (text.word_from(found - start), true);
                }
            }
        }
        finding(error, at, exact, report);
    }
}

/// A name in SQL's quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The byte at a line and column, both from 1, columns in characters.
fn byte_at(sql: &str, line: u64, column: u64) -> Option<usize> {
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let columns = usize::try_from(column).ok()?.checked_sub(1)?;
    let start: usize = sql.split_inclusive('\n').take(before).map(str::len).sum();
    Some(start + sql[start..].char_indices().nth(columns)?.0)
}

/// Reports the planner's error in a text that it was given as it is.
pub(super) fn report(error: &SqlError, text: &Text, report: &mut Report) {
    let at = match error.offset {
        Some((line, column)) => Some(text.word_at(line, column)),
        None => text.find_word(named(error)),
    };
    finding(error, at.clone().unwrap_or(text.at()), at.is_some(), report);
}

/// An expression that was made of one of the file: `before`, what is written, and something after it.
pub(super) struct Made<'a> {
    pub(super) sql: String,
    pub(super) before: usize,
    pub(super) text: &'a At<Text>,
}

/// Reports the planner's error in whichever of the expressions it was found; at `or` if that cannot be told.
pub(super) fn report_in(
    error: &SqlError,
    made: &[Made<'_>],
    or: std::ops::Range<usize>,
    report: &mut Report,
) {
    match made.iter().find(|made| made.sql == error.sql) {
        Some(made) => {
            // What was put before it stands on the first line.
            let offset = error.offset.map(|(line, column)| match line {
                1 => (1, column.saturating_sub(made.before as u64).max(1)),
                _ => (line, column),
            });
            self::report(&SqlError { offset, ..error.clone() }, &made.text.value, report);
        }
        None => finding(error, or, false, report),
    }
}

/// The name that the message is about, if it has one in back ticks; the planner does not always tell its place.
fn named(error: &SqlError) -> &str {
    let name = error.message.split('`').nth(1).unwrap_or_default();
    // `stream.column` is written in the text as it likes.
    name.rsplit('.').next().unwrap_or_default()
}

fn finding(error: &SqlError, at: std::ops::Range<usize>, exact: bool, report: &mut Report) {
    let finding = report.error(at, error.message.as_str());
    if !exact {
        finding.label("in this");
    }
    if let Some(hint) = &error.hint {
        finding.help(hint.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_what_was_built_is_shown_in_the_file() {
        let source = "where: \"lenght(word) > 3\"\n";
        let text = Text::new("lenght(word) > 3", source, 7..source.len() - 1);
        let built = Built::default().words("select * from ").name("w").words(" where ").expression(&text);
        assert_eq!(built.sql, "select * from \"w\" where (lenght(word) > 3\n)");
        let mut report = Report::new("f.yaml", source);
        let error =
            SqlError { message: "no".into(), sql: built.sql.clone(), offset: Some((1, 26)), hint: None };
        built.report(&error, &mut report);
        let shown = report.render(false);
        assert!(shown.contains("f.yaml:1:9") && shown.contains("^^^^^^"), "{shown}");
    }
}
