//! Prometheus metrics: a listener that records what is announced of each batch.

mod names;

use std::sync::Arc;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use crate::batch::{BatchInfo, StreamingListener};
use crate::error::{Error, Result};
use crate::time::{Clock, Duration, Time};
use names as n;

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
    batch_interval: Gauge,
    batches: IntCounterVec,
    batches_waiting: IntGauge,
    scheduling_delay: Histogram,
    processing: Histogram,
    total_delay: Histogram,
    phases: HistogramVec,
    last_completed: Gauge,
    source_records: IntCounterVec,
    source_bytes: IntCounter,
    late_records: IntCounterVec,
    future_records: IntCounterVec,
    bad_records: IntCounter,
    rate_limit: IntGaugeVec,
    lag_records: IntGaugeVec,
    lag_seconds: GaugeVec,
    committed_offset: IntGaugeVec,
    latest_offset: IntGaugeVec,
    sink_records: IntCounterVec,
    state_keys: IntGaugeVec,
    state_bytes: IntGaugeVec,
    errors: IntCounterVec,
}

impl Metrics {
    /// Registers all metrics of the context `ssc`, labelled with its app name, and has them kept from now on.
    ///
    /// # Errors
    /// If the registry holds metrics of these names already.
    pub fn register(registry: &Registry, ssc: &crate::StreamingContext) -> Result<()> {
        let r = Registrar { registry, app: ssc.app_name() };
        let build = r.int_gauges(n::BUILD_INFO, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            clock: ssc.inner.clock.clone(),
            batch_interval: r.gauge(n::BATCH_INTERVAL)?,
            batches: r.counters(n::BATCHES, &["status"])?,
            batches_waiting: r.int_gauge(n::BATCHES_WAITING)?,
            scheduling_delay: r.histogram(n::SCHEDULING_DELAY)?,
            processing: r.histogram(n::PROCESSING)?,
            total_delay: r.histogram(n::TOTAL_DELAY)?,
            phases: r.histograms(n::PHASE, &["phase"])?,
            last_completed: r.gauge(n::LAST_COMPLETED)?,
            source_records: r.counters(n::SOURCE_RECORDS, &["topic", "partition"])?,
            source_bytes: r.counter(n::SOURCE_BYTES)?,
            late_records: r.counters(n::LATE_RECORDS, &["topic", "partition"])?,
            future_records: r.counters(n::FUTURE_RECORDS, &["topic", "partition"])?,
            bad_records: r.counter(n::BAD_RECORDS)?,
            rate_limit: r.int_gauges(n::RATE_LIMIT, &["source"])?,
            lag_records: r.int_gauges(n::LAG_RECORDS, &["topic", "partition"])?,
            lag_seconds: r.gauges(n::LAG_SECONDS, &["topic", "partition"])?,
            committed_offset: r.int_gauges(n::COMMITTED_OFFSET, &["topic", "partition"])?,
            latest_offset: r.int_gauges(n::LATEST_OFFSET, &["topic", "partition"])?,
            sink_records: r.counters(n::SINK_RECORDS, &["topic"])?,
            state_keys: r.int_gauges(n::STATE_KEYS, &["operator"])?,
            state_bytes: r.int_gauges(n::STATE_BYTES, &["operator"])?,
            errors: r.counters(n::ERRORS, &["stage"])?,
        };
        ssc.inner.listeners.add_own(Arc::new(metrics));
        Ok(())
    }
}

impl StreamingListener for Metrics {
    fn streaming_started(&self, _: Time, batch_interval: Duration) {
        self.batch_interval.set(batch_interval.as_secs_f64());
        // Series that an alert looks at are there before their first event.
        self.batches.with_label_values(&["succeeded"]);
        self.batches.with_label_values(&["failed"]);
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
        }
        if batch.failure.is_some() {
            self.errors.with_label_values(&["batch"]).inc();
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
        for lag in &batch.lag {
            let partition = lag.partition.to_string();
            let labels = [&*lag.topic, &*partition];
            self.lag_records.with_label_values(&labels).set(lag.records());
            self.lag_seconds.with_label_values(&labels).set(lag.seconds(self.clock.now()));
            self.committed_offset.with_label_values(&labels).set(lag.committed);
            self.latest_offset.with_label_values(&labels).set(lag.latest);
        }
        for (topic, records) in &batch.output_records {
            self.sink_records.with_label_values(&[&**topic]).inc_by(*records);
        }
        for (operator, stats) in &batch.state {
            self.state_keys.with_label_values(&[&**operator]).set(stats.keys as i64);
            self.state_bytes.with_label_values(&[&**operator]).set(stats.bytes as i64);
        }
    }
}

/// Registers metrics by their constants.
struct Registrar<'a> {
    registry: &'a Registry,
    app: &'a str,
}

impl Registrar<'_> {
    fn opts(&self, (name, help): n::Name) -> Opts {
        Opts::new(name, help).const_label("app", self.app)
    }

    fn add<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<M>,
    ) -> Result<M> {
        made.and_then(|metric| self.registry.register(Box::new(metric.clone())).map(|()| metric))
            .map_err(|e| Error::usage(format!("cannot register a metric: {e}")).with_source(e))
    }

    fn counter(&self, name: n::Name) -> Result<IntCounter> {
        self.add(IntCounter::with_opts(self.opts(name)))
    }

    fn counters(&self, name: n::Name, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(self.opts(name), labels))
    }

    fn gauge(&self, name: n::Name) -> Result<Gauge> {
        self.add(Gauge::with_opts(self.opts(name)))
    }

    fn int_gauge(&self, name: n::Name) -> Result<IntGauge> {
        self.add(IntGauge::with_opts(self.opts(name)))
    }

    fn gauges(&self, name: n::Name, labels: &[&str]) -> Result<GaugeVec> {
        self.add(GaugeVec::new(self.opts(name), labels))
    }

    fn int_gauges(&self, name: n::Name, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(self.opts(name), labels))
    }

    fn histogram(&self, name: n::Name) -> Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::from(self.opts(name)).buckets(n::SECONDS.to_vec())))
    }

    fn histograms(&self, name: n::Name, labels: &[&str]) -> Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::from(self.opts(name)).buckets(n::SECONDS.to_vec()), labels))
    }
}
