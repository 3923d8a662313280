//! Sessions: the pages that a user looked at without a pause of half an hour.
//!
//! The state of a user is the session that goes on. When it times out, the function is called once more, without a
//! click, and gives the finished session. Users who click cost something, those who are silent do not.
//!
//! Reads clicks, written as `user page`, from a Kafka topic:
//!
//! ```console
//! $ cargo run --example sessionization -- localhost:9092 clicks data/sessions
//! $ echo 'ann /index.html' | kafka-console-producer.sh --bootstrap-server localhost:9092 --topic clicks
//! ```

use serde::{Deserialize, Serialize};
use tidemill::{DStream, Duration, KafkaSource, Result, State, StateSpec, StreamingContext, Time};

const PAUSE: Duration = Duration::minutes(30);

/// What a user looked at, from the batch of the first click to that of the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    from: Time,
    until: Time,
    pages: Vec<String>,
}

/// The sessions that end in each batch: those without a click for longer than `pause`.
fn sessions(clicks: &DStream<(String, String)>, pause: Duration) -> DStream<(String, Session)> {
    let track = |now: Time, user: &String, page: Option<String>, state: &mut State<Session>| {
        let before = state.get_option().cloned();
        match page {
            Some(page) => {
                let mut session = before.unwrap_or(Session { from: now, until: now, pages: Vec::new() });
                session.until = now;
                session.pages.push(page);
                state.update(session);
                None
            }
            // No click: the state is timing out, and goes after this call.
            None => before.map(|session| (user.clone(), session)),
        }
    };
    clicks.map_with_state(StateSpec::function_with_time(track).timeout(pause))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "clicks".to_owned());
    let checkpoint = arguments.next().unwrap_or_else(|| "data/sessions".to_owned());

    let ssc = StreamingContext::builder("sessions")
        .batch_interval(Duration::seconds(10))
        .checkpoint(checkpoint)
        .build()?;
    let lines = ssc.kafka_direct_stream(KafkaSource::new(brokers, [topic])).text();
    // A line without a page is a click on nothing.
    let clicks = lines.map(|line| {
        let (user, page) = line.split_once(' ').unwrap_or((&line, ""));
        (user.to_owned(), page.to_owned())
    });
    sessions(&clicks, PAUSE).uid("sessions")?.print();
    ssc.start()?;
    ssc.await_termination()
}

#[cfg(test)]
mod tests {
    use tidemill::testing::run_batches_sorted;

    use super::*;

    #[test]
    fn a_session_ends_after_the_pause_and_the_next_click_begins_another() {
        let batches = vec![
            vec![("ann", "/"), ("bob", "/"), ("ann", "/tea")],
            vec![],
            vec![("ann", "/buy")],
            vec![],
            vec![("bob", "/")],
            vec![],
            vec![],
            vec![],
        ];
        let output = run_batches_sorted(batches, |clicks| {
            let clicks = clicks.map(|(user, page)| (user.to_owned(), page.to_owned()));
            sessions(&clicks, Duration::seconds(2)).map(|(user, session)| {
                let seconds = |time: Time| time.as_millis() / 1_000;
                format!(
                    "{user} {}-{} {}",
                    seconds(session.from),
                    seconds(session.until),
                    session.pages.join(" ")
                )
            })
        });
        let none: [&str; 0] = [];
        let expected = [
            &none[..],
            &none,
            &none,
            // Strictly longer than two seconds: bob's click of the first second, ann's of the third.
            &["bob 1-1 /"],
            &none,
            &["ann 1-3 / /tea /buy"],
            &none,
            &["bob 5-5 /"],
        ];
        assert_eq!(output.unwrap(), expected);
    }
}
