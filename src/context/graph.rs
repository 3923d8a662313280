//! The graph of operators, as the scheduler sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::dstream::StateName;
use crate::error::{Error, Result};
use crate::rdd::Operator;
use crate::sink::Sink;
use crate::sink::files::FileSink;
use crate::source::Input;
use crate::state::{Change, OperatorSchema, StateDb, StateStats, Wanted};
use crate::time::{Duration, Time};

/// An operator that remembers: evaluated for all its partitions exactly once per batch.
pub(crate) trait Stateful: Send + Sync {
    fn name(&self) -> &StateName;

    /// The stable name that its state belongs to.
    fn uid(&self) -> Arc<str> {
        self.name().read().uid()
    }

    fn schema(&self) -> OperatorSchema;

    /// Finds its state in `store`, as the batch `last` left it; `cache` bytes of it may be in memory.
    fn restore(&self, store: &Arc<StateDb>, last: Option<Time>, cache: usize) -> Result<()>;

    /// Takes in the batch `time`, and gives what that changes in the state. Nobody else sees these changes until
    /// [`committed`](Stateful::committed) or [`discard`](Stateful::discard). The next batch may be given before: it waits for
    /// [its turn](crate::batch::Turn) before it looks at the state.
    fn evaluate(&self, time: Time) -> Result<Vec<Change>>;

    /// The changes of the last evaluated batch are in the store.
    fn committed(&self);

    /// Forgets what the last evaluated batch changed: it was given up, and may be run again.
    fn discard(&self) -> Result<()>;

    fn stats(&self) -> StateStats;

    /// The first time after the batch `after` at which it has something to do if no record comes; none if it never has.
    /// May be earlier than that, but must depend on nothing else than what it holds.
    fn next_due(&self, after: Time) -> Option<Time> {
        (self.stats().keys > 0).then_some(after)
    }
}

/// A stream whose RDDs are kept: for their batch, or longer.
pub(crate) trait Retained: Send + Sync {
    /// Several operators read it.
    fn share(&self);

    /// It comes from a stateful operator that nothing makes run.
    fn idle(&self);

    /// For how long it has to remember its RDDs.
    fn remembered(&self) -> Duration;

    /// Makes that `duration`, at least.
    fn remember(&self, duration: Duration);

    /// For how long its parents have to, so that it can.
    fn parents_remember(&self) -> Duration;

    /// The work of batch `time` is done: makes what is to be remembered of it, if it can only be made now, and lets go of
    /// elements that were kept for it alone.
    fn end(&self, time: Time);

    /// Batch `time` is over: forgets the RDDs that need not be remembered longer.
    fn clear(&self, time: Time);

    /// Forgets the RDD of batch `time`, which is run again.
    fn forget(&self, time: Time);

    /// Gives `error` in place of the RDD of batch `time`.
    fn fail(&self, time: Time, error: &Error);
}

/// Which batches there have been since the start.
#[derive(Default)]
pub(crate) struct BatchTimes(RwLock<Progress>);

#[derive(Default)]
struct Progress {
    /// The first of the batches that came in an unbroken row up to the latest.
    since: Option<Time>,
    /// The same before the latest began.
    since_before: Option<Time>,
    latest: Option<Time>,
    running: bool,
}

impl BatchTimes {
    fn begin(&self, time: Time, interval: Duration) {
        let mut progress = self.0.write();
        match progress.latest {
            Some(latest) if time == latest => {}
            // The next one had run ahead.
            Some(latest) if time < latest => progress.since = progress.since_before,
            latest => {
                progress.since_before = progress.since;
                // A batch that was run again after a start may be long past when the next one comes.
                if latest.is_none_or(|latest| latest + interval != time) {
                    progress.since = Some(time);
                }
            }
        }
        progress.latest = Some(time);
        progress.running = true;
    }

    fn end(&self) {
        self.0.write().running = false;
    }

    /// The first and the last of the latest batches, if one has begun.
    pub fn range(&self) -> Option<(Time, Time)> {
        let progress = self.0.read();
        progress.since.zip(progress.latest)
    }

    /// Runs `body`, which makes what can be made only while batch `time` runs.
    pub fn while_running<R>(&self, time: Time, body: impl FnOnce() -> Result<R>) -> Result<R> {
        // `body` may ask in its turn, while the next batch waits to begin.
        let progress = self.0.read_recursive();
        match progress.latest {
            Some(latest) if latest == time && progress.running => body(),
            Some(latest) if latest >= time => {
                let age = latest - time;
                Err(Error::usage(format!(
                    "the data of batch {time} is gone, the latest batch is {latest}: call `remember` on the stream or the \
                     context before start, with more than {age}"
                )))
            }
            _ => Err(Error::usage(format!("batch {time} has not begun"))),
        }
    }
}

