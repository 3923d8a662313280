//! `tidemill health`: asks a running instance, for whoever watches over processes and has no HTTP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use crate::error::{Error, Result};

/// An instance that is alive answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Where the instance answers HTTP.
    #[arg(env = "TIDEMILL_HTTP", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    address: String,
    /// Whether batches are being run, and not only whether the process answers.
    #[arg(long)]
    ready: bool,
}

/// Gives what the instance said.
///
/// # Errors
/// It does not answer, or says that it is not well.
pub(crate) fn health(args: &HealthArgs) -> Result<String> {
    let address = address_of(&args.address)?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = ask(address, path)
        .map_err(|e| Error::unavailable(format!("no answer from http://{address}{path}")).with_source(e))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim_end();
    if status == "200" { Ok(body.to_owned()) } else { Err(Error::unavailable(body.to_owned())) }
}

fn address_of(text: &str) -> Result<SocketAddr> {
    let failed = |why: String| Error::config(format!("`{text}` is no address: {why}"));
    let found = text.to_socket_addrs().map_err(|e| failed(e.to_string()))?.next();
    let mut address = found.ok_or_else(|| failed("it has no number".to_owned()))?;
    // Who listens everywhere does so here, too.
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            [0, 0, 0, 0, 0, 0, 0, 1].into()
        });
    }
    Ok(address)
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_asked_here() {
        assert_eq!(address_of("0.0.0.0:8080").expect("right").to_string(), "127.0.0.1:8080");
        assert_eq!(address_of("[::]:8080").expect("right").to_string(), "[::1]:8080");
        assert!(address_of("off").is_err());
    }
}
