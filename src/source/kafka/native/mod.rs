//! The native slice reader: plain Fetch requests at an offset, whose responses are parsed in place.
//!
//! A slice is a known range of offsets, so reading it needs no consumer: a [`NativeReader`] asks the partition's leader for it, piece
//! by piece, and hands out records that are views into the response's buffer.
//!
//! - `settings.rs` makes of librdkafka's properties what is needed here, and knows which of them only librdkafka understands.
//! - `connection.rs` is one connection to a broker: TCP, TLS, requests and their responses; `sasl.rs` logs in.
//! - `brokers.rs` knows the partitions' leaders and keeps connections that nobody uses.
//! - `fetch.rs` makes a Fetch request and tells what its response means.
//! - `batch.rs` parses record batches, `compression.rs` unpacks them, `chunk.rs` walks what a response holds of a partition.
//! - `reader.rs` puts these together. The next piece is under way while one is being computed with.
//! - `prefetch.rs` fetches what comes as it comes, for batches of short intervals.

mod batch;
mod brokers;
mod chunk;
mod compression;
mod connection;
mod fetch;
mod prefetch;
mod reader;
mod sasl;
mod settings;

pub(super) use batch::RawHeaders;
pub(super) use prefetch::Prefetcher;
pub(super) use reader::NativeReader;
pub(super) use settings::{Settings, needs_librdkafka};

use crate::error::Error;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection is of no use any more; another one may be.
    Lost(String),
    /// The brokers have never heard of the partition. After a restart they say so for a while of what they have.
    Unheard,
    /// Trying again would not help.
    Fatal(Error),
    /// The context ends.
    GivenUp,
}

impl Trouble {
    fn lost(reason: impl std::fmt::Display) -> Self {
        Self::Lost(reason.to_string())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}
