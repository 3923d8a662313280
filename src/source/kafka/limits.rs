//! How many records of each partition a batch may take.

use std::collections::BTreeMap;

use super::source::{Offsets, Place};
use crate::batch::RateLimit;
use crate::time::Duration;

/// What a record is taken to have as long as none was seen: the first batch of a backlog is small rather than too large.
const UNSEEN_BYTES: f64 = 16.0 * 1024.0;

/// The limits of one source.
pub(super) struct Limits<'a> {
    pub interval: Duration,
    /// Of all partitions together, by backpressure.
    pub rate: Option<RateLimit>,
    /// Records per second.
    pub max_rate_per_partition: Option<u64>,
    /// Records per batch.
    pub min_per_partition: u64,
    pub max_records: u64,
    pub max_bytes: u64,
    /// How large the records were lately.
    pub record_bytes: &'a BTreeMap<Place, f64>,
}

impl Limits<'_> {
    /// How many records of each partition a batch takes of what `lag` says is there.
    ///
    /// Each gets the part of the rate that its lag is of the whole (as Spark's direct stream does it), and of the
    /// batch's caps the part that is left of the rest. One that has anything gets on, however small its part.
    pub fn share(&self, lag: &Offsets) -> Offsets {
        let total: i64 = lag.values().sum();
        let records = |rate: u64, time: Duration| rate as f64 * time.as_secs_f64();
        let by_rate = lag.iter().map(|(place, lag)| {
            let max = self.max_rate_per_partition.map(|rate| records(rate, self.interval));
            let part = self
                .rate
                .map(|limit| *lag as f64 / total as f64 * records(limit.records_per_second, limit.working));
            let most = match (part, max) {
                // Of no lag at all there are no parts.
                (Some(part), max) if part.is_finite() => Some(max.map_or(part, |max| max.min(part))),
                (_, max) => max,
            };
            let count = most.map_or(*lag, |most| {
                let least = i64::try_from(self.min_per_partition).unwrap_or(i64::MAX);
                (most as i64).max(least).min(*lag)
            });
            (place.clone(), count)
        });
        let mut counts: Offsets = by_rate.collect();
        let records: f64 = counts.values().map(|count| *count as f64).sum();
        shrink(&mut counts, self.max_records as f64 / records);
        let bytes = |(place, count): (&_, &i64)| {
            *count as f64 * self.record_bytes.get(place).copied().unwrap_or(UNSEEN_BYTES).max(1.0)
        };
        let bytes: f64 = counts.iter().map(bytes).sum();
        shrink(&mut counts, self.max_bytes as f64 / bytes);
        counts
    }

    /// As [`share`](Self::share), if no partition has so little that more of it would be taken if there were more.
    pub fn share_of_plenty(&self, lag: &Offsets) -> Option<Offsets> {
        let counts = self.share(lag);
        let is_plenty = |(place, lag)| counts.get(place) < Some(lag);
        (!lag.is_empty() && lag.iter().all(is_plenty)).then_some(counts)
    }
}

