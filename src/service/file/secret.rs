//! Which of librdkafka's options are secrets, never to be shown.

/// Whether the option `name` (or a line that holds its name) looks like a secret's.
pub(crate) fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 8] =
        ["password", "secret", "token", "credential", ".key", "_key", "jaas", "passphrase"];
    let name = name.to_ascii_lowercase();
    // Both are read from a file, and tell where it is, not what is in it.
    !name.ends_with(".key.location") && PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["security.protocol", "sasl.username", "ssl.key.location", "fetch.max.bytes"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
