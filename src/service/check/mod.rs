//! From the file as it is written to the pipeline as it will run: names are resolved, queries planned, and all that
//! can be known to be wrong without Kafka is reported at once.

mod cluster;
mod config;
mod expression;
mod joins;
mod keyed;
mod lookup;
mod names;
mod operators;
mod outputs;
mod show;
mod sources;
mod state;
mod streams;
mod tables;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use crate::commit::Delivery;
use crate::service::file::{self, At, Entry, File};
use crate::service::report::Report;
use crate::sql::{DEFAULT_MEMORY, SchemaRef};
use crate::time::Duration;

pub(crate) use config::*;
pub(crate) use operators::counted;
pub(crate) use show::{mermaid, text};

/// The shortest batch interval: below it, the work per batch outweighs the work on records.
const SHORTEST_INTERVAL: Duration = Duration::millis(10);

/// Checks the file whose text `report` holds. There is a pipeline if and only if the report has no errors.
pub(crate) fn check(report: &mut Report) -> Option<Config> {
    let file = file::read(report)?;
    let app_id = names::app_id(&file.app_id, report);
    let batch_interval = batch_interval(&file, report);
    let checkpoint = checkpoint(&file, report);
    let http = http(&file, report);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let worker_threads =
        At::get(&file.worker_threads).map_or_else(cores, |n| usize::try_from(n.get()).unwrap_or(usize::MAX));

    let no_sources: Vec<Entry<file::Source>> = Vec::new();
    let no_tables: Vec<Entry<file::Table>> = Vec::new();
    let written_tables = file.tables.as_ref().map_or(&no_tables, |tables| &tables.value.0);
    let no_streams: Vec<Entry<file::Stream>> = Vec::new();
    let written_sources = file.sources.as_ref().map_or(&no_sources, |sources| &sources.value.0);
    let written_streams = file.streams.as_ref().map_or(&no_streams, |streams| &streams.value.0);
    if file.sources.is_some() {
        names::not_empty("source", &file.sources, report);
    }
    let named = |entries: &mut dyn Iterator<Item = (&String, &Range<usize>)>, what| {
        entries.map(|(name, at)| (name.clone(), at.clone(), what)).collect::<Vec<_>>()
    };
    let mut given = named(&mut written_sources.iter().map(|e| (&e.name, &e.at)), "source");
    given.extend(named(&mut written_tables.iter().map(|e| (&e.name, &e.at)), "table"));
    given.extend(named(&mut written_streams.iter().map(|e| (&e.name, &e.at)), "stream"));
    for (n, (name, at, what)) in given.iter().enumerate() {
        if let Some((_, first, other)) = given[..n].iter().find(|(other, _, of)| other == name && of != what)
        {
            report
                .error(at.clone(), format!("`{name}` is the name of a {other} and of a {what}"))
                .also(first.clone(), format!("the {other}"));
        }
    }

    let sources: Vec<Source> =
        written_sources.iter().filter_map(|source| sources::check(source, report)).collect();
    if !report.has_errors() {
        sources::same_slicing(written_sources, report);
        sources::same_ends(written_sources, report);
    }
    let tables: Vec<Table> = written_tables.iter().filter_map(|table| lookup::check(table, report)).collect();
    let names = written_sources.iter().map(|source| source.name.as_str());
    let declared = streams::Declared::new(
        names.chain(written_streams.iter().map(|stream| stream.name.as_str())),
        written_tables.iter().map(|table| table.name.as_str()),
    );
    let size = |size: &Option<At<file::Bytes>>| {
        At::get(size).map(|size| usize::try_from(size.0).unwrap_or(usize::MAX))
    };
    let streams = streams::check(&sources, &tables, written_streams, &declared, batch_interval, report);

    let remove_state = state::removed(written_streams, &file.remove_state, report);

    let schema = |name: &str| -> Option<SchemaRef> {
        let of_source = sources.iter().find(|source| source.name == name).map(|source| &source.schema);
        let of_stream = streams.iter().find(|stream| stream.name == name).map(|stream| &stream.schema);
        of_stream.or(of_source).cloned()
    };
    let known = outputs::Known {
        declared: &declared,
        sources: &sources,
        streams: &streams,
        all_sources: sources.len() == written_sources.len(),
        schema: &schema,
    };
    let (outputs, output_cluster) = match &file.outputs {
        Some(outputs) => outputs::check(outputs, &known, report),
        None => (Vec::new(), None),
    };
    let batch_memory_limit = batch_memory_limit(&file.batch_memory_limit, report);
    let batch_log = batch_log(&file, &sources, output_cluster.as_ref(), report);
    if !report.has_errors()
        && let Some(stream) = written_streams.iter().find(|stream| schema(&stream.name).is_none())
    {
        // Whatever could not be resolved was reported, unless there is a fault in how that is found out.
        report
            .error(stream.at.clone(), format!("`{}` could not be resolved: please report this", stream.name));
    }
    if report.has_errors() {
        return None;
    }
    warn_of_unused(written_streams, &streams, &outputs, report);
    if let Some(written) = &file.backpressure
        && sources.iter().any(|s| s.kafka().is_some_and(|k| matches!(k.slicing, Slicing::Timestamp { .. })))
    {
        report
            .warning(written.key_at.clone(), "`backpressure` does nothing here")
            .label("under `slicing: timestamp` timestamps alone say what belongs to a batch");
    }
    Some(Config {
        app_id: app_id?,
        batch_interval: batch_interval?,
        delivery: match file.delivery?.value {
            file::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            file::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
        },
        checkpoint: checkpoint?,
        http,
        worker_threads,
        state_memory_limit: size(&file.state_memory_limit),
        batch_memory_limit: batch_memory_limit?,
        remove_state,
        backpressure: backpressure(At::as_ref(&file.backpressure)),
        sources,
        tables,
        streams,
        outputs,
        producer: producer(At::as_ref(&file.producer)),
        batch_log,
        output_cluster,
    })
}

