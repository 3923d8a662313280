//! The HTTP port: REST, events, access, and the page in a real browser.

pub mod browser;
mod console;
mod page;
mod rest;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tidemill::testing::TestContext;
use tidemill::{HttpServer, HttpSettings};

/// What was answered.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn serve(test: &TestContext) -> HttpServer {
    HttpServer::start(&test.ssc, settings()).expect("a free port")
}

fn settings() -> HttpSettings {
    HttpSettings::new(([127, 0, 0, 1], 0).into())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut stream = connect(address);
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn get(server: &HttpServer, path: &str) -> Answer {
    ask(server.address(), "GET", path, &[], "")
}

/// The JSON that `GET /api/v1/PATH` gives.
#[track_caller]
fn api(server: &HttpServer, path: &str) -> Value {
    get_json(server.address(), path)
}

/// The same of a process that listens on `address`.
#[track_caller]
pub fn get_json(address: SocketAddr, path: &str) -> Value {
    let answer = ask(address, "GET", &format!("/api/v1/{path}"), &[], "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}
