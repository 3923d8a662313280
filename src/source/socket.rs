//! Sockets: a receiver that connects, reads until the connection ends, and connects again.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Receiver, ReceiverHandle, lines};
use crate::codec::Stored;
use crate::error::{Error, Result};

/// How long one address is tried.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// What is made of a connection: stores elements until it ends.
type ReadConnection<T> = dyn Fn(Connection, &ReceiverHandle<T>) -> Result<()> + Send + Sync;

pub(crate) struct SocketReceiver<T> {
    name: String,
    host: String,
    port: u16,
    read: Box<ReadConnection<T>>,
    /// To be shut down when the receiver stops, since its thread waits for bytes.
    stream: Mutex<Option<TcpStream>>,
}

/// A connection's bytes; keeps the error that ended them for whom a converter does not tell.
pub(crate) struct Connection {
    stream: TcpStream,
    error: Arc<Mutex<Option<std::io::Error>>>,
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer).inspect_err(|e| {
            if e.kind() != ErrorKind::Interrupted {
                *self.error.lock() = Some(std::io::Error::new(e.kind(), e.to_string()));
            }
        })
    }
}

impl SocketReceiver<String> {
    /// Stores each line.
    pub fn text(host: &str, port: u16) -> Self {
        Self::new("socket_text_stream", host, port, |connection, handle| {
            // An error is known to the connection.
            lines(BufReader::new(connection)).map_while(|line| line.ok()).try_for_each(|l| handle.store(l))
        })
    }
}

impl SocketReceiver<Vec<u8>> {
    /// Stores each block of bytes that is led by its length, as a block of its own.
    pub fn raw(host: &str, port: u16) -> Self {
        Self::new("raw_socket_stream", host, port, |connection, handle| {
            let mut reader = BufReader::new(connection);
            while let Some(block) = raw_block(&mut reader)? {
                handle.store_many([block])?;
            }
            Ok(())
        })
    }
}

impl<T: Stored> SocketReceiver<T> {
    /// Stores what `convert` makes of the connection.
    pub fn converted<I: IntoIterator<Item = T>>(
        host: &str,
        port: u16,
        convert: impl Fn(Box<dyn BufRead>) -> I + Send + Sync + 'static,
    ) -> Self {
        Self::new("socket_stream", host, port, move |connection, handle| {
            convert(Box::new(BufReader::new(connection))).into_iter().try_for_each(|e| handle.store(e))
        })
    }

    fn new(
        operator: &str,
        host: &str,
        port: u16,
        read: impl Fn(Connection, &ReceiverHandle<T>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let name = format!("{operator}({host}:{port})");
        Self { name, host: host.to_owned(), port, read: Box::new(read), stream: Mutex::new(None) }
    }

    fn connect(&self, handle: &ReceiverHandle<T>) -> Result<TcpStream> {
        let failed = |e: std::io::Error| {
            Error::unavailable(format!("cannot connect to {}:{}: {e}", self.host, self.port)).with_source(e)
        };
        let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
            if handle.is_stopped() {
                break;
            }
        }
        Err(failed(last))
    }
}

impl<T: Stored> Receiver<T> for SocketReceiver<T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    /// Every end is an error, so that the supervisor tells it and starts anew.
    fn on_start(&self, handle: ReceiverHandle<T>) -> Result<()> {
        let of_connection = |what: &str, e: std::io::Error| {
            Error::unavailable(format!("the connection to {}:{} {what}: {e}", self.host, self.port))
                .with_source(e)
        };
        let stream = self.connect(&handle)?;
        let shared = stream.try_clone().map_err(|e| of_connection("cannot be shared", e))?;
        {
            // Either this sees that the receiver was stopped, or `on_stop` sees the connection.
            let mut current = self.stream.lock();
            if handle.is_stopped() {
                return Ok(());
            }
            *current = Some(shared);
        }
        tracing::info!(receiver = self.name, "connected");
        let error = Arc::new(Mutex::new(None));
        (self.read)(Connection { stream, error: error.clone() }, &handle)?;
        Err(match error.lock().take() {
            Some(error) => of_connection("broke", error),
            None => Error::unavailable(format!(
                "the connection to {}:{} ended: there was no more data",
                self.host, self.port
            )),
        })
    }

    fn on_stop(&self) {
        if let Some(stream) = self.stream.lock().take() {
            // The connection may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The next block: its length in four bytes, the highest first, and then as many bytes; none at the end.
fn raw_block(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let broken = |what: String| Error::data(format!("a block of bytes {what}"));
    let io = |e: std::io::Error| broken(format!("cannot be read: {e}")).with_source(e);
    if reader.fill_buf().map_err(io)?.is_empty() {
        return Ok(None);
    }
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(io)?;
    let length = u64::try_from(i32::from_be_bytes(length))
        .map_err(|_| broken(format!("says that it is {} bytes long", i32::from_be_bytes(length))))?;
    let mut block = Vec::new();
    // Grows with what comes, whatever the length says.
    let came = reader.take(length).read_to_end(&mut block).map_err(io)? as u64;
    if came < length {
        return Err(broken(format!("ended after {came} of {length} bytes")));
    }
    Ok(Some(block))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn raw_blocks_are_led_by_their_length() {
        let mut bytes: &[u8] = &[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2];
        assert_eq!(raw_block(&mut bytes).unwrap(), Some(vec![7, 8]));
        assert_eq!(raw_block(&mut bytes).unwrap(), Some(vec![]));
        assert_eq!(
            raw_block(&mut bytes).unwrap_err().to_string(),
            "a block of bytes ended after 2 of 3 bytes"
        );
        assert_eq!(raw_block(&mut bytes).unwrap(), None);
        let mut negative: &[u8] = &[255, 255, 255, 255];
        assert_eq!(
            raw_block(&mut negative).unwrap_err().to_string(),
            "a block of bytes says that it is -1 bytes long"
        );
        let mut short: &[u8] = &[0, 0];
        assert!(raw_block(&mut short).unwrap_err().to_string().contains("cannot be read"));
    }
}
