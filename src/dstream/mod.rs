//! Operators: [`DStream`], a sequence of RDDs, one per slide, and what can be made of it.
//!
//! A node's contract is small: its slide duration, and `compute(batch time) -> RDD or nothing`.

mod checkpoint;
mod combine_by_key;
mod count;
mod count_by_value;
mod count_by_value_and_window;
mod count_by_window;
mod filter;
mod flat_map;
mod foreach_rdd;
mod generated;
mod group_by_key;
mod group_by_key_and_window;
mod initial_state;
mod join;
mod key_panes;
mod key_shard;
mod map;
mod map_with_state;
mod pair;
mod panes;
mod partitions;
mod persist;
mod print;
mod reduce;
mod reduce_by_key;
mod reduce_by_key_and_window;
mod reduce_by_window;
mod remember;
mod save_as_files;
mod slice;
mod state_spec;
#[cfg(test)]
mod state_tests;
mod together;
mod transform;
mod union;
mod update_state_by_key;
mod window;
mod window_spec;

use std::panic::Location;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use foreach_rdd::Outcome;
pub use map_with_state::MapWithStateDStream;
pub use state_spec::{State, StateSpec};
pub use update_state_by_key::UpdateStateSpec;
pub use window_spec::WindowSpec;

use generated::{Origin, StreamCore};

use crate::context::{Stateful, StreamingContext};
use crate::error::{Error, Result};
use crate::rdd::{Data, Operator, Rdd, Runner};
use crate::state::{Change, OperatorSchema};
use crate::time::{Duration, Time};

/// What an operator does for a batch.
pub(crate) trait DStreamNode<T>: Send + Sync {
    /// How far apart the times are at which it gives an RDD.
    fn slide(&self) -> Duration;

    /// How far back its RDDs look, if that is further than one batch of the parent.
    fn window(&self) -> Option<Duration> {
        None
    }

    /// The RDD of batch `time`, a multiple of the slide; nothing if there is none (which is not an empty one).
    fn compute(&self, time: Time) -> Result<Option<Rdd<T>>>;
}

/// A stream in batches: one [`Rdd`] per slide duration (Spark's `DStream`).
///
/// A handle: clones are the same stream. Operators are added before the context starts; one that is
/// added later does nothing, and is told by the context's next `stop` or `await_termination`.
pub struct DStream<T> {
    pub(crate) ssc: StreamingContext,
    pub(crate) core: Arc<StreamCore<T>>,
}

impl<T> Clone for DStream<T> {
    fn clone(&self) -> Self {
        Self { ssc: self.ssc.clone(), core: self.core.clone() }
    }
}

/// Says where the program made an operator: ` at src/main.rs:12:9`; nothing if `place` is in this library, as it is for
/// operators that are not marked `#[track_caller]`.
pub(crate) fn made_at(place: &Location<'_>) -> String {
    let own = file!().strip_suffix("dstream/mod.rs").unwrap_or(file!());
    if place.file().starts_with(own) { String::new() } else { format!(" at {place}") }
}

/// What a stateful operator gave last, with the batch time.
pub(crate) type Emitted<T> = Mutex<Option<(Time, Rdd<T>)>>;

/// What `output` has for the batch `time`.
fn emitted<T: Data>(output: &Emitted<T>, time: Time) -> Option<Rdd<T>> {
    output.lock().as_ref().filter(|(at, _)| *at == time).map(|(_, rdd)| rdd.clone())
}

/// Keeps what the tasks of a stateful operator gave as its RDD of batch `time`; gives all that they changed.
fn keep_output<T: Data>(
    output: &Emitted<T>,
    runner: &Arc<Runner>,
    time: Time,
    results: Vec<(Vec<T>, Vec<Change>)>,
) -> Vec<Change> {
    let (partitions, changes): (Vec<_>, Vec<_>) = results.into_iter().map(|(p, c)| (Arc::new(p), c)).unzip();
    *output.lock() = Some((time, Rdd::in_memory(runner, partitions)));
    changes.into_iter().flatten().collect()
}

/// Whose state it is; both may be set until the context starts.
pub(crate) type StateName = Arc<RwLock<Named>>;

/// A stateful operator's uid, and what it says its keys and values are instead of their Rust types.
pub(crate) struct Named {
    uid: Arc<str>,
    /// The uid that the state had before.
    was: Option<Arc<str>>,
    types: Option<(String, String)>,
}

impl Named {
    pub fn uid(&self) -> Arc<str> {
        self.uid.clone()
    }

