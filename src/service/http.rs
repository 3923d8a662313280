//! The HTTP port: metrics for Prometheus, health for whoever restarts processes, a page that leads to both, and, for this
//! machine only, a way to ask for a backup.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Where a backup is asked for, with the `checkpoint` that is meant and the new folder that it goes `to`.
pub(crate) const BACKUP_PATH: &str = "/api/v1/backup";
/// Whoever changes something says so with this header, which no page of another site can send.
pub(crate) const OWN_HEADER: &str = "x-tidemill";

/// What the port asks of the pipeline.
pub(crate) trait Health: Send + Sync + 'static {
    /// Fine, or why no work is being done.
    fn ready(&self) -> Result<(), String>;

    /// Copies the checkpoint, which must be the folder `checkpoint`, to the new folder `to`.
    fn backup(&self, checkpoint: &Path, _to: &Path) -> crate::Result<()> {
        Err(crate::Error::usage(format!("{} is not the checkpoint of this instance", checkpoint.display())))
    }
}

/// Any closure will do.
impl<F: Fn() -> Result<(), String> + Send + Sync + 'static> Health for F {
    fn ready(&self) -> Result<(), String> {
        self()
    }
}

/// The running server; dropping it stops it.
pub(crate) struct HttpServer {
    #[cfg(test)]
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct App {
    name: Arc<str>,
    metrics: Registry,
    health: Arc<dyn Health>,
}

impl HttpServer {
    /// Listens on `address` and answers from a thread of its own, apart from those that run tasks.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn start(
        name: &str,
        address: SocketAddr,
        metrics: Registry,
        health: Arc<dyn Health>,
    ) -> crate::Result<Self> {
        let failed = |error: std::io::Error| {
            let message = format!("cannot listen on {address} (the pipeline file's `http`)");
            crate::Error::unavailable(message).with_source(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let app = router(App { name: name.into(), metrics, health });
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let serve = async move {
            let until = async move { drop(stopped.await) };
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(until).await {
                tracing::error!(error = %error, "the HTTP port failed");
            }
        };
        let thread = std::thread::Builder::new()
            .name("tidemill-http".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(failed)?;
        tracing::info!(%address, "listening for HTTP");
        Ok(Self {
            #[cfg(test)]
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens; with its real port if 0 was asked for.
    #[cfg(test)]
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    /// Takes no more requests and waits for those under way.
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have failed and gone before.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(BACKUP_PATH, post(backup))
        .with_state(app)
}

async fn index(State(app): State<App>) -> Html<String> {
    // The name is made of letters, digits and `._-`: nothing in it needs escaping.
    let name = &app.name;
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{name} - Tidemill</title>\n\
         <h1>{name}</h1>\n<ul>\n<li><a href=\"/metrics\">metrics</a></li>\n\
         <li><a href=\"/healthz\">healthz</a>: the process answers</li>\n\
         <li><a href=\"/readyz\">readyz</a>: batches are being run</li>\n</ul>\n</html>\n"
    ))
}

async fn metrics(State(app): State<App>) -> Response {
    match TextEncoder::new().encode_to_string(&app.metrics.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(app): State<App>) -> Response {
    match app.health.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
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
    let made = tokio::task::spawn_blocking(move || app.health.backup(&checkpoint, &to)).await;
    match made {
        Ok(Ok(())) => "done\n".into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, format!("{}\n", error.whole_text())).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    #[test]
    fn answers_metrics_and_health_until_it_is_dropped() {
        let metrics = Registry::new();
        let counter = prometheus::IntCounter::new("tidemill_test_total", "A test.").expect("a right name");
        metrics.register(Box::new(counter.clone())).expect("the only one");
        counter.inc_by(3);
        let ready = Arc::new(AtomicBool::new(false));
        let asked = ready.clone();
        let health =
            move || if asked.load(Ordering::Relaxed) { Ok(()) } else { Err("waiting for Kafka".to_owned()) };
        let any_port = "127.0.0.1:0".parse().expect("an address");
        let server = HttpServer::start("app", any_port, metrics, Arc::new(health)).expect("a free port");
        let address = server.address();

        assert!(get(address, "/metrics").contains("tidemill_test_total 3"));
        assert!(get(address, "/metrics").contains("text/plain; version=0.0.4"));
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
        let answer = get(address, "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("waiting for Kafka"), "{answer}");
        ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/").contains("/metrics"));
        assert!(get(address, "/nothing").starts_with("HTTP/1.1 404"));

        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_taken_address_is_named_with_its_key() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = HttpServer::start("app", address, Registry::new(), Arc::new(|| Ok(())))
            .err()
            .expect("it is taken");
        let message = error.to_string();
        assert!(message.contains(&address.to_string()) && message.contains("`http`"), "{message}");
    }
}
