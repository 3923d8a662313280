//! Readers of scalars: text, numbers, durations, sizes, and a choice between words.

use std::num::NonZeroU64;

use super::origin::Text;
use super::read::{Read, expected};
use super::schema::{self, Definitions};
use super::yaml::{Node, Scalar, Value};
use crate::service::report::{Report, list, nearest};
use crate::time::Duration;

/// Any scalar is text, a number's digits too.
impl Read for Text {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            _ => expected("text", node, report),
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        schema::text()
    }
}

/// Text whose inside nobody needs to point at.
impl Read for String {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        Text::read(node, report).map(|text| text.value().to_owned())
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        schema::text()
    }
}

/// `true` or `false`.
impl Read for bool {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Scalar(Scalar { text, quoted: false }) if text.value() == "true" => Some(true),
            Value::Scalar(Scalar { text, quoted: false }) if text.value() == "false" => Some(false),
            _ => expected("`true` or `false`", node, report),
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "type": "boolean" })
    }
}

/// A whole number above zero: no count, rate or cap of a pipeline may be zero.
impl Read for NonZeroU64 {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        const WHAT: &str = "a whole number above 0";
        let number = match &node.value {
            Value::Scalar(Scalar { text, quoted: false }) => text.value().replace('_', "").parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => Some(number),
            None => expected(WHAT, node, report),
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        schema::count()
    }
}

/// A length of time with its unit, above zero: `250ms`, `10s`, `5m`, `24h`, `10d`.
impl Read for Duration {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        const WHAT: &str = "a duration, such as `250ms`, `10s`, `5m`, `24h` or `10d`";
        let Value::Scalar(scalar) = &node.value else {
            return expected(WHAT, node, report);
        };
        let text = scalar.text.value();
        let at = node.at.clone();
        let Ok(parsed) = humantime::parse_duration(text) else {
            expected::<()>(WHAT, node, report);
            if text.chars().all(|c| c.is_ascii_digit()) {
                report.help_last(format!("a number alone has no unit: write `{text}s` for seconds"));
            }
            return None;
        };
        let duration = Duration::from(parsed);
        // What is below a millisecond would be cut off in silence.
        if duration == Duration::ZERO || duration.to_std() != parsed {
            report
                .error(at, format!("{} must be whole milliseconds, and not zero", node.name))
                .label("expected `1ms` or more");
            return None;
        }
        Some(duration)
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        schema::pattern(
            "^[0-9]+ *[a-zA-Z]+( *[0-9]+ *[a-zA-Z]+)*$",
            "such as `250ms`, `10s`, `5m`, `24h` or `10d`",
        )
    }
}

/// An amount of bytes with its unit, above zero: `64KiB`, `1GiB`, `500MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl Read for Bytes {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        const WHAT: &str = "a size, such as `64KiB`, `256MiB` or `1GiB`";
        let Value::Scalar(scalar) = &node.value else {
            return expected(WHAT, node, report);
        };
        let text = scalar.text.value().trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: Option<u64> = match unit.trim() {
            "B" => Some(1),
            "kB" | "KB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let number: Option<u64> = number.replace('_', "").parse().ok();
        match number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor)) {
            Some(bytes) if bytes > 0 => Some(Self(bytes)),
            _ => {
                expected::<()>(WHAT, node, report);
                if unit.is_empty() && number.is_some() {
                    report.help_last(format!("a number alone has no unit: write `{text}B` for bytes"));
                }
                None
            }
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        schema::pattern("^[0-9_]+ *([KMG]iB|[kKMG]B|B)$", "such as `64MiB`")
    }
}

/// A number that is not negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight(pub(crate) f64);

impl Read for Weight {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let number = match &node.value {
            Value::Scalar(Scalar { text, quoted: false }) => text.value().parse().ok(),
            _ => None,
        };
        match number.filter(|number: &f64| number.is_finite() && *number >= 0.0) {
            Some(number) => Some(Self(number)),
            None => expected("0 or a number above it, such as `0.2`", node, report),
        }
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        serde_json::json!({ "type": "number", "minimum": 0 })
    }
}

/// The word at the node, if it is one of `words`.
pub(super) fn word(node: &Node, words: &[&'static str], report: &mut Report) -> Option<&'static str> {
    let found = match &node.value {
        Value::Scalar(scalar) => scalar.text.value(),
        _ => return expected(&format!("one of {}", list(words.iter().copied())), node, report),
    };
    if let Some(word) = words.iter().find(|word| **word == found) {
        return Some(word);
    }
    let what = match words {
        [only] => format!("`{only}`"),
        _ => format!("one of {}", list(words.iter().copied())),
    };
    expected::<()>(&what, node, report);
    if let Some(near) = nearest(found, words.iter().copied()) {
        report.help_last(format!("did you mean `{near}`?"));
    }
    None
}
