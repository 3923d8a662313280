//! What follows from what was seen of a source's topics: new partitions and topics are read from their first offset; topics
//! that are gone or were made anew, and records that retention has deleted unread, are lost, and `on_data_loss` says what then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::discovery::Seen;
use super::loss::{DELETED, OVERTAKEN, OnDataLoss, lost_error};
use super::source::{KafkaInput, Offsets, Place};
use super::topic_ids::TopicIds;
use crate::error::Result;
use crate::source::OffsetRange;
use crate::time::Time;

/// How a source's topics are otherwise than they were.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// A partition that was not there, with its first offset.
    New(Place, i64),
    /// The topic has another id.
    Anew {
        topic: Arc<str>,
        was: String,
        is: String,
    },
    Gone(Arc<str>),
    /// The partition begins behind the next offset to read.
    Overtaken(Place, i64),
}

/// What `seen` says that `next` and `ids` do not know.
fn changes(next: &Offsets, ids: &TopicIds, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut anew = Vec::new();
    for (topic, was) in ids {
        if let Some(is) = seen.found.ids.get(topic).filter(|is| *is != was) {
            anew.push(topic.clone());
            changes.push(Change::Anew { topic: topic.clone(), was: was.clone(), is: is.clone() });
        }
    }
    let gone = seen.gone.iter().filter(|topic| next.keys().any(|(own, _)| own == *topic));
    changes.extend(gone.cloned().map(Change::Gone));
    for (place, first) in seen.beginnings.iter().filter(|((topic, _), _)| !anew.contains(topic)) {
        match next.get(place) {
            None => changes.push(Change::New(place.clone(), *first)),
            Some(next) if next < first => changes.push(Change::Overtaken(place.clone(), *first)),
            Some(_) => {}
        }
    }
    changes
}

/// The topics' ids as the checkpoint keeps them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KnownTopics(BTreeMap<String, KnownTopic>);

/// A topic's id, since when it has been that one, and which it was before. It is written down ahead of the batch that
/// first goes by it, which may then not come to be.
#[derive(Debug, Serialize, Deserialize)]
struct KnownTopic {
    id: String,
    since: Time,
    was: Option<String>,
}

impl KnownTopics {
    /// The ids by which the batches up to `last` went.
    fn up_to(self, last: Time) -> TopicIds {
        let id = |known: KnownTopic| if known.since <= last { Some(known.id) } else { known.was };
        self.0.into_iter().filter_map(|(topic, known)| Some((topic.into(), id(known)?))).collect()
    }

    /// What to keep when the ids go from `before` to `now` with the batch `since`.
    fn of(before: &TopicIds, now: &TopicIds, since: Time) -> Self {
        let known = |(topic, id): (&Arc<str>, &String)| {
            let was = before.get(topic).cloned();
            (topic.to_string(), KnownTopic { id: id.clone(), since, was })
        };
        Self(now.iter().map(known).collect())
    }
}

impl KafkaInput {
    fn ids_key(&self) -> Vec<u8> {
        format!("topics/{}", self.uid).into_bytes()
    }

    /// The topics' ids by which the batches up to `last` went, as far as they are known.
    pub(super) fn kept_ids(&self, last: Option<Time>) -> Result<TopicIds> {
        match (&self.db, last) {
            (Some(db), Some(last)) => {
                Ok(db.get::<KnownTopics>(&self.ids_key())?.unwrap_or_default().up_to(last))
            }
            _ => Ok(TopicIds::new()),
        }
    }

    /// Keeps `ids`, by which the batch `since` is the first to go.
    pub(super) fn keep_ids(&self, ids: TopicIds, since: Time) -> Result<()> {
        let before = std::mem::replace(&mut *self.ids.lock(), ids.clone());
        match &self.db {
            // Written before the batch is, so never behind it.
            Some(db) if before != ids => {
                db.put_unsynced(&self.ids_key(), &KnownTopics::of(&before, &ids, since))
            }
            _ => Ok(()),
        }
    }

    /// Whether something was noticed that the next plan has to take in.
    pub(super) fn has_changes(&self) -> bool {
        let is_seen = self.discovery.lock().as_ref().is_some_and(|discovery| discovery.has_news());
        let progress = self.progress.lock();
        let is_shorter =
            |(place, next): (&Place, &i64)| progress.latest.get(place).is_some_and(|latest| latest < next);
        is_seen || self.losses.has_to_latest() || progress.next.iter().any(is_shorter)
    }

