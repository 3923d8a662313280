//! What the page and REST know of batches: a listener that keeps the last ones, within bounds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::broadcast;

use crate::batch::{BatchInfo, OutputOperationInfo, ReceiverInfo, StreamingListener};
use crate::source::PartitionLag;
use crate::state::StateStats;
use crate::time::{Clock, Duration, Time};

/// Batches whose times and figures are kept.
pub(super) const BATCHES: usize = 10_000;
/// Offset ranges, slices and output operations that are kept over all batches: with many partitions, fewer batches have
/// their details. About 50 MB.
const DETAILS: usize = 400_000;
/// Waiting batches that are listed; of more than these only their number is known.
const WAITING: usize = 100;
/// Events that a follower may be behind before it has to ask for everything again.
const EVENTS: usize = 1_024;

/// What became of a batch, as Spark's page calls it, and one word more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Status {
    Queued,
    Processing,
    Completed,
    Failed,
}

/// Something that happened, for those who follow.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Submitted,
    Started(Arc<Batch>),
    Completed(Arc<Batch>),
    Receiver,
}

/// A batch, and what became of it.
#[derive(Debug)]
pub(super) struct Batch {
    pub status: Status,
    pub info: BatchInfo,
    /// Output operations that are over and failed; of a batch whose details are gone, too.
    pub failed_operations: usize,
    pub operations: usize,
    /// Whether offset ranges, inputs and operations are still there.
    pub detailed: bool,
}

impl Batch {
    fn new(status: Status, info: BatchInfo) -> Self {
        let failed_operations = info.output_operations.iter().filter(|o| o.failure.is_some()).count();
        let operations = info.output_operations.len();
        Self { status, info, failed_operations, operations, detailed: true }
    }

    fn details(&self) -> usize {
        let info = &self.info;
        info.offset_ranges.len()
            + info.slices.len()
            + info.output_operations.len()
            + info.operator_records.len()
    }

    /// What is left of a batch when its details are too many: its times and figures, and why it failed.
    fn without_details(&self) -> Self {
        let mut info = self.info.clone();
        info.offset_ranges = Vec::new();
        info.slices = Vec::new();
        info.operator_records = Vec::new();
        info.output_operations = Vec::new();
        info.stream_id_to_input_info = BTreeMap::new();
        Self { info, detailed: false, ..*self }
    }
}

/// Sums since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub completed: u64,
    pub failed: u64,
    pub records: u64,
}

/// What is known at a moment.
#[derive(Default)]
pub(super) struct Known {
    pub started: Option<Time>,
    pub interval: Option<Duration>,
    /// The first of those that wait, and how many do.
    pub queued: VecDeque<Arc<Batch>>,
    pub waiting: usize,
    /// The oldest first: one may begin while the one before it is being committed.
    pub running: Vec<Arc<Batch>>,
    /// The oldest first.
    pub batches: VecDeque<Arc<Batch>>,
    /// How many at the end of `batches` have their details, and how many details these are.
    detailed: usize,
    details: usize,
    pub totals: Totals,
    pub lag: Vec<PartitionLag>,
    /// When `lag` was found out.
    pub lag_at: Option<Time>,
    pub state: Vec<(Arc<str>, StateStats)>,
    /// What each operator gave in the last batch, and since the start.
    pub operators: BTreeMap<usize, (u64, u64)>,
    pub receivers: BTreeMap<usize, ReceiverInfo>,
    /// When something was last done, or there was nothing to do.
    pub alive: Option<Time>,
}

/// The last batches, and what was last known of everything else.
pub(super) struct History {
    clock: Arc<dyn Clock>,
    pub known: RwLock<Known>,
    events: broadcast::Sender<Event>,
}

impl History {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: RwLock::default(), events: broadcast::Sender::new(EVENTS) }
    }

    /// What happens from now on.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

impl Known {
    /// The batch `time`, whatever became of it.
    pub fn batch(&self, time: Time) -> Option<Arc<Batch>> {
        if let Ok(at) = self.batches.binary_search_by_key(&time, |batch| batch.info.batch_time) {
            return Some(self.batches[at].clone());
        }
        self.running.iter().chain(&self.queued).find(|batch| batch.info.batch_time == time).cloned()
    }

    fn change_running(&mut self, time: Time, change: impl FnOnce(&mut Vec<OutputOperationInfo>)) {
        let Some(running) = self.running.iter_mut().find(|running| running.info.batch_time == time) else {
            return;
        };
        let mut info = running.info.clone();
        change(&mut info.output_operations);
        *running = Arc::new(Batch::new(Status::Processing, info));
    }

