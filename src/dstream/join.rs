//! `join`, the outer joins, and `cogroup`
#![allow(clippy::type_complexity, reason = "a pair says more than a name for it")]

use std::sync::Arc;

use super::DStream;
use crate::codec::Key;
use crate::error::Result;
use crate::rdd::{Data, Partitioner};

impl<K: Key, V: Data> DStream<(K, V)> {
    /// One pair per key of this stream's batch or of `other`'s: its values here, and its values there, each in the order of
    /// their arrival. If both batches are empty, so is the result.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts. A parent that gives no RDD fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 1), ('b', 2), ('c', 3)], vec![]], |pairs| {
    ///     let left = pairs.filter(|(key, _)| *key != 'c');
    ///     let right = pairs.filter(|(key, _)| *key != 'b').map_values(|n| n * 10);
    ///     left.cogroup(&right).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', (vec![1], vec![10])), ('b', (vec![2], vec![])), ('c', (vec![], vec![30]))], vec![]]);
    /// ```
    pub fn cogroup<W: Data>(&self, other: &DStream<(K, W)>) -> Result<DStream<(K, (Vec<V>, Vec<W>))>> {
        self.cogroup_with(other, self.ssc.default_partitioner())
    }

    /// As [`cogroup`](DStream::cogroup), into the partitions of `partitioner`, which may be just their number.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![('a', 1), ('b', 2)], vec![]], |pairs| {
    ///     let right = pairs.filter(|(key, _)| *key != 'b').map_values(|n| n * 10);
    ///     pairs.cogroup_with(&right, 1).unwrap().glom()
    /// });
    /// assert_eq!(out.unwrap(), [[vec![('a', (vec![1], vec![10])), ('b', (vec![2], vec![]))]], [vec![]]]);
    /// ```
    pub fn cogroup_with<W: Data>(
        &self,
        other: &DStream<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Result<DStream<(K, (Vec<V>, Vec<W>))>> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.with_other("cogroup", other, move |left, right, _| Ok(left.cogroup_with(&right, by.clone())))
    }

    /// Every pairing of a value of this stream's batch with one of `other`'s under the same key; keys that only one has are
    /// left out, so an empty batch on either side gives nothing.
    ///
    /// Within a partition keys come in the order of their first occurrence, here before there; of a key, the values here
    /// come in their order, and for each of them the values there in theirs.
    /// [`transform`](DStream::transform) shows a join with an RDD that stays the same.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts. A parent that gives no RDD fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 1), ('b', 2), ('c', 3)], vec![]], |pairs| {
    ///     let left = pairs.filter(|(key, _)| *key != 'c');
    ///     let right = pairs.filter(|(key, _)| *key != 'b').map_values(|n| n * 10);
    ///     left.join(&right).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', (1, 10))], vec![]]);
    /// ```
    pub fn join<W: Data>(&self, other: &DStream<(K, W)>) -> Result<DStream<(K, (V, W))>> {
        self.join_with(other, self.ssc.default_partitioner())
    }

    /// As [`join`](DStream::join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](DStream::cogroup_with) for an example.
    ///
    /// # Errors
    /// As there.
    pub fn join_with<W: Data>(
        &self,
        other: &DStream<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Result<DStream<(K, (V, W))>> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.with_other("join", other, move |left, right, _| Ok(left.join_with(&right, by.clone())))
    }

    /// As [`join`](DStream::join), with the pairs whose key `other`'s batch does not have, once and with `None`.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts. A parent that gives no RDD fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 1), ('b', 2), ('c', 3)], vec![]], |pairs| {
    ///     let left = pairs.filter(|(key, _)| *key != 'c');
    ///     let right = pairs.filter(|(key, _)| *key != 'b').map_values(|n| n * 10);
    ///     left.left_outer_join(&right).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', (1, Some(10))), ('b', (2, None))], vec![]]);
    /// ```
    pub fn left_outer_join<W: Data>(&self, other: &DStream<(K, W)>) -> Result<DStream<(K, (V, Option<W>))>> {
        self.left_outer_join_with(other, self.ssc.default_partitioner())
    }

    /// As [`left_outer_join`](DStream::left_outer_join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](DStream::cogroup_with) for an example.
    ///
    /// # Errors
    /// As there.
    pub fn left_outer_join_with<W: Data>(
        &self,
        other: &DStream<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Result<DStream<(K, (V, Option<W>))>> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.with_other("left_outer_join", other, move |left, right, _| {
            Ok(left.left_outer_join_with(&right, by.clone()))
        })
    }

    /// As [`join`](DStream::join), with the pairs of `other`'s batch whose key this one's does not have, once and with `None`.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts. A parent that gives no RDD fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 1), ('b', 2), ('c', 3)], vec![]], |pairs| {
    ///     let left = pairs.filter(|(key, _)| *key != 'c');
    ///     let right = pairs.filter(|(key, _)| *key != 'b').map_values(|n| n * 10);
    ///     left.right_outer_join(&right).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', (Some(1), 10)), ('c', (None, 30))], vec![]]);
    /// ```
    pub fn right_outer_join<W: Data>(&self, other: &DStream<(K, W)>) -> Result<DStream<(K, (Option<V>, W))>> {
        self.right_outer_join_with(other, self.ssc.default_partitioner())
    }

    /// As [`right_outer_join`](DStream::right_outer_join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](DStream::cogroup_with) for an example.
    ///
    /// # Errors
    /// As there.
    pub fn right_outer_join_with<W: Data>(
        &self,
        other: &DStream<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Result<DStream<(K, (Option<V>, W))>> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.with_other("right_outer_join", other, move |left, right, _| {
            Ok(left.right_outer_join_with(&right, by.clone()))
        })
    }

    /// As [`join`](DStream::join), with the pairs of both batches whose key the other does not have, once and with `None`.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts. A parent that gives no RDD fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches_sorted;
    /// let out = run_batches_sorted(vec![vec![('a', 1), ('b', 2), ('c', 3)], vec![]], |pairs| {
    ///     let left = pairs.filter(|(key, _)| *key != 'c');
    ///     let right = pairs.filter(|(key, _)| *key != 'b').map_values(|n| n * 10);
    ///     left.full_outer_join(&right).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [
    ///     vec![('a', (Some(1), Some(10))), ('b', (Some(2), None)), ('c', (None, Some(30)))],
    ///     vec![],
    /// ]);
    /// ```
    pub fn full_outer_join<W: Data>(
        &self,
        other: &DStream<(K, W)>,
    ) -> Result<DStream<(K, (Option<V>, Option<W>))>> {
        self.full_outer_join_with(other, self.ssc.default_partitioner())
    }

    /// As [`full_outer_join`](DStream::full_outer_join), into the partitions of `partitioner`, which may be just their number; see
    /// [`cogroup_with`](DStream::cogroup_with) for an example.
    ///
    /// # Errors
    /// As there.
    pub fn full_outer_join_with<W: Data>(
        &self,
        other: &DStream<(K, W)>,
        partitioner: impl Partitioner<K>,
    ) -> Result<DStream<(K, (Option<V>, Option<W>))>> {
        let by: Arc<dyn Partitioner<K>> = Arc::new(partitioner);
        self.with_other("full_outer_join", other, move |left, right, _| {
            Ok(left.full_outer_join_with(&right, by.clone()))
        })
    }
}
