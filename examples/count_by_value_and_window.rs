//! The HTTP status codes of the last minute, counted every ten seconds.
//!
//! `count_by_value_and_window` needs no pairs: it counts how often each element is in the window. `count_by_window` counts them
//! all.
//!
//! Reads the lines of access logs from a Kafka topic:
//!
//! ```console
//! $ cargo run --example count_by_value_and_window -- localhost:9092 access-log
//! $ echo '127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /index.html HTTP/1.1" 200 2326' |
//!     kafka-console-producer.sh --bootstrap-server localhost:9092 --topic access-log
//! ```

use tidemill::{DStream, Duration, KafkaSource, Result, StreamingContext};

const WINDOW: Duration = Duration::seconds(60);
const SLIDE: Duration = Duration::seconds(10);

/// The status code of a line in the Common Log Format: the first field behind the quoted request. `None` for a line that is
/// not in that format.
fn status(line: &str) -> Option<u16> {
    let (_, after_request) = line.rsplit_once('"')?;
    after_request.split_whitespace().next()?.parse().ok()
}

/// Every ten seconds, each status code of the last minute and its count.
fn status_counts(lines: &DStream<String>) -> Result<DStream<(Option<u16>, u64)>> {
    lines.map(|line| status(&line)).count_by_value_and_window(WINDOW, SLIDE)
}

/// Every ten seconds, how many requests there were in the last minute.
fn request_counts(lines: &DStream<String>) -> Result<DStream<u64>> {
    lines.count_by_window(WINDOW, SLIDE)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "access-log".to_owned());

    let ssc = StreamingContext::builder("status-codes").batch_interval(SLIDE).build()?;
    let lines = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    status_counts(&lines)?.print();
    request_counts(&lines)?.print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::TestContext;
    use tidemill::{RddQueue, Time};

    use super::*;

    #[test]
    fn a_status_follows_the_request() {
        let line = |rest: &str| {
            format!("127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a?q=\\\"x\\\" HTTP/1.1\" {rest}")
        };
        assert_eq!(status(&line("200 2326")), Some(200));
        assert_eq!(status(&line("404 -")), Some(404));
        assert_eq!(status(&line("")), None);
        assert_eq!(status("no log line"), None);
    }

    #[test]
    fn codes_stay_for_a_minute() {
        let builder = StreamingContext::builder("test").batch_interval(SLIDE);
        let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
        let lines = RddQueue::new();
        for batch in [vec![200, 404, 200], vec![200]] {
            lines.push(batch.into_iter().map(|code| format!("- - - [-] \"GET / HTTP/1.1\" {code} 1")));
        }
        lines.push(["garbage".to_owned()]);
        let stream = test.ssc.queue_stream(&lines);
        let codes = test.collect(&status_counts(&stream).unwrap());
        let requests = test.collect(&request_counts(&stream).unwrap());
        test.run(9).unwrap();

        let codes: Vec<_> = codes
            .take()
            .into_iter()
            .map(|(_, mut counts)| {
                counts.sort();
                counts
            })
            .collect();
        let (ok, missing, garbage) = (|n| (Some(200), n), (Some(404), 1), (None, 1));
        assert_eq!(codes[..2], [vec![ok(2), missing], vec![ok(3), missing]]);
        assert_eq!(codes[2..6], vec![vec![garbage, ok(3), missing]; 4]);
        assert_eq!(codes[6..], [vec![garbage, ok(1)], vec![garbage], vec![]]);
        let requests: Vec<_> = requests.take().into_iter().flat_map(|(_, counts)| counts).collect();
        assert_eq!(requests, [3, 4, 5, 5, 5, 5, 2, 1, 0]);
    }
}
