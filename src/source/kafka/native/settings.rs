//! What librdkafka's properties mean for the native reader.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::sasl::{Mechanism, Sasl};
use crate::error::{Error, Result};
use crate::source::kafka::client::first_name;

/// Properties that it understands, or that say how librdkafka fetches and nothing else.
const UNDERSTOOD: [&str; 22] = [
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "enable.ssl.certificate.verification",
    "ssl.endpoint.identification.algorithm",
    "socket.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "broker.address.family",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "fetch.error.backoff.ms",
    "check.crcs",
];

/// What decides how records are fetched begins with one of these; any other property is of no concern here.
const OF_CONCERN: [&str; 10] = [
    "security.",
    "sasl.",
    "ssl.",
    "ssl_",
    "enable.ssl.",
    "enable.sasl.",
    "socket.",
    "broker.address.",
    "fetch.",
    "client.rack",
];

const DEFAULT_FETCH_BYTES: usize = 4 << 20;
/// How long connecting may take, unless told. A stop waits for it; whoever is not there by then is asked again.
const CONNECT_MS: u64 = 5_000;

/// Which of `options` only librdkafka understands, if there is one.
pub(in super::super) fn needs_librdkafka(options: &[(String, String)]) -> Option<&str> {
    let unknown =
        |name: &str| !UNDERSTOOD.contains(&name) && OF_CONCERN.iter().any(|prefix| name.starts_with(prefix));
    // Of an option that is given twice, by whichever of its names, the last one counts.
    let counts = |i: usize, name: &str| {
        !options[i + 1..].iter().any(|(later, _)| first_name(later) == first_name(name))
    };
    let options =
        || options.iter().enumerate().filter(|(i, (name, _))| counts(*i, name)).map(|(_, option)| option);
    let odd = options().find(|(name, value)| {
        let is = |wanted: &str| !value.eq_ignore_ascii_case(wanted);
        unknown(name)
            || match first_name(name) {
                "sasl.mechanism" => Mechanism::named(value).is_none(),
                "enable.ssl.certificate.verification" => is("true"),
                "ssl.endpoint.identification.algorithm" => is("https"),
                "ssl.ca.location" => value == "probe" || std::path::Path::new(value).is_dir(),
                _ => false,
            }
    });
    if let Some((name, _)) = odd {
        return Some(name);
    }
    // Unless told, librdkafka logs in by Kerberos.
    let find = |wanted: &str| options().find(|(name, _)| first_name(name) == wanted);
    let (protocol, value) = find("security.protocol")?;
    let by_kerberos = value.to_ascii_lowercase().starts_with("sasl") && find("sasl.mechanism").is_none();
    by_kerberos.then_some(protocol)
}

/// How to connect, and how much to ask for.
pub(in super::super) struct Settings {
    pub client_id: String,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub sasl: Option<Sasl>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    pub ip: IpVersion,
    /// The most bytes that one request asks for.
    pub fetch_bytes: usize,
}

/// Which addresses of a broker are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum IpVersion {
    Any,
    V4,
    V6,
}

impl Settings {
    /// # Errors
    /// If a property has a value that makes no sense, or a file cannot be read. Values may be secrets and are not told.
    pub fn new(client_id: String, options: &[(String, String)]) -> Result<Self> {
        let options = Options(options);
        let protocol = options.get("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
        let (tls, sasl) = match &*protocol {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            _ => {
                return Err(Error::config(
                    "Kafka option `security.protocol` must be plaintext, ssl, sasl_plaintext or sasl_ssl",
                ));
            }
        };
        let fetch_bytes = match options.get("fetch.message.max.bytes") {
            Some(_) => usize::try_from(options.number("fetch.message.max.bytes", 0)?)
                .unwrap_or(DEFAULT_FETCH_BYTES)
                .clamp(1 << 10, 1 << 30),
            None => DEFAULT_FETCH_BYTES,
        };
        Ok(Self {
            client_id,
            tls: if tls { Some(Arc::new(options.tls()?)) } else { None },
            sasl: if sasl { Some(options.sasl()?) } else { None },
            timeout: Duration::from_millis(options.number("socket.timeout.ms", 60_000)?),
            connect_timeout: Duration::from_millis(
                options.number("socket.connection.setup.timeout.ms", CONNECT_MS)?.max(1),
            ),
            ip: match options.get("broker.address.family") {
                None | Some("any") => IpVersion::Any,
                Some("v4") => IpVersion::V4,
                Some("v6") => IpVersion::V6,
                Some(_) => {
                    return Err(Error::config("Kafka option `broker.address.family` must be any, v4 or v6"));
                }
            },
            fetch_bytes,
        })
    }
}

struct Options<'a>(&'a [(String, String)]);

