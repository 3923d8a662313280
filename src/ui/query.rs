//! Live tables, and SQL over them: the engine is whoever has the tables.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rest::Problem;
use super::server::App;
use crate::error::Result;

/// Where questions are asked.
pub(crate) const QUERY_PATH: &str = "/api/v1/query";
/// Rows that an answer has at most, whatever is asked.
const ROWS: usize = 10_000;
/// Rows that it has unless asked otherwise.
const DEFAULT_ROWS: usize = 1_000;

/// What has live tables.
pub(crate) trait Tables: Send + Sync {
    /// All of them.
    fn tables(&self) -> Vec<TableInfo>;

    /// What `sql` gives over what the tables hold now, at most `limit` rows.
    ///
    /// # Errors
    /// The query is wrong, or may not be asked.
    fn query(&self, sql: &str, limit: usize) -> Result<Answer>;

    /// The same as text of this form: `csv` or `table`.
    ///
    /// # Errors
    /// As for [`query`](Self::query); also if there is no such form.
    fn text(&self, sql: &str, limit: usize, form: &str) -> Result<String>;
}

/// A column of a table or an answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Column {
    pub name: String,
    /// As a pipeline file calls it.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// A live table.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableInfo {
    pub name: String,
    pub columns: Vec<Column>,
    /// Rows that it holds, if that is known without reading it.
    pub num_rows: Option<u64>,
    /// The batch that it shows, by its id.
    pub batch_id: Option<i64>,
}

/// A query.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QueryRequest {
    /// One `select` over live tables.
    pub sql: String,
    /// At most so many rows; 1,000 unless given, 10,000 at most.
    pub limit: Option<usize>,
    /// `csv` or `table` for an answer as text; JSON unless given.
    pub format: Option<String>,
}

/// What a query gave.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub columns: Vec<Column>,
    /// One list of values per row, in the order of the columns.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub rows: Vec<Vec<serde_json::Value>>,
    /// Whether there were more rows than the limit.
    pub truncated: bool,
    /// The batch that the tables showed, by its id.
    pub batch_id: Option<i64>,
}

/// The live tables
#[utoipa::path(get, path = "/api/v1/tables", tag = "tables", responses((status = 200, body = Vec<TableInfo>)))]
pub(super) async fn tables(State(app): State<App>) -> Json<Vec<TableInfo>> {
    Json(app.tables.as_ref().map(|tables| tables.tables()).unwrap_or_default())
}

/// Ask the live tables in SQL
#[utoipa::path(post, path = "/api/v1/query", tag = "tables", request_body = QueryRequest,
    responses((status = 200, body = Answer), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn query(State(app): State<App>, Json(asked): Json<QueryRequest>) -> Response {
    let Some(tables) = app.tables.clone() else {
        return Problem::answer(StatusCode::NOT_FOUND, "there are no live tables: give an output a `table`");
    };
    let limit = asked.limit.unwrap_or(DEFAULT_ROWS).min(ROWS);
    // It may take a while, and other requests want answers too.
    let answer = tokio::task::spawn_blocking(move || match asked.format.as_deref() {
        None | Some("json") => tables.query(&asked.sql, limit).map(|answer| Json(answer).into_response()),
        Some(form) => tables.text(&asked.sql, limit, form).map(IntoResponse::into_response),
    });
    match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Problem::answer(StatusCode::BAD_REQUEST, error.whole_text()),
        Err(error) => Problem::answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The tables of an application, if it has any.
pub(super) type SharedTables = Option<Arc<dyn Tables>>;
