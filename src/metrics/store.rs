//! How the state's store is doing: asked when it is scraped.

use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use crate::state::{StateDb, StoreHealth};

/// The series of one store.
#[derive(Clone)]
pub(super) struct StoreCollector {
    /// Whoever stops the context wants the checkpoint back.
    pub store: Weak<StateDb>,
    pub memory: IntGaugeVec,
    pub files: IntGauge,
    pub pending: IntGauge,
    pub stalls: IntCounter,
    pub stalled: IntGauge,
}

impl StoreCollector {
    fn update(&self, store: &Arc<StateDb>) {
        let StoreHealth { memtables, blocks, files, pending_compaction, stalls, stalled } = store.health();
        self.memory.with_label_values(&["memtables"]).set(memtables as i64);
        self.memory.with_label_values(&["blocks"]).set(blocks as i64);
        self.files.set(files as i64);
        self.pending.set(pending_compaction as i64);
        self.stalls.inc_by(stalls.saturating_sub(self.stalls.get()));
        self.stalled.set(i64::from(stalled));
    }
}

impl Collector for StoreCollector {
    fn desc(&self) -> Vec<&Desc> {
        let all: [&dyn Collector; 5] =
            [&self.memory, &self.files, &self.pending, &self.stalls, &self.stalled];
        all.into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(store) = self.store.upgrade() else { return Vec::new() };
        self.update(&store);
        let all: [&dyn Collector; 5] =
            [&self.memory, &self.files, &self.pending, &self.stalls, &self.stalled];
        all.into_iter().flat_map(Collector::collect).collect()
    }
}
