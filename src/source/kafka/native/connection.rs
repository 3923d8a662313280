//! One connection to a broker: it sends a request, and reads its response when that is wanted.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, RequestHeader,
    ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use rustls::pki_types::ServerName;

use super::Trouble;
use super::sasl::Sasl;
use super::settings::{IpVersion, Settings};
use crate::error::Error;
use crate::rdd::Runner;
use crate::time::Stopwatch;

/// How often a wait looks whether the context ends.
const LOOK: Duration = Duration::from_millis(100);
/// A response larger than this is none.
const MOST: usize = 1 << 30;
/// Kafka's error code for a wrong password.
const AUTHENTICATION_FAILED: i16 = 58;

/// What is asked of a broker, and what it answers with.
pub(super) trait Request: Encodable + HeaderVersion {
    const KEY: ApiKey;
    type Response: Decodable + HeaderVersion;
}

macro_rules! requests {
    ($($key:ident: $request:ty => $response:ty),* $(,)?) => {
        $(impl Request for $request {
            const KEY: ApiKey = ApiKey::$key;
            type Response = $response;
        })*
    };
}

requests! {
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
    Fetch: FetchRequest => FetchResponse,
    SaslAuthenticate: SaslAuthenticateRequest => SaslAuthenticateResponse,
    SaslHandshake: SaslHandshakeRequest => SaslHandshakeResponse,
}

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub host: String,
    pub port: u16,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

/// A request whose response was not read yet.
struct Sent {
    id: i32,
    version: i16,
    watch: Stopwatch,
}

pub(super) struct Connection {
    pub node: Node,
    stream: Stream,
    settings: Arc<Settings>,
    runner: Arc<Runner>,
    next_id: i32,
    /// Of each kind of request, the versions that the broker understands.
    versions: Vec<(i16, i16, i16)>,
    sent: Option<Sent>,
    /// Until when a broker that limits its clients' sessions keeps this one.
    session: Option<(Stopwatch, Duration)>,
}

impl Connection {
    /// Connects, and logs in if that is needed.
    pub fn open(node: &Node, settings: &Arc<Settings>, runner: &Arc<Runner>) -> Result<Self, Trouble> {
        let tcp = connect(node, settings, runner)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(LOOK))?;
        tcp.set_write_timeout(Some(settings.timeout.max(LOOK)))?;
        let stream = match &settings.tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::try_from(node.host.clone())
                    .map_err(|e| Trouble::lost(format!("`{}` is no host name: {e}", node.host)))?;
                let tls = rustls::ClientConnection::new(config.clone(), name)
                    .map_err(|e| Trouble::lost(format!("TLS with {}: {e}", node.host)))?;
                let mut stream = Box::new(rustls::StreamOwned::new(tls, tcp));
                shake_hands(node, &mut stream, settings, runner)?;
                Stream::Tls(stream)
            }
        };
        let mut connection = Self {
            node: node.clone(),
            stream,
            settings: settings.clone(),
            runner: runner.clone(),
            next_id: 1,
            versions: Vec::new(),
            sent: None,
            session: None,
        };
        let versions: ApiVersionsResponse = connection.ask(&ApiVersionsRequest::default(), 0)?;
        let known = versions.api_keys.iter().map(|v| (v.api_key, v.min_version, v.max_version));
        connection.versions = known.collect();
        if let Some(sasl) = &settings.sasl {
            connection.log_in(sasl)?;
        }
        Ok(connection)
    }

    /// The latest version of a kind of request that both sides understand, of those from `least` to `most`.
    pub fn version_of<R: Request>(&self, least: i16, most: i16) -> Result<i16, Trouble> {
        let known = self.versions.iter().find(|(key, ..)| *key == R::KEY as i16);
        known.map(|(_, min, max)| (least.max(*min), most.min(*max))).filter(|(min, max)| min <= max).map(|(_, max)| max).ok_or_else(|| {
            Trouble::Fatal(Error::config(format!(
                "the broker {}:{} speaks no version of Kafka's protocol that the native reader speaks: set `reader: rdkafka`",
                self.node.host, self.node.port
            )))
        })
    }

    /// Whether it may be used for another while.
    pub fn is_fresh(&self) -> bool {
        self.session.is_none_or(|(since, lifetime)| since.elapsed() < lifetime)
    }

    /// Whether a response is still to come.
    pub fn is_waiting(&self) -> bool {
        self.sent.is_some()
    }

    /// Sends `request`. The response to the one before must have been read.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<(), Trouble> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY as i16)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(StrBytes::from_string(self.settings.client_id.clone())));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|e| Trouble::Fatal(Error::internal(format!("a request cannot be encoded: {e}"))))?;
        let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&length.to_be_bytes());
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(&frame)?,
            Stream::Tls(tls) => {
                tls.write_all(&frame).map_err(|e| tls_trouble(&self.node, e))?;
                tls.flush()?;
            }
        }
        self.sent = Some(Sent { id, version, watch: Stopwatch::start() });
        Ok(())
    }

    /// Reads the response to the request that was sent last into `buffer`, and gives the request's version. `waiting` is called
    /// while nothing comes, and tells whether to give up.
    pub fn receive(
        &mut self,
        buffer: &mut Vec<u8>,
        waiting: &mut dyn FnMut() -> bool,
    ) -> Result<i16, Trouble> {
        let Some(sent) = self.sent.take() else {
            return Err(Trouble::Fatal(Error::internal("a response was expected to no request")));
        };
        buffer.clear();
        self.fill(buffer, 4, sent.watch, waiting)?;
        let length = buffer.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
        if !(4..=MOST).contains(&length) {
            return Err(Trouble::lost(format!(
                "a response of {length} bytes: is {} a Kafka broker?",
                self.node.host
            )));
        }
        buffer.clear();
        buffer.reserve_exact(length);
        self.fill(buffer, length, sent.watch, waiting)?;
        match buffer.first_chunk().map(|id| i32::from_be_bytes(*id)) {
            Some(id) if id == sent.id => Ok(sent.version),
            _ => Err(Trouble::lost("a response to another request")),
        }
    }

    /// Reads on until `buffer` holds `size` bytes.
    fn fill(
        &mut self,
        buffer: &mut Vec<u8>,
        size: usize,
        watch: Stopwatch,
        waiting: &mut dyn FnMut() -> bool,
    ) -> Result<(), Trouble> {
        while buffer.len() < size {
            let left = (size - buffer.len()) as u64;
            let before = buffer.len();
            let read = match &mut self.stream {
                Stream::Plain(tcp) => tcp.take(left).read_to_end(buffer),
                Stream::Tls(tls) => tls.take(left).read_to_end(buffer),
            };
            match read {
                Ok(_) if buffer.len() < size => {
                    return Err(Trouble::lost("the broker closed the connection"));
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if waiting() || self.runner.gives_up(watch.elapsed()) {
                        return Err(Trouble::GivenUp);
                    }
                    if buffer.len() == before && watch.elapsed() > self.settings.timeout {
                        return Err(Trouble::lost("no answer in time"));
                    }
                }
                Err(e) => return Err(tls_trouble(&self.node, e)),
            }
        }
        Ok(())
    }

    /// Sends a request and decodes its response.
    fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Trouble> {
        self.send(request, version)?;
        let mut buffer = Vec::new();
        self.receive(&mut buffer, &mut || false)?;
        decode::<R>(&mut Bytes::from(buffer), version)
    }

    fn log_in(&mut self, sasl: &Sasl) -> Result<(), Trouble> {
        let mechanism = StrBytes::from_static_str(sasl.mechanism.name());
        let handshake = SaslHandshakeRequest::default().with_mechanism(mechanism);
        let answer: SaslHandshakeResponse = self.ask(&handshake, 1)?;
        let node = format!("{}:{}", self.node.host, self.node.port);
        let refused = |what: &str| {
            Trouble::Fatal(Error::config(format!(
                "cannot log in to Kafka at {node} by {}: {what}",
                sasl.mechanism.name()
            )))
        };
        if answer.error_code != 0 {
            return Err(refused("the broker does not offer it"));
        }
        let version = self.version_of::<SaslAuthenticateRequest>(0, 2)?;
        let provider = rustls::crypto::ring::default_provider();
        let mut lifetime = 0;
        let mut exchange = |message: Vec<u8>| {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
            let answer: SaslAuthenticateResponse = self.ask(&request, version)?;
            lifetime = answer.session_lifetime_ms;
            match answer.error_code {
                0 => Ok(answer.auth_bytes.to_vec()),
                AUTHENTICATION_FAILED => {
                    Err(refused(answer.error_message.as_deref().unwrap_or("wrong user or password")))
                }
                code => Err(Trouble::lost(format!("logging in gave Kafka's error {code}"))),
            }
        };
        sasl.log_in(provider.secure_random, &mut exchange, refused)?;
        if let Ok(lifetime) = u64::try_from(lifetime)
            && lifetime > 0
        {
            self.session = Some((Stopwatch::start(), Duration::from_millis(lifetime / 10 * 8)));
        }
        Ok(())
    }
}

