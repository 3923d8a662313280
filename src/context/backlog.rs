//! Batches that do not wait for the clock: those of a backlog, and those of a log that is followed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::Input;
use crate::time::{Duration, Time};

/// # Errors
/// If some inputs end and others do not: the context would neither stop nor have anything to do.
pub(super) fn check_ends(inputs: &[Arc<dyn Input>]) -> Result<()> {
    let (ending, endless): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.has_end());
    match (ending.first(), endless.first()) {
        (Some(ending), Some(endless)) => Err(Error::config(format!(
            "input `{}` has an end, but `{}` has none: give all sources an end, or none",
            ending.uid(),
            endless.uid()
        ))),
        _ => Ok(()),
    }
}

/// The times of the batches to run again after `last`, if the inputs follow a log.
pub(super) fn followed(inputs: &[Arc<dyn Input>], last: Option<Time>) -> Option<BTreeSet<Time>> {
    let logs: Vec<_> = inputs.iter().filter_map(|input| input.followed()).collect();
    let times = logs.iter().flat_map(|log| log.times()).filter(|time| last.is_none_or(|last| *time > last));
    (!logs.is_empty()).then(|| times.collect())
}

/// Whether the inputs end, and the times of the batches in which their backlog is read, one right after the other.
///
/// These are the last times that have passed, but not before `last`: as if each had been run when it was due. So no batch
/// is ahead of the clock, and the next one is that of the clock. What all of them do not get to, later ones do.
pub(super) fn backlog(
    inputs: &[Arc<dyn Input>],
    last: Option<Time>,
    now: Time,
    interval: Duration,
) -> (bool, impl Iterator<Item = Time> + use<>) {
    let has_end = inputs.iter().any(|input| input.has_end());
    let batches = inputs.iter().map(|input| input.batches_of_backlog()).max().unwrap_or(0);
    // Of a stream that goes on, the clock's next batch has the rest.
    let batches = if has_end { batches } else { batches.saturating_sub(1) };
    (has_end, times(batches, last, now, interval))
}

/// At most `batches` times up to `now` and after `last`.
fn times(
    batches: u64,
    last: Option<Time>,
    now: Time,
    interval: Duration,
) -> impl Iterator<Item = Time> + use<> {
    let until = now.floor(interval);
    let passed =
        last.map_or(i64::MAX, |last| (until - last.floor(interval)).as_millis() / interval.as_millis());
    let count = i64::try_from(batches).unwrap_or(i64::MAX).min(passed).clamp(0, MOST);
    (0..count).rev().map(move |n| until - interval * n)
}

/// More batches than that have the clock catch up with them, whatever the interval.
const MOST: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(batches: u64, last: Option<i64>, now: i64) -> Vec<i64> {
        let at = Time::from_millis;
        let times = times(batches, last.map(at), at(now), Duration::seconds(10));
        times.map(|time| time.as_millis()).collect()
    }

    #[test]
    fn a_backlog_is_read_in_the_last_times_that_have_passed() {
        assert_eq!(seconds(3, None, 57_123), [30_000, 40_000, 50_000]);
        assert_eq!(seconds(3, None, 50_000), [30_000, 40_000, 50_000]);
        assert_eq!(seconds(0, None, 57_123), [0; 0]);
    }

    #[test]
    fn batch_times_only_grow() {
        assert_eq!(seconds(3, Some(30_000), 57_123), [40_000, 50_000]);
        assert_eq!(seconds(3, Some(50_000), 57_123), [0; 0]);
        // A clock that is behind.
        assert_eq!(seconds(3, Some(90_000), 57_123), [0; 0]);
        // The last batch of a graceful stop is up to an interval early; the next one is that of the clock.
        assert_eq!(seconds(9, Some(60_000), 57_123), [0; 0]);
    }
}
