//! Prometheus metrics: a listener that records what is announced of each batch.

mod away;
#[cfg(test)]
mod docs;
mod names;
mod registrar;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use crate::batch::{BatchInfo, ListenerBus, ReceiverInfo, StreamingListener};
use crate::context::Graph;
use crate::error::{ErrorKind, Result};
use crate::time::{Clock, Duration, Time};
use away::AwayCollector;
use names as n;
use registrar::Registrar;
use store::StoreCollector;

/// Records every batch of a context in a Prometheus [`Registry`].
///
/// It is told when things happen, and not, as other listeners, some time later: a batch that has completed is counted.
///
/// ```
/// use tidemill::{Metrics, StreamingContext};
/// # fn main() -> tidemill::Result<()> {
/// let ssc = StreamingContext::builder("squares").build()?;
/// let registry = prometheus::Registry::new();
/// Metrics::register(&registry, &ssc)?;
/// # Ok(()) }
/// ```
pub struct Metrics {
    clock: Arc<dyn Clock>,
    listeners: std::sync::Weak<ListenerBus>,
    batch_interval: Gauge,
    batches: IntCounterVec,
    batches_waiting: IntGauge,
    batches_skipped: IntCounter,
    batch_attempts: IntCounter,
    scheduling_delay: Histogram,
    processing: Histogram,
    total_delay: Histogram,
    phases: HistogramVec,
    last_completed: Gauge,
    source_records: IntCounterVec,
    source_bytes: IntCounter,
    late_records: IntCounterVec,
    future_records: IntCounterVec,
    lost_records: IntCounterVec,
    bad_records: IntCounter,
    rate_limit: IntGaugeVec,
    source_partitions: IntGaugeVec,
    receivers: IntGaugeVec,
    lag_records: IntGaugeVec,
    lag_seconds: GaugeVec,
    committed_offset: IntGaugeVec,
    latest_offset: IntGaugeVec,
    sink_records: IntCounterVec,
    transactions: IntCounterVec,
    spilled: IntCounter,
    spilled_so_far: Arc<AtomicU64>,
    graph: Arc<Graph>,
    state_keys: IntGaugeVec,
    state_bytes: IntGaugeVec,
    state_cache_hits: IntCounterVec,
    state_cache_misses: IntCounterVec,
    commit: Histogram,
    commit_failures: IntCounter,
    dropped_events: IntCounter,
    errors: IntCounterVec,
    /// Receivers by number, and whether they receive.
    active_receivers: Mutex<std::collections::BTreeMap<usize, bool>>,
}

impl Metrics {
    /// Registers all metrics of the context `ssc`, labelled with its app name, and has them kept from now on.
    ///
    /// # Errors
    /// If the registry holds metrics of these names already.
    pub fn register(registry: &Registry, ssc: &crate::StreamingContext) -> Result<()> {
        let r = Registrar::new(registry, ssc.app_name());
        let metrics = Self::registered(&r, ssc)?;
        ssc.inner.listeners.add_own(Arc::new(metrics));
        Ok(())
    }

