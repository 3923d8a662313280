//! Batches: when they are due, what belongs to them, running them, and telling what became of them.

mod bus;
mod generator;
mod info;
mod intervals;
mod listener;
mod rate;
mod scheduler;

pub(crate) use bus::ListenerBus;
pub(crate) use generator::{BatchQueue, CLOCK_PATIENCE, DueBatch, generate};
pub use info::{BatchInfo, OutputOperationInfo, ReceiverInfo, SliceInfo, StreamInputInfo};
pub(crate) use intervals::Intervals;
pub use listener::StreamingListener;
pub use rate::Backpressure;
pub(crate) use rate::{RateControllers, RateLimit};
pub(crate) use scheduler::Scheduler;
