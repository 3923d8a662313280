//! [`SqlSession`]: RDDs as named views, and SQL over them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::StreamingContext;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd, Runner};
use crate::sql::error::{naming, nearest};
use crate::sql::typed::RowType;
use crate::sql::{DataFrame, Inputs, Planner, Query, RecordBatch, SchemaRef, SqlError};

/// Prepared queries that a session keeps. A program has a handful; one that writes values into its SQL has a new one in
/// each batch.
const KEPT_PLANS: usize = 64;

/// SQL over views of RDDs (Spark's `SparkSession`); a context has one, [`StreamingContext::sql_session`].
///
/// A handle: clones are the same session and see the same views. A view is made by
/// [`Rdd::create_or_replace_temp_view`] or [`DataFrame::create_or_replace_temp_view`] and lives until it is replaced,
/// [dropped](SqlSession::drop_temp_view), or the context ends: nothing of it is in the checkpoint. All may be called from
/// any thread, also from within an output operation.
///
/// ```
/// use tidemill::testing::TestContext;
/// use tidemill::RddQueue;
///
/// # fn main() -> tidemill::Result<()> {
/// let test = TestContext::new("sql")?;
/// let words = RddQueue::new();
/// words.push(["to", "be", "or", "not", "to", "be"].map(str::to_owned));
///
/// let session = test.ssc.sql_session();
/// test.ssc.queue_stream(&words).foreach_rdd(move |rdd| {
///     rdd.create_or_replace_temp_view_with(&session, "words", &["word"])?;
///     let totals = session.sql("select word, count(*) as total from words group by word order by total desc, word")?;
///     totals.show()?;
///     assert_eq!(totals.collect::<(String, u64)>()?[0], ("be".to_owned(), 2));
///     Ok(())
/// });
/// test.run(1)
/// # }
/// ```
#[derive(Clone)]
pub struct SqlSession {
    inner: Arc<Inner>,
}

struct Inner {
    runner: Arc<Runner>,
    views: Mutex<Views>,
}

struct Views {
    planner: Planner,
    rows: BTreeMap<String, Arc<[RecordBatch]>>,
    /// By their text; good for as long as the views have the columns that were planned with.
    plans: HashMap<String, Query>,
}

impl Views {
    /// The query and what it reads. The rows are those of now, whatever becomes of the views.
    fn prepare(&mut self, sql: &str) -> Result<(Query, Inputs), SqlError> {
        let query = match self.plans.get(sql) {
            Some(query) => query.clone(),
            None => {
                let query = self.planner.query(sql)?;
                if self.plans.len() >= KEPT_PLANS {
                    self.plans.clear();
                }
                self.plans.insert(sql.to_owned(), query.clone());
                query
            }
        };
        let rows = query.inputs().iter().filter_map(|name| Some((name, self.rows.get(name)?)));
        let inputs = rows.fold(Inputs::new(), |inputs, (name, rows)| inputs.with(name, Arc::clone(rows)));
        Ok((query, inputs))
    }
}

impl SqlSession {
    pub(crate) fn new(runner: Arc<Runner>) -> Self {
        let views = Views { planner: Planner::of_views(), rows: BTreeMap::new(), plans: HashMap::new() };
        Self { inner: Arc::new(Inner { runner, views: Mutex::new(views) }) }
    }

    pub(super) fn runner(&self) -> &Arc<Runner> {
        &self.inner.runner
    }

