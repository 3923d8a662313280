//! `tidemill demo`: the shipped trending pipeline over a broker inside the process, with a table that refreshes.

mod table;
mod tweets;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rdkafka::mocking::MockCluster;

use self::table::Table;
use super::args::DemoArgs;
use super::check::{self, Config};
use super::pipeline;
use super::report::Report;
use super::signals::StopRequested;
use crate::batch::{BatchInfo, StreamingListener};
use crate::error::{Error, Result};
use crate::time::Duration;
use crate::{HttpServer, HttpSettings, StreamingContext};

const PIPELINE: &str = include_str!("../../../config/trending.yaml");
const PARTITIONS: i32 = 4;
/// The window stays this many batches long, whatever the interval.
const WINDOW_BATCHES: i64 = 600;

/// Runs the demo until it is told to stop, or for as many batches as were asked for.
pub(crate) fn demo(args: &DemoArgs, stop: &StopRequested) -> Result<()> {
    let cluster = MockCluster::new(1)
        .map_err(|e| Error::internal("cannot start the embedded broker").with_source(e))?;
    for topic in ["tweets", "trending", "hashtag-totals"] {
        cluster.create_topic(topic, PARTITIONS, 1).map_err(|e| {
            Error::internal(format!("the embedded broker refused topic `{topic}`")).with_source(e)
        })?;
    }
    let brokers = cluster.bootstrap_servers();
    let folder = Folder::new();
    let config = config(&brokers, &folder, args.interval)?;
    let table = Arc::new(Table::new(&brokers, args.interval));
    let rows = table.clone();
    let builder = StreamingContext::builder(&*config.app_id);
    let ssc = pipeline::build(&config, builder, &Default::default(), |streams| {
        let turn = streams.turn();
        streams.get("trending")?.output("demo", move |rdd, _| {
            let found = rdd.collect()?;
            turn.wait()?;
            rows.set(found)
        });
        Ok(())
    })?;
    let batches =
        Arc::new(Batches { table, wanted: args.batches, done: Mutex::new(0), changed: Condvar::new() });
    ssc.add_streaming_listener(batches.clone());
    let _http = match args.http {
        Some(address) => Some(HttpServer::start(&ssc, HttpSettings::new(address).weigh(pipeline::weight))?),
        None => None,
    };
    ssc.start()?;
    let producing = tweets::produce(&brokers, "tweets")?;
    let outcome = loop {
        if stop.is_requested() || batches.wait_for_all() {
            break ssc.stop(false);
        }
        if ssc.await_termination_or_timeout(Duration::ZERO)? {
            break Ok(());
        }
    };
    drop(producing);
    outcome
}

/// The shipped pipeline on the embedded broker, its slide one batch.
fn config(brokers: &str, folder: &Folder, interval: Duration) -> Result<Config> {
    let text = PIPELINE
        .replace("${KAFKA_BROKERS:-localhost:9092}", brokers)
        .replace("${TIDEMILL_DATA:-data}", &folder.0.display().to_string())
        .replace("\"${TIDEMILL_HTTP:-127.0.0.1:8080}\"", "off")
        // That broker does not tell what a topic takes, and nobody would look at dead letters.
        .replace("on_bad_record: { dead_letter: tweets.dlq }", "on_bad_record: skip")
        .replace("batch_interval: 1s", &format!("batch_interval: {interval}"))
        .replace("slide: 10s", &format!("slide: {interval}"))
        .replace("window: 10m", &format!("window: {}", interval * WINDOW_BATCHES));
    let mut report = Report::new("config/trending.yaml".to_owned(), text);
    let config = check::check(&mut report);
    config.ok_or_else(|| Error::internal(format!("the demo's pipeline is wrong:\n{}", report.render(false))))
}

/// A checkpoint folder that goes with the demo: the embedded broker forgets everything too.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("tidemill-demo-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies among the system's temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Shows each batch, and counts them.
struct Batches {
    table: Arc<Table>,
    wanted: Option<u64>,
    done: Mutex<u64>,
    changed: Condvar,
}

impl Batches {
    /// Whether as many batches have passed as were wanted; waits a little for it.
    fn wait_for_all(&self) -> bool {
        let enough = |done: &u64| self.wanted.is_some_and(|wanted| *done >= wanted);
        let mut done = self.done.lock();
        if !enough(&done) {
            self.changed.wait_for(&mut done, std::time::Duration::from_millis(100));
        }
        enough(&done)
    }
}

impl StreamingListener for Batches {
    fn batch_completed(&self, batch: &BatchInfo) {
        let mut done = self.done.lock();
        if self.wanted.is_none_or(|wanted| *done < wanted) {
            *done += 1;
            self.table.show(batch, *done);
        }
        self.changed.notify_all();
    }
}
