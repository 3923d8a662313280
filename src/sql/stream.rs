//! [`DStream::sql`]

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dstream::DStream;
use crate::rdd::Data;

impl<T: Data + Serialize + DeserializeOwned> DStream<T> {
    /// What the SQL `query` gives over each batch, which it reads as the view `view` (in Spark: `transform` with a
    /// `SparkSession`).
    ///
    /// Each batch becomes that view of the context's [session](crate::StreamingContext::sql_session), as by
    /// [`Rdd::create_or_replace_temp_view`](crate::Rdd::create_or_replace_temp_view); the query may join it with the session's
    /// other views. Its rows become values of `U`, as by [`DataFrame::collect`](crate::DataFrame::collect). Over an empty
    /// batch the query runs too: an aggregate without `group by` has its one row, all others give nothing.
    ///
    /// Two streams that use the same view replace it in turn, so each had better have its own.
    ///
    /// # Errors
    /// A query or type that does not fit fails the first batch, with kind `Config`; a value that cannot be worked with fails
    /// its batch, with kind `Data`.
    ///
    /// ```
    /// use tidemill::testing::run_batches;
    ///
    /// let words = vec![vec!["to", "be", "or", "not", "to", "be"], vec![]];
    /// let words = words.into_iter().map(|batch| batch.into_iter().map(str::to_owned).collect()).collect();
    /// let out = run_batches(words, |words| {
    ///     words.sql::<(String, u64)>(
    ///         "words",
    ///         "select value, count(*) as total from words group by value order by total desc, value limit 2",
    ///     )
    /// });
    /// assert_eq!(out.unwrap(), [vec![("be".to_owned(), 2), ("to".to_owned(), 2)], vec![]]);
    /// ```
    pub fn sql<U: Data + DeserializeOwned>(&self, view: &str, query: &str) -> DStream<U> {
        let (session, view, query) = (self.ssc.sql_session(), view.to_owned(), query.to_owned());
        self.try_transform(move |rdd, _| {
            rdd.create_or_replace_temp_view(&session, &view)?;
            session.sql(&query)?.rdd()
        })
    }
}
