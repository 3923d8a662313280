//! The page: files that are part of the binary.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// By their names under `/page/`. uPlot is https://github.com/leeoniya/uPlot, as its npm package has it.
const FILES: [(&str, &str, &str); 15] = [
    ("page.css", CSS, include_str!("page/page.css")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("api.js", SCRIPT, include_str!("page/api.js")),
    ("format.js", SCRIPT, include_str!("page/format.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("store.js", SCRIPT, include_str!("page/store.js")),
    ("overview.js", SCRIPT, include_str!("page/overview.js")),
    ("charts.js", SCRIPT, include_str!("page/charts.js")),
    ("batches.js", SCRIPT, include_str!("page/batches.js")),
    ("graph.js", SCRIPT, include_str!("page/graph.js")),
    ("tables.js", SCRIPT, include_str!("page/tables.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("uPlot-1.6.32.js", SCRIPT, include_str!("page/uPlot-1.6.32.js")),
    ("uPlot-1.6.32.css", CSS, include_str!("page/uPlot-1.6.32.css")),
    ("uPlot-LICENSE.txt", TEXT, include_str!("page/uPlot-LICENSE.txt")),
];

pub(super) async fn index() -> Response {
    ([(header::CONTENT_TYPE, HTML)], include_str!("page/index.html")).into_response()
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(own, ..)| *own == name) {
        // Another version of Tidemill may answer next time: browsers ask again.
        Some((_, kind, text)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}

pub(super) async fn icon() -> Response {
    file(Path("icon.svg".to_owned())).await
}