    fn registered(r: &Registrar<'_>, ssc: &crate::StreamingContext) -> Result<Self> {
        let build = r.int_gauges(n::BUILD_INFO, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        r.int_gauge(n::STATE_LIMIT)?.set(ssc.inner.settings.state_memory_limit as i64);
        register_store(r, ssc)?;
        let away = AwayCollector::new(r.opts(n::AWAY), &ssc.inner.graph, ssc.inner.clock.clone())?;
        r.collector(&[(n::AWAY, "gauge", &["source"])], away)?;
        Ok(Self {
            clock: ssc.inner.clock.clone(),
            listeners: Arc::downgrade(&ssc.inner.listeners),
            batch_interval: r.gauge(n::BATCH_INTERVAL)?,
            batches: r.counters(n::BATCHES, &["status"])?,
            batches_waiting: r.int_gauge(n::BATCHES_WAITING)?,
            batches_skipped: r.counter(n::BATCHES_SKIPPED)?,
            batch_attempts: r.counter(n::BATCH_ATTEMPTS)?,
            scheduling_delay: r.histogram(n::SCHEDULING_DELAY)?,
            processing: r.histogram(n::PROCESSING)?,
            total_delay: r.histogram(n::TOTAL_DELAY)?,
            phases: r.histograms(n::PHASE, &["phase"])?,
            last_completed: r.gauge(n::LAST_COMPLETED)?,
            source_records: r.counters(n::SOURCE_RECORDS, &["topic", "partition"])?,
            source_bytes: r.counter(n::SOURCE_BYTES)?,
            late_records: r.counters(n::LATE_RECORDS, &["topic", "partition"])?,
            future_records: r.counters(n::FUTURE_RECORDS, &["topic", "partition"])?,
            lost_records: r.counters(n::LOST_RECORDS, &["topic", "partition"])?,
            bad_records: r.counter(n::BAD_RECORDS)?,
            rate_limit: r.int_gauges(n::RATE_LIMIT, &["source"])?,
            source_partitions: r.int_gauges(n::SOURCE_PARTITIONS, &["topic"])?,
            receivers: r.int_gauges(n::RECEIVERS, &["state"])?,
            lag_records: r.int_gauges(n::LAG_RECORDS, &["topic", "partition"])?,
            lag_seconds: r.gauges(n::LAG_SECONDS, &["topic", "partition"])?,
            committed_offset: r.int_gauges(n::COMMITTED_OFFSET, &["topic", "partition"])?,
            latest_offset: r.int_gauges(n::LATEST_OFFSET, &["topic", "partition"])?,
            sink_records: r.counters(n::SINK_RECORDS, &["topic"])?,
            transactions: r.counters(n::TRANSACTIONS, &["outcome"])?,
            spilled: r.counter(n::SPILLED)?,
            spilled_so_far: ssc.inner.runner.spilled().clone(),
            graph: ssc.inner.graph.clone(),
            state_keys: r.int_gauges(n::STATE_KEYS, &["operator"])?,
            state_bytes: r.int_gauges(n::STATE_BYTES, &["operator"])?,
            state_cache_hits: r.counters(n::STATE_CACHE_HITS, &["operator"])?,
            state_cache_misses: r.counters(n::STATE_CACHE_MISSES, &["operator"])?,
            commit: r.histogram(n::COMMIT)?,
            commit_failures: r.counter(n::COMMIT_FAILURES)?,
            dropped_events: r.counter(n::DROPPED_EVENTS)?,
            errors: r.counters(n::ERRORS, &["stage", "kind"])?,
            active_receivers: Mutex::default(),
        })
    }
}

impl StreamingListener for Metrics {
    fn streaming_started(&self, _: Time, batch_interval: Duration) {
        self.batch_interval.set(batch_interval.as_secs_f64());
        // Series that an alert looks at are there before their first event.
        self.batches.with_label_values(&["succeeded"]);
        self.batches.with_label_values(&["failed"]);
        for (stage, kind) in
            [("plan", ErrorKind::Unavailable), ("process", ErrorKind::Task), ("commit", ErrorKind::Output)]
        {
            self.errors.with_label_values(&[stage, kind.name()]);
        }
    }

    fn receiver_started(&self, receiver: &ReceiverInfo) {
        let mut all = self.active_receivers.lock();
        all.insert(receiver.stream_id, receiver.active);
        let active = all.values().filter(|active| **active).count();
        self.receivers.with_label_values(&["active"]).set(active as i64);
        self.receivers.with_label_values(&["inactive"]).set((all.len() - active) as i64);
    }

    fn receiver_stopped(&self, receiver: &ReceiverInfo) {
        self.receiver_started(receiver);
    }

    fn batch_skipped(&self, _: Time) {
        self.batches_skipped.inc();
    }

    fn batch_submitted(&self, _: &BatchInfo, waiting: usize) {
        self.batches_waiting.set(waiting as i64);
    }