    pub fn was(&self) -> Option<Arc<str>> {
        self.was.clone()
    }

    fn schema<K, V>(&self, operator: &str, partitions: usize) -> OperatorSchema {
        let of_rust = || (std::any::type_name::<K>().into(), std::any::type_name::<V>().into());
        let (key_type, value_type) = self.types.clone().unwrap_or_else(of_rust);
        OperatorSchema {
            operator: operator.into(),
            key_type,
            value_type,
            partitions,
            exact: self.types.is_some(),
        }
    }
}

impl<T: Data> DStream<T> {
    /// Puts a stream into the graph. What is marked `#[track_caller]`, up to the operator's own method, tells errors where the
    /// program made it.
    #[track_caller]
    fn place(
        ssc: &StreamingContext,
        operator: &str,
        parents: &[usize],
        node: Arc<dyn DStreamNode<T>>,
        stateful: Option<Arc<dyn Stateful>>,
        name: Option<StateName>,
        origin: Origin,
    ) -> DStream<T> {
        let place = Location::caller();
        let mut placed = None;
        ssc.inner.lifecycle.admit(operator, || {
            let graph = &ssc.inner.graph;
            let made_by = Operator::made_at(operator, &made_at(place));
            let slide = node.slide();
            let core = Arc::new(StreamCore::new(graph.next_id(), made_by, node, name, origin, graph.times()));
            graph.add_node(core.id, operator, slide, parents.to_vec(), stateful, core.clone());
            placed = Some(core);
        });
        // A stream that came too late stands outside the graph; its operators are refused likewise.
        let core = placed.unwrap_or_else(|| Arc::new(detached(ssc)));
        DStream { ssc: ssc.clone(), core }
    }

    #[track_caller]
    pub(crate) fn from_input(
        ssc: &StreamingContext,
        operator: &str,
        node: Arc<dyn DStreamNode<T>>,
    ) -> DStream<T> {
        Self::place(ssc, operator, &[], node, None, None, Origin::Input)
    }

    /// A stream whose RDD is made from its parents' by `compute`.
    #[track_caller]
    pub(crate) fn derive<U: Data>(
        &self,
        operator: &str,
        others: &[usize],
        slide: Duration,
        compute: impl Fn(Time) -> Result<Option<Rdd<U>>> + Send + Sync + 'static,
    ) -> DStream<U> {
        let parents = [&[self.core.id], others].concat();
        let node = Arc::new(Computed { slide, compute });
        DStream::place(&self.ssc, operator, &parents, node, None, None, Origin::Parents)
    }

    /// A stream that gives `f` of its parent's RDD whenever that has one.
    #[track_caller]
    pub(crate) fn each_rdd<U: Data>(
        &self,
        operator: &str,
        f: impl Fn(Rdd<T>) -> Rdd<U> + Send + Sync + 'static,
    ) -> DStream<U> {
        self.each_rdd_with_time(operator, move |rdd, _| f(rdd))
    }

    /// As [`each_rdd`](DStream::each_rdd), with the batch time.
    #[track_caller]
    pub(crate) fn each_rdd_with_time<U: Data>(
        &self,
        operator: &str,
        f: impl Fn(Rdd<T>, Time) -> Rdd<U> + Send + Sync + 'static,
    ) -> DStream<U> {
        let parent = self.core.clone();
        self.derive(operator, &[], self.slide_duration(), move |time| {
            Ok(parent.get_or_compute(time)?.map(|rdd| f(rdd, time)))
        })
    }

    /// A stream over a stateful operator.
    #[track_caller]
    pub(crate) fn stateful<U, N>(&self, operator: &str, make: impl FnOnce(StateName) -> N) -> DStream<U>
    where
        U: Data,
        N: DStreamNode<U> + Stateful + 'static,
    {
        self.stateful_node(operator, make).0
    }

    /// As [`stateful`](DStream::stateful), with the operator itself.
    fn stateful_node<U, N>(&self, operator: &str, make: impl FnOnce(StateName) -> N) -> (DStream<U>, Arc<N>)
    where
        U: Data,
        N: DStreamNode<U> + Stateful + 'static,
    {
        let uid = self.ssc.inner.graph.next_uid(operator).into();
        let name: StateName = Arc::new(RwLock::new(Named { uid, was: None, types: None }));
        let node = Arc::new(make(name.clone()));
        let parents = [self.core.id];
        let (stateful, name) = (Some(node.clone() as Arc<dyn Stateful>), Some(name));
        (DStream::place(&self.ssc, operator, &parents, node.clone(), stateful, name, Origin::State), node)
    }

