//! REST: what is known, as JSON.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::history::{BATCHES, Status};
use super::model::{
    BatchDetails, BatchInfo, LagInfo, Output, OutputOperation, Receiver, StateInfo, Stream,
    StreamingStatistics, Streams, Timeline,
};
use super::query::{Answer, QueryRequest, TableInfo};
use super::server::App;
use crate::ContextState;
use crate::time::Time;

/// The description of all of it.
#[derive(OpenApi)]
#[openapi(
    info(title = "Tidemill", description = "What a running application knows of its batches."),
    paths(
        statistics, batches, batch, operations, timeline, receivers, streams, state, lag, super::events::events,
        super::query::tables, super::query::query
    ),
    components(schemas(
        StreamingStatistics, BatchInfo, BatchDetails, OutputOperation, Timeline, Receiver, Streams, StateInfo, LagInfo,
        Status, Problem, TableInfo, QueryRequest, Answer
    )),
    tags(
        (name = "application"), (name = "batches"), (name = "graph", description = "Operators, state and lag"),
        (name = "tables", description = "Live tables, and queries over them")
    )
)]
struct Description;

/// What was wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    pub error: String,
}

impl Problem {
    pub fn answer(status: StatusCode, error: impl Into<String>) -> Response {
        (status, Json(Problem { error: error.into() })).into_response()
    }
}

/// The OpenAPI description, with one line per release of the API.
pub(super) async fn openapi() -> Response {
    match Description::openapi().to_json() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => Problem::answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The application as a whole
#[utoipa::path(get, path = "/api/v1/statistics", tag = "application", responses((status = 200, body = StreamingStatistics)))]
pub(super) async fn statistics(State(app): State<App>) -> Json<StreamingStatistics> {
    let state = match app.ssc.state() {
        ContextState::Initialized => "INITIALIZED",
        ContextState::Active => "ACTIVE",
        ContextState::Stopped => "STOPPED",
    };
    let known = app.history.known.read();
    Json(StreamingStatistics::new(app.ssc.app_name(), state, app.interval, &known, app.history.now()))
}

/// Which batches are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those with this status: `queued`, `processing`, `completed` or `failed`.
    status: Option<String>,
    /// Only those after this batch, by its id.
    after: Option<i64>,
    /// At most so many, the latest ones; 100 unless given, 10,000 at most.
    limit: Option<usize>,
}

/// The last batches, the latest first: those that wait, the one that runs (two, while one is committed), then those that are over
#[utoipa::path(get, path = "/api/v1/batches", tag = "batches", params(Wanted),
    responses((status = 200, body = Vec<BatchInfo>), (status = 400, body = Problem)))]
pub(super) async fn batches(State(app): State<App>, Query(wanted): Query<Wanted>) -> Response {
    let status = match wanted.status.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("queued") => Some(Status::Queued),
        Some("processing") => Some(Status::Processing),
        Some("completed") => Some(Status::Completed),
        Some("failed") => Some(Status::Failed),
        Some(other) => {
            let message = format!("there is no status `{other}`: queued, processing, completed, failed");
            return Problem::answer(StatusCode::BAD_REQUEST, message);
        }
    };
    let known = app.history.known.read();
    let all = known.queued.iter().rev().chain(known.running.iter().rev()).chain(known.batches.iter().rev());
    let after = wanted.after.map_or(Time::from_millis(i64::MIN), Time::from_millis);
    let found = all
        .filter(|batch| batch.info.batch_time > after && status.is_none_or(|status| batch.status == status))
        .take(wanted.limit.unwrap_or(100).min(BATCHES));
    Json(found.map(|batch| BatchInfo::of(batch, app.interval)).collect::<Vec<_>>()).into_response()
}

fn found(app: &App, id: i64, answer: impl FnOnce(BatchDetails) -> Response) -> Response {
    let batch = app.history.known.read().batch(Time::from_millis(id));
    match batch {
        Some(batch) => answer(BatchDetails::of(&batch, app.interval)),
        None => Problem::answer(
            StatusCode::NOT_FOUND,
            format!("batch {id} is not known: the last {BATCHES} are kept"),
        ),
    }
}

