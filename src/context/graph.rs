//! The graph of operators, as the scheduler sees it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::error::Result;
use crate::sink::Sink;
use crate::sink::files::FileSink;
use crate::source::Input;
use crate::state::{Change, OperatorSchema, StateDb, StateStats};
use crate::time::Time;

/// An operator that remembers: evaluated for all its partitions exactly once per batch.
pub(crate) trait Stateful: Send + Sync {
    /// The stable name that its state belongs to.
    fn uid(&self) -> Arc<str>;

    fn schema(&self) -> OperatorSchema;

    /// Finds its state in `store`, of which `cache` bytes may be in memory.
    fn restore(&self, store: &Arc<StateDb>, cache: usize) -> Result<()>;

    /// Takes in the batch `time`, and gives what that changes in the state. Nobody else sees these changes until
    /// [`committed`](Stateful::committed) or [`discard`](Stateful::discard), one of which has to be called before the next
    /// batch.
    fn evaluate(&self, time: Time) -> Result<Vec<Change>>;

    /// The changes of the last evaluated batch are in the store.
    fn committed(&self);

    /// Forgets what the last evaluated batch changed: it was given up, and may be run again.
    fn discard(&self) -> Result<()>;

    fn stats(&self) -> StateStats;
}

/// A stream whose RDD of a batch is kept if several operators ask for it.
pub(crate) trait Shareable: Send + Sync {
    fn share(&self);
    /// Forgets the RDDs of batches up to `time`.
    fn clear(&self, time: Time);
    /// Forgets the RDD of batch `time`, which is run again.
    fn forget(&self, time: Time);
}

/// What makes a batch do something.
pub(crate) struct OutputOperation {
    pub name: Arc<str>,
    /// The stream that it reads.
    pub stream: usize,
    /// Whether it does something outside that is not taken back with the batch.
    pub is_external: bool,
    pub action: Box<dyn Fn(Time) -> Result<()> + Send + Sync>,
}

impl OutputOperation {
    pub fn run(&self, time: Time) -> Result<()> {
        (self.action)(time)
    }
}

struct Node {
    parents: Vec<usize>,
    stateful: Option<Arc<dyn Stateful>>,
    shareable: Arc<dyn Shareable>,
}

/// Streams are numbered in the order in which they are made, so parents come before their children.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: RwLock<Vec<Node>>,
    inputs: RwLock<Vec<Arc<dyn Input>>>,
    outputs: RwLock<Arc<Vec<OutputOperation>>>,
    sinks: RwLock<Vec<Arc<dyn Sink>>>,
    files: OnceLock<Arc<FileSink>>,
    dead_letters: RwLock<Option<Arc<dyn Sink>>>,
    /// What an output operation can reach, fixed at start.
    reached: RwLock<Arc<Vec<Arc<dyn Stateful>>>>,
    pending_outputs: Mutex<Vec<OutputOperation>>,
    uids: Mutex<BTreeMap<String, usize>>,
    next_node: AtomicUsize,
}

impl Graph {
    /// A uid derived from the operator's place: `map_with_state-1`, `map_with_state-2`, …
    pub fn next_uid(&self, operator: &str) -> String {
        let mut uids = self.uids.lock();
        let n = uids.entry(operator.to_owned()).or_default();
        *n += 1;
        format!("{operator}-{n}")
    }

    /// `uid`, or with a number behind it if there is one of that name already.
    pub fn unique_uid(&self, uid: &str) -> String {
        let numbered = self.next_uid(uid);
        if numbered.ends_with("-1") { uid.to_owned() } else { numbered }
    }

    pub fn next_id(&self) -> usize {
        self.next_node.fetch_add(1, Ordering::Relaxed)
    }

    pub fn add_node(
        &self,
        id: usize,
        parents: Vec<usize>,
        stateful: Option<Arc<dyn Stateful>>,
        shareable: Arc<dyn Shareable>,
    ) {
        let mut nodes = self.nodes.write();
        debug_assert_eq!(nodes.len(), id, "streams are added in the order of their numbers");
        nodes.push(Node { parents, stateful, shareable });
    }

    pub fn add_input(&self, input: Arc<dyn Input>) {
        self.inputs.write().push(input);
    }

    pub fn add_output(&self, operation: OutputOperation) {
        self.pending_outputs.lock().push(operation);
    }

    pub fn add_sink(&self, sink: Arc<dyn Sink>) {
        self.sinks.write().push(sink);
    }

    /// The sink of all files.
    pub fn file_sink(&self) -> Arc<FileSink> {
        let made = || {
            let sink = Arc::new(FileSink::default());
            self.add_sink(sink.clone());
            sink
        };
        self.files.get_or_init(made).clone()
    }

    /// The sink that takes records which could not be decoded.
    pub fn set_dead_letters(&self, sink: Arc<dyn Sink>) {
        *self.dead_letters.write() = Some(sink);
    }

    pub fn dead_letters(&self) -> Option<Arc<dyn Sink>> {
        self.dead_letters.read().clone()
    }

    /// Fixes the graph: what outputs reach is evaluated, and what several operators read is kept.
    pub fn freeze(&self) {
        let outputs = std::mem::take(&mut *self.pending_outputs.lock());
        let nodes = self.nodes.read();
        let mut readers = vec![0usize; nodes.len()];
        for output in &outputs {
            readers[output.stream] += 1;
        }
        // Children have greater numbers than their parents, so one pass from the end finds all.
        for id in (0..nodes.len()).rev() {
            if readers[id] > 0 {
                for parent in &nodes[id].parents {
                    readers[*parent] += 1;
                }
            }
        }
        let reached =
            nodes.iter().zip(&readers).filter(|(_, n)| **n > 0).filter_map(|(node, _)| node.stateful.clone());
        *self.reached.write() = Arc::new(reached.collect());
        for (node, readers) in nodes.iter().zip(&readers) {
            if *readers > 1 {
                node.shareable.share();
            }
        }
        *self.outputs.write() = Arc::new(outputs);
    }

    pub fn outputs(&self) -> Arc<Vec<OutputOperation>> {
        self.outputs.read().clone()
    }

    /// The stateful operators that an output operation reaches, parents before children.
    pub fn stateful(&self) -> Arc<Vec<Arc<dyn Stateful>>> {
        self.reached.read().clone()
    }

    pub fn inputs(&self) -> Vec<Arc<dyn Input>> {
        self.inputs.read().clone()
    }

    pub fn sinks(&self) -> Vec<Arc<dyn Sink>> {
        self.sinks.read().clone()
    }

    /// Brings everything to where it was before batch `time`, which is run again.
    pub fn forget(&self, time: Time) -> Result<()> {
        self.nodes.read().iter().for_each(|node| node.shareable.forget(time));
        self.stateful().iter().try_for_each(|operator| operator.discard())
    }

    /// Forgets the RDDs of batches up to `time`.
    pub fn clear(&self, time: Time) {
        for node in self.nodes.read().iter() {
            node.shareable.clear(time);
        }
    }
}
