//! A receiver of one's own: a source that makes a thousand events a second.
//!
//! A receiver runs on a thread of its own and stores what it receives; the engine cuts that into batches.
//!
//! ```console
//! $ cargo run --example custom_receiver -- 1000
//! ```

use std::sync::{Condvar, Mutex, PoisonError};

use tidemill::{Clock, DStream, Duration, Receiver, ReceiverHandle, Result, StreamingContext, SystemClock};

/// Makes `events` numbered events a second, a portion every ten milliseconds, until it is stopped or has made `limit`.
struct DummySource {
    events: u64,
    limit: u64,
    stopped: Mutex<bool>,
    woken: Condvar,
}

impl DummySource {
    fn new(events: u64, limit: u64) -> Self {
        Self { events, limit, stopped: Mutex::new(false), woken: Condvar::new() }
    }

    /// Lets a portion's time pass; true if the receiver was stopped meanwhile.
    fn stopped_while_waiting(&self) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let portion = std::time::Duration::from_millis(10);
        let waited = self.woken.wait_timeout_while(stopped, portion, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Receiver<u64> for DummySource {
    fn on_start(&self, handle: ReceiverHandle<u64>) -> Result<()> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = false;
        let clock = SystemClock::default();
        let start = clock.now();
        let mut next = 0;
        while next < self.limit && !handle.is_stopped() && !self.stopped_while_waiting() {
            // However long storing and waiting take, the rate is right.
            let elapsed = (clock.now() - start).as_secs_f64();
            let due = self.limit.min((self.events as f64 * elapsed) as u64);
            handle.store_many(next..due)?;
            next = due.max(next);
        }
        Ok(())
    }

    /// Wakes the thread of `on_start`, so that a stop need not wait for it.
    fn on_stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_all();
    }
}

/// How many events each batch has of the even and of the odd ones.
fn by_parity(events: &DStream<u64>) -> DStream<(bool, u64)> {
    events.map(|n| (n % 2 == 0, 1)).reduce_by_key(|a, b| a + b)
}

fn main() -> Result<()> {
    let events = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);

    let ssc = StreamingContext::builder("custom-receiver").batch_interval(Duration::seconds(1)).build()?;
    let stream = ssc.receiver_stream(DummySource::new(events, u64::MAX));
    stream.count().print();
    by_parity(&stream).print();
    ssc.start()?;
    ssc.await_termination_or_timeout(Duration::seconds(10))?;
    ssc.stop(true)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tidemill::testing::run_batches_sorted;

    use super::*;

    #[test]
    fn events_are_counted_by_parity() {
        let output = run_batches_sorted(vec![vec![0, 1, 2], vec![], vec![7]], by_parity);
        assert_eq!(output.unwrap(), [vec![(false, 1), (true, 2)], vec![], vec![(false, 1)]]);
    }

    #[test]
    fn all_events_arrive_once_and_in_order() {
        let ssc = StreamingContext::builder("test").batch_interval(Duration::millis(50)).build().unwrap();
        let (sender, events) = channel();
        ssc.receiver_stream(DummySource::new(1_000, 95)).foreach_rdd(move |rdd| -> Result<()> {
            rdd.collect()?.into_iter().for_each(|event| sender.send(event).expect("the test waits"));
            Ok(())
        });
        ssc.start().unwrap();
        assert!(events.iter().take(95).eq(0..95));
        ssc.stop(true).unwrap();
    }
}
