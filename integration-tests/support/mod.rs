//! What the tests share: a real broker, its clients, the built binary, and waiting for a condition.

#![allow(dead_code, reason = "each helper serves whichever tests need it")]
#![allow(unused_imports, reason = "likewise")]

mod app;
mod broker;
mod client;
pub mod crash;
mod http;
mod pipeline;
mod process;
pub mod proxy;
pub mod words;

pub use app::{App, Run, tidemill};
pub use broker::{Broker, GroupLag, free_ports};
pub use client::{Record, Row};
pub use http::{Http, Metrics};
pub use pipeline::{shipped, word_count_as};
pub use process::{Process, output};
pub use proxy::Proxy;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Asks until there is an answer. Panics when `limit` is over, with `what` was awaited and the last reason why not.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "other processes live by the clock on the wall")]
pub fn eventually<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if Instant::now() >= deadline => panic!("{what}: not within {limit:?}: {reason}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Makes an authority and a certificate of 127.0.0.1, and gives the files of the authority, the certificate and its key.
pub fn certificate(folder: &Path) -> (String, String, String) {
    let path = |name: &str| folder.join(name).to_str().expect("a temporary path is UTF-8").to_owned();
    let (ca, ca_key, certificate, key) =
        (path("ca.pem"), path("ca-key.pem"), path("certificate.pem"), path("key.pem"));
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    let openssl = |arguments: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(new).args(arguments);
        output(openssl, "");
    };
    openssl(&["-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca]);
    let extensions =
        ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    let signed =
        ["-CA", &ca, "-CAkey", &ca_key, "-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &certificate];
    openssl(&[&signed[..], &extensions[..]].concat());
    (ca, certificate, key)
}

/// A name for a topic, a group or an application that no other test has.
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Lets some time pass, where a test is about the moment and not about a condition.
#[allow(clippy::disallowed_methods, reason = "other processes live by the clock on the wall")]
pub fn pause(duration: Duration) {
    thread::sleep(duration);
}
