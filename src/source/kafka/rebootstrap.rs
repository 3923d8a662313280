//! Clients that have nobody left to ask.
//!
//! librdkafka lets go of brokers that the metadata no longer names. A cluster of one names none at all for a moment when its
//! broker was away for longer than its session, or has just started: a client that asks just then has let go of all, and would
//! be silent for ever, though the broker is well again.

use std::ffi::CString;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::bindings as rd;
use rdkafka::client::Client;

use crate::time::Stopwatch;

/// Gives a client its first brokers again (KIP-899's rebootstrap, for a case that librdkafka leaves out).
pub(crate) struct Rebootstrap {
    brokers: CString,
    last: Mutex<Option<Stopwatch>>,
}

/// Each time costs the client some bytes for good.
const EVERY: std::time::Duration = std::time::Duration::from_secs(2);

impl Rebootstrap {
    /// For one client of the cluster at `brokers`.
    pub fn new(brokers: &str) -> Self {
        // What has a zero in it is no address, and no client is made with it.
        Self { brokers: CString::new(brokers).unwrap_or_default(), last: Mutex::default() }
    }

    /// For whoever waits for `client`, to be called now and then.
    pub fn look<C: ClientContext>(&self, client: &Client<C>) {
        // SAFETY: the client is alive; without time to wait this only looks at what the last metadata said.
        let controller = unsafe { rd::rd_kafka_controllerid(client.native_ptr(), 0) };
        let mut last = self.last.lock();
        if controller >= 0 || last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        *last = Some(Stopwatch::start());
        // SAFETY: the client is alive, and takes a copy of the text.
        unsafe { rd::rd_kafka_brokers_add(client.native_ptr(), self.brokers.as_ptr()) };
    }
}
