//! The file of test cases beside a pipeline, as it is written.

use super::read::{At, Named, Read, expected, mapping};
use super::schema::Definitions;
use super::yaml::{Node, Value};
use crate::service::report::Report;
use crate::time::Duration;

mapping! {
    /// Test cases of a pipeline.
    Cases {
        /// The pipeline file, relative to this one; the one of the same name unless set (`a.yaml` for `a.test.yaml`).
        optional pipeline: String,
        /// The cases, each of which starts anew.
        required cases: Vec<At<Case>>,
    }
}

mapping! {
    /// Batches in, batches out.
    Case {
        /// What it shows.
        required name: String,
        /// The clock at the start; 1970-01-01T00:00:00Z unless set.
        optional start: String,
        /// Whether rows must come in the order that is given; any order will do unless set.
        optional ordered: bool,
        /// One batch after the other.
        required batches: Vec<At<Batch>>,
    }
}

mapping! {
    /// One batch: what comes in, and what must come out.
    Batch {
        /// By how much the clock moves on; one batch interval unless set. The batches before the last one are empty, and what
        /// comes out of them is not looked at.
        optional after: Duration,
        /// The values of the records, by source: texts for `format: text`, mappings for `format: json` (or a text, as it comes).
        optional r#in: Named<Vec<At<Json>>>,
        /// The rows that must come out, by stream; streams that are not named are not looked at.
        optional out: Named<Vec<At<Json>>>,
    }
}

/// A value as JSON has it.
#[derive(Debug, Clone)]
pub(crate) struct Json(pub(crate) serde_json::Value);

impl Read for Json {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        Some(Self(match &node.value {
            Value::Nothing => serde_json::Value::Null,
            Value::List(items) => {
                let items = items.iter().map(|item| Some(Self::read(item, report)?.0));
                serde_json::Value::Array(items.collect::<Option<_>>()?)
            }
            Value::Mapping(entries) => {
                let entry = |(key, node): &(super::yaml::Key, Node)| {
                    Some((key.text.clone(), Self::read(node, report)?.0))
                };
                serde_json::Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
            }
            Value::Scalar(scalar) => {
                let text = scalar.text.value();
                // What is no number, `true` or `false` for JSON either is text.
                match serde_json::from_str(text) {
                    Ok(value) if !scalar.quoted => value,
                    _ if text.is_empty() && !scalar.quoted => return expected("a value", node, report),
                    _ => serde_json::Value::String(text.to_owned()),
                }
            }
        }))
    }

    fn schema(_: &mut Definitions) -> serde_json::Value {
        serde_json::json!({})
    }
}
