//! Running word counts that outlive the program.
//!
//! `get_or_create` makes the program in any case; the counts and what was received but not yet processed come from the checkpoint
//! folder, if there is one. Stop it with ctrl-c and start it again: the counts go on.
//!
//! ```console
//! $ nc -lk 9999
//! $ cargo run --example recoverable_network_word_count -- localhost 9999 data/recoverable
//! ```

use std::path::Path;

use tidemill::{DStream, Duration, Result, StreamingContext};

/// All words so far, with their counts.
fn running_counts(lines: &DStream<String>) -> Result<DStream<(String, u64)>> {
    let words = lines.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let counts = words.map(|word| (word, 1)).update_state_by_key(|new: Vec<u64>, total: Option<u64>| {
        Some(total.unwrap_or(0) + new.iter().sum::<u64>())
    });
    // Under this name the counts are found again, though the program may change.
    counts.uid("counts")
}

/// The program: a context that keeps its checkpoint in `folder`.
fn program(host: &str, port: u16, folder: &Path) -> Result<StreamingContext> {
    let ssc = StreamingContext::builder("recoverable-network-word-count")
        .batch_interval(Duration::seconds(1))
        .checkpoint(folder)
        .build()?;
    running_counts(&ssc.socket_text_stream(host, port))?.print();
    Ok(ssc)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(9999);
    let folder = arguments.next().unwrap_or_else(|| "data/recoverable".to_owned());

    let folder = Path::new(&folder);
    let ssc = StreamingContext::get_or_create(folder, || program(&host, port, folder))?;
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::TestContext;
    use tidemill::{RddQueue, Time};

    use super::*;

    #[test]
    fn counts_go_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let batches = ["to be", "or not", "to be"];
        let session = |from: i64, count: usize| {
            let builder = StreamingContext::builder("test").checkpoint(folder.path());
            let test = TestContext::from_builder(builder, Time::from_millis(from * 1_000)).unwrap();
            let lines = RddQueue::new();
            batches.iter().for_each(|batch| lines.push([(*batch).to_owned()]));
            let output = test.collect(&running_counts(&test.ssc.queue_stream(&lines)).unwrap());
            test.run(count).unwrap();
            let (_, mut counts) = output.take().pop().unwrap();
            counts.sort();
            counts
        };
        let counts =
            |all: &[(&str, u64)]| all.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect::<Vec<_>>();
        assert_eq!(session(0, 2), counts(&[("be", 1), ("not", 1), ("or", 1), ("to", 1)]));
        assert_eq!(session(9, 1), counts(&[("be", 2), ("not", 1), ("or", 1), ("to", 2)]));
    }

    #[test]
    fn the_program_is_made_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let ssc =
            StreamingContext::get_or_create(folder.path(), || program("localhost", 9999, folder.path()));
        assert_eq!(ssc.unwrap().app_name(), "recoverable-network-word-count");
        let elsewhere = StreamingContext::get_or_create(folder.path().join("other"), || {
            program("localhost", 9999, folder.path())
        });
        assert!(elsewhere.is_err());
    }
}
