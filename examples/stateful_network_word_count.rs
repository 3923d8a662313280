//! Running counts of all words that ever came over a socket.
//!
//! `map_with_state` keeps a count per word, beginning with an initial state, and gives the new count of each word as it
//! comes; the snapshots show all words.
//!
//! ```console
//! $ nc -lk 9999
//! $ cargo run --example stateful_network_word_count -- localhost 9999
//! ```

use tidemill::{DStream, Duration, MapWithStateDStream, Result, State, StateSpec, StreamingContext};

type RunningCounts = MapWithStateDStream<String, u64, (String, u64)>;

/// Each word as it comes, with how often it came so far.
fn running_counts(lines: &DStream<String>, initial: Vec<(String, u64)>) -> RunningCounts {
    let count = |word: &String, one: Option<u64>, total: &mut State<u64>| {
        let sum = total.get_option().unwrap_or(&0) + one?;
        total.update(sum);
        Some((word.clone(), sum))
    };
    let words = lines.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words
        .map(|word| (word, 1))
        .map_with_state_and_snapshots(StateSpec::function(count).initial_state(initial))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(9999);

    let ssc = StreamingContext::builder("stateful-network-word-count")
        .batch_interval(Duration::seconds(1))
        .build()?;
    let initial = vec![("hello".to_owned(), 1), ("world".to_owned(), 1)];
    let counts = running_counts(&ssc.socket_text_stream(&host, port), initial);
    counts.print();
    counts.state_snapshots().print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches_sorted;

    use super::*;

    fn lines(all: &[&str]) -> Vec<String> {
        all.iter().map(|line| (*line).to_owned()).collect()
    }

    fn counts(all: &[(&str, u64)]) -> Vec<(String, u64)> {
        all.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect()
    }

    #[test]
    fn every_word_gives_its_count_so_far() {
        let batches = vec![lines(&["hello you", "hello"]), lines(&[]), lines(&["you"])];
        let output =
            run_batches_sorted(batches, |lines| running_counts(lines, counts(&[("hello", 1)])).into());
        assert_eq!(
            output.unwrap(),
            [counts(&[("hello", 2), ("hello", 3), ("you", 1)]), vec![], counts(&[("you", 2)])]
        );
    }

    #[test]
    fn snapshots_have_all_words() {
        let batches = vec![lines(&["you"]), lines(&[]), lines(&["hello"])];
        let initial = counts(&[("hello", 1), ("world", 1)]);
        let output = run_batches_sorted(batches, |lines| running_counts(lines, initial).state_snapshots());
        let first = counts(&[("hello", 1), ("world", 1), ("you", 1)]);
        assert_eq!(
            output.unwrap(),
            [first.clone(), first, counts(&[("hello", 2), ("world", 1), ("you", 1)])]
        );
    }
}
