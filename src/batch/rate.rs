//! Backpressure: completed batches say how fast records can be processed, and inputs give no more than that.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::BatchInfo;
use crate::error::{Error, Result};
use crate::source::Input;
use crate::time::{Duration, Time};

/// Backpressure: a batch takes no more records than the last ones were seen to be processed in an interval, so that a
/// backlog, or a slow consumer, makes batches fall behind a little and not ever more (Spark's
/// `spark.streaming.backpressure.*`). On by default.
///
/// The rate is Spark's PID estimate: the last batch's processing rate, less what the batches that wait would have to make
/// up for. It is shared out among a source's partitions in proportion to their lag, and is a limit on Kafka sources that are
/// sliced by arrival and on receivers. Slices by timestamp are never cut. Until two batches with records have completed,
/// the [initial rate](Backpressure::initial_rate) holds.
///
/// ```
/// # fn main() -> tidemill::Result<()> {
/// use tidemill::{Backpressure, StreamingContext};
/// let careful = Backpressure::new().initial_rate(10_000).min_rate(500.0);
/// let ssc = StreamingContext::builder("orders").backpressure(careful).build()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Backpressure {
    pub(crate) enabled: bool,
    pub(crate) initial_rate: Option<u64>,
    pub(crate) proportional: f64,
    pub(crate) integral: f64,
    pub(crate) derived: f64,
    pub(crate) min_rate: f64,
}

impl Default for Backpressure {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_rate: None,
            proportional: 1.0,
            integral: 0.2,
            derived: 0.0,
            min_rate: 100.0,
        }
    }
}

impl Backpressure {
    /// Spark's defaults, and switched on.
    pub fn new() -> Self {
        Self::default()
    }

    /// None: only the fixed limits hold.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// Records per second and source until there is an estimate; no limit unless set (Spark's
    /// `spark.streaming.backpressure.initialRate`). At least 1.
    pub fn initial_rate(mut self, records_per_second: u64) -> Self {
        self.initial_rate = Some(records_per_second);
        self
    }

    /// The weight of how far the rate is from the last batch's processing rate; 1.0 unless set. Not negative.
    pub fn proportional(mut self, weight: f64) -> Self {
        self.proportional = weight;
        self
    }

    /// The weight of what has piled up, told by the scheduling delay; 0.2 unless set. Not negative.
    pub fn integral(mut self, weight: f64) -> Self {
        self.integral = weight;
        self
    }

    /// The weight of how quickly the first of these changes; 0.0 unless set. Not negative.
    pub fn derived(mut self, weight: f64) -> Self {
        self.derived = weight;
        self
    }

    /// The rate never goes below this, in records per second; 100 unless set. More than 0.
    pub fn min_rate(mut self, records_per_second: f64) -> Self {
        self.min_rate = records_per_second;
        self
    }

    /// # Errors
    /// If a number is out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        let weights =
            [("proportional", self.proportional), ("integral", self.integral), ("derived", self.derived)];
        for (name, weight) in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(Error::config(format!(
                    "backpressure: `{name}` is {weight}; expected 0 or a number above it"
                )));
            }
        }
        if !(self.min_rate.is_finite() && self.min_rate > 0.0) {
            return Err(Error::config(format!(
                "backpressure: `min_rate` is {}; expected a number above 0",
                self.min_rate
            )));
        }
        if self.initial_rate == Some(0) {
            return Err(Error::config("backpressure: `initial_rate` must be at least 1"));
        }
        Ok(())
    }
}

/// Spark's `PIDRateEstimator`, with its arithmetic.
#[derive(Debug)]
struct PidRateEstimator {
    interval_millis: f64,
    settings: Backpressure,
    last: Option<Last>,
}

/// What the last batch that was looked at left behind.
#[derive(Debug, Clone, Copy)]
struct Last {
    time: Time,
    rate: f64,
    error: f64,
}

impl PidRateEstimator {
    fn new(interval: Duration, settings: Backpressure) -> Self {
        Self { interval_millis: interval.as_millis() as f64, settings, last: None }
    }

