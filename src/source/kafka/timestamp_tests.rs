//! Where batches end, on partitions that are given as their records' timestamps.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

const MAX_FUTURE: i64 = 10;
const GRACE: i64 = 5;
/// A record without a timestamp.
const NONE: i64 = -1;

/// Partitions by the timestamps of their records; a partition's offsets are even numbers, so that there are gaps.
struct Log {
    partitions: Vec<Vec<i64>>,
    looked_at: Cell<usize>,
}

fn log(partitions: &[&[i64]]) -> Log {
    Log { partitions: partitions.iter().map(|p| p.to_vec()).collect(), looked_at: Cell::new(0) }
}

fn ms(millis: i64) -> Time {
    Time::from_millis(millis)
}

fn place(partition: usize) -> Place {
    ("in".into(), partition as i32)
}

impl Log {
    fn ends(&self) -> Offsets {
        self.partitions.iter().enumerate().map(|(p, records)| (place(p), records.len() as i64 * 2)).collect()
    }

    fn peek(&self, range: &OffsetRange, visit: &mut dyn FnMut(i64, Option<i64>) -> bool) -> Result<()> {
        let records = self.partitions[range.partition as usize].iter().enumerate();
        for (offset, at) in records.map(|(n, at)| (n as i64 * 2, *at)) {
            if (range.from..range.until).contains(&offset) {
                self.looked_at.set(self.looked_at.get() + 1);
                if visit(offset, Some(at).filter(|at| *at != NONE)) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A reader of logs, with its planner.
struct Reader {
    cuts: Cuts,
    next: Offsets,
    bounds: Offsets,
}

impl Reader {
    fn new(partitions: usize) -> Self {
        let cuts = Cuts::new(Duration::millis(MAX_FUTURE), Duration::millis(GRACE), None);
        Self { cuts, bounds: Offsets::new(), next: (0..partitions).map(|p| (place(p), 0)).collect() }
    }

    fn look(&mut self, log: &Log, time: i64, now: i64) -> Interval {
        let peek = |range: &OffsetRange, _: Time, visit: &mut dyn FnMut(i64, Option<i64>) -> bool| {
            log.peek(range, visit)
        };
        self.cuts.look(&self.next, (&log.ends(), &self.bounds), ms(time), ms(now), &peek).unwrap()
    }

    /// The timestamps of the batch `time`, by partition; none while it is open.
    fn batch(&mut self, log: &Log, time: i64, now: i64) -> Option<Vec<Vec<i64>>> {
        match self.look(log, time, now) {
            Interval::Open => None,
            Interval::Closed { has_records, .. } => {
                let InputPlan::Offsets(ranges) = self.cuts.plan(ms(time)).unwrap() else { panic!() };
                let batch = ranges.iter().map(|range| {
                    let place = (range.topic.clone(), range.partition);
                    assert_eq!(
                        self.next.insert(place, range.until),
                        Some(range.from),
                        "{range} does not follow"
                    );
                    let record = |offset: i64| (offset % 2 == 0).then_some(offset as usize / 2);
                    let numbers = (range.from..range.until).filter_map(record);
                    numbers.map(|n| log.partitions[range.partition as usize][n]).collect::<Vec<_>>()
                });
                let batch: Vec<Vec<i64>> = batch.collect();
                assert_eq!(has_records, batch.iter().any(|records| !records.is_empty()), "batch {time}");
                Some(batch)
            }
        }
    }

    /// The batches of one partition, ten milliseconds each, long after they were there.
    fn batches(log: &Log, times: &[i64]) -> Vec<Vec<i64>> {
        let mut reader = Reader::new(1);
        times.iter().map(|time| reader.batch(log, *time, 1_000).unwrap().remove(0)).collect()
    }
}

#[test]
fn a_batch_ends_before_the_first_record_at_or_past_its_time() {
    let log = log(&[&[1, 9, 10, 19, 20, 20, 35]]);
    let expected = [vec![1, 9], vec![10, 19], vec![20, 20], vec![35]];
    assert_eq!(Reader::batches(&log, &[10, 20, 30, 40]), expected);
    // Nothing is looked at twice.
    assert_eq!(log.looked_at.get(), 7);
}

#[test]
fn an_older_record_belongs_to_the_batch_of_its_offset() {
    let log = log(&[&[1, 12, 3, 9, 21, 11, 22]]);
    assert_eq!(Reader::batches(&log, &[10, 20, 30]), [vec![1], vec![12, 3, 9], vec![21, 11, 22]]);
}

#[test]
fn a_record_without_a_timestamp_goes_with_the_one_before() {
    let log = log(&[&[NONE, 1, NONE, 12, NONE, NONE, 21]]);
    let expected = [vec![NONE, 1, NONE], vec![12, NONE, NONE], vec![21]];
    assert_eq!(Reader::batches(&log, &[10, 20, 30]), expected);
}

#[test]
fn a_record_from_the_future_goes_with_the_one_before_and_ends_nothing() {
    let mut reader = Reader::new(1);
    // The clock shows 12: up to 22 is believed.
    let mut log = log(&[&[1, 23, 2]]);
    assert_eq!(reader.batch(&log, 10, 12), None);
    log.partitions[0].push(22);
    assert_eq!(reader.batch(&log, 10, 12), Some(vec![vec![1, 23, 2]]));
    // Nothing is left of it once it was passed over, whatever the clock says then.
    log.partitions[0].extend([24, 31]);
    assert_eq!(reader.batch(&log, 20, 26), Some(vec![vec![]]));
    assert_eq!(reader.batch(&log, 30, 31), Some(vec![vec![22, 24]]));
}

#[test]
fn a_batch_waits_for_each_partition_until_the_grace_is_over() {
    let mut reader = Reader::new(2);
    let mut log = log(&[&[1, 11], &[2]]);
    assert_eq!(reader.batch(&log, 10, 10), None);
    assert_eq!(reader.batch(&log, 10, 14), None);
    log.partitions[1].push(3);
    // What is there at the end of the grace belongs to the batch, what comes later to the next one.
    assert_eq!(reader.batch(&log, 10, 15), Some(vec![vec![1], vec![2, 3]]));
    log.partitions[1].extend([4, 20]);
    log.partitions[0].push(20);
    assert_eq!(reader.batch(&log, 20, 20), Some(vec![vec![11], vec![4]]));
}

#[test]
fn a_closed_interval_tells_how_long_nothing_follows() {
    let mut reader = Reader::new(2);
    let both = log(&[&[55, 42], &[47]]);
    let quiet = |has_records, until| Interval::Closed { has_records, quiet_until: ms(until) };
    assert_eq!(reader.look(&both, 10, 100), quiet(false, 47));
    // A partition that has shown nothing may still show what is not late.
    let one = log(&[&[55], &[]]);
    assert_eq!(Reader::new(2).look(&one, 10, 50), quiet(false, 45));
    assert_eq!(Reader::new(2).look(&one, 10, 12), Interval::Open);
}

#[test]
fn the_first_record_is_that_of_the_partition_that_begins_first() {
    let first = |log: &Log, now| {
        let reader = Reader::new(log.partitions.len());
        let peek = |range: &OffsetRange, _: Time, visit: &mut dyn FnMut(i64, Option<i64>) -> bool| {
            log.peek(range, visit)
        };
        reader.cuts.first(&reader.next, &log.ends(), ms(now), &peek).unwrap().map(Time::as_millis)
    };
    assert_eq!(first(&log(&[&[], &[40, 20], &[NONE, 30]]), 100), Some(30));
    assert_eq!(first(&log(&[&[111], &[40]]), 100), Some(40));
    assert_eq!(first(&log(&[&[111, 50], &[]]), 100), Some(50));
    assert_eq!(first(&log(&[&[], &[NONE]]), 100), None);
}

#[test]
fn a_partition_whose_end_is_not_known_keeps_its_batch_open() {
    let mut reader = Reader::new(2);
    let both = log(&[&[11], &[12]]);
    let mut ends = both.ends();
    ends.remove(&place(1));
    let peek = |range: &OffsetRange, _: Time, visit: &mut dyn FnMut(i64, Option<i64>) -> bool| {
        both.peek(range, visit)
    };
    let seen = reader.cuts.look(&reader.next, (&ends, &Offsets::new()), ms(10), ms(1_000), &peek).unwrap();
    assert_eq!(seen, Interval::Open);
    assert!(reader.cuts.plan(ms(10)).is_err());
}

/// Timestamps that rise on the whole, with older ones and missing ones among them.
fn timestamps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![4 => 0i64..8, 1 => -20i64..0, 1 => Just(i64::MIN)];
    prop::collection::vec(step, 0..60).prop_map(|steps| {
        let mut at = 20i64;
        let record = |step| match step {
            i64::MIN => NONE,
            step => {
                at += step;
                at.max(0)
            }
        };
        steps.into_iter().map(record).collect()
    })
}

/// Cuts by hand: before the first record at or past each time.
fn by_hand(partition: &[i64], times: &[i64]) -> Vec<Vec<i64>> {
    let mut rest = partition;
    times
        .iter()
        .map(|time| {
            let (batch, after) = rest.split_at(rest.iter().position(|at| at >= time).unwrap_or(rest.len()));
            rest = after;
            batch.to_vec()
        })
        .collect()
}

#[test]
fn what_stands_behind_the_last_batch_is_what_may_be_fetched_ahead() {
    let log = log(&[&[1, 12, 25], &[3, 4]]);
    let mut reader = Reader::new(2);
    assert_eq!(reader.cuts.rest(&log.ends()), []);
    assert_eq!(reader.batch(&log, 10, 1_000), Some(vec![vec![1], vec![3, 4]]));
    // Of the second partition there is nothing.
    let range = |from, until| OffsetRange { topic: "in".into(), partition: 0, from, until };
    assert_eq!(reader.cuts.rest(&log.ends()), [range(2, 6)]);
    assert_eq!(reader.batch(&log, 20, 1_000), Some(vec![vec![12], vec![]]));
    assert_eq!(reader.cuts.rest(&log.ends()), [range(4, 6)]);
    // An end that nobody knows now.
    assert_eq!(reader.cuts.rest(&Offsets::new()), []);
}

proptest! {
    /// However slowly records come, and however often somebody looks, batches are the same as with all there.
    #[test]
    fn the_pace_does_not_matter(
        partitions in prop::collection::vec(timestamps(), 1..4),
        arrivals in prop::collection::vec((0usize..4, 1usize..9), 0..80),
    ) {
        let times: Vec<i64> = (1..30).map(|n| n * 10).collect();
        // What every partition has shown is closed without a grace.
        let shown = partitions.iter().map(|p| p.iter().max().copied().unwrap_or(NONE)).min().unwrap();
        let closed: Vec<i64> = times.iter().copied().filter(|time| *time <= shown).collect();
        let expected: Vec<_> = partitions.iter().map(|partition| by_hand(partition, &closed)).collect();

        let whole = Log { partitions: partitions.clone(), looked_at: Cell::new(0) };
        let mut log = Log { partitions: vec![Vec::new(); partitions.len()], looked_at: Cell::new(0) };
        let (mut at_once, mut slowly) = (Reader::new(partitions.len()), Reader::new(partitions.len()));
        // Nothing is from the future.
        slowly.cuts.max_future = Duration::millis(1_000);
        let rest = (0..partitions.len()).map(|p| (p, usize::MAX));
        let mut batches = closed.iter();
        let mut open = batches.next();
        for (partition, count) in arrivals.into_iter().chain(rest) {
            let Some(all) = partitions.get(partition) else { continue };
            let there = log.partitions[partition].len();
            log.partitions[partition].extend(&all[there..there.saturating_add(count).min(all.len())]);
            // The clock stands at the batch's time, so no grace is over.
            while let Some(time) = open && let Some(batch) = slowly.batch(&log, *time, *time) {
                let number = closed.iter().position(|closed| closed == time).unwrap();
                let by_hand: Vec<_> = expected.iter().map(|batches| batches[number].clone()).collect();
                prop_assert_eq!(&batch, &by_hand, "batch {}", time);
                prop_assert_eq!(at_once.batch(&whole, *time, 10_000), Some(by_hand), "batch {} at once", time);
                open = batches.next();
            }
        }
        prop_assert_eq!(open, None, "all batches are closed in the end");
    }
}
