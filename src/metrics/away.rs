//! For how long a source's cluster has not answered: asked when it is scraped, since no batch may come to tell.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use crate::context::Graph;
use crate::error::{Error, Result};
use crate::time::Clock;

/// The series of all sources.
pub(super) struct AwayCollector {
    graph: Weak<Graph>,
    clock: Arc<dyn Clock>,
    seconds: GaugeVec,
}

impl AwayCollector {
    /// The gauge `opts`, with the label `source`, over the inputs of `graph`.
    pub fn new(opts: Opts, graph: &Arc<Graph>, clock: Arc<dyn Clock>) -> Result<Self> {
        let seconds = GaugeVec::new(opts, &["source"])
            .map_err(|e| Error::internal("the name of a metric is wrong").with_source(e))?;
        Ok(Self { graph: Arc::downgrade(graph), clock, seconds })
    }
}

impl Collector for AwayCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.seconds.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let inputs = self.graph.upgrade().map(|graph| graph.inputs()).unwrap_or_default();
        for input in inputs.iter().filter(|input| !input.topics().is_empty()) {
            let away = input.away().map_or(0.0, |(since, _)| (self.clock.now() - since).as_secs_f64());
            self.seconds.with(&HashMap::from([("source", input.uid())])).set(away.max(0.0));
        }
        self.seconds.collect()
    }
}
