//! `transform` and `transform_with`

use super::DStream;
use crate::context::StreamingContext;
use crate::error::Result;
use crate::rdd::{Data, Rdd};
use crate::time::Time;

impl<T: Data> DStream<T> {
    /// What `f` makes of each batch's RDD; it is called for empty batches too.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2], vec![]], |n| n.transform(|rdd| rdd.filter(|n| n % 2 == 0))).unwrap();
    /// assert_eq!(out, [vec![2], vec![]]);
    /// ```
    ///
    /// This is how a stream is joined with an RDD that stays the same, be it
    /// [made by the program](StreamingContext::parallelize) or [read from files](StreamingContext::text_file):
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![('s', 5), ('x', 1)], vec![], vec![('n', 7)]], |levels| {
    ///     let stations = levels.context().parallelize([('n', "North"), ('s', "South")], 1);
    ///     levels.transform(move |rdd| rdd.join(&stations))
    /// });
    /// assert_eq!(out.unwrap(), [vec![('s', (5, "South"))], vec![], vec![('n', (7, "North"))]]);
    /// ```
    #[track_caller]
    pub fn transform<U: Data>(&self, f: impl Fn(Rdd<T>) -> Rdd<U> + Send + Sync + 'static) -> DStream<U> {
        self.transform_with_time(move |rdd, _| f(rdd))
    }

    /// As [`transform`](DStream::transform), with the batch time.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec!['a'], vec![]], |letters| {
    ///     letters.transform_with_time(|rdd, time| rdd.map(move |letter| (letter, time.as_millis())))
    /// });
    /// assert_eq!(out.unwrap(), [vec![('a', 1_000)], vec![]]);
    /// ```
    #[track_caller]
    pub fn transform_with_time<U: Data>(
        &self,
        f: impl Fn(Rdd<T>, Time) -> Rdd<U> + Send + Sync + 'static,
    ) -> DStream<U> {
        self.try_transform(move |rdd, time| Ok(f(rdd, time)))
    }

    /// As [`transform_with_time`](DStream::transform_with_time), where `f` may fail; that fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 5, 5], vec![]], |numbers| {
    ///     numbers.try_transform(|rdd, _| {
    ///         let most = rdd.max()?;
    ///         Ok(rdd.filter(move |n| Some(*n) == most))
    ///     })
    /// });
    /// assert_eq!(out.unwrap(), [vec![5, 5], vec![]]);
    /// ```
    #[track_caller]
    pub fn try_transform<U: Data>(
        &self,
        f: impl Fn(Rdd<T>, Time) -> Result<Rdd<U>> + Send + Sync + 'static,
    ) -> DStream<U> {
        let parent = self.core.clone();
        self.derive("transform", &[], self.slide_duration(), move |time| {
            f(parent.required("transform", time)?, time).map(Some)
        })
    }

    /// What `f` makes of each batch's RDD of this stream and that of `other`, whose elements may be of another type; it is
    /// called for empty batches too.
    ///
    /// # Errors
    /// If the two have different slide durations, or are of different contexts.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2], vec![]], |numbers| {
    ///     let texts = numbers.map(|n| n.to_string());
    ///     numbers.transform_with(&texts, |numbers, texts| numbers.cartesian(&texts)).unwrap()
    /// });
    /// let pair = |n: i32, text: &str| (n, text.to_owned());
    /// assert_eq!(out.unwrap(), [vec![pair(1, "1"), pair(1, "2"), pair(2, "1"), pair(2, "2")], vec![]]);
    /// ```
    pub fn transform_with<U: Data, V: Data>(
        &self,
        other: &DStream<U>,
        f: impl Fn(Rdd<T>, Rdd<U>) -> Rdd<V> + Send + Sync + 'static,
    ) -> Result<DStream<V>> {
        self.transform_with_and_time(other, move |left, right, _| f(left, right))
    }

    /// As [`transform_with`](DStream::transform_with), with the batch time.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1], vec![]], |numbers| {
    ///     let tens = numbers.map(|n| n * 10);
    ///     numbers
    ///         .transform_with_and_time(&tens, |ones, tens, time| {
    ///             ones.union(&tens).map(move |n| (n, time.as_millis()))
    ///         })
    ///         .unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![(1, 1_000), (10, 1_000)], vec![]]);
    /// ```
    pub fn transform_with_and_time<U: Data, V: Data>(
        &self,
        other: &DStream<U>,
        f: impl Fn(Rdd<T>, Rdd<U>, Time) -> Rdd<V> + Send + Sync + 'static,
    ) -> Result<DStream<V>> {
        self.try_transform_with(other, move |left, right, time| Ok(f(left, right, time)))
    }

    /// As [`transform_with_and_time`](DStream::transform_with_and_time), where `f` may fail; that fails the batch.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 5], vec![]], |numbers| {
    ///     let limits = numbers.map(|n| n * 2);
    ///     let below = numbers.try_transform_with(&limits, |numbers, limits, _| {
    ///         let least = limits.min()?;
    ///         Ok(numbers.filter(move |n| Some(*n) < least))
    ///     });
    ///     below.unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1], vec![]]);
    /// ```
    pub fn try_transform_with<U: Data, V: Data>(
        &self,
        other: &DStream<U>,
        f: impl Fn(Rdd<T>, Rdd<U>, Time) -> Result<Rdd<V>> + Send + Sync + 'static,
    ) -> Result<DStream<V>> {
        self.with_other("transform_with", other, f)
    }
}

