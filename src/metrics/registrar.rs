//! Registers metrics by their constants, and remembers what was registered: documentation is made of that.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::names::{Name, SECONDS};
use crate::error::{Error, Result};

/// A metric as it was registered.
#[cfg_attr(not(test), allow(dead_code, reason = "documentation is made of it"))]
pub(super) struct Registered {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: &'static str,
    pub labels: Vec<String>,
}

/// Registers metrics of one application.
pub(super) struct Registrar<'a> {
    registry: &'a Registry,
    app: &'a str,
    all: RefCell<Vec<Registered>>,
}

impl<'a> Registrar<'a> {
    pub fn new(registry: &'a Registry, app: &'a str) -> Self {
        Self { registry, app, all: RefCell::default() }
    }

    /// What was registered, in its order.
    #[cfg(test)]
    pub fn into_registered(self) -> Vec<Registered> {
        self.all.into_inner()
    }

    pub fn opts(&self, (name, help): Name) -> Opts {
        Opts::new(name, help).const_label("app", self.app)
    }

    /// Registers what was `made`, a metric of this `kind`.
    pub fn add<M: Collector + Clone + 'static>(
        &self,
        (name, help): Name,
        kind: &'static str,
        labels: &[&str],
        made: prometheus::Result<M>,
    ) -> Result<M> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.all.borrow_mut().push(Registered { name, help, kind, labels });
        made.and_then(|metric| self.registry.register(Box::new(metric.clone())).map(|()| metric))
            .map_err(|e| Error::usage(format!("cannot register a metric: {e}")).with_source(e))
    }

    /// Registers `collector`, which is of the metrics that `each` says: name, kind and labels.
    pub fn collector(
        &self,
        each: &[(Name, &'static str, &[&str])],
        collector: impl Collector + 'static,
    ) -> Result<()> {
        for ((name, help), kind, labels) in each {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            self.all.borrow_mut().push(Registered { name, help, kind, labels });
        }
        self.registry
            .register(Box::new(collector))
            .map_err(|e| Error::usage(format!("cannot register a metric: {e}")).with_source(e))
    }

    pub fn counter(&self, name: Name) -> Result<IntCounter> {
        self.add(name, "counter", &[], IntCounter::with_opts(self.opts(name)))
    }

    pub fn counters(&self, name: Name, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(name, "counter", labels, IntCounterVec::new(self.opts(name), labels))
    }

    pub fn gauge(&self, name: Name) -> Result<Gauge> {
        self.add(name, "gauge", &[], Gauge::with_opts(self.opts(name)))
    }

    pub fn int_gauge(&self, name: Name) -> Result<IntGauge> {
        self.add(name, "gauge", &[], IntGauge::with_opts(self.opts(name)))
    }

    pub fn gauges(&self, name: Name, labels: &[&str]) -> Result<GaugeVec> {
        self.add(name, "gauge", labels, GaugeVec::new(self.opts(name), labels))
    }

    pub fn int_gauges(&self, name: Name, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(name, "gauge", labels, IntGaugeVec::new(self.opts(name), labels))
    }

    pub fn histogram(&self, name: Name) -> Result<Histogram> {
        let opts = HistogramOpts::from(self.opts(name)).buckets(SECONDS.to_vec());
        self.add(name, "histogram", &[], Histogram::with_opts(opts))
    }

    pub fn histograms(&self, name: Name, labels: &[&str]) -> Result<HistogramVec> {
        let opts = HistogramOpts::from(self.opts(name)).buckets(SECONDS.to_vec());
        self.add(name, "histogram", labels, HistogramVec::new(opts, labels))
    }
}
