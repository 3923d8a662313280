//! A receiver as an input: a batch is the blocks that came since the last one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::blocks::{Block, Blocks, decode_block};
use super::rate::RateLimiter;
use super::supervisor::Supervisor;
use super::{Receiver, ReceiverSettings};
use crate::batch::{ListenerBus, RateLimit};
use crate::codec::Stored;
use crate::dstream::DStreamNode;
use crate::error::{Error, Result};
use crate::rdd::{AtRecord, Flow, Rdd, RddNode, Runner, TaskContext, push_all_of};
use crate::source::{Input, InputPlan, InputPosition};
use crate::state::StateDb;
use crate::time::{Clock, Duration, Time};

pub(crate) struct ReceiverInput<T> {
    supervisor: Arc<Supervisor<T>>,
    interval: Duration,
    runner: Arc<Runner>,
    current: Mutex<BTreeMap<Time, Vec<Block<T>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// A graceful stop has begun: what was received is still to be processed.
    draining: AtomicBool,
}

/// What the context gives each of its receivers.
pub(crate) struct ReceiverParts {
    pub uid: String,
    pub stream_id: usize,
    pub settings: ReceiverSettings,
    pub interval: Duration,
    pub runner: Arc<Runner>,
    pub clock: Arc<dyn Clock>,
    pub listeners: Arc<ListenerBus>,
    pub db: Option<Arc<StateDb>>,
}

impl<T: Stored> ReceiverInput<T> {
    pub fn new(receiver: impl Receiver<T>, parts: ReceiverParts) -> Self {
        let ReceiverParts { uid, stream_id, settings, interval, runner, clock, listeners, db } = parts;
        let supervisor = Arc::new(Supervisor {
            stream_id,
            name: receiver.name().into(),
            receiver: Arc::new(receiver),
            blocks: Blocks::new(uid, db, settings.memory),
            limiter: RateLimiter::new(settings.max_rate),
            clock,
            listeners,
            block_interval: settings.block_interval,
            stopping: AtomicBool::new(false),
            last_error: Mutex::default(),
        });
        let (current, thread, draining) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { supervisor, interval, runner, current, thread, draining }
    }
}

impl<T: Stored> Input for ReceiverInput<T> {
    fn uid(&self) -> &str {
        &self.supervisor.blocks.uid
    }

    fn start(&self, restored: Option<&InputPosition>, _: Option<Time>) -> Result<()> {
        let position = match restored {
            None => None,
            Some(InputPosition::Blocks(next)) => Some(*next),
            Some(_) => return Err(other_kind(self.uid(), "position")),
        };
        self.supervisor.blocks.recover(position)?;
        let mut thread = self.thread.lock();
        if !self.supervisor.is_stopping() {
            *thread = Some(self.supervisor.spawn()?);
        }
        Ok(())
    }

    fn plan(&self, _: Time) -> Result<InputPlan> {
        let (blocks, records) = self.supervisor.blocks.plan().map_err(|e| e.within(self.uid()))?;
        Ok(InputPlan::Blocks { from: blocks.start, until: blocks.end, records })
    }

    fn begin(&self, time: Time, plan: &InputPlan) -> Result<()> {
        let InputPlan::Blocks { from, until, .. } = plan else {
            return Err(other_kind(self.uid(), "plan"));
        };
        let blocks = self.supervisor.blocks.begin(*from..*until)?;
        *self.current.lock() = BTreeMap::from([(time, blocks)]);
        Ok(())
    }

    fn finished(&self, plan: &InputPlan) -> Result<()> {
        match plan {
            InputPlan::Blocks { from, until, .. } => self.supervisor.blocks.finished(*from..*until),
            _ => Err(other_kind(self.uid(), "plan")),
        }
    }

    fn stop(&self, gracefully: bool) {
        if !self.supervisor.stopping.swap(true, Ordering::AcqRel) {
            self.draining.store(gracefully, Ordering::Release);
        } else if !gracefully {
            self.draining.store(false, Ordering::Release);
        }
        self.supervisor.clock.wake();
        let thread = self.thread.lock().take();
        // A listener that stops the context may be called on the supervisor's own thread.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the supervisor of receiver `{}` panicked", self.supervisor.name);
        }
    }

    fn obeys_rate(&self) -> bool {
        true
    }

    fn limit_rate(&self, limit: RateLimit) {
        self.supervisor.limiter.limit(limit.records_per_second);
    }

    fn has_unplanned(&self) -> bool {
        self.draining.load(Ordering::Acquire) && self.supervisor.blocks.has_unplanned()
    }
}

impl<T: Stored> DStreamNode<T> for ReceiverInput<T> {
    fn slide(&self) -> Duration {
        self.interval
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<T>>> {
        let blocks = self.current.lock().get(&time).cloned().unwrap_or_default();
        // An RDD that outlives its batch shall not keep the checkpoint open for nothing.
        let on_disk = blocks.iter().any(|block| block.elements.is_none());
        let Blocks { uid, db, .. } = &self.supervisor.blocks;
        let rdd = BlockRdd { uid: uid.clone(), db: db.clone().filter(|_| on_disk), blocks };
        Ok(Some(Rdd::new(&self.runner, rdd)))
    }
}

/// One partition per block.
struct BlockRdd<T> {
    uid: String,
    db: Option<Arc<StateDb>>,
    blocks: Vec<Block<T>>,
}

impl<T: Stored> BlockRdd<T> {
    fn read(&self, number: u64) -> Result<Vec<u8>> {
        let encoded = match &self.db {
            Some(db) => db.block(&self.uid, number)?,
            None => None,
        };
        encoded.ok_or_else(|| {
            Error::checkpoint(format!(
                "block {number} of input `{}` is gone from the checkpoint: it is kept until its batch is committed",
                self.uid
            ))
        })
    }
}

impl<T: Stored> RddNode<T> for BlockRdd<T> {
    fn num_partitions(&self) -> usize {
        self.blocks.len()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn compute(&self, partition: usize, _: &TaskContext, emit: &mut dyn FnMut(T) -> Flow) -> Flow {
        let block = &self.blocks[partition];
        let place = || format!("block {} of input `{}`", block.number, self.uid);
        match &block.elements {
            Some(elements) => push_all_of(elements, &place, emit),
            None => {
                let at = Cell::new(0);
                let _record = AtRecord(|| format!("element {} of {}", at.get(), place()));
                decode_block(&self.read(block.number)?).enumerate().try_for_each(|(number, element)| {
                    at.set(number);
                    emit(element.map_err(|e| e.within(place()))?)
                })
            }
        }
    }
}

fn other_kind(uid: &str, what: &str) -> Error {
    Error::checkpoint(format!(
        "input `{uid}` is a receiver, but the checkpoint holds another input's {what} for it"
    ))
}