    /// Takes in what was noticed of the topics since the last batch, before batch `time` is planned. Not now, if the input is held.
    pub(super) fn adopt_changes(&self, time: Time) -> Result<()> {
        if self.held.load(Ordering::Relaxed) {
            return Ok(());
        }
        let seen = self.discovery.lock().as_ref().and_then(|discovery| discovery.take());
        let to_latest = self.losses.take_to_latest();
        if seen.is_none() && to_latest.is_empty() {
            return Ok(());
        }
        let before = self.progress.lock().next.clone();
        let mut next = before.clone();
        let mut is_anew = false;
        if let Some(seen) = seen {
            is_anew = self.apply(&mut next, &seen, time)?;
        }
        if !to_latest.is_empty() {
            let places: Vec<_> = to_latest.into_iter().filter(|place| next.contains_key(place)).collect();
            let ends = self.reached()?.cluster.ends(&places, self.config.wait)?;
            for ((topic, partition), until) in &ends {
                // What lies between the slice that could not be read and the end is read no more.
                if let Some(from) = next.insert((topic.clone(), *partition), *until) {
                    let (topic, partition, until) = (topic.clone(), *partition, *until);
                    self.losses
                        .note(OffsetRange { topic, partition, from, until: until.max(from) }, OVERTAKEN);
                }
            }
        }
        // A topic that was made anew may go on at the same offset, but not with what was fetched of the former one.
        if is_anew || next != before { self.go_on_at(next) } else { Ok(()) }
    }

    /// Changes `next`, where the partitions are read on, by what `seen` says, from batch `time` on. Tells whether a topic was made
    /// anew.
    ///
    /// # Errors
    /// If something is lost that may not be.
    pub(super) fn apply(&self, next: &mut Offsets, seen: &Seen, time: Time) -> Result<bool> {
        let (mut ids, mut is_anew) = (self.ids.lock().clone(), false);
        // What a stream that ends has to read was decided at its start.
        let takes_new = self.settled_end().is_none();
        for change in changes(next, &ids, seen) {
            match change {
                Change::New((topic, partition), first) if takes_new => {
                    tracing::info!(topic = &*topic, partition, offset = first, "reading a new partition");
                    next.insert((topic, partition), first);
                }
                Change::New(..) => {}
                Change::Anew { topic, was, is } => {
                    let why = format!(
                        "the topic was deleted and made anew (its id is {is} and was {was}), and its offsets stand for \
                         other records now"
                    );
                    self.lose(next, |own| *own == *topic, &why)?;
                    is_anew = true;
                    self.losses.forget(&topic);
                    self.progress.lock().backlog.retain(|(own, _), _| *own != topic);
                    let own = |place: &&Place| place.0 == topic;
                    let places: Vec<_> = seen.found.partitions.iter().filter(own).cloned().collect();
                    next.extend(self.going_on(&places, seen)?);
                }
                Change::Gone(topic) => {
                    self.lose(next, |own| *own == *topic, DELETED)?;
                    self.losses.forget(&topic);
                    ids.remove(&topic);
                }
                Change::Overtaken(place, first) => {
                    let from = next.get(&place).copied().unwrap_or(first);
                    let (topic, partition) = place.clone();
                    let lost = OffsetRange { topic, partition, from, until: first };
                    if self.config.on_data_loss == OnDataLoss::Fail {
                        return Err(lost_error(&lost, OVERTAKEN));
                    }
                    let on = self.going_on(std::slice::from_ref(&place), seen)?;
                    let offset = on.get(&place).copied().unwrap_or(first);
                    self.losses.note(OffsetRange { until: offset, ..lost }, OVERTAKEN);
                    next.extend(on);
                }
            }
        }
        ids.extend(seen.found.ids.clone());
        self.keep_ids(ids, time)?;
        Ok(is_anew)
    }

    /// The partitions of topics that `are_lost` are read no more.
    fn lose(&self, next: &mut Offsets, are_lost: impl Fn(&str) -> bool, why: &str) -> Result<()> {
        let latest = self.progress.lock().latest.clone();
        for (place, from) in next.clone().into_iter().filter(|((topic, _), _)| are_lost(topic)) {
            // As far as it was known to go.
            let until = latest.get(&place).copied().unwrap_or(from).max(from);
            let (topic, partition) = place.clone();
            let lost = OffsetRange { topic, partition, from, until };
            if self.config.on_data_loss == OnDataLoss::Fail {
                return Err(lost_error(&lost, why));
            }
            self.losses.note(lost, why);
            next.remove(&place);
        }
        Ok(())
    }

