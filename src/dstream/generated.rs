//! The RDDs that a stream gave: each made once, kept for its batch, and longer where that was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DStreamNode, StateName};
use crate::context::{BatchTimes, Retained};
use crate::error::{Error, ErrorKind, Result};
use crate::rdd::{CachedRdd, Data, Operator, Rdd};
use crate::time::{Duration, Time};

/// A stream's place in the graph, and the RDDs that it gave lately.
pub(crate) struct StreamCore<T> {
    pub(super) id: usize,
    /// The operator that made it, for errors.
    operator: Operator,
    pub(super) node: Arc<dyn DStreamNode<T>>,
    /// Under which name the state is kept from which this stream comes.
    pub(super) name: Option<StateName>,
    origin: Origin,
    times: Arc<BatchTimes>,
    retention: Mutex<Retention<T>>,
    generated: Mutex<BTreeMap<Time, Generated<T>>>,
    /// Why there is no RDD of the batch that runs.
    failed: Mutex<Option<Failed>>,
}

struct Failed {
    time: Time,
    kind: ErrorKind,
    message: String,
}

/// What a stream's RDDs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Records from outside, which are there while their batch runs.
    Input,
    /// What an operator remembers, which is that of the running batch.
    State,
    /// The same, shown in another way.
    View,
    /// The parents' RDDs, at any time.
    Parents,
}

/// Makes the RDD that keeps the elements of a stream's RDD, if that does not do it itself.
pub(crate) type Persist<T> = Arc<dyn Fn(&Rdd<T>) -> Option<CachedRdd<T>> + Send + Sync>;

struct Retention<T> {
    /// Whether several operators read this stream, so that its RDD is computed once and kept for its batch.
    shared: bool,
    /// As the program asked.
    persist: Option<Persist<T>>,
    /// How it is kept for its batch; in memory unless set.
    keep_shared: Option<Persist<T>>,
    /// As the program asked; fixed at start, when what its children need is known.
    remember: Duration,
    /// Whether it comes from an operator that nothing makes run.
    idle: bool,
}

struct Generated<T> {
    rdd: Option<Rdd<T>>,
    /// The same, if it keeps its elements.
    cached: Option<Arc<CachedRdd<T>>>,
}

impl<T: Data> StreamCore<T> {
    pub(super) fn new(
        id: usize,
        operator: Operator,
        node: Arc<dyn DStreamNode<T>>,
        name: Option<StateName>,
        origin: Origin,
        times: Arc<BatchTimes>,
    ) -> Self {
        let retention = Retention {
            shared: false,
            persist: None,
            keep_shared: None,
            remember: Duration::ZERO,
            idle: false,
        };
        let (retention, generated, failed) = (Mutex::new(retention), Mutex::default(), Mutex::new(None));
        Self { id, operator, node, name, origin, times, retention, generated, failed }
    }

