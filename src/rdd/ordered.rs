//! Actions that compare elements: the largest, the smallest, and sums.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Add;

use super::{Data, Operator, Rdd};
use crate::error::Result;

/// An element in a heap of the least ones; of equal elements the earlier one is less.
struct Ranked<'a, T, F> {
    element: T,
    number: usize,
    compare: &'a F,
}

impl<T, F: Fn(&T, &T) -> Ordering> Ord for Ranked<'_, T, F> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.compare)(&self.element, &other.element).then(self.number.cmp(&other.number))
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> PartialOrd for Ranked<'_, T, F> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> PartialEq for Ranked<'_, T, F> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T, F: Fn(&T, &T) -> Ordering> Eq for Ranked<'_, T, F> {}

impl<T: Data> Rdd<T> {
    /// The `n` smallest elements by `compare`, smallest first; equal ones in the order of the RDD. All elements if there
    /// are fewer; nothing for an empty RDD. A task keeps no more than `n` elements.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let rates = ssc.parallelize([("a", 0.5f64), ("b", 0.1), ("c", 0.5)], 2);
    /// assert_eq!(rates.take_ordered_by(2, |x, y| x.1.total_cmp(&y.1))?, [("b", 0.1), ("a", 0.5)]);
    /// # Ok(()) }
    /// ```
    pub fn take_ordered_by(&self, n: usize, compare: impl Fn(&T, &T) -> Ordering + Sync) -> Result<Vec<T>> {
        if n == 0 {
            return Ok(Vec::new());
        }
        let compare = &compare;
        let heaps = self.fold_partitions(
            || (BinaryHeap::new(), 0),
            |(heap, number), element| {
                let ranked = Ranked { element, number: *number, compare };
                *number += 1;
                if heap.len() < n {
                    heap.push(ranked);
                } else if let Some(mut last) = heap.peek_mut()
                    && ranked < *last
                {
                    *last = ranked;
                }
                Ok(())
            },
        )?;
        Operator::current().caught(|| {
            let kept = heaps.into_iter().flat_map(|(heap, _)| heap.into_sorted_vec());
            let mut least: Vec<T> = kept.map(|ranked| ranked.element).collect();
            // Stable: of equal elements that of the earlier partition stays in front.
            least.sort_by(compare);
            least.truncate(n);
            least
        })
    }

    /// The `n` largest elements by `compare`, largest first; equal ones in the order of the RDD. All elements if there
    /// are fewer; nothing for an empty RDD. A task keeps no more than `n` elements.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// let counts = ssc.parallelize([("a", 2), ("b", 7), ("c", 7)], 2);
    /// assert_eq!(counts.top_by(2, |x, y| x.1.cmp(&y.1))?, [("b", 7), ("c", 7)]);
    /// # Ok(()) }
    /// ```
    pub fn top_by(&self, n: usize, compare: impl Fn(&T, &T) -> Ordering + Sync) -> Result<Vec<T>> {
        self.take_ordered_by(n, |a, b| compare(b, a))
    }

    /// The `n` smallest elements, smallest first; see [`take_ordered_by`](Rdd::take_ordered_by).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([5, 3, 9, 1], 2).take_ordered(2)?, [1, 3]);
    /// # Ok(()) }
    /// ```
    pub fn take_ordered(&self, n: usize) -> Result<Vec<T>>
    where
        T: Ord,
    {
        self.take_ordered_by(n, T::cmp)
    }

    /// The `n` largest elements, largest first; see [`top_by`](Rdd::top_by).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([5, 3, 9, 1], 2).top(2)?, [9, 5]);
    /// # Ok(()) }
    /// ```
    pub fn top(&self, n: usize) -> Result<Vec<T>>
    where
        T: Ord,
    {
        self.top_by(n, T::cmp)
    }

    /// The smallest element, the first of equal ones; none for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([5, 3, 9], 2).min()?, Some(3));
    /// # Ok(()) }
    /// ```
    pub fn min(&self) -> Result<Option<T>>
    where
        T: Ord,
    {
        self.reduce(|a, b| if b < a { b } else { a })
    }

    /// The largest element, the first of equal ones; none for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([5, 3, 9], 2).max()?, Some(9));
    /// # Ok(()) }
    /// ```
    pub fn max(&self) -> Result<Option<T>>
    where
        T: Ord,
    {
        self.reduce(|a, b| if b > a { b } else { a })
    }

    /// All elements added up in partition order, by the `+` of their type; its default (0) for an empty RDD.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::StreamingContext::builder("example").build()?;
    /// assert_eq!(ssc.parallelize([5, 3, 9], 2).sum()?, 17);
    /// # Ok(()) }
    /// ```
    pub fn sum(&self) -> Result<T>
    where
        T: Add<Output = T> + Default,
    {
        Ok(self.reduce(T::add)?.unwrap_or_default())
    }
}