    /// A stream that shows, in another way, what the stateful operator behind this one keeps. It is computed as it is
    /// read, each time, and never kept as a whole.
    fn view<U: Data>(&self, operator: &str, node: Arc<dyn DStreamNode<U>>) -> DStream<U> {
        let name = self.core.name.clone();
        DStream::place(&self.ssc, operator, &[self.core.id], node, None, name, Origin::View)
    }

    /// The rest of an operator that is made of this stateful one, and whose `uid` is this one's.
    pub(crate) fn completed_by<U: Data>(
        &self,
        operator: &str,
        f: impl Fn(Rdd<T>) -> Rdd<U> + Send + Sync + 'static,
    ) -> DStream<U> {
        let parent = self.core.clone();
        let compute = move |time| Ok(parent.get_or_compute(time)?.map(&f));
        let node = Arc::new(Computed { slide: self.slide_duration(), compute });
        let name = self.core.name.clone();
        DStream::place(&self.ssc, operator, &[self.core.id], node, None, name, Origin::Parents)
    }

    pub(crate) fn id(&self) -> usize {
        self.core.id
    }

    /// How far apart this stream's RDDs are: the batch interval, unless a window slides by more.
    pub fn slide_duration(&self) -> Duration {
        self.core.node.slide()
    }

    /// The context that this stream belongs to.
    pub fn context(&self) -> &StreamingContext {
        &self.ssc
    }

    /// Names the state of the operator that made this stream, so that it outlives changes of the
    /// program. Without it the name is derived from the operator's place (`map_with_state-1`). A start that finds state
    /// under a uid that no operator has is an error: see [`was`](DStream::was) and
    /// [`remove_state`](crate::StreamingContextBuilder::remove_state).
    ///
    /// # Errors
    /// If the operator keeps no state.
    pub fn uid(self, uid: &str) -> Result<DStream<T>> {
        match &self.core.name {
            Some(name) => name.write().uid = uid.into(),
            None => {
                return Err(Error::usage(format!(
                    "uid `{uid}` was given to an operator that keeps no state"
                )));
            }
        }
        Ok(self)
    }

    /// Says that the state of the operator that made this stream had the uid `old_uid` in an earlier version of the program.
    /// If the checkpoint has state under `old_uid`, and none under the operator's own [`uid`](DStream::uid), the start
    /// gives it the new uid; otherwise this does nothing, so it may stay in the program. Batches, empty or not, do not
    /// notice.
    ///
    /// # Errors
    /// If the operator keeps no state. The context does not start if the program has an operator `old_uid` besides, or
    /// two that were `old_uid`.
    ///
    /// ```
    /// use tidemill::{RddQueue, testing::TestContext};
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("renamed")?;
    /// let words = test.ssc.queue_stream(&RddQueue::<(String, u64)>::new());
    /// let sums = words.update_state_by_key(|new, sum: Option<u64>| Some(sum.unwrap_or(0) + new.iter().sum::<u64>()));
    /// sums.uid("totals")?.was("update_state_by_key-1")?.print(); // it had no name before
    /// # test.run(1)
    /// # }
    /// ```
    pub fn was(self, old_uid: &str) -> Result<DStream<T>> {
        match &self.core.name {
            Some(name) => name.write().was = Some(old_uid.into()),
            None => {
                return Err(Error::usage(format!(
                    "`was` with the uid `{old_uid}` was given to an operator that keeps no state"
                )));
            }
        }
        Ok(self)
    }

    /// Names the types of a stateful operator's keys and values, where the Rust types do not tell them.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL steps are its users"))]
    pub(crate) fn state_types(self, key: String, value: String) -> DStream<T> {
        if let Some(name) = &self.core.name {
            name.write().types = Some((key, value));
        }
        self
    }
}

/// A stream that was added too late: it gives nothing.
fn detached<T: Data>(ssc: &StreamingContext) -> StreamCore<T> {
    let node = Arc::new(Computed { slide: ssc.batch_interval(), compute: |_| Ok(None) });
    StreamCore::new(0, Operator::default(), node, None, Origin::Parents, ssc.inner.graph.times())
}

struct Computed<F> {
    slide: Duration,
    compute: F,
}

impl<U, F: Fn(Time) -> Result<Option<Rdd<U>>> + Send + Sync> DStreamNode<U> for Computed<F> {
    fn slide(&self) -> Duration {
        self.slide
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<U>>> {
        (self.compute)(time)
    }
}