/// One batch, with its offset ranges, operations, phases and errors
#[utoipa::path(get, path = "/api/v1/batches/{batchId}", tag = "batches",
    params(("batchId" = i64, Path, description = "The batch time in milliseconds since the epoch")),
    responses((status = 200, body = BatchDetails), (status = 404, body = Problem)))]
pub(super) async fn batch(State(app): State<App>, Path(id): Path<i64>) -> Response {
    found(&app, id, |batch| Json(batch).into_response())
}

/// The output operations of a batch
#[utoipa::path(get, path = "/api/v1/batches/{batchId}/operations", tag = "batches",
    params(("batchId" = i64, Path, description = "The batch time in milliseconds since the epoch")),
    responses((status = 200, body = Vec<OutputOperation>), (status = 404, body = Problem)))]
pub(super) async fn operations(State(app): State<App>, Path(id): Path<i64>) -> Response {
    found(&app, id, |batch| Json(batch.operations).into_response())
}

/// The figures of all batches that are kept, column by column, the oldest first
#[utoipa::path(get, path = "/api/v1/timeline", tag = "batches", params(Wanted), responses((status = 200, body = Timeline)))]
pub(super) async fn timeline(State(app): State<App>, Query(wanted): Query<Wanted>) -> Json<Timeline> {
    let after = wanted.after.map_or(Time::from_millis(i64::MIN), Time::from_millis);
    let known = app.history.known.read();
    let from = known.batches.partition_point(|batch| batch.info.batch_time <= after);
    let from = from.max(known.batches.len().saturating_sub(wanted.limit.unwrap_or(BATCHES)));
    Json(Timeline::of(known.batches.range(from..)))
}

/// The receivers
#[utoipa::path(get, path = "/api/v1/receivers", tag = "application", responses((status = 200, body = Vec<Receiver>)))]
pub(super) async fn receivers(State(app): State<App>) -> Json<Vec<Receiver>> {
    Json(app.history.known.read().receivers.values().map(Receiver::of).collect())
}

/// The graph of operators, with what each gave
#[utoipa::path(get, path = "/api/v1/streams", tag = "graph", responses((status = 200, body = Streams)))]
pub(super) async fn streams(State(app): State<App>) -> Json<Streams> {
    let graph = &app.ssc.inner.graph;
    let known = app.history.known.read();
    let streams = graph.operators().into_iter().map(|operator| Stream::of(operator, &known)).collect();
    let outputs = graph.outputs();
    let outputs = outputs.iter().enumerate().map(|(id, output)| Output {
        output_op_id: id,
        name: output.name.clone(),
        description: output.description.clone(),
        stream_id: output.stream,
    });
    Json(Streams { streams, outputs: outputs.collect() })
}

/// What each stateful operator holds after the last batch
#[utoipa::path(get, path = "/api/v1/state", tag = "graph", responses((status = 200, body = Vec<StateInfo>)))]
pub(super) async fn state(State(app): State<App>) -> Json<Vec<StateInfo>> {
    let known = app.history.known.read();
    let info = known.state.iter().map(|(operator, stats)| StateInfo {
        operator: operator.clone(),
        num_keys: stats.keys,
        size_bytes: stats.bytes,
        cache_hits: stats.cache_hits,
        cache_misses: stats.cache_misses,
    });
    Json(info.collect())
}

/// How far behind each partition is
#[utoipa::path(get, path = "/api/v1/lag", tag = "graph", responses((status = 200, body = Vec<LagInfo>)))]
pub(super) async fn lag(State(app): State<App>) -> Json<Vec<LagInfo>> {
    let known = app.history.known.read();
    let now = app.history.now();
    let info = known.lag.iter().map(|lag| LagInfo {
        topic: lag.topic.clone(),
        partition: lag.partition,
        committed_offset: lag.committed,
        latest_offset: lag.latest,
        lag_records: lag.records(),
        lag_seconds: lag.seconds(now),
    });
    Json(info.collect())
}
