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
pub use broker::{Broker, GroupLag};
pub use client::{Record, Row};
pub use http::{Http, Metrics};
pub use pipeline::{shipped, word_count_as};
pub use process::{Process, output};
pub use proxy::Proxy;

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