    /// Where `places` go on behind what is lost.
    fn going_on(&self, places: &[Place], seen: &Seen) -> Result<Offsets> {
        match self.config.on_data_loss {
            OnDataLoss::Latest => self.reached()?.cluster.ends(places, self.config.wait),
            _ => Ok(places.iter().filter_map(|p| Some((p.clone(), *seen.beginnings.get(p)?))).collect()),
        }
    }

    /// Takes in the ends that a plan for batch `time` found. Partitions that have ended before the next offset to read for
    /// so long that they must have been made anew, or have lost records, are gone back to if that is wanted; tells whether
    /// they were.
    pub(super) fn take_in(&self, ends: Offsets, time: Time) -> Result<bool> {
        if self.held.load(Ordering::Relaxed) {
            self.progress.lock().latest.extend(ends);
            return Ok(false);
        }
        let shrunk = self.progress.lock().found(ends);
        if shrunk.is_empty() {
            return Ok(false);
        }
        let mut next = self.progress.lock().next.clone();
        let cluster = self.reached()?.cluster;
        let looked = cluster.look().and_then(|found| {
            let beginnings = cluster.beginnings_known(&found.partitions)?.known;
            Ok((found, beginnings))
        });
        let (found, beginnings) = match looked {
            Ok(looked) => looked,
            // It is looked at again when it has been so for as long once more.
            Err(error) if error.is_retryable() => return Ok(false),
            Err(error) => return Err(error),
        };
        // It was perhaps made anew a moment ago.
        self.apply(&mut next, &Seen { found, beginnings, ..Seen::default() }, time)?;
        for (place, end) in shrunk {
            let Some(from) = next.get_mut(&place).filter(|from| **from > end) else { continue };
            let (topic, partition) = place;
            let why = format!(
                "{topic}-{partition} ends at offset {end}, but this application has read up to {from}"
            );
            let lost = OffsetRange { topic: topic.clone(), partition, from: end, until: *from };
            if self.config.on_data_loss == OnDataLoss::Fail {
                return Err(lost_error(&lost, &why));
            }
            self.losses.note(lost, &why);
            self.losses.forget(&topic);
            *from = end;
        }
        self.go_on_at(next).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kafka::cluster::Found;

    fn place(topic: &str, partition: i32) -> Place {
        (topic.into(), partition)
    }

    fn ids(all: &[(&str, &str)]) -> TopicIds {
        all.iter().map(|(topic, id)| ((*topic).into(), (*id).to_owned())).collect()
    }

    fn seen(beginnings: &[(&str, i32, i64)], known: &[(&str, &str)], gone: &[&str]) -> Seen {
        let beginnings: Offsets = beginnings.iter().map(|(t, p, first)| (place(t, *p), *first)).collect();
        Seen {
            found: Found { partitions: beginnings.keys().cloned().collect(), ids: ids(known) },
            beginnings,
            gone: gone.iter().map(|topic| (*topic).into()).collect(),
        }
    }

    #[test]
    fn changes_are_what_was_not_known() {
        let next: Offsets = [(place("a", 0), 5), (place("b", 0), 7), (place("c", 0), 1)].into();
        let before = ids(&[("a", "1"), ("b", "2")]);
        let same = seen(&[("a", 0, 0), ("b", 0, 7), ("c", 0, 0)], &[("a", "1"), ("b", "2")], &[]);
        assert_eq!(changes(&next, &before, &same), []);

        let other = seen(
            &[("a", 0, 0), ("a", 1, 0), ("b", 0, 8), ("b", 1, 3), ("d", 0, 2)],
            // An id that was not known before says nothing.
            &[("a", "9"), ("b", "2"), ("c", "3"), ("d", "4")],
            &["c", "never read"],
        );
        let expected = [
            Change::Anew { topic: "a".into(), was: "1".into(), is: "9".into() },
            Change::Gone("c".into()),
            Change::Overtaken(place("b", 0), 8),
            Change::New(place("b", 1), 3),
            Change::New(place("d", 0), 2),
        ];
        assert_eq!(changes(&next, &before, &other), expected);
    }

    #[test]
    fn an_id_counts_from_its_batch_on() {
        let t = Time::from_millis;
        let known = || KnownTopics::of(&ids(&[("a", "1")]), &ids(&[("a", "2"), ("b", "3")]), t(10));
        assert_eq!(known().up_to(t(9)), ids(&[("a", "1")]));
        assert_eq!(known().up_to(t(10)), ids(&[("a", "2"), ("b", "3")]));
    }
}
