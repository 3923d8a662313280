//! Batches from a queue that the program fills: no server needed.
//!
//! A thousand numbers arrive every second, and each batch counts how often each last digit came.
//!
//! ```console
//! $ cargo run --example queue_stream
//! ```

use tidemill::{DStream, Duration, RddQueue, Result, StreamingContext};

/// How often each last digit came in a batch.
fn last_digits(numbers: &DStream<u64>) -> DStream<(u64, u64)> {
    numbers.map(|n| (n % 10, 1)).reduce_by_key(|a, b| a + b)
}

fn main() -> Result<()> {
    let ssc = StreamingContext::builder("queue-stream").batch_interval(Duration::seconds(1)).build()?;
    let queue = RddQueue::new();
    last_digits(&ssc.queue_stream(&queue)).print();

    // One of these RDDs is taken each second.
    (0..10).for_each(|_| queue.push(1..=1_000));
    ssc.start()?;
    ssc.await_termination_or_timeout(Duration::seconds(12))?;
    ssc.stop(true)
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches_sorted;

    use super::*;

    #[test]
    fn digits_are_counted_batch_by_batch() {
        let batches = vec![(1..=20).collect(), vec![], vec![7, 17, 9]];
        let twice_each = (0..10).map(|digit| (digit, 2)).collect();
        assert_eq!(
            run_batches_sorted(batches, last_digits).unwrap(),
            [twice_each, vec![], vec![(7, 2), (9, 1)]]
        );
    }
}
