//! The partitions' leaders, and connections to them that nobody uses at the moment.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use super::Trouble;
use super::connection::{Connection, Node};
use super::settings::Settings;
use crate::rdd::Runner;
use crate::source::OffsetRange;
use crate::source::kafka::{Client, error_text};

/// How long the question for the leaders may take.
const REQUEST: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) struct Brokers {
    /// Knows the cluster. Leaders are asked for only when a fetch finds that it does not know them.
    asking: Arc<Client>,
    settings: Arc<Settings>,
    runner: Arc<Runner>,
    leaders: Mutex<HashMap<Arc<str>, HashMap<i32, Node>>>,
    idle: Mutex<HashMap<Node, Vec<Connection>>>,
}

impl Brokers {
    pub fn new(asking: Arc<Client>, settings: Settings, runner: Arc<Runner>) -> Self {
        Self {
            asking,
            settings: Arc::new(settings),
            runner,
            leaders: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// A connection to the leader of the partition of `range`. It may still wait for a response that nobody wants.
    pub fn lease(&self, range: &OffsetRange) -> Result<Connection, Trouble> {
        let node = self.leader(range)?;
        match self.idle(&node) {
            Some(connection) => Ok(connection),
            None => Connection::open(&node, &self.settings, &self.runner),
        }
    }

    /// As [`lease`](Self::lease), if the leader is known and there is a connection that nobody uses.
    pub fn lease_idle(&self, range: &OffsetRange) -> Option<Connection> {
        self.idle(&self.known_leader(range)?)
    }

    fn idle(&self, node: &Node) -> Option<Connection> {
        let idle = self.idle.lock().get_mut(node).and_then(Vec::pop);
        idle.filter(Connection::is_fresh)
    }

    /// Takes a connection back that is still of use.
    pub fn give_back(&self, connection: Connection) {
        self.idle.lock().entry(connection.node.clone()).or_default().push(connection);
    }

    /// Says that the leaders of a topic are no longer those that were known, and closes unused connections to them.
    pub fn forget(&self, topic: &str) {
        let forgotten = self.leaders.lock().remove(topic);
        let mut idle = self.idle.lock();
        for node in forgotten.into_iter().flat_map(HashMap::into_values) {
            idle.remove(&node);
        }
    }

    /// The leader of the partition of `range`, if that is known without asking.
    pub fn known_leader(&self, range: &OffsetRange) -> Option<Node> {
        self.leaders.lock().get(&range.topic)?.get(&range.partition).cloned()
    }

    /// The leader of the partition of `range`.
    pub fn leader(&self, range: &OffsetRange) -> Result<Node, Trouble> {
        let unknown = || Trouble::lost(format!("{}-{} has no leader now", range.topic, range.partition));
        if let Some(known) = self.leaders.lock().get(&range.topic) {
            return known.get(&range.partition).cloned().ok_or_else(unknown);
        }
        // Not under the lock: while brokers are away, each would wait for all who asked before it.
        if self.runner.is_cancelled() {
            return Err(Trouble::GivenUp);
        }
        let metadata = self
            .asking
            .fetch_metadata(Some(&range.topic), REQUEST)
            .map_err(|e| Trouble::lost(format!("cannot ask for the leaders: {}", error_text(&e))))?;
        let nodes: HashMap<i32, Node> = metadata
            .brokers()
            .iter()
            .filter_map(|b| {
                Some((b.id(), Node { host: b.host().to_owned(), port: u16::try_from(b.port()).ok()? }))
            })
            .collect();
        let topic = metadata.topics().iter().find(|topic| topic.name() == &*range.topic);
        let partitions = topic.map_or(&[][..], |topic| topic.partitions());
        let is_other = |error| RDKafkaErrorCode::from(error) != RDKafkaErrorCode::UnknownTopicOrPartition;
        let is_there = partitions.iter().any(|partition| partition.id() == range.partition);
        if !is_there && !topic.and_then(|topic| topic.error()).is_some_and(is_other) {
            return Err(Trouble::Unheard);
        }
        let found: HashMap<i32, Node> =
            partitions.iter().filter_map(|p| Some((p.id(), nodes.get(&p.leader())?.clone()))).collect();
        let leader = found.get(&range.partition).cloned().ok_or_else(unknown)?;
        self.leaders.lock().insert(range.topic.clone(), found);
        Ok(leader)
    }
}