    /// The result of one `select` over the session's views (Spark's `spark.sql`).
    ///
    /// The query runs at once, on the context's worker threads, and once; its result is in memory, and stays as it is when
    /// the views are replaced. Over empty views there are no rows, but the columns, and an aggregate without `group by` has
    /// its one row. The same SQL as in pipeline files: PostgreSQL's, as DataFusion has it, without what would give another
    /// result when the batch is run again (`now()`, `random()`). Names are read in lower case unless they stand in double
    /// quotes.
    ///
    /// # Errors
    /// `Config` if the text is no `select`, or names a view, column or function that is not there: the message has the
    /// place, and the name that may have been meant. `Data` if a value cannot be worked with (division by zero, a failed
    /// cast).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// session.create_data_frame([("a", 1), ("b", 2)].map(|(k, v)| (k.to_owned(), v)))?.create_or_replace_temp_view("t")?;
    /// assert_eq!(session.sql("select sum(_2) as total from t")?.collect::<i64>()?, [3]);
    ///
    /// let error = session.sql("select sum(_3) as total from t").unwrap_err();
    /// assert_eq!(error.kind(), tidemill::ErrorKind::Config);
    /// assert!(error.to_string().contains("there is no column `_3` (line 1, column 12); did you mean `_1`?"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sql(&self, query: &str) -> Result<DataFrame> {
        let (sql, (query, inputs)) = (query, self.inner.views.lock().prepare(query)?);
        let batches = self.runner().run_tasks(1, |_, _| query.run(&inputs));
        let batches = batches.map_err(|error| error.within(naming(sql)))?;
        Ok(DataFrame::new(self, query.schema().clone(), batches.into_iter().flatten().collect()))
    }

    /// A table of `rows` (Spark's `createDataFrame`): for what batches are to be joined with. No rows are a table without
    /// rows.
    ///
    /// # Errors
    /// As for [`Rdd::to_df`].
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// let names = [("AMS", "Amsterdam"), ("OSL", "Oslo")].map(|(code, name)| (code.to_owned(), name.to_owned()));
    /// let airports = session.create_data_frame_with(names, &["code", "name"])?;
    /// airports.create_or_replace_temp_view("airports")?;
    /// assert_eq!(session.sql("select name from airports where code = 'OSL'")?.collect::<String>()?, ["Oslo"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_data_frame<T>(&self, rows: impl IntoIterator<Item = T>) -> Result<DataFrame>
    where
        T: Serialize + DeserializeOwned,
    {
        self.data_frame_of(&RowType::new()?, rows)
    }

    /// As [`create_data_frame`](SqlSession::create_data_frame), with names for the columns, in order.
    ///
    /// # Errors
    /// As for [`Rdd::to_df_with`].
    pub fn create_data_frame_with<T>(
        &self,
        rows: impl IntoIterator<Item = T>,
        columns: &[&str],
    ) -> Result<DataFrame>
    where
        T: Serialize + DeserializeOwned,
    {
        self.data_frame_of(&RowType::new()?.named(columns)?, rows)
    }

    fn data_frame_of<T>(&self, of: &RowType<T>, rows: impl IntoIterator<Item = T>) -> Result<DataFrame>
    where
        T: Serialize + DeserializeOwned,
    {
        let rows: Vec<T> = rows.into_iter().collect();
        Ok(DataFrame::new(self, Arc::clone(of.schema()), of.batches(&rows)?))
    }

    /// The rows of the view `name` (Spark's `spark.table`), as `select * from name` gives them, with the name as it is
    /// written.
    ///
    /// # Errors
    /// `Config` if there is no such view.
    pub fn table(&self, name: &str) -> Result<DataFrame> {
        let views = self.inner.views.lock();
        match (views.planner.schema(name), views.rows.get(name)) {
            (Some(schema), Some(rows)) => Ok(DataFrame::new(self, Arc::clone(schema), rows.to_vec())),
            _ => {
                let names: Vec<_> = views.rows.keys().cloned().collect();
                Err(Error::config(format!("there is no view `{name}`; {}", nearest(name, &names, "views"))))
            }
        }
    }

    /// The names of the views, sorted (Spark's `catalog.listTables`).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let session = tidemill::testing::TestContext::new("sql")?.ssc.sql_session();
    /// session.create_data_frame([1, 2, 3])?.create_or_replace_temp_view("numbers")?;
    /// assert_eq!(session.temp_views(), ["numbers"]);
    /// assert!(session.drop_temp_view("numbers"));
    /// assert!(!session.drop_temp_view("numbers"), "there is none any more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn temp_views(&self) -> Vec<String> {
        self.inner.views.lock().rows.keys().cloned().collect()
    }

    /// Forgets the view `name` and frees its rows (Spark's `catalog.dropTempView`); false if there is none.
    pub fn drop_temp_view(&self, name: &str) -> bool {
        let mut views = self.inner.views.lock();
        views.plans.clear();
        views.rows.remove(name);
        views.planner.deregister(name)
    }

    /// Makes these rows the view `name`, in place of one that has the name.
    pub(super) fn register(&self, name: &str, schema: &SchemaRef, rows: Arc<[RecordBatch]>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::config("a view needs a name"));
        }
        let mut views = self.inner.views.lock();
        // A view that comes with each batch has the same columns each time: what was planned over it still holds.
        if views.planner.schema(name) != Some(schema) {
            views.plans.clear();
            views.planner.register(name, Arc::clone(schema));
        }
        views.rows.insert(name.to_owned(), rows);
        Ok(())
    }
}

