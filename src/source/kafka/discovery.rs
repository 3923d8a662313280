//! Looks, on a thread of its own, for what has become of a source's topics: a question that waits for a broker keeps no
//! batch waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use parking_lot::Mutex;

use super::cluster::{Asker, Cluster, Found};
use super::source::Offsets;
use crate::error::{Error, Result};
use crate::time::Clock;

/// A topic counts as deleted when as many looks on end have not seen it: a broker that has just started does not know all.
const MISSING_FOR_GOOD: u32 = 2;

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub found: Found,
    /// The first offsets of the partitions, of those that have a leader now.
    pub beginnings: Offsets,
    /// Topics that were there before and are not any more.
    pub gone: BTreeSet<Arc<str>>,
}

/// The thread that looks. It ends when this is dropped.
pub(super) struct Discovery {
    last: Arc<Mutex<Option<Seen>>>,
    _stop: Sender<()>,
}

impl Discovery {
    /// Looks at `cluster` every discovery interval, whose `topics` are there now.
    pub fn start(cluster: Cluster, clock: Arc<dyn Clock>, topics: BTreeSet<Arc<str>>) -> Result<Self> {
        let (stop, stopped) = channel::<()>();
        let last = Arc::new(Mutex::new(None));
        let seen = last.clone();
        let mut known: BTreeMap<Arc<str>, u32> = topics.into_iter().map(|topic| (topic, 0)).collect();
        let look = move || {
            while stopped.recv_timeout(cluster.config.discovery_interval.to_std())
                == Err(RecvTimeoutError::Timeout)
            {
                let found = look(&cluster, &mut known);
                cluster.away.note(Asker::Look, found.as_ref().map_err(|e| e as _), clock.now());
                match found {
                    Ok(found) => *seen.lock() = Some(found),
                    // Whoever needs the brokers says so.
                    Err(error) => tracing::debug!("{error}"),
                }
            }
        };
        std::thread::Builder::new()
            .name("tidemill-discovery".to_owned())
            .spawn(look)
            .map_err(|e| Error::internal("cannot start the thread tidemill-discovery").with_source(e))?;
        Ok(Self { last, _stop: stop })
    }

    /// Whether there is something to [`take`](Self::take).
    pub fn has_news(&self) -> bool {
        self.last.lock().is_some()
    }

    /// What was seen last, if that was not asked for before.
    pub fn take(&self) -> Option<Seen> {
        self.last.lock().take()
    }
}

fn look(cluster: &Cluster, known: &mut BTreeMap<Arc<str>, u32>) -> Result<Seen> {
    let found = cluster.look()?;
    // One without a leader keeps nobody from hearing of the others.
    let beginnings = cluster.beginnings_known(&found.partitions)?.known;
    let there: BTreeSet<_> = found.partitions.iter().map(|(topic, _)| topic.clone()).collect();
    for topic in &there {
        known.entry(topic.clone()).or_default();
    }
    for (topic, missing) in known.iter_mut() {
        *missing = if there.contains(topic) { 0 } else { *missing + 1 };
    }
    let gone = known.iter().filter(|(_, missing)| **missing >= MISSING_FOR_GOOD);
    Ok(Seen { found, beginnings, gone: gone.map(|(topic, _)| topic.clone()).collect() })
}
