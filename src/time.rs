//! Batch times, durations and the clock. The only module that asks the operating system for the time.
#![allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]

use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

/// A point in time, in milliseconds since the Unix epoch; most often a *batch time* (Spark's `Time`).
///
/// The batch of time *t* and interval *i* stands for `[t - i, t)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// The Unix epoch.
    pub const ZERO: Time = Time(0);

    /// The point `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The last multiple of `step` that is not after this time.
    pub const fn floor(self, step: Duration) -> Self {
        Self(self.0.div_euclid(step.0) * step.0)
    }

    /// Whether this time is a whole multiple of `step` since the epoch. Slides are aligned so.
    pub const fn is_multiple_of(self, step: Duration) -> bool {
        self.0.rem_euclid(step.0) == 0
    }
}

/// As Spark prints it: `1700000000000 ms`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, other: Duration) -> Time {
        Time(self.0.saturating_add(other.0))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, other: Duration) -> Time {
        Time(self.0.saturating_sub(other.0))
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, other: Time) -> Duration {
        Duration(self.0.saturating_sub(other.0))
    }
}

/// A length of time in whole milliseconds (Spark's `Duration`).
///
/// Wherever the library takes a duration it takes [`std::time::Duration`] too.
///
/// ```
/// use tidemill::Duration;
/// assert_eq!(Duration::seconds(30), std::time::Duration::from_secs(30).into());
/// assert_eq!(Duration::minutes(10).to_string(), "10m");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(i64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// `n` milliseconds.
    pub const fn millis(n: i64) -> Self {
        Self(n)
    }

    /// `n` seconds.
    pub const fn seconds(n: i64) -> Self {
        Self(n * 1_000)
    }

    /// `n` minutes.
    pub const fn minutes(n: i64) -> Self {
        Self(n * 60_000)
    }

    /// Whole milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds, with their fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// Whether this is a whole multiple of `step`.
    pub const fn is_multiple_of(self, step: Duration) -> bool {
        step.0 != 0 && self.0 % step.0 == 0
    }

    /// The greatest common divisor of both.
    pub const fn gcd(self, other: Duration) -> Duration {
        let (mut a, mut b) = (self.0.abs(), other.0.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Duration(a)
    }

    /// The same length as the standard library's type; nothing for a negative one.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0) as u64)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(d: std::time::Duration) -> Self {
        Self(i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
}

/// As it is written in a pipeline file: `250ms`, `10s`, `5m`, `24h`, `10d`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match UNITS.iter().find(|(ms, _)| self.0 != 0 && self.0 % ms == 0) {
            Some((ms, unit)) => write!(f, "{}{unit}", self.0 / ms),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Add for Duration {
    type Output = Duration;
    fn add(self, other: Duration) -> Duration {
        Duration(self.0.saturating_add(other.0))
    }
}

impl Sub for Duration {
    type Output = Duration;
    fn sub(self, other: Duration) -> Duration {
        Duration(self.0.saturating_sub(other.0))
    }
}

impl Mul<i64> for Duration {
    type Output = Duration;
    fn mul(self, n: i64) -> Duration {
        Duration(self.0.saturating_mul(n))
    }
}

/// Where the engine gets its time from: the system's clock, or one that a test moves by hand.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Time;

    /// Waits until `time` has come, `give_up` says so when the clock is woken, or the clock is set back.
    fn wait_until(&self, time: Time, give_up: &dyn Fn() -> bool);

    /// Makes every waiting thread look at its `give_up` again.
    fn wake(&self);
}

/// The operating system's clock.
#[derive(Default)]
pub struct SystemClock {
    waiting: Mutex<()>,
    woken: Condvar,
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        // A clock before 1970 is a broken machine; batch times then start at the epoch.
        Time(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64))
    }

    fn wait_until(&self, time: Time, give_up: &dyn Fn() -> bool) {
        // A clock that is set while somebody waits wakes nobody.
        const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
        let mut guard = self.waiting.lock();
        let mut last = self.now();
        while !give_up() {
            let now = self.now();
            let left = time - now;
            if left <= Duration::ZERO || now < last {
                return;
            }
            last = now;
            self.woken.wait_for(&mut guard, left.to_std().min(LOOK));
        }
    }

    fn wake(&self) {
        let _guard = self.waiting.lock();
        self.woken.notify_all();
    }
}

/// A clock that stands still until it is moved, for tests.
///
/// ```
/// use tidemill::{Clock, Duration, ManualClock, Time};
/// let clock = ManualClock::new(Time::from_millis(1_000));
/// clock.advance(Duration::seconds(2));
/// assert_eq!(clock.now(), Time::from_millis(3_000));
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    shared: Arc<(Mutex<Time>, Condvar)>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Time) -> Self {
        Self { shared: Arc::new((Mutex::new(now), Condvar::new())) }
    }

    /// Moves the clock on by `by`, waking whoever waits for a time that has come.
    pub fn advance(&self, by: impl Into<Duration>) {
        let mut now = self.shared.0.lock();
        *now = *now + by.into();
        self.shared.1.notify_all();
    }

    /// Sets the clock to `now`.
    pub fn set(&self, now: Time) {
        *self.shared.0.lock() = now;
        self.shared.1.notify_all();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.shared.0.lock()
    }

    fn wait_until(&self, time: Time, give_up: &dyn Fn() -> bool) {
        let mut now = self.shared.0.lock();
        let mut last = *now;
        while *now < time && *now >= last && !give_up() {
            last = *now;
            self.shared.1.wait(&mut now);
        }
    }

    fn wake(&self) {
        let _guard = self.shared.0.lock();
        self.shared.1.notify_all();
    }
}

/// Measures how long something took; unlike [`Clock`] it never goes backwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> std::time::Duration {
        self.0.elapsed()
    }
}

/// Lets `duration` pass before something outside is asked again.
pub(crate) fn pause(duration: std::time::Duration) {
    std::thread::sleep(duration);
}
