use parking_lot::Mutex;

use super::*;
use crate::batch::StreamInputInfo;
use crate::source::{InputPlan, InputPosition};

fn ms(millis: i64) -> Duration {
    Duration::millis(millis)
}

fn estimator(interval: i64, settings: Backpressure) -> PidRateEstimator {
    PidRateEstimator::new(ms(interval), settings)
}

impl PidRateEstimator {
    fn at(&mut self, time: i64, elements: u64, processing: i64, scheduling: i64) -> Option<f64> {
        self.compute(Time::from_millis(time), elements, ms(processing), ms(scheduling))
    }
}

#[test]
fn nothing_is_estimated_from_the_first_batch_nor_from_one_that_tells_nothing() {
    let mut pid = estimator(1_000, Backpressure::new());
    assert_eq!(pid.at(0, 2_000, 1_000, 0), None);
    // No later than the last one; no elements; no time spent.
    assert_eq!(pid.at(0, 500, 1_000, 0), None);
    assert_eq!(pid.at(-5, 500, 1_000, 0), None);
    assert_eq!(pid.at(1_000, 0, 1_000, 0), None);
    assert_eq!(pid.at(1_000, 500, 0, 0), None);
    assert_eq!(pid.at(1_000, 500, -3, 0), None);
    // None of these has changed anything: the error is 2,000 - 500.
    assert_eq!(pid.at(1_000, 500, 1_000, 0), Some(500.0));
}

#[test]
fn a_first_call_that_tells_nothing_is_no_first_call() {
    let mut pid = estimator(1_000, Backpressure::new());
    assert_eq!(pid.at(0, 0, 1_000, 0), None);
    assert_eq!(pid.at(1_000, 2_000, 1_000, 0), None);
    assert_eq!(pid.at(2_000, 4_000, 1_000, 0), Some(4_000.0));
}

#[test]
fn the_rate_follows_the_processing_rate_less_what_has_piled_up() {
    let mut pid = estimator(1_000, Backpressure::new());
    assert_eq!(pid.at(1_000, 1_000, 500, 0), None);
    // 600 elements in 1.5 s are 400 a second; 500 ms of delay at that rate are 200 elements, a fifth of which is made
    // up for: 2,000 - (2,000 - 400) - 0.2 * 200.
    assert_eq!(pid.at(2_500, 600, 1_500, 500), Some(360.0));
    // 360 in 0.9 s are 400 again, now 1 s late: 360 - (360 - 400) - 0.2 * 400.
    assert_eq!(pid.at(3_400, 360, 900, 1_000), Some(320.0));
    // In time again: 320 - (320 - 400).
    assert_eq!(pid.at(4_200, 320, 800, 0), Some(400.0));
}

#[test]
fn every_weight_has_its_part() {
    let settings = Backpressure::new().proportional(0.5).integral(0.1).derived(0.25).min_rate(1.0);
    let mut pid = estimator(500, settings);
    assert_eq!(pid.at(1_000, 100, 100, 0), None);
    // Rate 800, error 1,000 - 800 = 200, historical 250 * 800 / 500 = 400, derivative (200 - 0) / 2 s = 100:
    // 1,000 - 100 - 40 - 25.
    assert_eq!(pid.at(3_000, 400, 500, 250), Some(835.0));
    // Rate 1,000, error -165, historical 0, derivative (-165 - 200) / 1 s = -365: 835 + 82.5 + 91.25.
    assert_eq!(pid.at(4_000, 100, 100, 0), Some(1_008.75));
}

#[test]
fn the_rate_never_goes_below_its_minimum() {
    let mut pid = estimator(20, Backpressure::new().min_rate(5.0));
    assert_eq!(pid.at(0, 1, 20, 0), None);
    // 1 in 2 s is half of one a second.
    assert_eq!(pid.at(2_000, 1, 2_000, 0), Some(5.0));
    assert_eq!(pid.at(9_000, 1, 20, 7_000), Some(5.0));
}

