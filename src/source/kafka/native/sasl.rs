//! Logging in: SASL PLAIN, and SCRAM (RFC 5802) with SHA-256 and SHA-512.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use rustls::crypto::SecureRandom;
use sha2::{Digest, Sha256, Sha512};

/// Fewer rounds no server may ask for, and more would only keep this client busy.
const ROUNDS: std::ops::RangeInclusive<u32> = 4_096..=10_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Self::Plain),
            "SCRAM-SHA-256" => Some(Self::ScramSha256),
            "SCRAM-SHA-512" => Some(Self::ScramSha512),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who logs in. It is never printed.
pub(in super::super) struct Sasl {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: String,
}

/// Sends a message to the server and gives its answer.
type Exchange<'a, E> = &'a mut dyn FnMut(Vec<u8>) -> Result<Vec<u8>, E>;

impl Sasl {
    /// Logs in through `exchange`; what the server says wrongly becomes an error by `refuse`.
    pub fn log_in<E>(
        &self,
        random: &dyn SecureRandom,
        exchange: Exchange<'_, E>,
        refuse: impl Fn(&str) -> E,
    ) -> Result<(), E> {
        let mut bytes = [0; 24];
        random.fill(&mut bytes).map_err(|_| refuse("the system gives no random numbers"))?;
        let nonce = BASE64.encode(bytes);
        match self.mechanism {
            Mechanism::Plain => {
                exchange(format!("\0{}\0{}", self.username, self.password).into_bytes()).map(drop)
            }
            Mechanism::ScramSha256 => self.scram::<Sha256Form, E>(&nonce, exchange, refuse),
            Mechanism::ScramSha512 => self.scram::<Sha512Form, E>(&nonce, exchange, refuse),
        }
    }

    fn scram<F: Form, E>(
        &self,
        nonce: &str,
        exchange: Exchange<'_, E>,
        refuse: impl Fn(&str) -> E,
    ) -> Result<(), E> {
        let name = self.username.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={name},r={nonce}");
        let challenge = exchange(format!("n,,{first}").into_bytes())?;
        let challenge = std::str::from_utf8(&challenge).map_err(|_| refuse("its challenge is no text"))?;
        let field = |text: &str, name: &str| {
            text.split(',').find_map(|field| field.strip_prefix(name).map(str::to_owned))
        };
        let both = field(challenge, "r=").filter(|r| r.starts_with(nonce) && r.len() > nonce.len());
        let salt = field(challenge, "s=").and_then(|salt| BASE64.decode(salt).ok());
        let rounds = field(challenge, "i=").and_then(|i| i.parse().ok()).filter(|i| ROUNDS.contains(i));
        let (Some(both), Some(salt), Some(rounds)) = (both, salt, rounds) else {
            return Err(refuse("its SCRAM challenge makes no sense"));
        };
        let salted = F::salted(self.password.as_bytes(), &salt, rounds);
        let last = format!("c=biws,r={both}");
        let signed = format!("{first},{challenge},{last}");
        let client_key = F::mac(&salted, b"Client Key");
        let signature = F::mac(&F::hash(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let verdict = exchange(format!("{last},p={}", BASE64.encode(proof)).into_bytes())?;
        let server_signature = F::mac(&F::mac(&salted, b"Server Key"), signed.as_bytes());
        let told = std::str::from_utf8(&verdict).ok().and_then(|text| field(text, "v="));
        if told.and_then(|v| BASE64.decode(v).ok()) == Some(server_signature) {
            Ok(())
        } else {
            Err(refuse("it does not know the password itself: something else answers in its place"))
        }
    }
}

/// A SCRAM mechanism's hash function.
trait Form {
    fn mac(key: &[u8], message: &[u8]) -> Vec<u8>;
    fn hash(message: &[u8]) -> Vec<u8>;
    fn salted(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8>;
}

macro_rules! form {
    ($name:ident, $hash:ty, $size:literal) => {
        struct $name;

        impl Form for $name {
            fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
                // An HMAC takes keys of any length; the empty tag of an impossible failure proves nothing to anybody.
                Hmac::<$hash>::new_from_slice(key)
                    .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
                    .unwrap_or_default()
            }

            fn hash(message: &[u8]) -> Vec<u8> {
                <$hash>::digest(message).to_vec()
            }

            fn salted(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
                let mut salted = vec![0; $size];
                pbkdf2::pbkdf2_hmac::<$hash>(password, salt, rounds, &mut salted);
                salted
            }
        }
    };
}

form!(Sha256Form, Sha256, 32);
form!(Sha512Form, Sha512, 64);

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn scram_sha_256_is_that_of_the_rfc() {
        let sasl =
            Sasl { mechanism: Mechanism::ScramSha256, username: "user".into(), password: "pencil".into() };
        let mut sent = Vec::new();
        let mut exchange = |message: Vec<u8>| {
            sent.push(String::from_utf8(message).unwrap());
            let answer = match sent.len() {
                1 => "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                _ => "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            };
            Ok::<_, String>(answer.as_bytes().to_vec())
        };
        sasl.scram::<Sha256Form, _>("rOprNGfwEbeRWgbNEkqO", &mut exchange, |what| what.to_owned()).unwrap();
        assert_eq!(
            sent,
            [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            ]
        );
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let sasl = Sasl { mechanism: Mechanism::ScramSha512, username: "a,b=c".into(), password: "x".into() };
        let mut count = 0;
        let refused = sasl.scram::<Sha512Form, String>(
            "abc",
            &mut |message| {
                count += 1;
                if count == 1 {
                    assert_eq!(message, b"n,,n=a=2Cb=3Dc,r=abc");
                    return Ok(b"r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".to_vec());
                }
                Ok(b"v=AAAA".to_vec())
            },
            |what| what.to_owned(),
        );
        assert!(refused.unwrap_err().contains("does not know the password"));
    }

    #[test]
    fn a_challenge_without_sense_is_refused() {
        let sasl = Sasl { mechanism: Mechanism::ScramSha256, username: "u".into(), password: "p".into() };
        for challenge in
            ["", "r=xyz,s=AAAA,i=4096", "r=abcd,s=AAAA,i=1", "r=abcd,s=?,i=4096", "r=abcd,i=4096", "\u{fffd}"]
        {
            let answer = sasl
                .scram::<Sha256Form, String>("abc", &mut |_| Ok(challenge.into()), |what| what.to_owned());
            assert!(answer.is_err(), "{challenge}");
        }
    }
}
