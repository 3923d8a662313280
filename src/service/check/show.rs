//! The checked pipeline as `tidemill check` prints it: text for people, mermaid for documents.

use std::fmt::Write;

use super::config::{Config, Delivery, Input, KafkaTopic, Sink, Step};
use crate::sql::{SchemaRef, type_name};

/// What each source and stream gives and how often, and the way of a record through them.
pub(crate) fn text(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}: batches of {}, {}", config.app_id, config.batch_interval, promise(config));
    let names =
        config.sources.iter().map(|source| &source.name).chain(config.streams.iter().map(|s| &s.name));
    let names = names.chain(config.tables.iter().map(|table| &table.name));
    let wide = names.map(|name| name.len()).max().unwrap_or(0);

    let _ = writeln!(text, "\nsources");
    for source in &config.sources {
        let _ = writeln!(
            text,
            "  {:wide$}  every {}  ({})",
            source.name,
            config.batch_interval,
            columns(&source.schema)
        );
    }
    if !config.tables.is_empty() {
        let _ = writeln!(text, "\ntables");
    }
    for table in &config.tables {
        let _ = writeln!(text, "  {:wide$}  {}  ({})", table.name, table.path, columns(&table.schema));
    }
    if !config.streams.is_empty() {
        let _ = writeln!(text, "\nstreams");
    }
    for stream in &config.streams {
        let _ =
            writeln!(text, "  {:wide$}  every {}  ({})", stream.name, stream.slide, columns(&stream.schema));
    }

    let _ = writeln!(text, "\ngraph");
    for source in &config.sources {
        let _ = writeln!(text, "  {:wide$}  <- {}", source.name, input(&source.input));
    }
    for stream in &config.streams {
        let inputs = stream.inputs.join(", ");
        let _ = writeln!(
            text,
            "  {:wide$}  <- {inputs}  {}{}",
            stream.name,
            stream.operator,
            details(&stream.step)
        );
    }
    for output in &config.outputs {
        let _ = writeln!(text, "  {:wide$}  -> {}", output.from, sink(&output.sink, ", "));
    }
    text
}

/// The graph as mermaid draws it.
pub(crate) fn mermaid(config: &Config) -> String {
    let mut text = String::from("flowchart LR\n");
    for (n, source) in config.sources.iter().enumerate() {
        let from = match &source.input {
            // A document need not know where the brokers are.
            Input::Kafka(kafka) => format!("topic {}", kafka.topics.name()),
            other => input(other),
        };
        let _ = writeln!(
            text,
            "  in{n}([\"{}\"]) --> {}[\"{}\"]",
            escaped(&from),
            node(&source.name),
            source.name
        );
    }
    for table in &config.tables {
        let _ = writeln!(text, "  {}[/\"{}<br/>{}\"/]", node(&table.name), table.name, escaped(&table.path));
    }
    for stream in &config.streams {
        let shown = format!("{}<br/>{}{}", stream.name, stream.operator, details(&stream.step));
        // A step that keeps state is drawn as a store.
        let (open, close) = if stream.step.uid().is_some() { ("[(", ")]") } else { ("[", "]") };
        let _ = writeln!(text, "  {}{open}\"{shown}\"{close}", node(&stream.name));
        for input in &stream.inputs {
            let _ = writeln!(text, "  {} --> {}", node(input), node(&stream.name));
        }
    }
    for (n, output) in config.outputs.iter().enumerate() {
        let shown = escaped(&sink(&output.sink, "<br/>"));
        let _ = writeln!(text, "  {} --> out{n}([\"{shown}\"])", node(&output.from));
    }
    text
}

/// Mermaid takes some words (`end`) for its own, so none of our names stands alone.
fn node(name: &str) -> String {
    format!("s_{name}")
}

fn escaped(text: &str) -> String {
    text.replace('"', "#quot;")
}

fn columns(schema: &SchemaRef) -> String {
    let columns =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), type_name(field.data_type())));
    columns.collect::<Vec<_>>().join(", ")
}

fn promise(config: &Config) -> &'static str {
    match config.delivery {
        Delivery::AtLeastOnce => "at least once",
        Delivery::ExactlyOnce => "exactly once",
    }
}

fn input(input: &Input) -> String {
    match input {
        Input::Kafka(kafka) => format!("topic {} at {}", kafka.topics.name(), kafka.cluster.brokers),
        Input::Socket { host, port } => format!("lines from {host}:{port}"),
        Input::Files { folder, .. } => format!("lines of the files in {folder}"),
    }
}

fn details(step: &Step) -> String {
    match step {
        Step::ReduceByKeyAndWindow { window, inverse: true, .. } => format!(" of {window}, with inverse"),
        Step::ReduceByKeyAndWindow { window, .. }
        | Step::CountByWindow { window, .. }
        | Step::Window { window, .. } => format!(" of {window}"),
        Step::MapWithState { timeout: Some(timeout), .. } => format!(", timeout {timeout}"),
        Step::Repartition(partitions) => format!(" into {partitions}"),
        _ => String::new(),
    }
}

fn sink(sink: &Sink, separator: &str) -> String {
    match sink {
        Sink::Kafka(KafkaTopic { topic, key: Some(key), .. }) => {
            format!("topic {topic}{separator}key {key}")
        }
        Sink::Kafka(KafkaTopic { topic, key: None, .. }) => format!("topic {topic}"),
        Sink::Files { path, format } => format!("files {}-BATCH_TIME.{}", path.display(), format.extension()),
        Sink::Table { name, remember: Some(remember), .. } => format!("table {name}{separator}of {remember}"),
        Sink::Table { name, .. } => format!("table {name}"),
        Sink::Console { rows } => format!("console{separator}{rows} rows"),
    }
}