/// Merging from disk needs some room, however little there is.
fn batch_memory_limit(written: &Option<At<file::Bytes>>, report: &mut Report) -> Option<usize> {
    const LEAST: usize = 4 << 20;
    let Some(written) = written else { return Some(DEFAULT_MEMORY) };
    let bytes = usize::try_from(written.value.0).unwrap_or(usize::MAX);
    if bytes < LEAST {
        report
            .error(written.at.clone(), "`batch_memory_limit` must be at least 4MiB")
            .help("what a batch has beyond it goes on on disk, and that much is needed to read it back");
        return None;
    }
    Some(bytes)
}

fn producer(written: Option<&file::Producer>) -> Producer {
    let Some(written) = written else { return Producer::default() };
    Producer {
        compression: At::get(&written.compression).map(|compression| match compression {
            file::Compression::None => Compression::None,
            file::Compression::Gzip => Compression::Gzip,
            file::Compression::Snappy => Compression::Snappy,
            file::Compression::Lz4 => Compression::Lz4,
            file::Compression::Zstd => Compression::Zstd,
        }),
        buffer_memory: At::get(&written.buffer_memory).map(|bytes| bytes.0.max(1 << 20)),
        transaction_timeout: At::get(&written.transaction_timeout),
    }
}

fn backpressure(written: Option<&file::Backpressure>) -> Backpressure {
    let on = Backpressure::new();
    let numbers = match written {
        None => return on,
        Some(file::Backpressure::Off) => return Backpressure::off(),
        Some(file::Backpressure::On(numbers)) => numbers,
    };
    let on = At::get(&numbers.initial_rate).map_or(on.clone(), |rate| on.initial_rate(rate.get()));
    let on = At::get(&numbers.proportional).map_or(on.clone(), |weight| on.proportional(weight.0));
    let on = At::get(&numbers.integral).map_or(on.clone(), |weight| on.integral(weight.0));
    let on = At::get(&numbers.derived).map_or(on.clone(), |weight| on.derived(weight.0));
    At::get(&numbers.min_rate).map_or(on.clone(), |rate| on.min_rate(rate.get() as f64))
}

fn batch_interval(file: &File, report: &mut Report) -> Option<Duration> {
    let interval = file.batch_interval.as_ref()?;
    if interval.value < SHORTEST_INTERVAL {
        report
            .error(interval.at.clone(), format!("a batch interval of {} is too short", interval.value))
            .label(format!("expected {SHORTEST_INTERVAL} or more"));
        return None;
    }
    Some(interval.value)
}

fn checkpoint(file: &File, report: &mut Report) -> Option<PathBuf> {
    let checkpoint = file.checkpoint.as_ref()?;
    if checkpoint.value.trim().is_empty() {
        report.error(checkpoint.at.clone(), "`checkpoint` is empty").label("expected the path of a folder");
        return None;
    }
    Some(PathBuf::from(&checkpoint.value))
}

/// The topic of the batch log. It is written in the transactions of the output cluster.
fn batch_log(
    file: &File,
    sources: &[Source],
    cluster: Option<&Cluster>,
    report: &mut Report,
) -> Option<String> {
    let topic = names::topic(&file.batch_log, report)?;
    let at = file.batch_log.as_ref().map(|topic| topic.at.clone())?;
    if let Some(source) = sources.iter().find(|source| source.reads(&topic)) {
        report.error(at, format!("the topic `{topic}` is read by the source `{}`", source.name));
        return None;
    }
    if cluster.is_none() && !report.has_errors() {
        report
            .error(at, "a `batch_log` needs an output or a dead-letter topic in Kafka")
            .help("it is written by the same producer; the checkpoint keeps a log of its own in any case");
        return None;
    }
    Some(topic)
}

fn http(file: &File, report: &mut Report) -> Option<SocketAddr> {
    let http = file.http.as_ref()?;
    let text = http.value.trim();
    if text.is_empty() || text == "off" {
        return None;
    }
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    };
    if address.is_none() {
        report
            .error(http.at.clone(), format!("`{text}` is not an address to listen on"))
            .label("expected `IP:PORT` or `off`")
            .help("`127.0.0.1:8080` is reached from this machine only, `0.0.0.0:8080` from every other");
    }
    address
}

/// Streams that no output reads are not run.
fn warn_of_unused(
    written: &[Entry<file::Stream>],
    streams: &[Stream],
    outputs: &[Output],
    report: &mut Report,
) {
    let mut used: Vec<&str> = outputs.iter().map(|output| output.from.as_str()).collect();
    for stream in streams.iter().rev() {
        if used.contains(&stream.name.as_str()) {
            used.extend(stream.inputs.iter().map(String::as_str));
        }
    }
    for stream in written.iter().filter(|stream| !used.contains(&stream.name.as_str())) {
        report.warning(stream.at.clone(), format!("no output needs the stream `{}`", stream.name));
    }
}
