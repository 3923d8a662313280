//! State: what stateful operators remember, and the store on disk that it is kept in.
//!
//! ```text
//!   a task ──► memory (bounded) ──► RocksDB          what it changes ──► the batch's delta ──► RocksDB, with the commit
//!              cache | resident     misses, sorted                      └► memory, when the next batch begins
//! ```

mod admin;
mod blocks;
mod cache;
mod db;
mod delta;
mod keyed;
mod loose;
mod options;
mod prepared;
mod resident;
mod schema;
mod snapshot;
mod synced;
#[cfg(test)]
mod tests;
mod touched;
mod view;

pub(crate) use blocks::StoredBlock;
pub(crate) use cache::Cache;
pub(crate) use db::StateDb;
pub(crate) use delta::{Change, Delta, kind, record_key, single_key, split_key};
pub use keyed::StateStats;
pub(crate) use keyed::{KeyedState, Shard, Writes, shown};
pub(crate) use options::{DEFAULT_MEMORY_LIMIT, cache_share};
pub(crate) use resident::{Entry, Resident};
pub(crate) use schema::OperatorSchema;
pub(crate) use snapshot::StoreSnapshot;
pub(crate) use touched::{TouchedValue, touched_key};
pub(crate) use view::{Base, StateView};
