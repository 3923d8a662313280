//! The HTTP port of a context: the streaming page, REST, server-sent events, metrics and health.
//!
//! A listener keeps what is announced of batches ([`history`]); everything that is answered comes from there, so that nobody who
//! asks ever waits for a batch, and no batch for who asks. It only listens.

mod access;
mod events;
mod history;
mod model;
mod page;
mod query;
mod rest;
mod server;

pub(crate) use query::{Answer, Column, QUERY_PATH, TableInfo, Tables};
pub(crate) use server::{BACKUP_PATH, OWN_HEADER};
pub use server::{HttpServer, HttpSettings};
