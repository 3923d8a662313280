//! What is wrong with a pipeline file, shown as a compiler shows it: all findings at once, each with its
//! place, the line itself, what was expected, and the nearest name.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Everything found in one file.
#[derive(Debug)]
pub(crate) struct Report {
    path: String,
    source: String,
    findings: Vec<Finding>,
    secrets: Vec<Range<usize>>,
}

/// One thing found: what, where, and what would help.
#[derive(Debug)]
pub(crate) struct Finding {
    fatal: bool,
    message: String,
    at: Range<usize>,
    label: Option<String>,
    also: Vec<(Range<usize>, String)>,
    help: Vec<String>,
}

impl Report {
    pub(crate) fn new(path: impl Into<String>, source: impl Into<String>) -> Self {
        Self { path: path.into(), source: source.into(), findings: Vec::new(), secrets: Vec::new() }
    }

    /// The file's path, as it was given.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where `at` is, as `file:line`.
    pub(crate) fn place(&self, at: &Range<usize>) -> String {
        let line = 1 + self.source.get(..at.start).map_or(0, |before| before.matches('\n').count());
        format!("{}:{line}", self.path)
    }

    /// The file's text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// An error at the bytes `at`; the pipeline will not run.
    pub(crate) fn error(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.add(true, at, message.into())
    }

    /// Something that is most likely not meant; the pipeline runs all the same.
    pub(crate) fn warning(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.add(false, at, message.into())
    }

    fn add(&mut self, fatal: bool, at: Range<usize>, message: String) -> &mut Finding {
        let finding = Finding { fatal, message, at, label: None, also: Vec::new(), help: Vec::new() };
        self.findings.push(finding);
        self.findings.last_mut().expect("one was pushed the line above")
    }

    /// One more line of help for the finding reported last.
    pub(crate) fn help_last(&mut self, help: impl Into<String>) {
        if let Some(finding) = self.findings.last_mut() {
            finding.help(help);
        }
    }

    /// Shows stars in place of the bytes `at` in whatever line of the file is printed.
    pub(crate) fn hide(&mut self, at: Range<usize>) {
        self.secrets.push(at);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.fatal)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The findings in the file's order, and a last line that counts the errors.
    pub(crate) fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let source = self.shown_source();
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| (finding.at.start, finding.at.end));

        let mut text = String::new();
        for finding in findings {
            text += &renderer.render(&[finding.group(&self.path, &source)]);
            text += "\n\n";
        }
        match self.findings.iter().filter(|finding| finding.fatal).count() {
            0 => {}
            1 => text += &format!("{}: 1 error\n", self.path),
            n => text += &format!("{}: {n} errors\n", self.path),
        }
        text
    }

    /// The file with its secrets starred out, byte for byte as long as it was.
    fn shown_source(&self) -> String {
        let mut shown = self.source.clone().into_bytes();
        for at in &self.secrets {
            for byte in shown.get_mut(at.clone()).unwrap_or_default() {
                if *byte != b'\n' {
                    *byte = b'*';
                }
            }
        }
        // Whole characters were starred, since a scalar's place ends on their borders.
        String::from_utf8(shown).unwrap_or_default()
    }
}

impl Finding {
    /// What stands beside the caret.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// A second place that matters, with what it is.
    pub(crate) fn also(&mut self, at: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.also.push((at, label.into()));
        self
    }

    /// What to do about it.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help.push(help.into());
        self
    }

    /// `did you mean ...?`, when a name is near enough.
    pub(crate) fn nearest<'a>(&mut self, name: &str, names: impl IntoIterator<Item = &'a str>) -> &mut Self {
        match nearest(name, names) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    fn group<'a>(&'a self, path: &'a str, source: &'a str) -> Group<'a> {
        let (level, name) = if self.fatal { (Level::ERROR, "error") } else { (Level::WARNING, "warning") };
        let primary = AnnotationKind::Primary.span(one_line(source, &self.at)).label(self.label.as_deref());
        let also = self
            .also
            .iter()
            .map(|(at, label)| AnnotationKind::Context.span(one_line(source, at)).label(label.as_str()));
        let snippet = Snippet::source(source).path(path).annotation(primary).annotations(also);
        level
            .with_name(name)
            .primary_title(self.message.as_str())
            .element(snippet)
            .elements(self.help.iter().map(|help| Level::HELP.message(help.as_str())))
    }
}

/// The part of `at` on its first line that has any, on character borders and not empty if it can be helped.
fn one_line(source: &str, at: &Range<usize>) -> Range<usize> {
    let mut start = at.start.min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    let line_end = source[start..].find('\n').map_or(source.len(), |n| start + n);
    let mut end = at.end.clamp(start, line_end);
    while !source.is_char_boundary(end) {
        end += 1;
    }
    let shown = source[start..end].trim_end().len();
    start..start + shown
}

/// The name among `names` that `name` was most likely meant to be.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = (name.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= far || (name.len() >= 3 && other.starts_with(name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// `a`, `b` and `c`, each in back ticks.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_takes_slips_and_leaves_strangers() {
        let names = ["reduce_by_key", "reduce_by_key_and_window", "map", "filter"];
        assert_eq!(nearest("reduce_by_keys", names), Some("reduce_by_key"));
        assert_eq!(nearest("mpa", names), Some("map"));
        assert_eq!(nearest("Filter", names), Some("filter"));
        assert_eq!(nearest("join", names), None);
    }

    #[test]
    fn secrets_are_starred_in_every_line_shown() {
        let source = "options: { a: hünter2, b: c }\n";
        let mut report = Report::new("f.yaml", source);
        let secret = source.find("hün").expect("it is there");
        report.hide(secret..secret + "hünter2".len());
        report.error(0..7, "no");
        let shown = report.render(false);
        assert!(!shown.contains("nter2") && shown.contains("a: ********, b: c"), "{shown}");
    }
}
