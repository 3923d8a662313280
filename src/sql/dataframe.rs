//! [`DataFrame`]: the rows of a query or an RDD, and the ways out of SQL.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::rdd::{Data, MemoryRdd, Rdd};
use crate::sql::encode::rows_as_json;
use crate::sql::{RecordBatch, SchemaRef, SqlSession, show, type_name, typed};

/// How many rows [`DataFrame::show`] prints.
const SHOWN: usize = 20;

/// Rows under named and typed columns, in memory (Spark's `DataFrame`): what [`SqlSession::sql`] and [`Rdd::to_df`] give.
///
/// Its rows were computed when it was made, and do not change. Cheap to clone. Where a query orders its rows they stand in
/// that order; else in one that depends only on the rows of the views.
#[derive(Clone)]
pub struct DataFrame {
    session: SqlSession,
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
}

/// A column of a [`DataFrame`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqlColumn {
    /// Its name, as it is written in double quotes.
    pub name: String,
    /// The name of its type, as SQL has it: `bigint`, `text`, `double`, `text[]` …
    pub data_type: String,
    /// Whether there may be NULLs in it.
    pub nullable: bool,
}

impl DataFrame {
    /// Rows under these columns; `batches` have exactly them.
    pub(super) fn new(session: &SqlSession, schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { session: session.clone(), schema, batches: batches.into() }
    }

    /// The columns, in order; the same with and without rows.
    pub fn schema(&self) -> Vec<SqlColumn> {
        let column = |field: &Arc<crate::sql::Field>| SqlColumn {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            nullable: field.is_nullable(),
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// The number of rows.
    pub fn count(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Prints the first 20 rows to standard output, in Spark's layout; only the head if there are no rows.
    ///
    /// Values of more than 20 characters are cut. See [`show_string`](DataFrame::show_string) for how it looks.
    ///
    /// # Errors
    /// `Output` if standard output cannot be written to.
    pub fn show(&self) -> Result<()> {
        self.show_n(SHOWN)
    }

    /// Prints the first `n` rows, as [`show`](DataFrame::show) does.
    ///
    /// # Errors
    /// As for [`show`](DataFrame::show).
    pub fn show_n(&self, n: usize) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(self.show_string(n)?.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Error::output("cannot print to standard output").with_source(error))
    }

    /// What [`show_n`](DataFrame::show_n) prints: for a log.
    ///
    /// # Errors
    /// `Config` if a column has a type that cannot be shown.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// let rows = [("to", 2), ("question", 1)].map(|(word, n)| (word.to_owned(), n));
    /// let text = session.create_data_frame_with(rows, &["word", "total"])?.show_string(20)?;
    /// assert_eq!(text, "\
    /// +--------+-----+
    /// |    word|total|
    /// +--------+-----+
    /// |      to|    2|
    /// |question|    1|
    /// +--------+-----+
    ///
    /// ");
    /// # Ok(())
    /// # }
    /// ```
    pub fn show_string(&self, n: usize) -> Result<String> {
        show::table(&self.schema, &self.batches, n)
            .map_err(|error| Error::config(format!("rows cannot be shown: {error}")))
    }

    /// The rows as values of `U`, in order: a struct by the names of its fields (other columns are passed over), a tuple by
    /// the order of the columns, any other type from the only column. No rows are no values.
    ///
    /// # Errors
    /// `Config` if the columns are not those of `U`: one that it needs is missing, there are more or fewer than a tuple has,
    /// a text stands where a number should. `Data` if a value does not fit: NULL in what is no `Option`, a number too
    /// large.
    ///
    /// ```
    /// use serde::Deserialize;
    ///
    /// #[derive(Debug, PartialEq, Deserialize)]
    /// struct Total { word: String, total: u64 }
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// session.create_data_frame(["a", "b", "a"].map(str::to_owned))?.create_or_replace_temp_view("words")?;
    /// let totals = session.sql("select value as word, count(*) as total from words group by word order by word")?;
    /// let total = |word: &str, total| Total { word: word.to_owned(), total };
    /// assert_eq!(totals.collect::<Total>()?, [total("a", 2), total("b", 1)]);
    /// assert_eq!(totals.collect::<(String, u64)>()?[0], ("a".to_owned(), 2));
    /// assert_eq!(totals.collect::<u64>().unwrap_err().kind(), tidemill::ErrorKind::Config);
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect<U: DeserializeOwned>(&self) -> Result<Vec<U>> {
        typed::values(&self.schema, &self.batches)
    }

    /// Each row as a JSON object, its members in the order of the columns (Spark's `toJSON`). NULLs, and doubles that are no
    /// numbers, are `null`; timestamps are RFC 3339 in UTC; bytes are hexadecimal.
    ///
    /// # Errors
    /// `Config` if a column has a type that JSON cannot show.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// let rows = session.create_data_frame_with([("a".to_owned(), None), ("b".to_owned(), Some(2))], &["k", "n"])?;
    /// assert_eq!(rows.to_json()?, [r#"{"k":"a","n":null}"#, r#"{"k":"b","n":2}"#]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_json(&self) -> Result<Vec<String>> {
        let mut lines = Vec::with_capacity(self.batches.iter().map(RecordBatch::num_rows).sum());
        for batch in self.batches.iter() {
            for line in rows_as_json(batch)? {
                let line = String::from_utf8(line)
                    .map_err(|error| Error::internal("a row's JSON is not UTF-8").with_source(error))?;
                lines.push(line);
            }
        }
        Ok(lines)
    }

    /// Makes these rows the view `name` of their session, in place of one that has the name (Spark's
    /// `createOrReplaceTempView`): a query's result is read by the next. They stay in memory until the view is replaced or
    /// dropped.
    ///
    /// # Errors
    /// `Config` if the name is empty.
    pub fn create_or_replace_temp_view(&self, name: &str) -> Result<()> {
        self.session.register(name, &self.schema, Arc::clone(&self.batches))
    }

    /// The rows as an RDD of values of `U`, as [`collect`](DataFrame::collect) makes them: the way back into a stream, by
    /// [`DStream::try_transform`](crate::DStream::try_transform). In one partition; an RDD without elements if there are no
    /// rows.
    ///
    /// # Errors
    /// As for [`collect`](DataFrame::collect).
    ///
    /// ```
    /// use tidemill::testing::TestContext;
    /// use tidemill::RddQueue;
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// let test = TestContext::new("sql")?;
    /// let numbers = RddQueue::new();
    /// numbers.push([1, 2, 3]);
    /// numbers.push([]);
    /// let session = test.ssc.sql_session();
    /// let odd = test.ssc.queue_stream(&numbers).try_transform(move |rdd, _| {
    ///     rdd.create_or_replace_temp_view(&session, "numbers")?;
    ///     session.sql("select value from numbers where value % 2 = 1")?.rdd::<i32>()
    /// });
    /// let squares = test.collect(&odd.map(|n| n * n));
    /// test.run(2)?;
    /// let squares: Vec<_> = squares.take().into_iter().map(|(_, batch)| batch).collect();
    /// assert_eq!(squares, [vec![1, 9], vec![]]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rdd<U: Data + DeserializeOwned>(&self) -> Result<Rdd<U>> {
        let rows = self.collect()?;
        Ok(Rdd::new(self.session.runner(), MemoryRdd::split(rows, 1)))
    }
}

impl fmt::Debug for DataFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFrame").field("schema", &self.schema()).field("count", &self.count()).finish()
    }
}