impl fmt::Debug for SqlSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSession").field("temp_views", &self.temp_views()).finish_non_exhaustive()
    }
}

impl StreamingContext {
    /// The context's session for SQL: made when it is first asked for, and the same each time (the lazily made singleton
    /// of Spark's streaming programs).
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// # let ssc = tidemill::testing::TestContext::new("sql")?.ssc;
    /// ssc.sql_session().create_data_frame([1, 2])?.create_or_replace_temp_view("numbers")?;
    /// assert_eq!(ssc.sql_session().table("numbers")?.count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sql_session(&self) -> SqlSession {
        self.inner.sql_session.get_or_init(|| SqlSession::new(self.inner.runner.clone())).clone()
    }
}

impl<T: Data + Serialize + DeserializeOwned> Rdd<T> {
    /// This RDD as a table (Spark's `toDF`). Runs the RDD, once, and keeps its rows in memory for as long as the table or a
    /// view of it is there.
    ///
    /// The columns come from the type, so that an empty RDD has them too:
    ///
    /// | the elements | the columns |
    /// |---|---|
    /// | a struct | its fields, under their names as serde has them |
    /// | a tuple (or array) | its members: `_1`, `_2` … |
    /// | anything else: `String`, `i64`, a list, a map | `value` |
    ///
    /// `Option` is a column that may be NULL, `Vec` an array, `HashMap` a map, a struct inside a struct a struct. An enum
    /// whose variants hold nothing is a text, and a `char` its code point.
    ///
    /// # Errors
    /// If a task fails, as for every action. `Config` if SQL has no type for a field: an enum whose variants hold data, a
    /// type that serde can only read by looking at the value (`serde_json::Value`, `#[serde(flatten)]`, dates of other
    /// crates: keep them as text or number). `Data` if a value does not have the fields of its type
    /// (`skip_serializing_if` on what is no `Option`).
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tidemill::RddQueue;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Reading { sensor: String, celsius: Option<f64> }
    ///
    /// # fn main() -> tidemill::Result<()> {
    /// # let test = tidemill::testing::TestContext::new("sql")?;
    /// # let session = test.ssc.sql_session();
    /// # let readings = RddQueue::<Reading>::new();
    /// test.ssc.queue_stream(&readings).foreach_rdd(move |rdd| {
    ///     let columns = rdd.to_df(&session)?.schema();
    ///     let columns: Vec<_> = columns.iter().map(|c| (c.name.as_str(), c.data_type.as_str(), c.nullable)).collect();
    ///     assert_eq!(columns, [("sensor", "text", false), ("celsius", "double", true)]);
    ///     Ok(())
    /// });
    /// # test.run(1)
    /// # }
    /// ```
    pub fn to_df(&self, session: &SqlSession) -> Result<DataFrame> {
        self.data_frame(session, &RowType::new()?)
    }