    /// A new rate, after a batch of so many elements ended at `time`. The first call gives none, nor does one that has
    /// nothing to learn from (no elements, no time that passed), which changes nothing.
    fn compute(
        &mut self,
        time: Time,
        elements: u64,
        processing_delay: Duration,
        scheduling_delay: Duration,
    ) -> Option<f64> {
        let has_advanced = self.last.is_none_or(|last| time > last.time);
        if !has_advanced || elements == 0 || processing_delay <= Duration::ZERO {
            return None;
        }
        let processing_rate = elements as f64 / processing_delay.as_millis() as f64 * 1_000.0;
        let Some(last) = self.last else {
            self.last = Some(Last { time, rate: processing_rate, error: 0.0 });
            return None;
        };
        let PidRateEstimator { interval_millis, settings, .. } = self;
        let seconds = (time - last.time).as_secs_f64();
        let error = last.rate - processing_rate;
        // The elements that wait, per batch: what piled up is the integral of the error over time.
        let historical = scheduling_delay.as_millis() as f64 * processing_rate / *interval_millis;
        let derivative = (error - last.error) / seconds;
        let rate = last.rate
            - settings.proportional * error
            - settings.integral * historical
            - settings.derived * derivative;
        let rate = rate.max(settings.min_rate);
        self.last = Some(Last { time, rate, error });
        Some(rate)
    }
}

/// How much an input may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub records_per_second: u64,
    /// For how long a batch may work: what the rate makes in that time is what it takes at most.
    pub working: Duration,
}

/// A commit that took longer (a broker that was away) says nothing of the next one.
const LONGEST_BESIDE: Duration = Duration::millis(500);

/// Sets the rates of all inputs that obey one.
pub(crate) struct RateControllers {
    interval: Duration,
    controllers: Vec<RateController>,
}

struct RateController {
    input: Arc<dyn Input>,
    estimator: PidRateEstimator,
    /// The scheduling delay that processing alone has caused.
    behind: Duration,
    /// For how long a batch may work: the interval, or as long as the last batch with records took for all but its work. Batches
    /// come no more often than they can be committed: those of a short interval, cut to what can be processed in it, would
    /// never catch up.
    working: Duration,
    /// Records per second.
    rate: Option<u64>,
}

impl RateControllers {
    /// Controllers for those of `inputs` that obey a rate, none if it is off. They begin with the initial rate.
    pub fn new(inputs: &[Arc<dyn Input>], interval: Duration, settings: &Backpressure) -> Self {
        let obey = inputs.iter().filter(|input| settings.enabled && input.obeys_rate());
        let controllers = obey.map(|input| {
            if let Some(records_per_second) = settings.initial_rate {
                input.limit_rate(RateLimit { records_per_second, working: interval });
            }
            RateController {
                input: input.clone(),
                estimator: PidRateEstimator::new(interval, settings.clone()),
                behind: Duration::ZERO,
                working: interval,
                rate: settings.initial_rate,
            }
        });
        Self { interval, controllers: controllers.collect() }
    }

    /// Learns from a batch that has succeeded, whose operators and output operations took `working`.
    ///
    /// To ask for offsets and to commit takes as long with one record as with many. Taken for work, it would make a batch of few
    /// records look slow, and the next one smaller still.
    pub fn completed(&mut self, batch: &BatchInfo, working: Duration) {
        let (Some(end), Some(scheduling)) = (batch.processing_end_time, batch.scheduling_delay()) else {
            return;
        };
        for controller in &mut self.controllers {
            let input = batch.stream_id_to_input_info.get(controller.input.uid());
            let elements = input.and_then(|input| input.num_records).unwrap_or(0);
            // So is the delay that commits have caused: to take fewer records would not shorten it.
            let scheduling = scheduling.min(controller.behind);
            controller.behind = (controller.behind + working - controller.working).max(Duration::ZERO);
            let estimate = controller.estimator.compute(end, elements, working, scheduling);
            let before = controller.working;
            if elements > 0 {
                let beside = batch.processing_delay().unwrap_or_default() - working;
                controller.working = beside.min(LONGEST_BESIDE).max(self.interval);
            }
            if estimate.is_none() && controller.working == before {
                continue;
            }
            // Spark, too, drops the fraction.
            let rate = estimate.map(|rate| rate as u64).or(controller.rate);
            if let Some(records_per_second) = rate {
                let limit = RateLimit { records_per_second, working: controller.working };
                tracing::trace!(input = controller.input.uid(), ?limit, elements, "new rate limit");
                controller.rate = rate;
                controller.input.limit_rate(limit);
            }
        }
    }

    /// The limits that hold now, by the input's uid, in records per second.
    pub fn limits(&self) -> BTreeMap<String, u64> {
        let limits = self.controllers.iter().filter_map(|c| Some((c.input.uid().to_owned(), c.rate?)));
        limits.collect()
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
