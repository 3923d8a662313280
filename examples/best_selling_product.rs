//! The product that sold best in the last ten days, every minute.
//!
//! A window of ten days that slides by a minute has 14,400 panes. None of its sales is kept: a pane holds one number per
//! product, and a minute costs a few additions per product, however long the window is. The panes are part of the
//! checkpoint, so the program may be stopped and started again within these ten days.
//!
//! Reads sales, written as `product,quantity`, from a Kafka topic:
//!
//! ```console
//! $ cargo run --example best_selling_product -- localhost:9092 sales data/best-selling
//! $ echo 'umbrella,3' | kafka-console-producer.sh --bootstrap-server localhost:9092 --topic sales
//! ```

use tidemill::{DStream, Duration, KafkaSource, Rdd, Result, StreamingContext};

const TEN_DAYS: Duration = Duration::minutes(10 * 24 * 60);
const MINUTE: Duration = Duration::minutes(1);

/// A line's product and quantity, or the line if it is no sale.
fn sale(line: String) -> std::result::Result<(String, u64), String> {
    let parts = line.rsplit_once(',');
    let sale = parts.and_then(|(product, quantity)| Some((product.trim(), quantity.trim().parse().ok()?)));
    match sale {
        Some((product, quantity)) if !product.is_empty() => Ok((product.to_owned(), quantity)),
        _ => Err(line),
    }
}

/// Every `slide`, the product of which most was sold in the last `window`, and how much; among equals the first in the
/// alphabet. Nothing if nothing was sold.
fn best_sellers(
    sales: &DStream<(String, u64)>,
    window: Duration,
    slide: Duration,
) -> Result<DStream<(String, u64)>> {
    let totals = sales.reduce_by_key_and_window(|a, b| a + b, window, slide)?;
    Ok(totals.transform(best))
}

fn best(totals: Rdd<(String, u64)>) -> Rdd<(String, u64)> {
    let better = |(a, n): (String, u64), (b, m): (String, u64)| {
        if n > m || (n == m && a < b) { (a, n) } else { (b, m) }
    };
    totals.map(|total| ((), total)).reduce_by_key_with(better, 1).map(|((), best)| best)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "sales".to_owned());
    let checkpoint = arguments.next().unwrap_or_else(|| "data/best-selling".to_owned());

    let ssc =
        StreamingContext::builder("best-selling").batch_interval(MINUTE).checkpoint(checkpoint).build()?;
    let lines = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    let sales = lines.map(sale);
    best_sellers(&sales.flat_map(|sale| sale.ok()), TEN_DAYS, MINUTE)?.print();
    // What is no sale is shown, not lost.
    sales.flat_map(|sale| sale.err()).print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches;

    use super::*;

    #[test]
    fn a_sale_has_a_product_and_a_quantity() {
        assert_eq!(sale("umbrella,3".to_owned()), Ok(("umbrella".to_owned(), 3)));
        assert_eq!(sale(" bolt, 5 mm , 40".to_owned()), Ok(("bolt, 5 mm".to_owned(), 40)));
        for line in ["umbrella", "umbrella,three", ",3", ""] {
            assert_eq!(sale(line.to_owned()), Err(line.to_owned()));
        }
    }

    #[test]
    fn the_best_seller_changes_as_sales_come_and_leave() {
        let batches = vec![
            vec![("tea", 3), ("milk", 2), ("tea", 1)],
            vec![("milk", 2)],
            vec![("milk", 1), ("jam", 4)],
            vec![],
            vec![],
            vec![],
        ];
        let output = run_batches(batches, |sales| {
            let sales = sales.map(|(product, quantity)| (product.to_owned(), quantity));
            best_sellers(&sales, Duration::seconds(3), Duration::seconds(1)).unwrap()
        });
        let best = |product: &str, quantity| vec![(product.to_owned(), quantity)];
        // milk and tea sold four each after two batches; jam outsells milk when the first two batches have left.
        assert_eq!(
            output.unwrap(),
            [best("tea", 4), best("milk", 4), best("milk", 5), best("jam", 4), best("jam", 4), vec![]]
        );
    }
}
