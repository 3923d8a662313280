//! Names of streams and SQL in, prepared queries and groupings out. All planning happens here, before the first batch.

use crate::sql::{Grouping, Query, SchemaRef, SqlError};

/// Knows the streams that SQL may read, and plans over them.
pub(crate) struct Planner {}

impl Planner {
    /// A planner that knows no stream.
    pub(crate) fn new() -> Self {
        todo!()
    }

    /// Makes the stream `name` known to the queries planned from now on; a second one of that name replaces the first.
    pub(crate) fn register(&mut self, name: &str, schema: SchemaRef) {
        let _ = (name, schema);
        todo!()
    }

    /// The prepared query of one `select` statement.
    ///
    /// # Errors
    /// The text is no single `select`, names a stream, column or function that is not known, does not fit in types, or
    /// asks for what a replay could not repeat (`now()`, `random()`).
    pub(crate) fn query(&self, sql: &str) -> Result<Query, SqlError> {
        let _ = sql;
        todo!()
    }

    /// The prepared grouping of stream `from` by the expressions `key` (`tag`, `lower(tag) as tag`), with one aggregate
    /// call for each output column of `values` (`("n", "count(*)")`).
    ///
    /// # Errors
    /// As for [`query`](Self::query), with the one wrong expression as the error's text; also when a value is not one
    /// call of an aggregate that can be merged, or two columns have the same name.
    pub(crate) fn grouping(
        &self,
        from: &str,
        key: &[String],
        values: &[(String, String)],
    ) -> Result<Grouping, SqlError> {
        let _ = (from, key, values);
        todo!()
    }
}