/// What makes a batch do something.
pub(crate) struct OutputOperation {
    pub name: Arc<str>,
    /// Where the program made it.
    pub description: Arc<str>,
    /// The stream that it reads, and how far apart that stream's RDDs are.
    pub stream: usize,
    pub slide: Duration,
    /// Whether it does something outside that is not taken back with the batch.
    pub is_external: bool,
    pub action: Box<dyn Fn(Time) -> Result<()> + Send + Sync>,
}

impl OutputOperation {
    pub fn run(&self, time: Time) -> Result<()> {
        Operator::named(&self.name).make(|| (self.action)(time))
    }
}

/// An operator of the graph, as those see it who look at it from outside.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "the streaming page asks for it"))]
pub(crate) struct OperatorInfo {
    /// In the order in which they were made.
    pub id: usize,
    pub operator: Arc<str>,
    /// What the pipeline file calls its stream.
    pub name: Option<Arc<str>>,
    pub parents: Vec<usize>,
    pub slide: Duration,
    /// Under which its state is kept, if it keeps any.
    pub uid: Option<Arc<str>>,
    /// Whether an output operation reaches it.
    pub runs: bool,
}

struct Node {
    operator: Arc<str>,
    name: Option<Arc<str>>,
    slide: Duration,
    runs: bool,
    parents: Vec<usize>,
    stateful: Option<Arc<dyn Stateful>>,
    retained: Arc<dyn Retained>,
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
    /// Where records go that cannot be used.
    dead_letter_topics: Mutex<BTreeSet<String>>,
    /// What an output operation can reach, fixed at start.
    reached: RwLock<Arc<Vec<Arc<dyn Stateful>>>>,
    pending_outputs: Mutex<Vec<OutputOperation>>,
    uids: Mutex<BTreeMap<String, usize>>,
    next_node: AtomicUsize,
    times: Arc<BatchTimes>,
    /// For how long every stream that an output operation reads remembers its RDDs.
    remember: Mutex<Duration>,
    next_receiver: AtomicUsize,
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

    pub fn next_receiver(&self) -> usize {
        self.next_receiver.fetch_add(1, Ordering::Relaxed)
    }

    pub fn add_node(
        &self,
        id: usize,
        operator: &str,
        slide: Duration,
        parents: Vec<usize>,
        stateful: Option<Arc<dyn Stateful>>,
        retained: Arc<dyn Retained>,
    ) {
        let mut nodes = self.nodes.write();
        debug_assert_eq!(nodes.len(), id, "streams are added in the order of their numbers");
        nodes.push(Node {
            operator: operator.into(),
            name: None,
            slide,
            runs: false,
            parents,
            stateful,
            retained,
        });
    }

    /// Says what the pipeline file calls the stream `id`.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "pipelines are its users"))]
    pub fn name_stream(&self, id: usize, name: &str) {
        if let Some(node) = self.nodes.write().get_mut(id) {
            node.name = Some(name.into());
        }
    }