    /// As [`to_df`](Rdd::to_df), with names for the columns, in order.
    ///
    /// # Errors
    /// As for [`to_df`](Rdd::to_df); also `Config` if there are more or fewer names than columns, or two that are the same.
    pub fn to_df_with(&self, session: &SqlSession, columns: &[&str]) -> Result<DataFrame> {
        self.data_frame(session, &RowType::new()?.named(columns)?)
    }

    fn data_frame(&self, session: &SqlSession, of: &RowType<T>) -> Result<DataFrame> {
        let batches = self.run_partitions(|rows, _| of.batches(&rows))?;
        Ok(DataFrame::new(session, Arc::clone(of.schema()), batches.into_iter().flatten().collect()))
    }

    /// Makes this RDD the view `name` of `session`, in place of one that has the name (Spark's
    /// `createOrReplaceTempView`), with the columns that [`to_df`](Rdd::to_df) gives it.
    ///
    /// Runs the RDD, once, and keeps its rows in memory until the view is replaced or dropped: queries find the rows of
    /// now, however often and whenever they run. (Spark runs the RDD with each query.) An empty RDD is a view without rows,
    /// which has its columns.
    ///
    /// # Errors
    /// As for [`to_df`](Rdd::to_df); also `Config` if the name is empty.
    ///
    /// ```
    /// use tidemill::RddQueue;
    /// # fn main() -> tidemill::Result<()> {
    /// # let test = tidemill::testing::TestContext::new("sql")?;
    /// # let session = test.ssc.sql_session();
    /// let numbers = RddQueue::new();
    /// numbers.push([3, 4]);
    /// numbers.push([]);
    /// test.ssc.queue_stream(&numbers).foreach_rdd(move |rdd| {
    ///     rdd.create_or_replace_temp_view(&session, "numbers")?;
    ///     let large = session.sql("select count(*) as n from numbers where value > 3")?;
    ///     assert_eq!(large.collect::<u64>()?, [rdd.filter(|n| *n > 3).count()?]);
    ///     Ok(())
    /// });
    /// # test.run(2)
    /// # }
    /// ```
    pub fn create_or_replace_temp_view(&self, session: &SqlSession, name: &str) -> Result<()> {
        self.to_df(session)?.create_or_replace_temp_view(name)
    }

    /// As [`create_or_replace_temp_view`](Rdd::create_or_replace_temp_view), with names for the columns, in order.
    ///
    /// # Errors
    /// As for [`create_or_replace_temp_view`](Rdd::create_or_replace_temp_view) and [`to_df_with`](Rdd::to_df_with).
    ///
    /// ```
    /// use tidemill::RddQueue;
    /// # fn main() -> tidemill::Result<()> {
    /// # let test = tidemill::testing::TestContext::new("sql")?;
    /// # let session = test.ssc.sql_session();
    /// let clicks = RddQueue::new();
    /// clicks.push([("ann".to_owned(), 2), ("bob".to_owned(), 1), ("ann".to_owned(), 5)]);
    /// test.ssc.queue_stream(&clicks).foreach_rdd(move |rdd| {
    ///     rdd.create_or_replace_temp_view_with(&session, "clicks", &["user", "n"])?;
    ///     let most = session.sql("select \"user\", sum(n) as n from clicks group by \"user\" order by n desc limit 1")?;
    ///     assert_eq!(most.collect::<(String, i64)>()?, [("ann".to_owned(), 7)]);
    ///     Ok(())
    /// });
    /// # test.run(1)
    /// # }
    /// ```
    pub fn create_or_replace_temp_view_with(
        &self,
        session: &SqlSession,
        name: &str,
        columns: &[&str],
    ) -> Result<()> {
        self.to_df_with(session, columns)?.create_or_replace_temp_view(name)
    }
}
