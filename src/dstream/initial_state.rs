//! The state that an operator begins with.

use std::sync::Arc;

use crate::codec::Key;
use crate::error::Result;
use crate::rdd::{AnyPartitioner, Data, Rdd, Runner};

/// Where it comes from. A key may stand there more than once.
pub(super) enum InitialState<K, S> {
    Values(Arc<Vec<(K, S)>>),
    Rdd(Rdd<(K, S)>),
}

impl<K, S> Default for InitialState<K, S> {
    fn default() -> Self {
        Self::Values(Arc::default())
    }
}

impl<K: Key, S: Data> InitialState<K, S> {
    pub fn of(state: impl IntoIterator<Item = (K, S)>) -> Self {
        Self::Values(Arc::new(state.into_iter().collect()))
    }

    /// The state of each partition.
    pub fn by_partition(
        &self,
        runner: &Arc<Runner>,
        partitioner: &AnyPartitioner<K>,
    ) -> Result<Vec<Vec<(K, S)>>> {
        let rdd = match self {
            Self::Values(values) => Rdd::in_memory(runner, vec![values.clone()]),
            Self::Rdd(rdd) => rdd.clone(),
        };
        rdd.partition_by(partitioner.clone()).run_partitions(|pairs, _| Ok(pairs))
    }
}