impl Options<'_> {
    /// The value that counts is the last one, by whichever of its names it was given.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| first_name(n) == name).map(|(_, value)| &**value)
    }

    fn number(&self, name: &str, default: u64) -> Result<u64> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| Error::config(format!("Kafka option `{name}` must be a number")))
            }
        }
    }

    fn sasl(&self) -> Result<Sasl> {
        let mechanism = self.get("sasl.mechanism").and_then(Mechanism::named);
        let (Some(mechanism), Some(username), Some(password)) =
            (mechanism, self.get("sasl.username"), self.get("sasl.password"))
        else {
            return Err(Error::config(
                "to log in to Kafka, the options `sasl.mechanism` (PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512), `sasl.username` \
                 and `sasl.password` are needed",
            ));
        };
        Ok(Sasl { mechanism, username: username.to_owned(), password: password.to_owned() })
    }

    fn tls(&self) -> Result<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal("TLS has no protocol version to speak").with_source(e))?
            .with_root_certificates(self.roots()?);
        let certificates =
            self.pem::<CertificateDer<'static>>("ssl.certificate.location", "ssl.certificate.pem")?;
        let keys = self.pem::<PrivateKeyDer<'static>>("ssl.key.location", "ssl.key.pem")?;
        match (certificates, keys) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificates), Some(mut keys)) if keys.len() == 1 => {
                builder.with_client_auth_cert(certificates, keys.remove(0)).map_err(|e| {
                    Error::config("Kafka options `ssl.certificate.…` and `ssl.key.…` do not fit each other")
                        .with_source(e)
                })
            }
            _ => Err(Error::config(
                "a client certificate needs both `ssl.certificate.location` (or `.pem`) and `ssl.key.location` (or `.pem`), \
                 which holds one key that is not encrypted",
            )),
        }
    }

    /// Whose certificates are trusted.
    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match self.pem::<CertificateDer<'static>>("ssl.ca.location", "ssl.ca.pem")? {
            Some(certificates) => {
                for certificate in certificates {
                    roots.add(certificate).map_err(|e| {
                        Error::config("a certificate of `ssl.ca.location` cannot be used").with_source(e)
                    })?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(Error::config("no certificate authority is trusted: set `ssl.ca.location`"));
        }
        Ok(roots)
    }

    /// What stands in the file that the option `location` names, or in the option `inline` itself.
    fn pem<T: PemObject>(&self, location: &str, inline: &str) -> Result<Option<Vec<T>>> {
        let unreadable = |name: &str, e: rustls::pki_types::pem::Error| {
            Error::config(format!("what Kafka option `{name}` gives cannot be read as PEM")).with_source(e)
        };
        if let Some(text) = self.get(inline) {
            let read: std::result::Result<Vec<_>, _> = T::pem_slice_iter(text.as_bytes()).collect();
            return read.map(Some).map_err(|e| unreadable(inline, e));
        }
        let Some(path) = self.get(location) else { return Ok(None) };
        let read = T::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
        read.map(Some).map_err(|e| unreadable(location, e))
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
