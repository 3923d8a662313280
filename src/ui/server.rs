//! The server: routes, its thread, its settings.

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::history::History;
use super::query::{SharedTables, Tables};
use super::{access, events, page, query, rest};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::time::Duration;
use crate::{ContextState, StreamingContext};

/// Where a backup is asked for, with the `checkpoint` that is meant and the new folder that it goes `to`.
pub(crate) const BACKUP_PATH: &str = "/api/v1/backup";
/// Whoever changes something says so with this header, which no page of another site can send.
pub(crate) const OWN_HEADER: &str = "x-tidemill";
/// Batch intervals that may pass without a batch before the application counts as not ready, and a second for good measure.
const PATIENCE: i64 = 3;

/// How an [`HttpServer`] listens.
#[derive(Clone)]
pub struct HttpSettings {
    address: SocketAddr,
    token: Option<Arc<str>>,
    registry: Option<Registry>,
    tables: SharedTables,
    weigh: fn(&dyn Any) -> u64,
}

impl HttpSettings {
    /// Listens on `address`; port 0 is any free one. An address beyond this machine should have a [`token`](Self::token).
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None, registry: None, tables: None, weigh: crate::sql::weight }
    }

    /// Answers only those who send `Authorization: Bearer TOKEN`: all but the page itself, `/healthz` and `/readyz`, which
    /// tell nothing. Without it, anybody who reaches the port is answered.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// What `/metrics` shows; unless given, the context's [`Metrics`] alone.
    #[must_use]
    pub fn metrics(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// How many records an element of a stream stands for, where it is not one.
    #[must_use]
    pub(crate) fn weigh(mut self, weigh: fn(&dyn Any) -> u64) -> Self {
        self.weigh = weigh;
        self
    }

    /// What the SQL console asks.
    #[must_use]
    pub(crate) fn tables(mut self, tables: Arc<dyn Tables>) -> Self {
        self.tables = Some(tables);
        self
    }
}

/// The HTTP port of a context: its streaming page at `/`, REST under `/api/v1/` (described by `/api/v1/openapi.json`),
/// server-sent events at `/api/v1/events`, `/metrics` for Prometheus, `/healthz` (the process answers) and `/readyz` (inputs are
/// assigned, and a batch was done, or there was nothing to do, within the last three batch intervals).
///
/// It keeps the figures of the last 10,000 batches, and answers from a thread of its own, apart from those that run tasks.
/// Dropping it stops it.
///
/// ```
/// use tidemill::testing::TestContext;
/// use tidemill::{HttpServer, HttpSettings};
///
/// # fn main() -> tidemill::Result<()> {
/// let test = TestContext::new("squares")?;
/// test.input([vec![1, 2, 3]]).map(|n| n * n).print();
/// let server = HttpServer::start(&test.ssc, HttpSettings::new(([127, 0, 0, 1], 0).into()))?;
/// println!("see http://{}/", server.address());
/// test.run(1)
/// # }
/// ```
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What requests are answered from.
#[derive(Clone)]
pub(super) struct App {
    pub ssc: StreamingContext,
    pub interval: Duration,
    pub history: Arc<History>,
    pub registry: Registry,
    pub token: Option<Arc<str>>,
    pub tables: SharedTables,
    /// Changes when the server stops.
    pub stopped: watch::Receiver<bool>,
}