/// Takes only `part` of each count, at least one.
fn shrink(counts: &mut Offsets, part: f64) {
    // Not so if it is no number, for want of anything to take.
    if part < 1.0 {
        for count in counts.values_mut().filter(|count| **count > 0) {
            *count = ((*count as f64 * part) as i64).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lag(of: &[i64]) -> Offsets {
        (0..).zip(of).map(|(partition, lag)| (("t".into(), partition), *lag)).collect()
    }

    static UNSEEN: BTreeMap<Place, f64> = BTreeMap::new();

    fn limits() -> Limits<'static> {
        Limits {
            interval: Duration::millis(500),
            rate: None,
            max_rate_per_partition: None,
            min_per_partition: 1,
            max_records: u64::MAX,
            max_bytes: u64::MAX,
            record_bytes: &UNSEEN,
        }
    }

    fn rate(records_per_second: u64) -> Option<RateLimit> {
        Some(RateLimit { records_per_second, working: Duration::millis(500) })
    }

    fn share(limits: &Limits<'_>, of: &[i64]) -> Vec<i64> {
        limits.share(&lag(of)).into_values().collect()
    }

    #[test]
    fn without_limits_all_is_taken() {
        assert_eq!(share(&limits(), &[5, 0, 1_000_000]), [5, 0, 1_000_000]);
    }

    #[test]
    fn the_rate_is_shared_out_in_proportion_to_the_lag() {
        let limits = Limits { rate: rate(1_000), ..limits() };
        // Half a second of 1,000 a second; 0.5 * 1/7 * 1,000 is cut to 71.
        assert_eq!(share(&limits, &[300, 100, 300]), [214, 71, 214]);
        assert_eq!(share(&limits, &[700, 0]), [500, 0]);
        // More than there is.
        assert_eq!(share(&limits, &[40, 60]), [40, 60]);
    }

    #[test]
    fn a_partitions_own_rate_cuts_its_share() {
        let limits = Limits { rate: rate(1_000), max_rate_per_partition: Some(500), ..limits() };
        assert_eq!(share(&limits, &[9_000, 1_000]), [250, 50]);
        let limits = Limits { rate: None, ..limits };
        assert_eq!(share(&limits, &[9_000, 100]), [250, 100]);
    }

    #[test]
    fn a_batch_takes_what_can_be_processed_while_it_may_work() {
        let longer = Some(RateLimit { records_per_second: 1_000, working: Duration::millis(800) });
        let limits = Limits { rate: longer, ..limits() };
        assert_eq!(share(&limits, &[900, 100, 0]), [720, 80, 0]);
        // A limit that the user has set is per interval.
        let limits = Limits { max_rate_per_partition: Some(500), ..limits };
        assert_eq!(share(&limits, &[900, 100]), [250, 80]);
    }

    #[test]
    fn a_small_share_is_raised_to_the_minimum_of_a_batch() {
        let limits = Limits { rate: rate(100), ..limits() };
        assert_eq!(share(&limits, &[1_000_000, 5]), [49, 1]);
        let limits = Limits { min_per_partition: 10, ..limits };
        assert_eq!(share(&limits, &[1_000_000, 5, 100, 0]), [49, 5, 10, 0]);
    }

    #[test]
    fn no_lag_at_all_is_no_division_by_zero() {
        let limits = Limits { rate: rate(100), max_rate_per_partition: Some(10), ..limits() };
        assert_eq!(share(&limits, &[0, 0]), [0, 0]);
        assert!(limits.share(&Offsets::new()).is_empty());
    }

    #[test]
    fn a_batch_has_no_more_records_than_it_may() {
        let limits = Limits { max_records: 100, ..limits() };
        assert_eq!(share(&limits, &[300, 100]), [75, 25]);
        assert_eq!(share(&limits, &[100_000, 1]), [99, 1]);
        // The rate comes first: 50 and 350 of 400.
        let limits = Limits { rate: rate(800), max_records: 200, ..limits };
        assert_eq!(share(&limits, &[1_000, 7_000]), [25, 175]);
    }

    #[test]
    fn plenty_is_what_no_batch_takes_all_of() {
        let limits = Limits { max_records: 100, ..limits() };
        let share =
            |of: &[i64]| limits.share_of_plenty(&lag(of)).map(|counts| counts.into_values().collect());
        assert_eq!(share(&[300, 100]), Some(vec![75, 25]));
        // Perhaps more has come there.
        assert_eq!(share(&[300, 0]), None);
        assert_eq!(share(&[1_000, 1]), None);
        assert_eq!(share(&[60, 40]), None);
        assert_eq!(share(&[]), None);
    }

    #[test]
    fn a_batch_has_no_more_bytes_than_it_may_as_far_as_sizes_are_known() {
        let sizes = [(("t".into(), 0), 1_000.0), (("t".into(), 1), 10.0)].into();
        let limits = Limits { max_bytes: 101_000, record_bytes: &sizes, ..limits() };
        assert_eq!(share(&limits, &[100, 100]), [100, 100]);
        assert_eq!(share(&limits, &[1_000, 1_000]), [100, 100]);
        // Sixteen kilobytes for what was never seen.
        let limits = Limits { max_bytes: 1 << 20, record_bytes: &UNSEEN, ..limits };
        assert_eq!(share(&limits, &[1_000_000]), [64]);
    }

    proptest! {
        #[test]
        fn caps_hold_and_who_has_records_gets_on(
            of in proptest::collection::vec(0..1_000_000_i64, 1..20),
            of_second in proptest::option::of(0..1_000_000_u64),
            max_records in 20..100_000_u64,
            least in 1..5_u64,
        ) {
            let limits = Limits { rate: of_second.and_then(rate), max_records, min_per_partition: least, ..limits() };
            let counts = share(&limits, &of);
            for (count, lag) in counts.iter().zip(&of) {
                prop_assert!(count <= lag);
                prop_assert_eq!(*count > 0, *lag > 0);
            }
            // Those that would have got nothing get one.
            let raised = of.len() as i64;
            prop_assert!(counts.iter().sum::<i64>() <= max_records as i64 + raised);
        }
    }
}
