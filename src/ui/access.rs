//! Who may ask, and what browsers may do with an answer.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::server::App;

/// Nothing from other hosts, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What tells nothing about the application: the page itself, which asks for a token if it needs one, and what
/// supervisors of processes look at.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/favicon.ico") || path.starts_with("/page/")
}

/// Lets those through who have the token, if there is one.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut answer = match &app.token {
        Some(token) if !is_open(request.uri().path()) && !has(token, &request) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"tidemill\"")];
            (StatusCode::UNAUTHORIZED, challenge, "this needs `Authorization: Bearer TOKEN`\n")
                .into_response()
        }
        _ => next.run(request).await,
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn has(token: &str, request: &Request) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    given.is_some_and(|(_, given)| is_same(token.as_bytes(), given.trim().as_bytes()))
}

/// Takes the same time wherever the first difference is.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
