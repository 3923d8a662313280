//! The HTTP port as the service has it: at the pipeline file's address, with a token from the environment.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;

use crate::error::{Error, Result};
use crate::ui::Tables;
use crate::{HttpServer, HttpSettings, StreamingContext};

const TOKEN: &str = "TIDEMILL_HTTP_TOKEN";
const TOKEN_FILE: &str = "TIDEMILL_HTTP_TOKEN_FILE";

/// Listens on `address`, the pipeline file's `http`.
///
/// # Errors
/// `Config` if the token cannot be read; the address cannot be listened on.
pub(super) fn listen(
    ssc: &StreamingContext,
    address: SocketAddr,
    registry: Registry,
    tables: Arc<dyn Tables>,
) -> Result<HttpServer> {
    let settings = HttpSettings::new(address).metrics(registry).tables(tables).weigh(super::pipeline::weight);
    let settings = match token()? {
        Some(token) => settings.token(&token),
        None => settings,
    };
    HttpServer::start(ssc, settings).map_err(|error| error.within("the pipeline file's `http`"))
}

/// The token that the port asks for: of `TIDEMILL_HTTP_TOKEN`, or in the file that `TIDEMILL_HTTP_TOKEN_FILE` names.
///
/// # Errors
/// `Config` if the file cannot be read, or holds nothing.
pub(super) fn token() -> Result<Option<String>> {
    token_of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn token_of(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
    if let Some(token) = get(TOKEN) {
        return Ok(Some(token));
    }
    let Some(path) = get(TOKEN_FILE) else { return Ok(None) };
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Error::config(format!("cannot read {path}, which {TOKEN_FILE} names")).with_source(e))?;
    match text.trim() {
        "" => Err(Error::config(format!("{path}, which {TOKEN_FILE} names, holds no token"))),
        token => Ok(Some(token.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            path.display().to_string()
        };
        let (right, empty) = (file("token", "abc\n"), file("empty", "\n"));
        let of = |token: Option<&str>, path: Option<&str>| {
            token_of(&|name| if name == TOKEN { token } else { path }.map(str::to_owned))
        };
        assert_eq!(of(None, None).expect("none"), None);
        assert_eq!(of(None, Some(&right)).expect("one").as_deref(), Some("abc"));
        assert_eq!(of(Some("xyz"), Some(&right)).expect("one").as_deref(), Some("xyz"));
        for wrong in [&empty, "/nowhere"] {
            let error = of(None, Some(wrong)).expect_err("no token");
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_taken_address_is_named_with_its_key() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let ssc = StreamingContext::builder("app").build().expect("a context");
        let (clock, memory) = (ssc.inner.clock.clone(), crate::sql::Memory::new(0, ssc.inner.runner.disk()));
        let questions = crate::service::query::Questions::new(None, None, None, clock, memory);
        let error = listen(&ssc, address, Registry::new(), Arc::new(questions)).err().expect("it is taken");
        let message = error.to_string();
        assert!(message.contains(&address.to_string()) && message.contains("`http`"), "{message}");
    }
}
