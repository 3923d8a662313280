//! `${NAME}`, `${NAME:-default}` and `${file:PATH}` in a file's scalars. They are put in after the YAML has been read, so no value
//! can break it, and `$$` is a dollar.

use super::yaml::{Node, Value};
use crate::service::report::Report;

/// Puts the environment's values into every scalar of the tree.
pub(crate) fn substitute(node: &mut Node, report: &mut Report, get: &dyn Fn(&str) -> Option<String>) {
    match &mut node.value {
        Value::Nothing => {}
        Value::List(items) => items.iter_mut().for_each(|item| substitute(item, report, get)),
        Value::Mapping(entries) => entries.iter_mut().for_each(|(_, node)| substitute(node, report, get)),
        Value::Scalar(scalar) => {
            if scalar.text.value().contains('$') && scalar_in(&mut scalar.text, report, get) {
                // What comes from the environment has no quotes of its own: `"${THREADS:-2}"` is a number.
                scalar.quoted = false;
            }
        }
    }
}

/// Whether anything was put in.
fn scalar_in(
    text: &mut super::origin::Text,
    report: &mut Report,
    get: &dyn Fn(&str) -> Option<String>,
) -> bool {
    let mut from = 0;
    let mut changed = false;
    while let Some(dollar) = text.value()[from..].find('$').map(|n| from + n) {
        let rest = &text.value()[dollar + 1..];
        if rest.starts_with('$') {
            text.replace(dollar..dollar + 2, "$");
            from = dollar + 1;
            continue;
        }
        let Some(inner) = rest.strip_prefix('{') else {
            // A dollar alone is a dollar: regular expressions are full of them.
            from = dollar + 1;
            continue;
        };
        let Some(len) = inner.find('}') else {
            let at = text.place(dollar..dollar + 2);
            report.error(at, "this `${` has no `}`").help("a literal `${` is written `$${`");
            return changed;
        };
        if let Some(path) = inner[..len].strip_prefix("file:") {
            let part = dollar..dollar + 2 + len + 1;
            match std::fs::read_to_string(path) {
                Ok(content) => {
                    // An editor ends the last line.
                    let content = content.strip_suffix('\n').unwrap_or(&content);
                    let content = content.strip_suffix('\r').unwrap_or(content);
                    from = dollar + content.len();
                    text.replace(part, content);
                    changed = true;
                }
                Err(error) => {
                    let at = text.place(part.clone());
                    report.error(at, format!("the file `{path}` cannot be read: {error}"));
                    from = part.end;
                }
            }
            continue;
        }
        let (name, default) = match inner[..len].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..len], None),
        };
        let part = dollar..dollar + 2 + len + 1;
        let fine = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // As in a shell, `:-` stands in for an empty value too.
        let found = get(name).filter(|value| default.is_none() || !value.is_empty());
        let value = match found.or(default.map(str::to_owned)) {
            Some(value) if fine => value,
            _ => {
                let at = text.place(part.clone());
                if fine {
                    report
                        .error(at, format!("the environment variable `{name}` is not set"))
                        .help(format!("set it, or give a default: `${{{name}:-...}}`"));
                } else {
                    report
                        .error(at, format!("`{name}` is not an environment variable's name"))
                        .help("letters, digits and `_`; a literal `${` is written `$${`");
                }
                from = part.end;
                continue;
            }
        };
        from = dollar + value.len();
        text.replace(part, &value);
        changed = true;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::file::origin::Text;

    fn put_in(source: &str) -> (String, String) {
        let mut report = Report::new("t.yaml", source);
        let mut text = Text::new(source, source, 0..source.len());
        scalar_in(&mut text, &mut report, &|name| match name {
            "A" => Some("1${B}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        });
        (text.value().to_owned(), report.render(false))
    }

    #[test]
    fn values_defaults_and_dollars() {
        for (source, expected) in [
            ("${A}/x", "1${B}/x"),
            ("${NONE:-d:-e}", "d:-e"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("a$$b $${A} ^c$ $d", "a$b ${A} ^c$ $d"),
        ] {
            assert_eq!(put_in(source), (expected.to_owned(), String::new()), "{source}");
        }
    }

    #[test]
    fn files_are_put_in_without_their_last_line_break() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), "sec${A}ret\n").expect("a temporary file can be written");
        let path = file.path().display();
        assert_eq!(put_in(&format!("<${{file:{path}}}>")), ("<sec${A}ret>".to_owned(), String::new()));
        let (_, shown) = put_in("${file:/no/such/file}");
        assert!(shown.contains("the file `/no/such/file` cannot be read"), "{shown}");
    }

    #[test]
    fn what_is_not_set_is_an_error_and_all_are_found() {
        let (_, shown) = put_in("${NONE} ${OTHER} ${a b} ${");
        for part in ["`NONE` is not set", "`OTHER` is not set", "`a b` is not an env", "has no `}`"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
