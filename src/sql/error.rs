//! What is wrong with a query, and where in its text.

use std::fmt;

use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Column, DataFusionError, SchemaError};

use crate::error::Error;

/// Why a query could not be planned, with its place in the text, so that the caller can point into a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlError {
    /// What is wrong, in one line.
    pub(crate) message: String,
    /// The text that is wrong: the whole query, or the one expression of a grouping.
    pub(crate) sql: String,
    /// Line and column in `sql`, both counted from 1, columns in characters; `None` when the place is not known.
    pub(crate) offset: Option<(u64, u64)>,
    /// What would be right: the nearest name, the valid ones, another way to write it.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some((line, column)) = self.offset {
            write!(f, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

/// What SQL may read here: its names, and what they are called in messages.
#[derive(Debug, Clone)]
pub(super) struct Relations {
    /// `stream` in a pipeline file, `view` in a session.
    pub(super) noun: &'static str,
    pub(super) names: Vec<String>,
}

/// For a program, which has the text at hand only as part of the message.
impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        Error::config(format!("{error}{hint}")).within(naming(&error.sql))
    }
}

/// Which query an error is about: its text in one line, cut where it gets long.
pub(super) fn naming(sql: &str) -> String {
    const SHOWN: usize = 80;
    let text = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("sql `{}…`", &text[..end]),
        None => format!("sql `{text}`"),
    }
}

impl SqlError {
    /// An error about `sql` as a whole.
    pub(super) fn new(sql: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), sql: sql.to_owned(), offset: None, hint: None }
    }

    /// The same error with a hint.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, placed at the first occurrence of one of `words` in the text, in any case; unplaced if there is none.
    pub(super) fn at_word(mut self, words: &[&str]) -> Self {
        let lower = self.sql.to_ascii_lowercase();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let found = words.iter().flat_map(|word| lower.match_indices(word)).find(|(at, word)| {
            !lower[..*at].ends_with(is_word) && !lower[at + word.len()..].starts_with(is_word)
        });
        self.offset = found.map(|(at, _)| {
            let line_start = lower[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let line = lower[..at].matches('\n').count() + 1;
            (line as u64, lower[line_start..at].chars().count() as u64 + 1)
        });
        self
    }

    /// DataFusion's error about `sql`, in our words where we have better ones.
    pub(super) fn from_datafusion(sql: &str, error: &DataFusionError, readable: &Relations) -> Self {
        // Of several errors the first is the one to correct first.
        if let DataFusionError::Collection(errors) = error
            && let Some(first) = errors.first()
        {
            return Self::from_datafusion(sql, first, readable);
        }
        let root = error.find_root();
        let mut this = Self::new(sql, one_line(&root.message()));
        if let Some(diagnostic) = error.diagnostic() {
            this.offset = diagnostic.span.map(|span| (span.start.line, span.start.column));
            let more = diagnostic.notes.iter().map(|note| &note.message);
            let more: Vec<_> =
                more.chain(diagnostic.helps.iter().map(|help| &help.message)).cloned().collect();
            if !more.is_empty() {
                this.hint = Some(more.join("; "));
            }
            if let Some(name) =
                diagnostic.message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"))
            {
                let Relations { noun, names } = readable;
                this.message = format!("there is no {noun} `{name}`");
                this.hint = Some(match names.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                    Some(known) => in_quotes(known),
                    None => nearest(name, names, &format!("{noun}s")),
                });
            }
        }
        match root {
            DataFusionError::SchemaError(schema, _) => this.explain_schema(schema, readable.noun),
            DataFusionError::SQL(parser, _) => {
                let text = parser.to_string();
                let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
                let (text, place) = split_place(text);
                this.message = one_line(text);
                this.offset = this.offset.or(place);
            }
            _ => {}
        }
        // Line 0 is the parser's way to say that it does not know.
        this.offset = this.offset.filter(|(line, _)| *line > 0);
        this
    }

    fn explain_schema(&mut self, error: &SchemaError, noun: &str) {
        match error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                self.message = format!("there is no column `{}`", plain(field));
                let qualified = field.relation.is_some();
                let mut names: Vec<String> =
                    valid_fields.iter().map(|c| if qualified { plain(c) } else { c.name.clone() }).collect();
                names.dedup();
                let same = valid_fields.iter().find(|c| c.name.eq_ignore_ascii_case(&field.name));
                self.hint = Some(match same {
                    Some(c) if c.name != field.name => in_quotes(&c.name),
                    _ => nearest(&plain(field), &names, "columns"),
                });
            }
            SchemaError::AmbiguousReference { field } => {
                self.message =
                    format!("column `{}` is in more than one of the {noun}s that are read", field.name);
                self.hint = Some(format!("write which one is meant: {noun}.{}", field.name));
            }
            SchemaError::DuplicateQualifiedField { name, .. }
            | SchemaError::DuplicateUnqualifiedField { name } => {
                self.message = format!("two columns are called `{name}`");
                self.hint = Some("give one of them another name with `as`".to_owned());
            }
        }
    }
}

/// A column as one would write it.
fn plain(column: &Column) -> String {
    match &column.relation {
        Some(relation) => format!("{}.{}", relation.table(), column.name),
        None => column.name.clone(),
    }
}

/// A hint for a name that only its letters' case keeps from being found.
fn in_quotes(name: &str) -> String {
    format!("write \"{name}\" in double quotes: a name without them is read in lower case")
}

/// A hint with the name of `names` that is most like `wanted`, if one is, and all of them.
pub(super) fn nearest(wanted: &str, names: &[String], what: &str) -> String {
    if names.is_empty() {
        return format!("there are no {what} here");
    }
    let all = format!("the {what} are {}", names.join(", "));
    let best =
        names.iter().map(|name| (levenshtein(&wanted.to_lowercase(), &name.to_lowercase()), name)).min();
    match best {
        // Half of the letters wrong may still be a slip (two that changed places count as two); more is another word.
        Some((distance, name)) if distance * 2 <= wanted.chars().count().max(4) => {
            format!("did you mean `{name}`? {all}")
        }
        _ => all,
    }
}

/// `… at Line: 1, Column: 8` as the text before it and the place.
fn split_place(text: &str) -> (&str, Option<(u64, u64)>) {
    let place = || {
        let (text, place) = text.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((text, (line.trim().parse().ok()?, column.trim().parse().ok()?)))
    };
    place().map_or((text, None), |(text, place)| (text, Some(place)))
}

/// The first line of a message: what DataFusion adds below it goes into hints of our own.
fn one_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.trim_end_matches('.').to_owned()
}