    pub(crate) fn get_or_compute(&self, time: Time) -> Result<Option<Rdd<T>>> {
        if !time.is_multiple_of(self.node.slide()) {
            return Ok(None);
        }
        if let Some(failed) = self.failed.lock().as_ref().filter(|failed| failed.time == time) {
            return Err(Error::new(failed.kind, failed.message.clone()));
        }
        let mut generated = self.generated.lock();
        if let Some(before) = generated.get(&time) {
            return Ok(before.rdd.clone());
        }
        let rdd = match self.origin {
            Origin::Parents => self.compute(time)?,
            Origin::Input | Origin::State | Origin::View => {
                self.check_that_it_runs()?;
                self.times.while_running(time, || self.compute(time))?
            }
        };
        let rdd = rdd.map(|rdd| rdd.counted(self.id, time));
        let cached = rdd.as_ref().and_then(|rdd| self.cached(rdd)).map(Arc::new);
        let rdd = match (&cached, rdd) {
            (Some(cached), Some(rdd)) => Some(rdd.with_node(cached.clone())),
            (_, rdd) => rdd,
        };
        generated.insert(time, Generated { rdd: rdd.clone(), cached });
        Ok(rdd)
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<T>>> {
        self.operator.make(|| self.operator.run(|| self.node.compute(time)))
    }

    fn cached(&self, rdd: &Rdd<T>) -> Option<CachedRdd<T>> {
        let retention = self.retention.lock();
        match &retention.persist {
            Some(persist) => persist(rdd),
            // What a stateful operator gives is in memory, or too large for it.
            None if retention.shared && matches!(self.origin, Origin::Input | Origin::Parents) => retention
                .keep_shared
                .as_ref()
                .map_or_else(|| CachedRdd::in_memory_once(rdd), |keep| keep(rdd)),
            None => None,
        }
    }

    fn check_that_it_runs(&self) -> Result<()> {
        let uid =
            self.name.as_ref().map(|name| name.read().uid.clone()).filter(|_| self.retention.lock().idle);
        uid.map_or(Ok(()), |uid| {
            Err(Error::usage(format!(
                "operator `{uid}` does not run: no output operation reads it; add one, or have its stream remember its \
                 RDDs"
            )))
        })
    }

    /// The time of the oldest RDD that is kept.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.generated.lock().first_key_value().map(|(time, _)| *time)
    }

    pub(super) fn is_kept(&self, time: Time) -> bool {
        self.generated.lock().contains_key(&time)
    }

    pub(super) fn times(&self) -> &BatchTimes {
        &self.times
    }

    /// Has the RDD be kept in this way when several operators read it.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipelines are its users"))]
    pub(crate) fn set_keep_shared(&self, keep: Persist<T>) {
        self.retention.lock().keep_shared = Some(keep);
    }

    pub(super) fn set_persist(&self, persist: Persist<T>) {
        self.retention.lock().persist = Some(persist);
    }

    /// The longest of all wishes counts.
    pub(super) fn ask_to_remember(&self, duration: Duration) {
        let mut retention = self.retention.lock();
        retention.remember = retention.remember.max(duration);
    }
}

impl<T: Data> Retained for StreamCore<T> {
    fn share(&self) {
        self.retention.lock().shared = true;
    }

    fn idle(&self) {
        self.retention.lock().idle = true;
    }

    fn remembered(&self) -> Duration {
        self.retention.lock().remember
    }

    fn remember(&self, duration: Duration) {
        self.ask_to_remember(duration);
    }

    fn parents_remember(&self) -> Duration {
        let own = self.remembered();
        match (self.origin, self.node.window()) {
            _ if own <= Duration::ZERO => Duration::ZERO,
            (_, Some(window)) => own + window,
            // Its RDDs stand by themselves.
            (Origin::State, None) => Duration::ZERO,
            _ => own,
        }
    }

    fn forget(&self, time: Time) {
        self.generated.lock().remove(&time);
        *self.failed.lock() = None;
    }

    fn fail(&self, time: Time, error: &Error) {
        *self.failed.lock() = Some(Failed { time, kind: error.kind(), message: error.to_string() });
    }

    fn end(&self, time: Time) {
        if self.remembered() > Duration::ZERO
            && self.origin != Origin::Parents
            // After its batch it cannot be made any more. What has parents can be made from theirs.
            && let Err(error) = self.get_or_compute(time)
        {
            tracing::warn!(batch_time = time.as_millis(), error = %error, "the RDD of a batch is not remembered");
        }
        let persisted = self.retention.lock().persist.is_some();
        if let Some(Generated { cached: Some(cached), .. }) = self.generated.lock().get(&time) {
            // Nobody asked to keep the elements of what is only shared beyond the batch; and what is persisted
            // needs nothing of what it was made from.
            if persisted { cached.seal() } else { cached.release() }
        }
    }

    fn clear(&self, time: Time) {
        let remember = self.remembered();
        self.generated.lock().retain(|t, _| *t > time - remember);
    }
}
