//! X's filtered stream.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::{Place, Server, Step, answer, request};

/// The beginning of a long answer, after which `more` says what comes.
fn stream(more: impl FnOnce(&mut Chunks) + Send + 'static) -> Step {
    Box::new(move |mut stream, asked| {
        asked.send(request(&mut stream)).expect("the test listens");
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
        )
        .expect("it reads");
        more(&mut Chunks(stream));
    })
}

struct Chunks(TcpStream);

impl Chunks {
    fn send(&mut self, text: &str) {
        write!(self.0, "{:x}\r\n{text}\r\n", text.len()).expect("it reads");
    }

    /// Sends nothing for a while.
    #[allow(clippy::disallowed_methods, reason = "it is about time that passes")]
    fn silence(&mut self, duration: Duration) {
        std::thread::sleep(duration);
    }

    /// Keeps the connection alive until the other side leaves.
    fn keep_alive(&mut self) {
        while write!(self.0, "2\r\n\r\n\r\n").is_ok() {
            self.silence(Duration::from_millis(100));
        }
    }
}

fn tweet(id: u64, user: u64, text: &str) -> String {
    format!(
        "{{\"data\":{{\"id\":\"{id}\",\"text\":\"{text}\",\"created_at\":\"2026-11-21T17:00:0{id}.000Z\",\"lang\":\"en\",\"author_id\":\"{user}\"}},\
         \"includes\":{{\"users\":[{{\"id\":\"{user}\",\"username\":\"user{user}\"}}]}},\"matching_rules\":[{{\"id\":\"2\"}}]}}\r\n"
    )
}

#[test]
fn every_tweet_comes_through_cuts_stalls_and_refusals() {
    let place = Place::new();
    let rules = r##"{"data":[{"id":"1","value":"old"},{"id":"2","value":"#keep"}]}"##;
    let server = Server::start(vec![
        answer("200 OK", rules),
        answer("200 OK", r#"{"meta":{"summary":{"deleted":1}}}"#),
        answer("201 Created", r#"{"data":[{"id":"3","value":"kafka lang:en","tag":"k"}]}"#),
        answer("503 Service Unavailable", "not now"),
        answer("429 Too Many Requests", "x-rate-limit-remaining: 0\r\n\r\nslowly"),
        stream(|chunks| {
            let one = tweet(1, 7, "high #tide");
            // A line in two pieces, a keep-alive, a line that is nothing, and a cut within another.
            chunks.send(&one[..30]);
            chunks.send(&one[30..]);
            chunks.send("\r\n");
            chunks.send(&tweet(2, 8, "low tide"));
            chunks.send("{\"nonsense\":1}\r\n");
            chunks.send(&tweet(9, 8, "never whole")[..40]);
        }),
        stream(|chunks| {
            chunks.send(&tweet(3, 7, "spring tide"));
            chunks.silence(Duration::from_secs(3));
        }),
        stream(|chunks| chunks.send("{\"errors\":[{\"title\":\"operational-disconnect\"}]}\r\n")),
        stream(|chunks| {
            chunks.send(&tweet(4, 7, "neap tide"));
            chunks.keep_alive();
        }),
        stream(Chunks::keep_alive),
    ]);
    let url = format!("http://{}", server.address);
    let args = ["x", "--url", &url, "--rule", "#keep", "--rule", "kafka lang:en=k"];
    let bridge = place.bridge(&args);
    assert!(server.asked().starts_with("GET /2/tweets/search/stream/rules"));
    assert!(server.asked().ends_with(r#"{"delete":{"ids":["1"]}}"#));
    assert!(server.asked().ends_with(r#"{"add":[{"tag":"k","value":"kafka lang:en"}]}"#));
    let rows = place.wait_for(4);
    let mut told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.value["id"].as_i64().unwrap(),
                row.key.as_deref().unwrap(),
                row.value["text"].as_str().unwrap(),
            )
        })
        .collect();
    told.sort_unstable();
    let expected = [
        (1, "user7", "high #tide"),
        (2, "user8", "low tide"),
        (3, "user7", "spring tide"),
        (4, "user7", "neap tide"),
    ];
    assert_eq!(told, expected);
    let first = rows.iter().find(|row| row.value["id"] == 1).unwrap();
    assert_eq!(first.value["hashtags"], serde_json::json!(["tide"]));
    assert_eq!(first.value["original"]["matching_rules"][0]["id"], "2");
    let bad = place.read("bad");
    assert_eq!((bad.len(), &bad[0].value["nonsense"]), (1, &1.into()));
    assert!(bad[0].why.as_deref().unwrap().contains("data"), "{:?}", bad[0].why);
    // Refused, refused, cut, stalled, ended, and then well.
    let asked: Vec<String> = (0..6).map(|_| server.asked()).collect();
    assert!(
        asked.iter().all(|line| line.contains("note_tweet") && line.contains("expansions=author_id")),
        "{asked:?}"
    );
    assert!(!asked[2].contains("backfill_minutes") && asked[3].contains("backfill_minutes=5"), "{asked:?}");
    let log = bridge.log();
    assert!(!log.contains("sesame"), "{log}");
    assert_eq!(bridge.stop(), Some(0));

    // A restart asks for what it missed.
    let bridge = place.bridge(&args[..3]);
    assert!(server.asked().contains("backfill_minutes=5"));
    bridge.wait_for_log("connected");
    assert_eq!(bridge.stop(), Some(0));
    assert_eq!(place.ids(), [1, 2, 3, 4]);
}

#[test]
fn what_waiting_does_not_mend_ends_the_bridge_and_tells_no_token() {
    let place = Place::new();
    let server = Server::start(vec![answer("401 Unauthorized", "{\"title\":\"Unauthorized\"}")]);
    let mut bridge = place.bridge(&["x", "--url", &format!("http://{}", server.address)]);
    assert_eq!(bridge.end(), Some(2));
    let log = bridge.log();
    assert!(log.contains("401 Unauthorized") && !log.contains("sesame"), "{log}");
}
