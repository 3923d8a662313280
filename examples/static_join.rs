//! Joining a stream with a static set: payments with the names of their countries.
//!
//! The set is a map that all tasks share. A payment from a country that is not in it stays, without a name.
//!
//! Reads payments, written as `country amount` (`NL 12`), from a Kafka topic:
//!
//! ```console
//! $ cargo run --example static_join -- localhost:9092 payments
//! $ echo 'NL 12' | kafka-console-producer.sh --bootstrap-server localhost:9092 --topic payments
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use tidemill::{DStream, Duration, KafkaSource, Result, StreamingContext};

const COUNTRIES: [(&str, &str); 3] = [("DE", "Germany"), ("NL", "the Netherlands"), ("PT", "Portugal")];

/// The country and the amount of a payment. A line that is none shows up as a country of its own, which paid nothing.
fn payment(line: &str) -> (String, u64) {
    let payment =
        line.split_once(' ').and_then(|(country, amount)| Some((country, amount.trim().parse().ok()?)));
    let (country, amount) = payment.unwrap_or((line, 0));
    (country.to_owned(), amount)
}

/// What was paid in each batch by country, with the country's name if it is known.
fn paid_by_country(
    payments: &DStream<(String, u64)>,
    names: HashMap<String, String>,
) -> DStream<(String, (u64, Option<String>))> {
    let names = Arc::new(names);
    payments.reduce_by_key(|a, b| a + b).map(move |(country, amount)| {
        let name = names.get(&country).cloned();
        (country, (amount, name))
    })
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "payments".to_owned());

    let ssc = StreamingContext::builder("static-join").batch_interval(Duration::seconds(10)).build()?;
    let lines = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    let names = COUNTRIES.map(|(code, name)| (code.to_owned(), name.to_owned()));
    paid_by_country(&lines.map(|line| payment(&line)), names.into()).print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches_sorted;

    use super::*;

    #[test]
    fn names_are_joined_and_unknown_countries_stay() {
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let batches =
            vec![lines(&["NL 5", "DE 1", "NL 2", "XX 9"]), lines(&[]), lines(&["PT 3", "PT three"])];
        let output = run_batches_sorted(batches, |lines| {
            let names = COUNTRIES.map(|(code, name)| (code.to_owned(), name.to_owned()));
            paid_by_country(&lines.map(|line| payment(&line)), names.into())
        });
        let paid =
            |code: &str, amount, name: Option<&str>| (code.to_owned(), (amount, name.map(str::to_owned)));
        assert_eq!(
            output.unwrap(),
            [
                vec![
                    paid("DE", 1, Some("Germany")),
                    paid("NL", 7, Some("the Netherlands")),
                    paid("XX", 9, None)
                ],
                vec![],
                vec![paid("PT", 3, Some("Portugal")), paid("PT three", 0, None)],
            ]
        );
    }
}
