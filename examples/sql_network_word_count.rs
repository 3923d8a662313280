//! SQL over each RDD of a stream: every batch's words become the view `words`, which a query counts.
//!
//! Each argument is a batch of one line:
//!
//! ```console
//! $ cargo run --example sql_network_word_count -- "to be or not to be" "that is the question"
//! ```
#![allow(clippy::print_stdout, reason = "it is a program")]

use serde::{Deserialize, Serialize};
use tidemill::{DataFrame, Duration, ManualClock, Rdd, RddQueue, Result, SqlSession, StreamingContext, Time};

/// A row of the view `words`: its fields are the columns.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    word: String,
}

fn main() -> Result<()> {
    let clock = ManualClock::new(Time::ZERO);
    let ssc = StreamingContext::builder("sql-network-word-count")
        .batch_interval(Duration::seconds(2))
        .clock(clock.clone())
        .build()?;

    let lines = RddQueue::new();
    let mut batches = 0;
    for line in std::env::args().skip(1) {
        lines.push([line]);
        batches += 1;
    }

    let words = ssc.queue_stream(&lines).flat_map(|line| {
        let words = line.split_whitespace().map(str::to_owned);
        words.collect::<Vec<_>>()
    });
    let session = ssc.sql_session();
    words.foreach_rdd_with_time(move |rdd, time| {
        println!("========= {time} =========");
        word_counts(&session, rdd)?.show()
    });

    ssc.start()?;
    for _ in 0..batches {
        clock.advance(Duration::seconds(2));
    }
    ssc.stop(true)
}

/// How often each word of a batch occurs, the most frequent first.
fn word_counts(session: &SqlSession, words: Rdd<String>) -> Result<DataFrame> {
    // As a struct, whose field names the column; `create_or_replace_temp_view_with(session, "words", &["word"])` on the
    // words themselves would do the same.
    words.map(|word| Record { word }).create_or_replace_temp_view(session, "words")?;
    session.sql("select word, count(*) as total from words group by word order by total desc, word")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill::testing::TestContext;

    #[test]
    fn the_words_of_each_batch_are_counted() {
        let test = TestContext::new("test").unwrap();
        let words = RddQueue::new();
        words.push(["to", "be", "or", "not", "to", "be"].map(str::to_owned));
        words.push([]);
        words.push(["question".to_owned()]);
        let session = test.ssc.sql_session();
        let counts = test.ssc.queue_stream(&words);
        let counts = counts.try_transform(move |rdd, _| word_counts(&session, rdd)?.rdd::<(String, u64)>());
        let counts = test.collect(&counts);
        test.run(3).unwrap();

        let counts: Vec<_> = counts.take().into_iter().map(|(_, batch)| batch).collect();
        let count = |word: &str, total| (word.to_owned(), total);
        let first = vec![count("be", 2), count("to", 2), count("not", 1), count("or", 1)];
        assert_eq!(counts, [first, vec![], vec![count("question", 1)]]);
    }
}