#[test]
fn numbers_out_of_range_are_errors() {
    for (wrong, name) in [
        (Backpressure::new().proportional(-1.0), "proportional"),
        (Backpressure::new().integral(f64::NAN), "integral"),
        (Backpressure::new().derived(f64::INFINITY), "derived"),
        (Backpressure::new().min_rate(0.0), "min_rate"),
        (Backpressure::new().initial_rate(0), "initial_rate"),
    ] {
        let error = wrong.check().expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
    let zero = Backpressure::new().proportional(0.0).integral(0.0).derived(0.0).min_rate(0.001);
    zero.check().expect("zero is a weight");
}

/// Takes any rate: what it was told of records per second, and of the time that a batch may work.
#[derive(Default)]
struct Obedient(Mutex<Vec<u64>>, Mutex<Vec<Duration>>);

impl Input for Obedient {
    fn uid(&self) -> &str {
        "in"
    }
    fn start(&self, _: Option<&InputPosition>, _: Option<Time>) -> Result<()> {
        Ok(())
    }
    fn plan(&self, _: Time) -> Result<InputPlan> {
        Err(Error::internal("not planned here"))
    }
    fn begin(&self, _: Time, _: &InputPlan) -> Result<()> {
        Ok(())
    }
    fn obeys_rate(&self) -> bool {
        true
    }
    fn limit_rate(&self, limit: RateLimit) {
        self.0.lock().push(limit.records_per_second);
        self.1.lock().push(limit.working);
    }
}

fn batch(due: i64, start: i64, end: i64, records: u64) -> BatchInfo {
    let at = Time::from_millis;
    let mut info = BatchInfo::submitted(at(due), at(due));
    info.processing_start_time = Some(at(start));
    info.processing_end_time = Some(at(end));
    info.planned([StreamInputInfo::new("in", Some(records), String::new())]);
    info
}

fn controllers(interval: i64, settings: &Backpressure) -> (Arc<Obedient>, RateControllers) {
    let input = Arc::new(Obedient::default());
    let controllers = RateControllers::new(&[input.clone() as _], ms(interval), settings);
    (input, controllers)
}

#[test]
fn inputs_begin_at_the_initial_rate_and_follow_completed_batches() {
    let (input, mut rates) = controllers(1_000, &Backpressure::new().initial_rate(50));
    assert_eq!(rates.limits(), [("in".to_owned(), 50)].into());
    rates.completed(&batch(1_000, 1_000, 3_000, 800), ms(2_000));
    // Took 2 s, so the next begins a second late: 400 - 0.2 * 400.
    rates.completed(&batch(2_000, 3_000, 4_000, 400), ms(1_000));
    assert_eq!(*input.0.lock(), [50, 320]);
    assert_eq!(rates.limits(), [("in".to_owned(), 320)].into());
}

#[test]
fn what_is_off_limits_nothing() {
    let (input, mut rates) = controllers(1_000, &Backpressure::off().initial_rate(50));
    rates.completed(&batch(1_000, 1_000, 3_000, 800), ms(2_000));
    rates.completed(&batch(2_000, 3_000, 4_000, 400), ms(1_000));
    assert!(input.0.lock().is_empty() && rates.limits().is_empty());
}

#[test]
fn to_wait_for_a_commit_is_no_work() {
    let (input, mut rates) = controllers(10, &Backpressure::new());
    // Two records take a millisecond, and a commit nine: that is 2,000 a second, not 200.
    rates.completed(&batch(10, 10, 20, 2), ms(1));
    rates.completed(&batch(20, 20, 30, 2), ms(1));
    // A commit takes a second, and a hundred batches wait: to take less would not shorten that.
    rates.completed(&batch(30, 30, 1_031, 20), ms(1));
    rates.completed(&batch(40, 1_031, 1_041, 20), ms(1));
    assert_eq!(*input.0.lock(), [2_000, 20_000, 20_000]);
    // The batch after that one may work for longer than an interval, but not for a second.
    assert_eq!(*input.1.lock(), [ms(10), ms(500), ms(10)]);
    // Work that takes three intervals does count: 10,000 a second, two intervals of which wait. 0.2 * 20 * 10,000 / 10.
    rates.completed(&batch(50, 1_041, 1_071, 300), ms(30));
    rates.completed(&batch(60, 1_071, 1_081, 100), ms(10));
    assert_eq!(input.0.lock()[3..], [10_000, 6_000]);
}

#[test]
fn a_batch_may_work_for_as_long_as_commits_take() {
    let (input, mut rates) = controllers(10, &Backpressure::new());
    // 100 records take 5 ms, offsets and commit 30.
    rates.completed(&batch(10, 10, 45, 100), ms(5));
    rates.completed(&batch(20, 45, 80, 100), ms(5));
    assert_eq!((&*input.0.lock(), &*input.1.lock()), (&vec![20_000], &vec![ms(30)]));
    // Those 30 ms of work have put nothing off: it is 20,000 a second as before.
    rates.completed(&batch(30, 80, 140, 600), ms(30));
    rates.completed(&batch(40, 140, 175, 100), ms(5));
    assert_eq!(input.0.lock()[1..], [20_000, 20_000]);
    // A batch without records tells nothing of commits.
    rates.completed(&batch(50, 175, 175, 0), ms(0));
    rates.completed(&batch(60, 175, 210, 100), ms(5));
    assert_eq!(input.1.lock().last(), Some(&ms(30)));
}
