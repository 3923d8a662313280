//! A limit on how fast a receiver stores.

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::time::{Clock, Time};

const NANOS_PER_MILLI: i64 = 1_000_000;
const SECOND: i64 = 1_000 * NANOS_PER_MILLI;

/// Lets elements through at a steady rate by the context's clock. What a quiet time left unused is made up for, as far as
/// the last second goes.
pub(super) struct RateLimiter {
    /// Elements per second, however fast batches are.
    max_rate: Option<u64>,
    /// Nanoseconds per element; 0 without a limit.
    step: AtomicI64,
    /// When the next element may come, in nanoseconds since the epoch.
    next: Mutex<Option<i64>>,
}

impl RateLimiter {
    pub fn new(max_rate: Option<u64>) -> Self {
        let step = AtomicI64::new(max_rate.map_or(0, step));
        Self { max_rate, step, next: Mutex::new(None) }
    }

    /// From now on lets at most so many through, and never more than the maximum.
    pub fn limit(&self, per_second: u64) {
        let rate = self.max_rate.map_or(per_second, |max| max.min(per_second));
        self.step.store(step(rate), Ordering::Relaxed);
    }

    /// Waits until those that came before have been paid for, and takes the time of `elements` more. False if `give_up`
    /// said so meanwhile.
    pub fn acquire(&self, elements: usize, clock: &dyn Clock, give_up: &dyn Fn() -> bool) -> bool {
        let step = self.step.load(Ordering::Relaxed);
        if step == 0 {
            return true;
        }
        let now = clock.now().as_millis().saturating_mul(NANOS_PER_MILLI);
        let free = {
            let mut next = self.next.lock();
            let free = next.map_or(now, |next| next.max(now.saturating_sub(SECOND)));
            let cost = step.saturating_mul(i64::try_from(elements).unwrap_or(i64::MAX));
            *next = Some(free.saturating_add(cost));
            free
        };
        if free > now {
            let millis = free / NANOS_PER_MILLI + i64::from(free % NANOS_PER_MILLI > 0);
            clock.wait_until(Time::from_millis(millis), give_up);
        }
        !give_up()
    }
}

/// Nanoseconds per element.
fn step(per_second: u64) -> i64 {
    i64::try_from(SECOND as u64 / per_second.max(1)).unwrap_or(SECOND).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    /// When the last of `elements` is let through that come one after the other from `start` on.
    fn last_of(elements: usize, start: i64, limiter: &RateLimiter) -> i64 {
        let clock = Recorder(Mutex::new(start));
        for _ in 0..elements {
            limiter.acquire(1, &clock, &|| false);
        }
        clock.now().as_millis()
    }

    /// A clock that jumps to whatever is waited for.
    struct Recorder(Mutex<i64>);

    impl Clock for Recorder {
        fn now(&self) -> Time {
            Time::from_millis(*self.0.lock())
        }

        fn wait_until(&self, time: Time, _: &dyn Fn() -> bool) {
            *self.0.lock() = time.as_millis();
        }

        fn wake(&self) {}
    }

    #[test]
    fn elements_come_at_the_rate_and_a_quiet_second_is_made_up_for() {
        let limiter = RateLimiter::new(Some(4));
        // The first comes at once, the fifth a second later.
        assert_eq!(last_of(5, 0, &limiter), 1_000);
        // Ten quiet seconds: those of the last second are let through, and one more.
        assert_eq!(last_of(5, 11_000, &limiter), 11_000);
        assert_eq!(last_of(1, 11_000, &limiter), 11_250);
        assert_eq!(last_of(1, 11_250, &limiter), 11_500);
    }

    #[test]
    fn backpressure_slows_down_and_never_beyond_the_maximum() {
        let limiter = RateLimiter::new(None);
        assert_eq!(last_of(1_000, 0, &limiter), 0);
        limiter.limit(2);
        assert_eq!(last_of(5, 0, &limiter), 2_000);
        let limiter = RateLimiter::new(Some(4));
        limiter.limit(1_000);
        assert_eq!(last_of(5, 0, &limiter), 1_000);
    }

    #[test]
    fn many_at_once_are_let_in_and_paid_for_by_the_next() {
        let limiter = RateLimiter::new(Some(1_000_000));
        let clock = Recorder(Mutex::new(0));
        assert!(limiter.acquire(3_000_000, &clock, &|| false));
        assert_eq!(clock.now(), Time::ZERO);
        assert!(limiter.acquire(1, &clock, &|| false));
        assert_eq!(clock.now(), Time::from_millis(3_000));
    }

    #[test]
    fn a_wait_can_be_given_up() {
        let limiter = RateLimiter::new(Some(1));
        let clock = ManualClock::new(Time::ZERO);
        assert!(limiter.acquire(1, &clock, &|| false));
        assert!(!limiter.acquire(1, &clock, &|| true));
    }
}
