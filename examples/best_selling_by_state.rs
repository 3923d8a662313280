//! The product that sold best in the last ten days, every minute, by a state per product.
//!
//! The state of a product is what it sold in each hour. `update_state_by_key` calls the function for every product in every
//! batch, so that old hours go though nothing is sold; a product without sales is forgotten. `best_selling_product` does
//! the same with a window, to the minute.
//!
//! Reads sales, written as `product,quantity`, from a Kafka topic:
//!
//! ```console
//! $ cargo run --example best_selling_by_state -- localhost:9092 sales data/best-selling-by-state
//! $ echo 'umbrella,3' | kafka-console-producer.sh --bootstrap-server localhost:9092 --topic sales
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill::{DStream, Duration, KafkaSource, Result, StreamingContext, Time, UpdateStateSpec};

const TEN_DAYS: Duration = Duration::minutes(10 * 24 * 60);
const HOUR: Duration = Duration::minutes(60);

/// What a product sold, by the end of the hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sales(BTreeMap<Time, u64>);

impl Sales {
    /// With `quantity` more at `now`, and without what was sold before `now - period`; none if nothing is left.
    fn updated(mut self, now: Time, quantity: u64, period: Duration, step: Duration) -> Option<Self> {
        if quantity > 0 {
            *self.0.entry(now.floor(step) + step).or_default() += quantity;
        }
        self.0.retain(|until, _| *until > now - period);
        (!self.0.is_empty()).then_some(self)
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// In each batch, the product of which most was sold in the last `period`, kept by `step`, and how much; among equals the first
/// in the alphabet. Nothing if nothing was sold.
fn best_sellers(sales: &DStream<(String, u64)>, period: Duration, step: Duration) -> DStream<(String, u64)> {
    let update = UpdateStateSpec::function_with_time(
        move |now, _: &String, quantities: Vec<u64>, state: Option<Sales>| {
            state.unwrap_or_default().updated(now, quantities.iter().sum(), period, step)
        },
    );
    let totals = sales.update_state_by_key_with(update).map_values(|sales| sales.total());
    totals.reduce(|(a, n), (b, m)| if n > m || (n == m && a < b) { (a, n) } else { (b, m) })
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "sales".to_owned());
    let checkpoint = arguments.next().unwrap_or_else(|| "data/best-selling-by-state".to_owned());

    let ssc = StreamingContext::builder("best-selling-by-state")
        .batch_interval(Duration::minutes(1))
        .checkpoint(checkpoint)
        .build()?;
    let lines = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    let sales = lines.map(|line| match line.rsplit_once(',') {
        Some((product, quantity)) => (product.to_owned(), quantity.trim().parse::<u64>().map_err(|_| line)),
        None => (String::new(), Err(line)),
    });
    // What is no sale is shown, not lost.
    sales.flat_map(|(_, quantity)| quantity.err()).print();
    let sales = sales.flat_map(|(product, quantity)| quantity.ok().map(|quantity| (product, quantity)));
    best_sellers(&sales, TEN_DAYS, HOUR).print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches;

    use super::*;

    #[test]
    fn the_best_seller_changes_as_sales_come_and_leave() {
        let batches = vec![
            vec![("tea", 3), ("milk", 2), ("tea", 1)],
            vec![("milk", 2)],
            vec![("milk", 1), ("jam", 4)],
            vec![],
            vec![],
            vec![],
            vec![],
        ];
        let second = Duration::seconds(1);
        let output = run_batches(batches, |sales| {
            let sales = sales.map(|(product, quantity)| (product.to_owned(), quantity));
            best_sellers(&sales, Duration::seconds(3), second)
        });
        let best = |product: &str, quantity| vec![(product.to_owned(), quantity)];
        // What is sold at 1 s counts to the step that ends at 2 s, and leaves at 5 s.
        assert_eq!(
            output.unwrap(),
            [
                best("tea", 4),
                best("milk", 4),
                best("milk", 5),
                best("milk", 5),
                best("jam", 4),
                best("jam", 4),
                vec![]
            ]
        );
    }

    #[test]
    fn sales_are_kept_by_the_hour() {
        let at = |minutes| Time::ZERO + Duration::minutes(minutes);
        let sell = |sales: Sales, minute, quantity| sales.updated(at(minute), quantity, HOUR * 2, HOUR);
        let sales =
            sell(Sales::default(), 1, 2).and_then(|s| sell(s, 59, 3)).and_then(|s| sell(s, 61, 4)).unwrap();
        assert_eq!(sales.0, [(at(60), 5), (at(120), 4)].into());
        // The first hour has ended two hours ago.
        let sales = sell(sales, 180, 0).unwrap();
        assert_eq!(sales.total(), 4);
        assert_eq!(sell(sales, 240, 0), None);
    }
}
