//! The words of each batch, counted as they come over a socket.
//!
//! ```console
//! $ nc -lk 9999
//! $ cargo run --example network_word_count -- localhost 9999
//! ```
//!
//! What is typed into the first window is counted in the second, every second.

use tidemill::{DStream, Duration, Result, StreamingContext};

/// Each word of a batch and its count.
fn word_counts(lines: &DStream<String>) -> DStream<(String, u64)> {
    let words = lines.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.map(|word| (word, 1)).reduce_by_key(|a, b| a + b)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(9999);

    let ssc = StreamingContext::builder("network-word-count").batch_interval(Duration::seconds(1)).build()?;
    word_counts(&ssc.socket_text_stream(&host, port)).print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches_sorted;

    use super::*;

    #[test]
    fn each_batch_is_counted_by_itself() {
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let batches = vec![lines(&["to be or", " not  to be "]), lines(&[]), lines(&["", "to sleep"])];
        let count = |word: &str, n| (word.to_owned(), n);
        assert_eq!(
            run_batches_sorted(batches, word_counts).unwrap(),
            [
                vec![count("be", 2), count("not", 1), count("or", 1), count("to", 2)],
                vec![],
                vec![count("sleep", 1), count("to", 1)],
            ]
        );
    }
}
