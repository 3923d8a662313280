//! From the checked pipeline to a running `StreamingContext`.

mod bounded;
mod decode;
mod outputs;
mod progress;
mod states;
mod streams;
#[cfg(test)]
mod tests;
mod traced;

use std::sync::Arc;

use prometheus::Registry;

use self::bounded::Shown;
pub(crate) use self::bounded::beside_the_bar;
use self::progress::Progress;
pub(crate) use self::streams::Streams;
pub(crate) use self::traced::weight;
use super::RunOptions;
use super::check::Config;
use super::http;
use super::query::{self, LiveTables, Publish, Questions};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::rdd::Runner;
use crate::sink::kafka::KafkaSinkSettings;
use crate::sql::Memory;
use crate::state::Wanted;
use crate::time::Duration;
use crate::{StreamingContext, StreamingContextBuilder};

/// How often a running pipeline looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::millis(100);
/// Input topics are waited for as long as their source says; the output's cluster as long as the most patient of them.
const DEFAULT_WAIT: Duration = Duration::seconds(30);

/// Runs the pipeline until it is told to stop: the running batch is finished then, and committed.
pub(crate) fn run(config: &Config, options: &RunOptions) -> Result<()> {
    let mut builder = StreamingContext::builder(&*config.app_id);
    if let Some(side) = options.offsets {
        builder = builder.offsets(side);
    }
    let tables = Arc::<LiveTables>::default();
    let ssc = build(config, builder, &tables, |_| Ok(()))?;
    let questions = {
        let (db, clock) = (ssc.inner.db.clone(), ssc.inner.clock.clone());
        let memory = Memory::new(query::MEMORY, ssc.inner.runner.disk());
        Questions::new(Some(config), Some(tables), db, clock, memory)
    };
    ssc.add_streaming_listener(Arc::new(Progress::new(&ssc)));
    let registry = Registry::new();
    register_process_metrics(&registry)?;
    Metrics::register(&registry, &ssc)?;
    let _http = match config.http {
        Some(address) => Some(http::listen(&ssc, address, registry, Arc::new(questions))?),
        None => None,
    };
    let _shown = Shown::of(&ssc);
    let started = start(&ssc, options)?;
    while started && !ssc.await_termination_or_timeout(LOOK_EVERY)? {
        if options.stop.is_requested() {
            let patience = Runner::STOP_PATIENCE;
            tracing::info!("stopping after the running batch; in {patience:?} without a broker that is away");
            ssc.stop(false)?;
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// The context with all sources, streams and outputs of the pipeline.
/// `more` may add outputs.
pub(crate) fn build(
    config: &Config,
    builder: StreamingContextBuilder,
    tables: &Arc<LiveTables>,
    more: impl FnOnce(&Streams<'_>) -> Result<()>,
) -> Result<StreamingContext> {
    let builder = config.remove_state.iter().fold(builder, |builder, uid| builder.remove_state(uid));
    let limit = config.state_memory_limit;
    let builder = limit.into_iter().fold(builder, |builder, bytes| builder.state_memory_limit(bytes));
    let builder = builder.delivery(config.delivery).checkpoint(&config.checkpoint);
    let builder = builder.backpressure(config.backpressure.clone());
    let ssc = builder.batch_interval(config.batch_interval).worker_threads(config.worker_threads).build()?;
    connect(&ssc, config, tables, more)?;
    Ok(ssc)
}

/// What the pipeline wants to find in its checkpoint, which has so many state partitions if there is one: its operators with state, and
/// the names of its inputs. Nothing is opened or reached.
pub(crate) fn wanted(config: &Config, state_partitions: Option<usize>) -> Result<(Vec<Wanted>, Vec<String>)> {
    let builder = StreamingContext::builder(&*config.app_id);
    let builder = state_partitions.into_iter().fold(builder, |builder, n| builder.state_partitions(n));
    let ssc = builder.batch_interval(config.batch_interval).worker_threads(1).build()?;
    connect(&ssc, config, &Arc::default(), |_| Ok(()))?;
    let graph = &ssc.inner.graph;
    graph.freeze();
    Ok((graph.wanted(), graph.inputs().iter().map(|input| input.uid().to_owned()).collect()))
}

fn unknown(name: &str) -> Error {
    Error::internal(format!("stream `{name}` was checked but has no columns"))
}

fn connect(
    ssc: &StreamingContext,
    config: &Config,
    tables: &Arc<LiveTables>,
    more: impl FnOnce(&Streams<'_>) -> Result<()>,
) -> Result<()> {
    ssc.inner.listeners.add_own(Arc::new(Publish(tables.clone())));
    let sink = config.output_cluster.as_ref().map(|cluster| {
        let wait = config.sources.iter().filter_map(|s| Some(s.kafka()?.wait)).max().unwrap_or(DEFAULT_WAIT);
        let mut settings = KafkaSinkSettings::new(&*cluster.brokers).wait(wait);
        let producer = &config.producer;
        if let Some(compression) = producer.compression {
            settings = settings.compression(compression);
        }
        if let Some(bytes) = producer.buffer_memory {
            settings = settings.buffer_memory(bytes);
        }
        if let Some(timeout) = producer.transaction_timeout {
            settings = settings.transaction_timeout(timeout);
        }
        let options = cluster.options.0.iter();
        ssc.kafka_sink(options.fold(settings, |settings, (name, value)| settings.option(name, value)))
    });
    if let (Some(sink), Some(topic)) = (&sink, &config.batch_log) {
        sink.log_batches(topic);
    }
    let mut streams = Streams::new(ssc, &config.tables, config.batch_memory_limit);
    for source in &config.sources {
        streams.add_source(source)?;
    }
    for stream in &config.streams {
        streams.add(stream)?;
    }
    for output in &config.outputs {
        let schema = config.schema(&output.from).ok_or_else(|| unknown(&output.from))?;
        outputs::add(&streams, output, schema, sink.as_ref(), tables)?;
    }
    more(&streams)
}

/// Starts the context, and tells whether it runs: a stop that is asked for while it waits for Kafka ends the waiting.
fn start(ssc: &StreamingContext, options: &RunOptions) -> Result<bool> {
    let starting = ssc.clone();
    let thread = std::thread::spawn(move || starting.start());
    while !thread.is_finished() {
        // Once it runs, a stop waits for the running batch.
        if options.stop.wait(LOOK_EVERY.to_std()) && !thread.is_finished() {
            ssc.cancel();
            break;
        }
    }
    match thread.join() {
        Ok(Err(_)) if options.stop.is_requested() => Ok(false),
        Ok(outcome) => outcome.map(|()| true),
        Err(_) => Err(Error::internal("starting the context panicked")),
    }
}

fn register_process_metrics(registry: &Registry) -> Result<()> {
    registry
        .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
        .map_err(|e| Error::internal("cannot register the process metrics").with_source(e))
}
