//! Lines of a socket.

use std::io::Write;
use std::net::TcpStream;

use super::{Place, Server, Step};

fn lines(text: &'static str) -> Step {
    Box::new(move |mut stream, _| stream.write_all(text.as_bytes()).expect("it reads"))
}

fn texts(place: &Place, tweets: usize) -> Vec<String> {
    let mut texts: Vec<_> = place
        .wait_for(tweets)
        .iter()
        .map(|row| row.value["text"].as_str().expect("text").to_owned())
        .collect();
    texts.sort_unstable();
    texts
}

#[test]
fn lines_come_over_one_connection_after_the_other() {
    let place = Place::new();
    let server = Server::start(vec![
        lines(
            "plain #text\r\n{\"id\":5,\"created_at\":\"2026-01-01T00:00:00Z\",\"user\":\"ann\",\"text\":\"own\"}\n\n{\"id\":6,\"te",
        ),
        lines(""),
        lines("the last line needs no end"),
        Box::new(|stream, _| std::mem::forget(stream)),
    ]);
    let bridge = place.bridge(&["socket", &server.address]);
    assert_eq!(texts(&place, 3), ["own", "plain #text", "the last line needs no end"]);
    let rows = place.read("tweets");
    let own = rows.iter().find(|row| row.value["id"] == 5).unwrap();
    assert_eq!((own.key.as_deref(), &own.value["source"]), (Some("ann"), &"socket".into()));
    let plain = rows.iter().find(|row| row.value["text"] == "plain #text").unwrap();
    assert_eq!(
        (&plain.value["hashtags"][0], &plain.value["original"]),
        (&"text".into(), &"plain #text".into())
    );
    let bad = place.read("bad");
    assert_eq!((bad.len(), bad[0].value.as_str()), (1, Some("{\"id\":6,\"te")));
    assert_eq!(bridge.stop(), Some(0));
}

#[test]
fn others_may_connect_too() {
    let place = Place::new();
    let bridge = place.bridge(&["socket", "--listen", "127.0.0.1:0"]);
    let line: serde_json::Value = serde_json::from_str(&bridge.wait_for_log("listening for lines")).unwrap();
    let address = line["address"].as_str().unwrap();
    for text in ["one\ntwo\n", "three"] {
        TcpStream::connect(address).unwrap().write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(texts(&place, 3), ["one", "three", "two"]);
    assert_eq!(bridge.stop(), Some(0));
}
