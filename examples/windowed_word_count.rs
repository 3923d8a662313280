//! The words of the last 30 seconds, counted every 10 seconds.
//!
//! Each window's counts are made of the last window's: what came is added, and what left is taken out by the inverse
//! function. Without the filter a word that left would stay for ever, with the count 0.
//!
//! ```console
//! $ nc -lk 9999
//! $ cargo run --example windowed_word_count -- localhost 9999
//! ```

use tidemill::{DStream, Duration, Result, StreamingContext};

const WINDOW: Duration = Duration::seconds(30);
const SLIDE: Duration = Duration::seconds(10);

/// Every ten seconds, each word of the last thirty and its count.
fn word_counts(lines: &DStream<String>) -> Result<DStream<(String, u64)>> {
    let words = lines.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.map(|word| (word, 1)).reduce_by_key_and_window_with_inverse_filtered(
        |a, b| a + b,
        |a, b| a - b,
        WINDOW,
        SLIDE,
        |_, count| *count > 0,
    )
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(9999);

    let ssc =
        StreamingContext::builder("windowed-word-count").batch_interval(Duration::seconds(5)).build()?;
    word_counts(&ssc.socket_text_stream(&host, port))?.print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::TestContext;
    use tidemill::{RddQueue, Time};

    use super::*;

    #[test]
    fn words_are_counted_for_three_slides_and_then_go() {
        let builder = StreamingContext::builder("test").batch_interval(Duration::seconds(5));
        let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
        let lines = RddQueue::new();
        for batch in [vec!["to be or"], vec!["not to  be"], vec![], vec!["to sleep"]] {
            lines.push(batch.into_iter().map(str::to_owned));
        }
        let counts = test.collect(&word_counts(&test.ssc.queue_stream(&lines)).unwrap());
        test.run(10).unwrap();

        let shown: Vec<String> = counts
            .take()
            .into_iter()
            .map(|(time, mut counts)| {
                counts.sort();
                let counts: Vec<_> = counts.iter().map(|(word, n)| format!("{word}={n}")).collect();
                format!("{}s: {}", time.as_millis() / 1_000, counts.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "10s: be=2 not=1 or=1 to=2",
                "20s: be=2 not=1 or=1 sleep=1 to=3",
                "30s: be=2 not=1 or=1 sleep=1 to=3",
                // The first two batches have left.
                "40s: sleep=1 to=1",
                "50s: ",
            ]
        );
    }
}
