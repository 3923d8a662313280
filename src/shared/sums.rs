//! The accumulators that everyone needs.

use std::fmt::Debug;

use super::{Accumulator, SharedAccumulator};
use crate::rdd::Data;

/// Sums up whole numbers; see [`long_accumulator`](crate::StreamingContext::long_accumulator).
pub type LongAccumulator = SharedAccumulator<LongSum>;

/// Sums up numbers; see [`double_accumulator`](crate::StreamingContext::double_accumulator).
pub type DoubleAccumulator = SharedAccumulator<DoubleSum>;

/// Keeps what is added; see [`collection_accumulator`](crate::StreamingContext::collection_accumulator).
pub type CollectionAccumulator<T> = SharedAccumulator<Collection<T>>;

/// The sum of whole numbers, and how many they are (what Spark's `LongAccumulator` holds).
///
/// The sum wraps around at the bounds of 64 bits, as Spark's does.
#[derive(Debug, Clone, Default)]
pub struct LongSum {
    sum: i64,
    count: u64,
}

impl Accumulator for LongSum {
    type Input = i64;
    type Output = i64;

    fn zero(&self) -> Self {
        Self::default()
    }

    fn is_zero(&self) -> bool {
        self.sum == 0 && self.count == 0
    }

    fn add(&mut self, input: i64) {
        self.sum = self.sum.wrapping_add(input);
        self.count += 1;
    }

    fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count += other.count;
    }

    fn value(&self) -> i64 {
        self.sum
    }
}

impl LongAccumulator {
    /// The sum: as [`value`](SharedAccumulator::value).
    pub fn sum(&self) -> i64 {
        self.value()
    }

    /// How many numbers were added.
    pub fn count(&self) -> u64 {
        self.read(|sum| sum.count)
    }

    /// The mean of the numbers; NaN if there were none.
    pub fn avg(&self) -> f64 {
        self.read(|sum| sum.sum as f64 / sum.count as f64)
    }
}

/// The sum of numbers, and how many they are (what Spark's `DoubleAccumulator` holds).
#[derive(Debug, Clone, Default)]
pub struct DoubleSum {
    sum: f64,
    count: u64,
}

impl Accumulator for DoubleSum {
    type Input = f64;
    type Output = f64;

    fn zero(&self) -> Self {
        Self::default()
    }

    fn is_zero(&self) -> bool {
        self.sum == 0.0 && self.count == 0
    }

    fn add(&mut self, input: f64) {
        self.sum += input;
        self.count += 1;
    }

    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn value(&self) -> f64 {
        self.sum
    }
}

impl DoubleAccumulator {
    /// The sum: as [`value`](SharedAccumulator::value).
    pub fn sum(&self) -> f64 {
        self.value()
    }

    /// How many numbers were added.
    pub fn count(&self) -> u64 {
        self.read(|sum| sum.count)
    }

    /// The mean of the numbers; NaN if there were none.
    pub fn avg(&self) -> f64 {
        self.read(|sum| sum.sum / sum.count as f64)
    }
}

/// All elements that were added (what Spark's `CollectionAccumulator` holds). It only grows: for small numbers of elements.
#[derive(Debug, Clone)]
pub struct Collection<T>(Vec<T>);

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Data + Debug> Accumulator for Collection<T> {
    type Input = T;
    type Output = Vec<T>;

    fn zero(&self) -> Self {
        Self::default()
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, input: T) {
        self.0.push(input);
    }

    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn value(&self) -> Vec<T> {
        self.0.clone()
    }
}
