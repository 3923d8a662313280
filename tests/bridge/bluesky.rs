//! Bluesky's Jetstream.

use std::time::Duration;

use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept_hdr};

use super::{Place, Server, Step, answer};

type Socket = WebSocket<std::net::TcpStream>;

/// A connection over which `more` sends what comes.
fn jetstream(more: impl FnOnce(&mut Socket) + Send + 'static) -> Step {
    Box::new(move |stream, asked| {
        #[allow(clippy::result_large_err, reason = "tungstenite wants it so")]
        let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            asked.send(request.uri().to_string()).expect("the test listens");
            Ok(response)
        };
        more(&mut accept_hdr(stream, note).expect("a websocket"));
    })
}

fn send(socket: &mut Socket, text: String) {
    socket.send(Message::text(text)).expect("it reads");
}

/// Keeps the connection alive until the other side leaves.
#[allow(clippy::disallowed_methods, reason = "it is about time that passes")]
fn keep_alive(socket: &mut Socket) {
    while socket.send(Message::Ping(Vec::new().into())).is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The `n`th post, made in second `n`.
fn post(n: i64, lang: &str) -> String {
    format!(
        "{{\"did\":\"did:plc:{n}\",\"time_us\":{n}000000,\"kind\":\"commit\",\"commit\":{{\"rev\":\"r\",\"operation\":\"create\",\
         \"collection\":\"app.bsky.feed.post\",\"rkey\":\"222222222222{n}\",\"record\":{{\"createdAt\":\"2026-11-21T17:00:0{n}Z\",\
         \"langs\":[\"{lang}\"],\"text\":\"post {n} #tide\"}},\"cid\":\"c\"}}}}"
    )
}

#[test]
fn every_post_comes_once_through_cuts_stalls_and_refusals() {
    let place = Place::new();
    let server = Server::start(vec![
        answer("503 Service Unavailable", "not now"),
        answer("429 Too Many Requests", "retry-after: 1\r\n\r\nslowly"),
        jetstream(|socket| {
            send(socket, post(2, "en"));
            send(socket, post(3, "en").replace("feed.post", "feed.like"));
            send(socket, "{\"did\":\"half".to_owned());
            send(socket, post(4, "de"));
            send(socket, post(5, "en-GB"));
        }),
        jetstream(|socket| {
            // What was before the cursor comes again.
            send(socket, post(5, "en"));
            send(socket, post(6, "en"));
            // Nothing more, and no end.
            let _ = socket.get_ref().set_read_timeout(Some(Duration::from_secs(5)));
            while socket.read().is_ok() {}
        }),
        jetstream(|socket| {
            send(socket, post(7, "en"));
            keep_alive(socket);
        }),
        jetstream(keep_alive),
    ]);
    let url = format!("ws://{}/subscribe", server.address);
    let args = ["bluesky", "--url", &url, "--lang", "en"];
    let bridge = place.bridge(&args);
    let rows = place.wait_for(4);
    let mut texts: Vec<_> = rows.iter().map(|row| row.value["text"].as_str().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["post 2 #tide", "post 5 #tide", "post 6 #tide", "post 7 #tide"]);
    let first = rows.iter().find(|row| row.value["text"] == "post 2 #tide").unwrap();
    assert_eq!(first.key.as_deref(), Some("did:plc:2"));
    assert_eq!(first.value["created_at"], "2026-11-21T17:00:02.000Z");
    assert_eq!(first.value["original"]["commit"]["cid"], "c");
    assert_eq!(place.read("bad").len(), 1);
    let [refused, limited] = [server.asked(), server.asked()];
    assert!(
        refused.contains("wantedCollections=app.bsky.feed.post") && !limited.contains("cursor"),
        "{refused} {limited}"
    );
    assert!(!server.asked().contains("cursor"));
    assert!(server.asked().contains("cursor=3000000"));
    assert!(server.asked().contains("cursor=4000000"));
    assert_eq!(bridge.stop(), Some(0));

    // A restart goes on where the last one was.
    let bridge = place.bridge(&args);
    assert!(server.asked().contains("cursor=5000000"));
    assert_eq!(bridge.stop(), Some(0));
}
