//! Ed25519 keys: who may sign firmware.
//!
//! Must not know: what is signed, where keys are kept.
//!
//! Invariant: a secret key is never shown, except by [`SigningKey::to_pem`], which is for the file it is kept in.

use std::fmt;
use std::str::FromStr;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey, ED25519};

use super::digest::from_hex;

/// Longest text of a key that is read, in bytes.
const MAX_KEY: usize = 4096;
/// What comes before the 32 bytes in a SubjectPublicKeyInfo of Ed25519 (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a public key in any of the forms.
    #[error(
        "this is no Ed25519 public key: expected 64 hex digits, 44 base64 characters, or PEM with PUBLIC KEY"
    )]
    Public,
    /// Not a secret key.
    #[error("this is no Ed25519 secret key: expected PEM with PRIVATE KEY (PKCS#8)")]
    Secret,
    /// The system's random numbers failed.
    #[error("the system gave no random numbers for a new key")]
    Random,
}

/// A key that signatures are checked with.
///
/// ```
/// use ostler_device_sdk::firmware::{PublicKey, SigningKey};
///
/// let key = SigningKey::generate()?;
/// let public: PublicKey = key.public().to_pem().parse()?;
/// assert!(public.verifies(b"text", &key.sign(b"text")));
/// assert_eq!(public.to_base64().parse(), Ok(public));
/// # Ok::<(), ostler_device_sdk::firmware::BadKey>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether this key's secret signed `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// As base64, the form for configurations.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// As PEM, the form of other tools.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[&SPKI[..], &self.0].concat())
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    /// Reads 64 hex digits, base64 of the 32 bytes, or PEM.
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        if text.len() > MAX_KEY {
            return Err(BadKey::Public);
        }
        let bytes = if let Some(der) = from_pem("PUBLIC KEY", text) {
            der.strip_prefix(&SPKI[..]).and_then(|key| key.try_into().ok())
        } else {
            from_hex(text).or_else(|| STANDARD.decode(text).ok()?.try_into().ok())
        };
        bytes.map(Self).ok_or(BadKey::Public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A key that signs.
///
/// ```
/// use ostler_device_sdk::firmware::SigningKey;
///
/// let key = SigningKey::generate()?;
/// assert_eq!(SigningKey::from_pem(&key.to_pem())?.public(), key.public());
/// # Ok::<(), ostler_device_sdk::firmware::BadKey>(())
/// ```
pub struct SigningKey {
    pair: Ed25519KeyPair,
    /// The PKCS#8 document it came from.
    document: Vec<u8>,
}

impl SigningKey {
    /// A new key from the system's random numbers.
    ///
    /// # Errors
    /// [`BadKey::Random`].
    pub fn generate() -> Result<Self, BadKey> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| BadKey::Random)?;
        Self::from_document(document.as_ref().to_vec()).ok_or(BadKey::Random)
    }

    /// Reads PEM as [`SigningKey::to_pem`] or `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// [`BadKey::Secret`].
    pub fn from_pem(text: &str) -> Result<Self, BadKey> {
        if text.len() > MAX_KEY {
            return Err(BadKey::Secret);
        }
        from_pem("PRIVATE KEY", text.trim()).and_then(Self::from_document).ok_or(BadKey::Secret)
    }

    fn from_document(document: Vec<u8>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).ok()?;
        Some(Self { pair, document })
    }

    /// The key as PKCS#8 in PEM; it is secret.
    pub fn to_pem(&self) -> String {
        pem("PRIVATE KEY", &self.document)
    }

    /// What its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref().try_into();
        PublicKey(bytes.expect("an Ed25519 public key has 32 bytes"))
    }

    /// The 64 bytes of the signature.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let body = text.split_once(&format!("-----BEGIN {label}-----"))?.1;
    let body = body.split_once(&format!("-----END {label}-----"))?.0;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    /// RFC 8410 §10.3 is the key above, §10.1 its public half.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn keys_of_other_tools_are_read() {
        let key = SigningKey::from_pem(OPENSSL).unwrap();
        let public: PublicKey = PUBLIC.parse().unwrap();
        assert_eq!(key.public(), public);
        assert_eq!(public.to_pem(), PUBLIC);
        assert!(public.verifies(b"text", &key.sign(b"text")));
        assert!(!public.verifies(b"text2", &key.sign(b"text")));
    }

    #[test]
    fn every_form_comes_back() {
        let key = SigningKey::generate().unwrap();
        let public = key.public();
        assert_eq!(SigningKey::from_pem(&key.to_pem()).unwrap().public(), public);
        let hex: String = public.0.iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [public.to_base64(), public.to_pem(), hex] {
            assert_eq!(form.parse(), Ok(public), "{form}");
        }
        assert!(!format!("{key:?}").contains(key.to_pem().lines().nth(1).unwrap()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "AAAA", OPENSSL, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
            assert_eq!(text.parse::<PublicKey>(), Err(BadKey::Public), "{text}");
        }
        for text in ["", PUBLIC, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert_eq!(SigningKey::from_pem(text).unwrap_err(), BadKey::Secret);
        }
    }
}