impl StreamingContext {
    /// What `f` makes of each batch's RDDs of all `streams`, in the order in which they are given; it is called for empty
    /// batches too.
    ///
    /// # Errors
    /// If there are no streams, two have different slide durations, or one is of another context.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 2, 3], vec![]], |numbers| {
    ///     let (odd, small) = (numbers.filter(|n| n % 2 == 1), numbers.filter(|n| *n < 3));
    ///     numbers.context().transform([&odd, &small], |rdds| rdds[0].intersection(&rdds[1])).unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1], vec![]]);
    /// ```
    pub fn transform<'a, T: Data, U: Data>(
        &self,
        streams: impl IntoIterator<Item = &'a DStream<T>>,
        f: impl Fn(Vec<Rdd<T>>) -> Rdd<U> + Send + Sync + 'static,
    ) -> Result<DStream<U>> {
        self.transform_with_time(streams, move |rdds, _| f(rdds))
    }

    /// As [`transform`](StreamingContext::transform), with the batch time.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1], vec![]], |numbers| {
    ///     let tens = numbers.map(|n| n * 10);
    ///     let timed = numbers.context().transform_with_time([numbers, &tens], |rdds, time| {
    ///         rdds[0].union(&rdds[1]).map(move |n| (n, time.as_millis()))
    ///     });
    ///     timed.unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![(1, 1_000), (10, 1_000)], vec![]]);
    /// ```
    pub fn transform_with_time<'a, T: Data, U: Data>(
        &self,
        streams: impl IntoIterator<Item = &'a DStream<T>>,
        f: impl Fn(Vec<Rdd<T>>, Time) -> Rdd<U> + Send + Sync + 'static,
    ) -> Result<DStream<U>> {
        self.try_transform(streams, move |rdds, time| Ok(f(rdds, time)))
    }

    /// As [`transform_with_time`](StreamingContext::transform_with_time), where `f` may fail; that fails the batch.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    /// let out = run_batches(vec![vec![1, 5], vec![]], |numbers| {
    ///     let limits = numbers.map(|n| n * 2);
    ///     let below = numbers.context().try_transform([numbers, &limits], |rdds, _| {
    ///         let least = rdds[1].min()?;
    ///         Ok(rdds[0].filter(move |n| Some(*n) < least))
    ///     });
    ///     below.unwrap()
    /// });
    /// assert_eq!(out.unwrap(), [vec![1], vec![]]);
    /// ```
    pub fn try_transform<'a, T: Data, U: Data>(
        &self,
        streams: impl IntoIterator<Item = &'a DStream<T>>,
        f: impl Fn(Vec<Rdd<T>>, Time) -> Result<Rdd<U>> + Send + Sync + 'static,
    ) -> Result<DStream<U>> {
        self.with_all("transform", streams, f)
    }
}