    fn batch_started(&self, batch: &BatchInfo, waiting: usize) {
        self.batches_waiting.set(waiting as i64);
        if let Some(delay) = batch.scheduling_delay() {
            self.scheduling_delay.observe(delay.as_secs_f64());
        }
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        let status = if batch.failure.is_none() { "succeeded" } else { "failed" };
        self.batches.with_label_values(&[status]).inc();
        if let Some(duration) = batch.processing_duration {
            self.processing.observe(duration.as_secs_f64());
            let waited = batch.scheduling_delay().map_or(0.0, Duration::as_secs_f64);
            self.total_delay.observe(waited + duration.as_secs_f64());
        }
        for (phase, duration) in &batch.phases {
            self.phases.with_label_values(&[phase]).observe(duration.as_secs_f64());
            if *phase == "commit" {
                self.commit.observe(duration.as_secs_f64());
            }
        }
        self.batch_attempts.inc_by(u64::from(batch.attempts));
        let ended = self.graph.sinks().iter().map(|sink| sink.transactions()).collect::<Vec<_>>();
        for (outcome, count) in [
            ("committed", ended.iter().map(|t| t.committed).sum::<u64>()),
            ("aborted", ended.iter().map(|t| t.aborted).sum()),
        ] {
            let counter = self.transactions.with_label_values(&[outcome]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let spilled = self.spilled_so_far.load(Ordering::Relaxed);
        self.spilled.inc_by(spilled.saturating_sub(self.spilled.get()));
        if let Some(listeners) = self.listeners.upgrade() {
            self.dropped_events.inc_by(listeners.dropped().saturating_sub(self.dropped_events.get()));
        }
        if let Some(kind) = batch.failure_kind {
            let stage = failed_stage(batch);
            self.errors.with_label_values(&[stage, kind.name()]).inc();
            if stage == "commit" {
                self.commit_failures.inc();
            }
            return;
        }
        self.last_completed.set(self.clock.now().as_millis() as f64 / 1_000.0);
        for slice in &batch.slices {
            let partition = slice.partition.to_string();
            let place = [&*slice.topic, &*partition];
            self.source_records.with_label_values(&place).inc_by(slice.records);
            self.late_records.with_label_values(&place).inc_by(slice.late);
            self.future_records.with_label_values(&place).inc_by(slice.future);
        }
        self.source_bytes.inc_by(batch.num_bytes);
        self.bad_records.inc_by(batch.bad_records);
        for (source, rate) in &batch.rate_limits {
            let rate = i64::try_from(*rate).unwrap_or(i64::MAX);
            self.rate_limit.with_label_values(&[source]).set(rate);
        }
        for lost in &batch.lost_ranges {
            let partition = lost.partition.to_string();
            self.lost_records.with_label_values(&[&*lost.topic, &*partition]).inc_by(lost.count());
        }
        let mut partitions = std::collections::BTreeMap::<&str, i64>::new();
        for lag in &batch.lag {
            *partitions.entry(&lag.topic).or_default() += 1;
            let partition = lag.partition.to_string();
            let labels = [&*lag.topic, &*partition];
            self.lag_records.with_label_values(&labels).set(lag.records());
            self.lag_seconds.with_label_values(&labels).set(lag.seconds(self.clock.now()));
            self.committed_offset.with_label_values(&labels).set(lag.committed);
            self.latest_offset.with_label_values(&labels).set(lag.latest);
            // A series that an alert looks at is there before its first event.
            self.lost_records.with_label_values(&labels);
        }
        for (topic, partitions) in partitions {
            self.source_partitions.with_label_values(&[topic]).set(partitions);
        }
        for (topic, records) in &batch.output_records {
            self.sink_records.with_label_values(&[&**topic]).inc_by(*records);
        }
        for (operator, stats) in &batch.state {
            self.state_keys.with_label_values(&[&**operator]).set(stats.keys as i64);
            self.state_bytes.with_label_values(&[&**operator]).set(stats.bytes as i64);
            for (counter, now) in
                [(&self.state_cache_hits, stats.cache_hits), (&self.state_cache_misses, stats.cache_misses)]
            {
                let counter = counter.with_label_values(&[&**operator]);
                counter.inc_by(now.saturating_sub(counter.get()));
            }
        }
    }
}

/// What the store of a checkpoint says of itself; a context without one keeps its state in memory, and its store for itself.
fn register_store(r: &Registrar<'_>, ssc: &crate::StreamingContext) -> Result<()> {
    let made = |error| crate::Error::internal("the name of a metric is wrong").with_source(error);
    let collector = StoreCollector {
        store: ssc.inner.db.as_ref().map(Arc::downgrade).unwrap_or_default(),
        memory: IntGaugeVec::new(r.opts(n::STORE_MEMORY), &["kind"]).map_err(made)?,
        files: IntGauge::with_opts(r.opts(n::STORE_FILES)).map_err(made)?,
        pending: IntGauge::with_opts(r.opts(n::STORE_PENDING)).map_err(made)?,
        stalls: IntCounter::with_opts(r.opts(n::STORE_STALLS)).map_err(made)?,
        stalled: IntGauge::with_opts(r.opts(n::STORE_STALLED)).map_err(made)?,
    };
    let each: [(n::Name, _, &[&str]); 5] = [
        (n::STORE_MEMORY, "gauge", &["kind"]),
        (n::STORE_FILES, "gauge", &[]),
        (n::STORE_PENDING, "gauge", &[]),
        (n::STORE_STALLS, "counter", &[]),
        (n::STORE_STALLED, "gauge", &[]),
    ];
    r.collector(&each, collector)
}

/// Which step of a batch failed: those before it have their times.
fn failed_stage(batch: &BatchInfo) -> &'static str {
    match batch.phases.last() {
        None | Some(("plan", _)) => "plan",
        Some(("output", _)) => "commit",
        Some(_) => "process",
    }
}
