//! Where a stream ends that does not go on for ever.

use std::collections::BTreeMap;

use super::source::{KafkaInput, Offsets, Place};
use crate::error::{Error, Result};
use crate::time::Time;

/// Where a stream ends. What is read then is decided by a run's start and not kept: run again, a program with `Latest` reads on
/// to what is the end by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the end that each partition has when the context starts.
    Latest,
    /// Before each partition's first record whose timestamp is at or past this time. If it is still to come, the stream runs
    /// until then.
    Timestamp(Time),
    /// Before these offsets, by topic and partition; partitions that are not named end as with `Latest`. What is still to come
    /// is waited for.
    Offsets(BTreeMap<(String, i32), i64>),
}

/// How far a stream with an end has come.
#[derive(Default)]
pub(super) struct Bounds {
    /// Where partitions end, as far as that is known.
    pub at: Offsets,
    /// Whether that is for good; else it is a guess for whoever wants to know how much there is to do.
    pub is_settled: bool,
}

impl KafkaInput {
    /// Finds where the partitions `next` end, which now end at `ends`.
    pub(super) fn find_end(&self, next: &Offsets, ends: &Offsets) -> Result<()> {
        let Some(end) = &self.config.end else { return Ok(()) };
        let mut bounds = Bounds { at: next.clone(), is_settled: true };
        bounds.at.extend(ends.clone());
        match end {
            End::Latest => {}
            End::Offsets(wanted) => {
                for ((topic, partition), offset) in wanted {
                    let place = (topic.as_str().into(), *partition);
                    match bounds.at.get_mut(&place) {
                        Some(end) => *end = *offset,
                        None => {
                            return Err(Error::config(format!(
                                "`end` names {topic}-{partition}, which is not among the partitions that are read"
                            )));
                        }
                    }
                }
            }
            End::Timestamp(time) => {
                bounds.is_settled = false;
                let partitions: Vec<_> = next.keys().cloned().collect();
                bounds.at.extend(self.reached()?.cluster.at_time(&partitions, *time, self.config.wait)?);
            }
        }
        *self.bounds.lock() = bounds;
        Ok(())
    }

    /// `ends`, where the stream goes so far; else its own end. Under `arrival` a time that is over becomes offsets here.
    pub(super) fn within_end(&self, mut ends: Offsets) -> Result<Offsets> {
        let Some(end) = &self.config.end else { return Ok(ends) };
        let mut bounds = self.bounds.lock();
        if let (End::Timestamp(time), false) = (end, bounds.is_settled) {
            let partitions: Vec<_> = ends.keys().cloned().collect();
            let cluster = self.reached()?.cluster;
            let found = cluster.at_time(&partitions, *time, crate::time::Duration::ZERO)?;
            // Of one without a leader nobody knows now where it ends.
            let are_all = self.progress.lock().next.keys().all(|place| ends.contains_key(place));
            bounds.is_settled = !ends.is_empty() && are_all && self.clock.now() >= *time;
            bounds.at = ends.clone();
            bounds.at.extend(found);
        }
        for (place, end) in &mut ends {
            *end = bounds.at.get(place).map_or(*end, |bound| (*end).min(*bound));
        }
        Ok(ends)
    }

    /// The offsets at which partitions end for good, under `timestamp`; with a time as its end, the batches' times say it.
    pub(super) fn settled_end(&self) -> Option<Offsets> {
        match &self.config.end {
            Some(End::Latest | End::Offsets(_)) => Some(self.bounds.lock().at.clone()),
            _ => None,
        }
    }

    /// Whether all up to the end is planned.
    pub(super) fn is_at_end(&self) -> bool {
        if self.config.end.is_none() {
            return false;
        }
        let bounds = self.bounds.lock();
        let next = &self.progress.lock().next;
        let is_done = |(place, next): (&Place, &i64)| bounds.at.get(place).is_none_or(|end| next >= end);
        bounds.is_settled && next.iter().all(is_done)
    }

    /// How many offsets are still to be read up to the end, if there is one.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
    pub(super) fn up_to_end(&self) -> Option<u64> {
        self.config.end.as_ref()?;
        let bounds = self.bounds.lock();
        let next = &self.progress.lock().next;
        let left = |(place, next): (&Place, &i64)| bounds.at.get(place).map_or(0, |end| (end - next).max(0));
        Some(next.iter().map(left).sum::<i64>() as u64)
    }
}