impl HttpServer {
    /// Listens, and has everything that the context does from now on kept for whoever asks. Call it before
    /// [`start`](StreamingContext::start), or the page lacks what came before.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(ssc: &StreamingContext, settings: HttpSettings) -> Result<Self> {
        let HttpSettings { address, token, registry, tables, weigh } = settings;
        let failed = |error: std::io::Error| {
            Error::unavailable(format!("cannot listen for HTTP on {address}")).with_source(error)
        };
        let registry = match registry {
            Some(registry) => registry,
            None => {
                let registry = Registry::new();
                Metrics::register(&registry, ssc)?;
                registry
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if token.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "HTTP is open to other machines, and asks for no token");
        }
        let history = Arc::new(History::new(ssc.inner.clock.clone()));
        ssc.add_streaming_listener(history.clone());
        ssc.inner.runner.count_records(weigh);
        let (stop, stopped) = watch::channel(false);
        let (ssc, interval) = (ssc.clone(), ssc.batch_interval());
        let app = App { ssc, interval, history, registry, token, tables, stopped: stopped.clone() };
        let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
        let serve = async move {
            let mut stopped = stopped;
            let until = async move { drop(stopped.changed().await) };
            if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(until).await {
                tracing::error!(error = %error, "the HTTP port failed");
            }
        };
        let thread = std::thread::Builder::new()
            .name("tidemill-http".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(failed)?;
        tracing::info!(%address, "listening for HTTP");
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens; with its real port if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    /// Takes no more requests and waits for those under way.
    fn drop(&mut self) {
        // It may have failed and gone before.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/favicon.ico", get(page::icon))
        .route("/page/{file}", get(page::file))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/api/v1/openapi.json", get(rest::openapi))
        .route("/api/v1/statistics", get(rest::statistics))
        .route("/api/v1/batches", get(rest::batches))
        .route("/api/v1/batches/{id}", get(rest::batch))
        .route("/api/v1/batches/{id}/operations", get(rest::operations))
        .route("/api/v1/timeline", get(rest::timeline))
        .route("/api/v1/receivers", get(rest::receivers))
        .route("/api/v1/streams", get(rest::streams))
        .route("/api/v1/state", get(rest::state))
        .route("/api/v1/lag", get(rest::lag))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/tables", get(query::tables))
        .route("/api/v1/query", post(query::query))
        .route(BACKUP_PATH, post(backup))
        .layer(middleware::from_fn_with_state(app.clone(), access::guard))
        .with_state(app)
}

async fn metrics(State(app): State<App>) -> Response {
    match TextEncoder::new().encode_to_string(&app.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(app): State<App>) -> Response {
    match readiness(&app) {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

/// Fine, or why no work is being done.
fn readiness(app: &App) -> std::result::Result<(), String> {
    // Batches without records go on without Kafka; records do not.
    let inputs = app.ssc.inner.graph.inputs();
    for (since, why) in inputs.iter().filter_map(|input| input.away()) {
        let away = app.ssc.clock().now() - since;
        if away > Duration::seconds(1) {
            return Err(format!("for {away}: {why}"));
        }
    }
    let known = app.history.known.read();
    match (app.ssc.state(), known.started, known.alive) {
        (ContextState::Stopped, ..) => Err("the application has stopped".to_owned()),
        (_, None, _) => Err("waiting for the inputs: nothing is assigned yet".to_owned()),
        (_, _, None) => Err("no batch has completed yet".to_owned()),
        (.., Some(at)) => {
            let patience = app.interval * PATIENCE + Duration::seconds(1);
            let ago = app.history.now() - at;
            if ago <= patience { Ok(()) } else { Err(format!("no batch has completed for {ago}")) }
        }
    }
}

#[derive(serde::Deserialize)]
struct Backup {
    checkpoint: PathBuf,
    to: PathBuf,
}

async fn backup(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Query(Backup { checkpoint, to }): Query<Backup>,
) -> Response {
    // It writes where it is told to: for those who are on this machine, and mean it.
    if !from.ip().to_canonical().is_loopback() || !headers.contains_key(OWN_HEADER) {
        let message = format!("only from this machine, and with the header {OWN_HEADER}\n");
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    if !to.is_absolute() {
        return (StatusCode::BAD_REQUEST, "`to` must be an absolute path\n").into_response();
    }
    let made = tokio::task::spawn_blocking(move || back_up(&app.ssc, &checkpoint, &to)).await;
    match made {
        Ok(Ok(())) => "done\n".into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, format!("{}\n", error.whole_text())).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Copies the checkpoint, which must be the folder `checkpoint`, to the new folder `to`.
fn back_up(ssc: &StreamingContext, checkpoint: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let inner = &ssc.inner;
    let own = inner.settings.checkpoint.as_deref().and_then(|own| own.canonicalize().ok());
    match &inner.db {
        Some(db) if own.is_some() && own == checkpoint.canonicalize().ok() => {
            db.backup_to(to)?;
            tracing::info!(to = %to.display(), "backup made");
            Ok(())
        }
        _ => Err(Error::usage(format!(
            "this is an instance of `{}`, whose checkpoint is not {}",
            inner.settings.app_name,
            checkpoint.display()
        ))),
    }
}
