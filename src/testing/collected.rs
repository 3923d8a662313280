//! What came out, and whether it is what was expected.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::time::Time;

/// The batches that a stream gives, while it gives them; see [`TestContext::collect`](super::TestContext::collect).
pub struct Collected<T>(Arc<Mutex<Timed<T>>>);

pub(super) type Timed<T> = Vec<(Time, Vec<T>)>;

impl<T> Default for Collected<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Collected<T> {
    pub(super) fn shared(&self) -> Arc<Mutex<Timed<T>>> {
        self.0.clone()
    }

    /// Takes the batches collected so far, with their times; batches for which the stream has no RDD are left out.
    pub fn take(&self) -> Vec<(Time, Vec<T>)> {
        std::mem::take(&mut self.0.lock())
    }
}

impl<T: Clone> Collected<T> {
    /// Copies of the batches collected so far.
    pub fn batches(&self) -> Batches<T> {
        Batches(self.0.lock().clone())
    }

    /// Copies of the batches collected so far, each one's elements sorted: for what a shuffle leaves in no order worth naming.
    pub fn sorted(&self) -> Batches<T>
    where
        T: Ord,
    {
        let mut batches = self.batches();
        batches.0.iter_mut().for_each(|(_, elements)| elements.sort());
        batches
    }

    /// As [`Batches::assert_batches`], of those collected so far.
    #[track_caller]
    pub fn assert_batches<E: Debug>(&self, expected: impl IntoIterator<Item = Vec<E>>)
    where
        T: PartialEq<E> + Debug,
    {
        self.batches().assert_batches(expected);
    }
}

/// Puts in what the batch `time` gave, in the place of what it gave before if it was run before.
pub(super) fn put<T>(batches: &Mutex<Timed<T>>, time: Time, elements: Vec<T>) {
    let mut batches = batches.lock();
    match batches.iter_mut().find(|(at, _)| *at == time) {
        Some((_, before)) => *before = elements,
        None => batches.push((time, elements)),
    }
}

/// Batches that were collected, with their times.
#[derive(Debug, Clone)]
pub struct Batches<T>(Vec<(Time, Vec<T>)>);

impl<T> Batches<T> {
    /// The batch times.
    pub fn times(&self) -> Vec<Time> {
        self.0.iter().map(|(time, _)| *time).collect()
    }

    /// The elements by batch.
    pub fn into_vec(self) -> Vec<Vec<T>> {
        self.0.into_iter().map(|(_, elements)| elements).collect()
    }

    /// Checks the elements of all batches.
    ///
    /// # Panics
    /// If they are not as `expected`, with a list of all batches that shows which differ.
    #[track_caller]
    pub fn assert_batches<E: Debug>(&self, expected: impl IntoIterator<Item = Vec<E>>)
    where
        T: PartialEq<E> + Debug,
    {
        let given: Vec<_> = self.0.iter().map(|(time, b)| (time.to_string(), b.as_slice())).collect();
        compare(&given, expected);
    }
}

/// Checks what came out of [`run_batches`](super::run_batches) and the like.
///
/// ```should_panic
/// use tidemill::testing::assert_batches;
/// assert_batches(&[vec![1, 2], vec![3]], [vec![1, 2], vec![4], vec![]]);
/// // batches differ from what was expected (- expected, + given):
/// //   batch 1: [1, 2]
/// // - batch 2: [4]
/// // + batch 2: [3]
/// // - batch 3: []
/// ```
///
/// # Panics
/// If the batches are not as `expected`, with a list of all of them that shows which differ.
#[track_caller]
pub fn assert_batches<T: PartialEq<E> + Debug, E: Debug>(
    given: &[Vec<T>],
    expected: impl IntoIterator<Item = Vec<E>>,
) {
    let given: Vec<_> =
        given.iter().enumerate().map(|(i, batch)| ((i + 1).to_string(), batch.as_slice())).collect();
    compare(&given, expected);
}

#[track_caller]
#[allow(clippy::panic, reason = "that is how a test says that it failed")]
fn compare<T: PartialEq<E> + Debug, E: Debug>(
    given: &[(String, &[T])],
    expected: impl IntoIterator<Item = Vec<E>>,
) {
    let expected: Vec<_> = expected.into_iter().collect();
    let mut text = String::from("batches differ from what was expected (- expected, + given):");
    let mut differ = false;
    for i in 0..given.len().max(expected.len()) {
        let (given, expected) = (given.get(i), expected.get(i));
        // Where nothing was given, the batch has no time.
        let name = given.map_or_else(|| (i + 1).to_string(), |(name, _)| name.clone());
        let mut line = |mark, batch: &dyn Debug| {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{mark} batch {name}: {batch:?}");
        };
        match (given, expected) {
            (Some((_, given)), Some(expected)) if *given == expected.as_slice() => line(' ', given),
            _ => {
                differ = true;
                expected.inspect(|batch| line('-', batch));
                given.inspect(|(_, batch)| line('+', batch));
            }
        }
    }
    if differ {
        panic!("{text}");
    }
}
