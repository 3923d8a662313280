//! State: what stateful operators remember, and the store on disk that it is kept in.

mod db;
mod delta;
mod keyed;
mod prepared;

pub(crate) use db::{OperatorSchema, StateDb};
pub(crate) use delta::{Change, Delta, record_key, split_key};
pub use keyed::StateStats;
pub(crate) use keyed::{Kept, KeyedState};
