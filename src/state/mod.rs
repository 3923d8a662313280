//! State: what stateful operators remember, and the store on disk that it is kept in.
//!
//! ```text
//!   a task ──► memory (bounded) ──► RocksDB          what it changes ──► the batch's delta ──► RocksDB, with the commit
//!              cache | resident     misses, sorted                      └► memory, when the next batch begins
//! ```

#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
mod admin;
mod blocks;
mod cache;
mod changes;
mod db;
mod delta;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
mod draft;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
mod entry;
mod families;
mod gathered;
mod health;
mod keyed;
mod loose;
mod options;
mod pending;
mod prepared;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
mod repartition;
mod resident;
mod schema;
mod snapshot;
mod synced;
#[cfg(test)]
mod tests;
mod touched;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "for the command line"))]
mod verify;
mod view;

pub(crate) use blocks::StoredBlock;
pub(crate) use cache::Cache;
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "for the command line"))]
pub(crate) use changes::Comparison;
pub(crate) use changes::{Wanted, check_names};
pub(crate) use db::StateDb;
pub(crate) use delta::{Change, Delta, kind, record_key, single_key, split_key};
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "for the command line"))]
pub(crate) use draft::Draft;
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "for the command line"))]
pub(crate) use entry::{StateEntry, has_panes, place};
pub(crate) use gathered::{Gathered, Gatherer};
pub(crate) use health::StoreHealth;
pub use keyed::StateStats;
pub(crate) use keyed::{KeyedState, Shard, Writes, shown};
pub(crate) use options::{DEFAULT_MEMORY_LIMIT, cache_share};
pub(crate) use pending::Pending;
pub(crate) use resident::{Entry, Resident};
pub(crate) use schema::OperatorSchema;
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "for the command line"))]
pub(crate) use schema::Registered;
pub(crate) use snapshot::StoreSnapshot;
pub(crate) use touched::{TouchedValue, touched_key};
#[cfg_attr(not(feature = "service"), allow(unused_imports, reason = "for the command line"))]
pub(crate) use verify::Verified;
pub(crate) use view::{Base, StateView};
