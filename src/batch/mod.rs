//! Batches: when they are due, what belongs to them, running them, and telling what became of them.

mod beside;
mod bus;
mod engine;
mod generator;
mod info;
mod intervals;
mod listener;
mod rate;
mod scheduler;
mod turn;

pub(crate) use bus::ListenerBus;
pub(crate) use engine::Engine;
pub(crate) use generator::{BatchQueue, CLOCK_PATIENCE, Due, DueBatch, generate};
pub use info::{BatchInfo, OutputOperationInfo, ReceiverInfo, SliceInfo, StreamInputInfo};
pub(crate) use intervals::Intervals;
pub use listener::StreamingListener;
pub use rate::Backpressure;
pub(crate) use rate::{RateControllers, RateLimit};
pub(crate) use scheduler::Scheduler;
pub(crate) use turn::Turn;
