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
        this.explain_types();
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

    /// What DataFusion says of functions and types, in the words of SQL.
    fn explain_types(&mut self) {
        let said = std::mem::take(&mut self.message);
        let between = |before: &str, after: &str| {
            let (_, rest) = said.split_once(before)?;
            Some(in_sql(rest.split_once(after).map_or(rest, |(found, _)| found)))
        };
        if let Some(name) = between("Invalid function '", "'") {
            self.message = format!("there is no function `{name}`");
            let hint = self.hint.take().unwrap_or_default();
            let like = hint.split_once("Possible function '").and_then(|(_, rest)| rest.split_once('\''));
            self.hint = like.map(|(like, _)| format!("did you mean `{like}`?"));
        } else if let Some((left, right)) =
            between("Cannot infer common argument type for comparison operation ", "\n")
                .and_then(|types| types.split_once(" = ").map(|(a, b)| (a.to_owned(), b.to_owned())))
        {
            self.message = format!("{left} and {right} cannot be compared");
            self.hint = Some("make both of one type, by a `cast` in a stream before".to_owned());
        } else if let Some(of) = between("Cannot create filter with non-boolean predicate ", "\n") {
            let of = of.rsplit_once(" returning ").map_or(of.as_str(), |(_, of)| of).to_owned();
            self.message = format!("this is {of}, and no condition");
            self.hint = Some("a condition is true or false, such as `n > 1`".to_owned());
        } else if let Some(why) =
            between("user-defined coercion failed with: Error during planning: ", ". No function")
        {
            self.message = why;
        } else if let Some(function) = between("Function '", "' failed to match any signature") {
            let function = function.trim_end_matches("_cont");
            self.message = match between("(DataType: ", ").") {
                Some(of) => format!("`{function}` cannot take {of}"),
                None => format!("`{function}` cannot take these arguments"),
            };
            self.hint = Some("cast them to what it takes".to_owned());
        } else if let Some(name) = between("Field ", " not found in struct") {
            self.message = format!("`{name}` is no part of it");
        } else if said.starts_with("unnest() can only be applied to") {
            self.message = "this is no array, so it has no elements".to_owned();
            self.hint = Some("such as `string_to_array(value, ' ')`".to_owned());
        } else {
            self.message = in_sql(&said);
        }
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

/// `text` with SQL's names of types in place of Arrow's.
fn in_sql(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_uppercase()) {
        let (before, from) = rest.split_at(start);
        words.push_str(before);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let inside = || after.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        rest = after;
        match (word, inside()) {
            ("Utf8" | "LargeUtf8" | "Utf8View", _) => words.push_str("text"),
            ("Int64", _) => words.push_str("bigint"),
            ("Int32", _) => words.push_str("int"),
            ("Int16", _) => words.push_str("smallint"),
            ("Float64", _) => words.push_str("double"),
            ("Float32", _) => words.push_str("real"),
            ("Boolean", _) => words.push_str("boolean"),
            ("Binary" | "BinaryView", _) => words.push_str("bytea"),
            ("Date32", _) => words.push_str("date"),
            ("Timestamp", Some((_, after))) => {
                words.push_str("timestamp");
                rest = after;
            }
            ("List", Some((of, after))) => {
                words.push_str(&in_sql(of));
                words.push_str("[]");
                rest = after;
            }
            _ => words.push_str(word),
        }
    }
    words + rest
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
