//! A program over a table of batches.

use super::TestContext;
use crate::dstream::DStream;
use crate::error::Result;
use crate::rdd::Data;

/// Runs `program` over `batches`, one second each, from time zero on, and gives the elements of each
/// of its batches; batches for which it has no RDD are left out.
///
/// ```
/// use tidemill::testing::run_batches;
/// let out = run_batches(vec![vec![1, 2], vec![]], |numbers| numbers.map(|n| n + 1));
/// assert_eq!(out.unwrap(), [vec![2, 3], vec![]]);
/// ```
///
/// # Errors
/// If a batch fails.
pub fn run_batches<T: Data, U: Data>(
    batches: Vec<Vec<T>>,
    program: impl FnOnce(&DStream<T>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    let test = TestContext::new("test")?;
    let count = batches.len();
    let output = test.collect(&program(&test.input(batches)));
    test.run(count)?;
    Ok(output.batches().into_vec())
}

/// As [`run_batches`], each batch's elements sorted: for what a shuffle leaves in no order worth naming.
///
/// # Errors
/// If a batch fails.
pub fn run_batches_sorted<T: Data, U: Data + Ord>(
    batches: Vec<Vec<T>>,
    program: impl FnOnce(&DStream<T>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    Ok(sorted(run_batches(batches, program)?))
}

/// As [`run_batches`], for a program of two inputs; the shorter one gives empty batches once its own are over.
///
/// ```
/// use tidemill::testing::run_batches2;
/// let out = run_batches2(vec![vec![1], vec![2]], vec![vec!["a"]], |numbers, words| {
///     numbers.map(|n| n.to_string()).union(&words.map(str::to_owned)).unwrap()
/// });
/// assert_eq!(out.unwrap(), [vec!["1", "a"], vec!["2"]]);
/// ```
///
/// # Errors
/// If a batch fails.
pub fn run_batches2<T: Data, T2: Data, U: Data>(
    batches: Vec<Vec<T>>,
    batches2: Vec<Vec<T2>>,
    program: impl FnOnce(&DStream<T>, &DStream<T2>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    let test = TestContext::new("test")?;
    let count = batches.len().max(batches2.len());
    let output = test.collect(&program(&test.input(batches), &test.input(batches2)));
    test.run(count)?;
    Ok(output.batches().into_vec())
}

/// As [`run_batches2`], each batch's elements sorted.
///
/// # Errors
/// If a batch fails.
pub fn run_batches2_sorted<T: Data, T2: Data, U: Data + Ord>(
    batches: Vec<Vec<T>>,
    batches2: Vec<Vec<T2>>,
    program: impl FnOnce(&DStream<T>, &DStream<T2>) -> DStream<U>,
) -> Result<Vec<Vec<U>>> {
    Ok(sorted(run_batches2(batches, batches2, program)?))
}

fn sorted<U: Ord>(mut output: Vec<Vec<U>>) -> Vec<Vec<U>> {
    output.iter_mut().for_each(|batch| batch.sort());
    output
}
