//! A line as JSON: one object, with the fields of the event and those of the spans around it side by side, so that whoever looks
//! for a batch or an operator finds all of its lines by one name.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Needs fields that are formatted as JSON.
pub(super) struct Json;

/// The fields of a line in their order. Of two that have the same name the first counts.
struct Line(Vec<(String, Value)>);

impl Line {
    fn new(level: &Level) -> Result<Self, fmt::Error> {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        Ok(Self(vec![("timestamp".to_owned(), time.into()), ("level".to_owned(), level.as_str().into())]))
    }

    fn add(&mut self, name: &str, value: Value) {
        if self.0.iter().all(|(known, _)| known != name) {
            self.0.push((name.to_owned(), value));
        }
    }

    /// Adds the fields of a JSON object.
    fn add_all(&mut self, fields: &str) {
        let mut fields: Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
        // Where in which library: the target tells enough, and a path is of whoever built it.
        fields.retain(|name, _| !name.starts_with("log."));
        let (message, others): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == "message");
        message.into_iter().chain(others).for_each(|(name, value)| self.add(&name, value));
    }

    fn write(self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_char('{')?;
        for (n, (name, value)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(writer, "{comma}{}:{value}", Value::from(name.as_str()))?;
        }
        writer.write_str("}\n")
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // What libraries log in another way bears its target in fields.
        let normal = event.normalized_metadata();
        let metadata = normal.as_ref().unwrap_or_else(|| event.metadata());
        let mut line = Line::new(metadata.level())?;
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        line.add_all(&fields);
        // The innermost span comes first.
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.add_all(fields);
            }
        }
        line.add("target", metadata.target().into());
        line.write(&mut writer)
    }
}

/// The line that tells how many like the next one there would have been.
pub(super) fn left_out(lines: u64, target: &str, writer: &mut Writer<'_>) -> fmt::Result {
    let mut line = Line::new(&Level::WARN)?;
    line.add("message", "lines like the next one were left out".into());
    line.add("more", lines.into());
    line.add("target", target.into());
    line.write(writer)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::JsonFields;

    use super::Json;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn fields_of_spans_stand_beside_those_of_the_event() {
        let written = Written::default();
        let logs = tracing_subscriber::fmt().with_writer(written.clone());
        let logs = logs.fmt_fields(JsonFields::new()).event_format(Json).finish();
        tracing::subscriber::with_default(logs, || {
            let _batch = tracing::info_span!("batch", batch_time = 2_000).entered();
            let _operator = tracing::info_span!("operator", operator = "totals", id = 1).entered();
            tracing::warn!(target: "here", id = 7, "a \"quoted\"\nline");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let mut line: Value = serde_json::from_str(&text).unwrap();
        let time = line["timestamp"].take();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        let expected = json!({
            "timestamp": null, "level": "WARN", "message": "a \"quoted\"\nline", "id": 7, "operator": "totals",
            "batch_time": 2_000, "target": "here",
        });
        assert_eq!(line, expected);
    }
}