/// Decodes a response, its length taken off; what it holds of bytes are parts of `frame`.
pub(super) fn decode<R: Request>(frame: &mut Bytes, version: i16) -> Result<R::Response, Trouble> {
    ResponseHeader::decode(frame, R::Response::header_version(version))
        .and_then(|_| R::Response::decode(frame, version))
        .map_err(|e| Trouble::lost(format!("a response that cannot be decoded: {e}")))
}

fn connect(node: &Node, settings: &Settings, runner: &Runner) -> Result<TcpStream, Trouble> {
    let mut last = Trouble::lost(format!("`{}` has no address", node.host));
    for address in (node.host.as_str(), node.port).to_socket_addrs()? {
        let wanted = match settings.ip {
            IpVersion::Any => true,
            IpVersion::V4 => address.is_ipv4(),
            IpVersion::V6 => address.is_ipv6(),
        };
        if !wanted {
            continue;
        }
        if runner.is_cancelled() {
            return Err(Trouble::GivenUp);
        }
        match TcpStream::connect_timeout(&address, settings.connect_timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Has both sides agree on keys. By itself that would happen with the first write, which takes it for a failure that the broker's
/// part is not there within one look.
fn shake_hands(
    node: &Node,
    stream: &mut rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    settings: &Settings,
    runner: &Runner,
) -> Result<(), Trouble> {
    let watch = Stopwatch::start();
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if runner.is_cancelled() {
                    return Err(Trouble::GivenUp);
                }
                if watch.elapsed() > settings.connect_timeout {
                    return Err(Trouble::lost(format!("{} does not answer as a TLS server", node.host)));
                }
            }
            Err(e) => return Err(tls_trouble(node, e)),
        }
    }
    Ok(())
}

/// A certificate that is not trusted today is not tomorrow.
fn tls_trouble(node: &Node, error: std::io::Error) -> Trouble {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => Trouble::Fatal(
            Error::config(format!(
                "the certificate of Kafka at {}:{} is not trusted: {error}; see `ssl.ca.location`",
                node.host, node.port
            ))
            .with_source(error),
        ),
        _ => error.into(),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