    fn keep(&mut self, batch: Arc<Batch>) {
        // A batch that is run again after a failure has the time of the one that failed.
        while self.batches.back().is_some_and(|last| last.info.batch_time >= batch.info.batch_time) {
            self.batches.pop_back();
            self.detailed = self.detailed.saturating_sub(1);
        }
        self.details += batch.details();
        self.detailed += 1;
        self.batches.push_back(batch);
        if self.batches.len() > BATCHES
            && let Some(oldest) = self.batches.pop_front()
            && oldest.detailed
        {
            self.details -= oldest.details().min(self.details);
            self.detailed -= 1;
        }
        while self.details > DETAILS && self.detailed > 1 {
            let at = self.batches.len() - self.detailed;
            self.details -= self.batches[at].details().min(self.details);
            self.batches[at] = Arc::new(self.batches[at].without_details());
            self.detailed -= 1;
        }
    }

    fn no_longer_queued(&mut self, time: Time) {
        while self.queued.front().is_some_and(|batch| batch.info.batch_time <= time) {
            self.queued.pop_front();
        }
    }
}

impl StreamingListener for History {
    fn name(&self) -> &str {
        "the streaming page"
    }

    fn streaming_started(&self, time: Time, batch_interval: Duration) {
        let mut known = self.known.write();
        known.started = Some(time);
        known.interval = Some(batch_interval);
    }

    fn receiver_started(&self, receiver: &ReceiverInfo) {
        self.known.write().receivers.insert(receiver.stream_id, receiver.clone());
        self.tell(Event::Receiver);
    }

    fn receiver_error(&self, receiver: &ReceiverInfo) {
        self.receiver_started(receiver);
    }

    fn receiver_stopped(&self, receiver: &ReceiverInfo) {
        self.receiver_started(receiver);
    }

    fn batch_submitted(&self, batch: &BatchInfo, waiting: usize) {
        let mut known = self.known.write();
        known.waiting = waiting;
        if known.queued.len() < WAITING {
            known.queued.push_back(Arc::new(Batch::new(Status::Queued, batch.clone())));
        }
        drop(known);
        self.tell(Event::Submitted);
    }

    fn batch_skipped(&self, _: Time) {
        self.known.write().alive = Some(self.now());
    }

    fn batch_started(&self, batch: &BatchInfo, waiting: usize) {
        let batch = Arc::new(Batch::new(Status::Processing, batch.clone()));
        let mut known = self.known.write();
        known.waiting = waiting;
        known.no_longer_queued(batch.info.batch_time);
        known.running.retain(|running| running.info.batch_time != batch.info.batch_time);
        known.running.push(batch.clone());
        drop(known);
        self.tell(Event::Started(batch));
    }

    fn output_operation_started(&self, operation: &OutputOperationInfo) {
        self.known
            .write()
            .change_running(operation.batch_time, |operations| operations.push(operation.clone()));
    }

    fn output_operation_completed(&self, operation: &OutputOperationInfo) {
        self.known.write().change_running(operation.batch_time, |operations| {
            if let Some(own) = operations.iter_mut().find(|own| own.id == operation.id) {
                *own = operation.clone();
            }
        });
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        let mut info = batch.clone();
        let (lag, state) = (std::mem::take(&mut info.lag), std::mem::take(&mut info.state));
        let failed = info.failure.is_some();
        let batch = Arc::new(Batch::new(if failed { Status::Failed } else { Status::Completed }, info));
        let now = self.now();
        let mut guard = self.known.write();
        let known = &mut *guard;
        known.no_longer_queued(batch.info.batch_time);
        known.running.retain(|running| running.info.batch_time != batch.info.batch_time);
        if failed {
            known.totals.failed += 1;
        } else {
            known.totals.completed += 1;
            known.totals.records += batch.info.num_records;
            known.lag = lag;
            known.lag_at = Some(now);
            known.state = state;
            known.alive = Some(now);
            known.operators.values_mut().for_each(|(last, _)| *last = 0);
            for (operator, records) in &batch.info.operator_records {
                let (last, total) = known.operators.entry(*operator).or_default();
                (*last, *total) = (*records, *total + records);
            }
        }
        known.keep(batch.clone());
        drop(guard);
        self.tell(Event::Completed(batch));
    }
}
