//! Asks a running instance through its HTTP port.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;

use crate::error::{Error, Result};
use crate::ui::{BACKUP_PATH, OWN_HEADER};

/// Has the instance at `address` copy its checkpoint, which is `checkpoint`, to the new folder `to`.
pub(super) fn backup(mut address: SocketAddr, checkpoint: &Path, to: &Path) -> Result<()> {
    // An instance that listens everywhere does so here, too.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let path = format!("{BACKUP_PATH}?checkpoint={}&to={}", escaped(checkpoint), escaped(to));
    let token = crate::service::http::token()?;
    let (status, body) = post(address, &path, token.as_deref(), "").map_err(|e| {
        Error::unavailable(format!("cannot ask the instance at {address} for a backup: {e}")).with_source(e)
    })?;
    if status == 200 {
        return Ok(());
    }
    Err(Error::unavailable(format!(
        "the instance at {address} made no backup (HTTP status {status}): {}",
        body.trim_end()
    )))
}

/// Has the instance at `address` answer a POST: its status, and what it says.
pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n{OWN_HEADER}: 1\r\n{token}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    match status {
        Some(status) => Ok((status, body)),
        None => Err(std::io::Error::other("it does not speak HTTP")),
    }
}

/// A path as the value of a query.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
