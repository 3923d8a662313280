//! What `map_with_state` is told: [`StateSpec`], and the [`State`] that its function is given.

use std::sync::Arc;

use super::initial_state::InitialState;
use crate::codec::{Key, Stored};
use crate::rdd::{AnyPartitioner, Data, Partitioner, Rdd};
use crate::time::{Duration, Time};

/// The state of one key, in the function of [`StateSpec`] (Spark's `State`).
///
/// The methods panic where Spark throws: it is the program that is wrong. The panic fails the batch with a
/// message that names the misuse, the operator and the key.
pub struct State<S> {
    pub(super) value: Option<S>,
    pub(super) changed: Changed,
    pub(super) timing_out: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    No,
    Updated,
    Removed,
}

impl<S> State<S> {
    /// Whether the key has a state.
    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// The state.
    ///
    /// # Panics
    /// If there is none: ask [`exists`](State::exists), or use [`get_option`](State::get_option).
    #[allow(clippy::panic, reason = "as in Spark, a misuse ends the task")]
    pub fn get(&self) -> &S {
        match &self.value {
            Some(value) => value,
            None => panic!("State::get of a state that does not exist: ask exists() first"),
        }
    }

    /// The state, if there is one.
    pub fn get_option(&self) -> Option<&S> {
        self.value.as_ref()
    }

    /// Makes or replaces the state.
    ///
    /// # Panics
    /// If the state was removed in this call, or is timing out.
    pub fn update(&mut self, value: S) {
        assert!(self.changed != Changed::Removed, "State::update after State::remove");
        assert!(!self.timing_out, "State::update of a state that is timing out");
        self.value = Some(value);
        self.changed = Changed::Updated;
    }

    /// Removes the state; allowed if there is none.
    ///
    /// # Panics
    /// If the state was removed in this call already, or is timing out.
    pub fn remove(&mut self) {
        assert!(self.changed != Changed::Removed, "State::remove after State::remove");
        assert!(!self.timing_out, "State::remove of a state that is timing out");
        self.value = None;
        self.changed = Changed::Removed;
    }

    /// Whether this is the last call for a key whose timeout has passed; the state goes after it.
    pub fn is_timing_out(&self) -> bool {
        self.timing_out
    }
}

pub(super) type MapFunction<K, V, S, E> =
    Arc<dyn Fn(Time, &K, Option<V>, &mut State<S>) -> Option<E> + Send + Sync>;

/// What [`map_with_state`](crate::DStream::map_with_state) does with each record (Spark's `StateSpec`).
pub struct StateSpec<K, V, S, E> {
    pub(super) function: MapFunction<K, V, S, E>,
    pub(super) initial: InitialState<K, S>,
    pub(super) timeout: Option<Duration>,
    pub(super) partitioner: Option<AnyPartitioner<K>>,
}

impl<K: Key, V: Data, S: Stored, E: Data> StateSpec<K, V, S, E> {
    /// Calls `f` once per record, with its key, its value and the key's state, in the order of the
    /// records; later records see earlier updates. For a key that times out, it is called once more
    /// with no value. What it returns is in the output.
    pub fn function(f: impl Fn(&K, Option<V>, &mut State<S>) -> Option<E> + Send + Sync + 'static) -> Self {
        Self::function_with_time(move |_, key, value, state| f(key, value, state))
    }

    /// As [`function`](StateSpec::function), with the batch time.
    pub fn function_with_time(
        f: impl Fn(Time, &K, Option<V>, &mut State<S>) -> Option<E> + Send + Sync + 'static,
    ) -> Self {
        Self { function: Arc::new(f), initial: InitialState::default(), timeout: None, partitioner: None }
    }

    /// The state of some keys at the very first start; a restart goes on with the checkpoint's. It counts as touched in
    /// the first batch, and is in the first [snapshot](crate::MapWithStateDStream::state_snapshots). Of a key that
    /// stands there twice, the last state counts.
    pub fn initial_state(mut self, state: impl IntoIterator<Item = (K, S)>) -> Self {
        self.initial = InitialState::of(state);
        self
    }

    /// As [`initial_state`](StateSpec::initial_state), from an RDD, which is computed in the first batch.
    ///
    /// ```
    /// use tidemill::{State, StateSpec, StreamingContext};
    /// # fn main() -> tidemill::Result<()> {
    /// let ssc = StreamingContext::builder("counts").build()?;
    /// let known = ssc.parallelize(["a", "b"], 2).map(|word| (word.to_owned(), 10));
    /// let spec = StateSpec::function(|word: &String, n: Option<u64>, total: &mut State<u64>| {
    ///     total.update(total.get_option().unwrap_or(&0) + n?);
    ///     Some((word.clone(), *total.get()))
    /// });
    /// let spec = spec.initial_state_rdd(known);
    /// # let _ = spec;
    /// # Ok(()) }
    /// ```
    pub fn initial_state_rdd(mut self, state: Rdd<(K, S)>) -> Self {
        self.initial = InitialState::Rdd(state);
        self
    }

    /// Keys that no record touched for longer than `timeout` before the batch time lose their state,
    /// after the batch's records were applied. The start refuses a timeout that is not longer than 0.
    ///
    /// Where the state is older than its first timeout, the start notes each key's last update once.
    pub fn timeout(mut self, timeout: impl Into<Duration>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }

    /// Over how many partitions the state is spread; the context's
    /// [`state_partitions`](crate::StreamingContextBuilder::state_partitions) unless set. A checkpoint keeps its number:
    /// to start with another one is an error.
    pub fn num_partitions(self, partitions: usize) -> Self {
        self.partitioner(partitions)
    }

    /// Which partition each key belongs to, in the state and in the output. The checkpoint knows only how many there are:
    /// it must go on giving each key the same one.
    pub fn partitioner(mut self, partitioner: impl Partitioner<K>) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }
}