    /// All operators, in the order in which they were made: parents come before their children.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "the streaming page asks for it"))]
    pub fn operators(&self) -> Vec<OperatorInfo> {
        let nodes = self.nodes.read();
        let info = |(id, node): (usize, &Node)| OperatorInfo {
            id,
            operator: node.operator.clone(),
            name: node.name.clone(),
            parents: node.parents.clone(),
            slide: node.slide,
            uid: node.stateful.as_ref().map(|stateful| stateful.uid()),
            runs: node.runs,
        };
        nodes.iter().enumerate().map(info).collect()
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

    /// Says that records which cannot be used go to `topic`.
    pub fn add_dead_letter_topic(&self, topic: &str) {
        self.dead_letter_topics.lock().insert(topic.to_owned());
    }

    /// Tells the sink which topics it is to have ready.
    ///
    /// # Errors
    /// If there is no sink.
    pub fn announce_dead_letter_topics(&self) -> Result<()> {
        for topic in &*self.dead_letter_topics.lock() {
            match self.dead_letters() {
                Some(sink) => sink.add_dead_letter_topic(topic),
                None => {
                    return Err(Error::config(format!(
                        "bad records are to go to topic `{topic}`, and there is no sink to take them there: make one with \
                         `kafka_sink`"
                    )));
                }
            }
        }
        Ok(())
    }

    pub fn dead_letters(&self) -> Option<Arc<dyn Sink>> {
        self.dead_letters.read().clone()
    }

    pub fn times(&self) -> Arc<BatchTimes> {
        self.times.clone()
    }

    /// The longest of all wishes counts.
    pub fn remember(&self, duration: Duration) {
        let mut remember = self.remember.lock();
        *remember = duration.max(*remember);
    }

    /// Fixes the graph: what outputs reach is evaluated, what several operators read is kept for its batch, and
    /// streams that others need remember their RDDs for as long.
    pub fn freeze(&self) {
        let outputs = std::mem::take(&mut *self.pending_outputs.lock());
        let mut nodes = self.nodes.write();
        let mut readers = vec![0usize; nodes.len()];
        for output in &outputs {
            readers[output.stream] += 1;
        }
        // Children have greater numbers than their parents, so one pass from the end finds all.
        for (id, node) in nodes.iter().enumerate().rev() {
            if readers[id] > 0 {
                node.retained.remember(*self.remember.lock());
            }
            // What a stateful operator gives can be remembered only if it runs.
            let runs =
                readers[id] > 0 || node.stateful.is_some() && node.retained.remembered() > Duration::ZERO;
            if !runs && node.stateful.is_some() {
                node.retained.idle();
            }
            for parent in &node.parents {
                nodes[*parent].retained.remember(node.retained.parents_remember());
                readers[*parent] += usize::from(runs);
            }
        }
        let runs = |node: &Node, readers: usize| readers > 0 || node.retained.remembered() > Duration::ZERO;
        let reached = nodes.iter().zip(&readers).filter(|(node, n)| runs(node, **n));
        *self.reached.write() = Arc::new(reached.filter_map(|(node, _)| node.stateful.clone()).collect());
        for (node, readers) in nodes.iter_mut().zip(&readers) {
            if *readers > 1 {
                node.retained.share();
            }
            node.runs = *readers > 0;
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

    /// The first time after the batch `after` at which a stateful operator has something to do if no record comes.
    pub fn next_due(&self, after: Time) -> Option<Time> {
        self.stateful().iter().filter_map(|operator| operator.next_due(after)).min()
    }

    /// What the operators that run want to find in the store.
    pub fn wanted(&self) -> Vec<Wanted> {
        let wanted = |operator: &Arc<dyn Stateful>| {
            let (uid, was) = (operator.uid(), operator.name().read().was());
            Wanted { uid, was, schema: operator.schema() }
        };
        self.stateful().iter().map(wanted).collect()
    }

    pub fn inputs(&self) -> Vec<Arc<dyn Input>> {
        self.inputs.read().clone()
    }

    pub fn sinks(&self) -> Vec<Arc<dyn Sink>> {
        self.sinks.read().clone()
    }

    /// Brings everything to where it was before batch `time`, which is run again.
    pub fn forget(&self, time: Time) -> Result<()> {
        self.nodes.read().iter().for_each(|node| node.retained.forget(time));
        self.stateful().iter().try_for_each(|operator| operator.discard())
    }

    /// The stateful `operator` could not take in batch `time`: whoever reads it gets the error.
    pub fn fail(&self, operator: &Arc<dyn Stateful>, time: Time, error: &Error) {
        let nodes = self.nodes.read();
        let is_it = |node: &Node| node.stateful.as_ref().is_some_and(|own| Arc::ptr_eq(own, operator));
        let Some(id) = nodes.iter().position(is_it) else { return };
        // Views of its state read the operator itself, not its stream.
        let readers = nodes.iter().filter(|node| node.parents.contains(&id) && node.stateful.is_none());
        readers.chain([&nodes[id]]).for_each(|node| node.retained.fail(time, error));
    }

    /// The inputs give batch `time` from now on.
    pub fn begin(&self, time: Time, interval: Duration) {
        self.times.begin(time, interval);
    }

    /// The work of batch `time` is done: nothing more can be made of what the inputs gave it.
    pub fn end(&self, time: Time) {
        self.nodes.read().iter().for_each(|node| node.retained.end(time));
        self.times.end();
    }

    /// Nothing is made of the running batch until one begins.
    pub fn close(&self) {
        self.times.end();
    }

    /// Batch `time` is over: forgets the RDDs that need not be remembered longer.
    pub fn clear(&self, time: Time) {
        self.nodes.read().iter().for_each(|node| node.retained.clear(time));
    }
}
