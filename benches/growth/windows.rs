//! Windows that slide by a minute, an hour long or ten days: sums of 1,000 keys, of which 100 records a minute touch some.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::testing::TestContext;
use tidemill::{BatchInfo, RddQueue, StreamingContext, Time, WindowSpec};

use crate::common::{cpu_seconds, quantile, variable};
use crate::support::words::Random;

const KEYS: u64 = 1_000;
const RECORDS: u64 = 100;
const HOUR: u64 = 60;
/// How many slides are measured.
const SLIDES: usize = 600;
const MINUTE: Duration = Duration::from_secs(60);

pub fn measure() {
    let long = variable("BENCH_PANES", 10 * 24 * 60);
    let folder = tempfile::tempdir().unwrap();
    for (form, has_inverse) in [("without an inverse function", false), ("with an inverse function", true)] {
        let mut windows = [HOUR, long].map(|minutes| {
            Window::new(&folder.path().join(format!("{minutes}-{has_inverse}")), minutes, has_inverse)
        });
        // By turns, so that whatever else the machine does weighs on both alike.
        for _ in 0..SLIDES {
            windows.iter_mut().for_each(Window::step);
        }
        let rows = windows.map(|window| (format!("{} minutes", window.minutes), window.end()));
        crate::print(
            &format!("reduce_by_key_and_window {form}, {KEYS} keys, ms per slide"),
            &["median", "its operators", "CPU on average", "p99", "worst"],
            &rows,
        );
    }
}

/// The sums of a window, by key.
type Sums = BTreeMap<u64, u64>;

struct Window {
    minutes: u64,
    test: TestContext,
    last: Arc<Mutex<Sums>>,
    cpu: f64,
    slid: u64,
}

impl Window {
    /// One that is full: every slide from now on, one minute goes.
    fn new(folder: &Path, minutes: u64, has_inverse: bool) -> Self {
        let builder = StreamingContext::builder("bench").batch_interval(MINUTE).checkpoint(folder);
        let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
        let queue = RddQueue::new();
        (1..=minutes + SLIDES as u64).for_each(|minute| queue.push([minute]));
        let pairs = test.ssc.queue_stream(&queue).flat_map(pairs);
        let sum = WindowSpec::reduce(|a: u64, b: u64| a + b);
        let sum = if has_inverse { sum.inverse(|a, b| a - b).filter(|_, n| *n > 0) } else { sum };
        let length = Duration::from_secs(minutes * 60);
        let last = Arc::new(Mutex::new(Sums::new()));
        let kept = last.clone();
        pairs.reduce_by_key_and_window_with(sum, length, MINUTE).unwrap().foreach_rdd(move |rdd| {
            *kept.lock().unwrap() = rdd.collect()?.into_iter().collect();
            tidemill::Result::Ok(())
        });
        test.ssc.start().unwrap();
        (0..minutes).for_each(|_| test.step().unwrap());
        Self { minutes, test, last, cpu: 0.0, slid: minutes }
    }

    fn step(&mut self) {
        let before = cpu_seconds();
        self.test.step().unwrap();
        self.cpu += cpu_seconds() - before;
        self.slid += 1;
    }

    /// Looks whether the last sums are right, and gives what a slide took.
    fn end(self) -> Vec<f64> {
        self.test.ssc.stop(true).unwrap();
        let mut sums = Sums::new();
        let in_window = self.slid - self.minutes + 1..=self.slid;
        in_window.flat_map(pairs).for_each(|(key, n)| *sums.entry(key).or_default() += n);
        assert!(*self.last.lock().unwrap() == sums, "{} minutes: wrong sums", self.minutes);
        let done = self.test.completed_batches();
        let ms = |of: &dyn Fn(&BatchInfo) -> Duration, part| {
            quantile(done[done.len() - SLIDES..].iter().map(|batch| of(batch).as_secs_f64() * 1e3), part)
        };
        let whole = |part| ms(&|batch| batch.processing_duration.unwrap(), part);
        let phase = |name| move |b: &BatchInfo| b.phases.iter().find(|(n, _)| *n == name).unwrap().1;
        vec![whole(0.5), ms(&phase("process"), 0.5), self.cpu * 1e3 / SLIDES as f64, whole(0.99), whole(1.0)]
    }
}

/// The records of a minute.
fn pairs(minute: u64) -> impl Iterator<Item = (u64, u64)> + Send {
    let mut random = Random(minute);
    (0..RECORDS).map(move |_| (random.below(KEYS), 1 + random.below(9)))
}
