//! Shared access signatures (device §1.3, service §2.3).
//!
//! What is signed is the `sr` text as it was transmitted, encoded or not; only afterwards is it
//! decoded and its scope judged.
//!
//! Must not know: whose key it is, what time it is.
//!
//! Invariant: signatures are compared in constant time.

use crate::identity::SymmetricKey;
use crate::time::Timestamp;
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ring::hmac;
use std::borrow::Cow;

/// Longest token that is looked at.
const TOKEN_BYTES: usize = 4096;
const PREFIX: &str = "SharedAccessSignature ";

/// Why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SasError {
    /// Another scheme, or nothing.
    #[error("the token does not start with \"SharedAccessSignature \"")]
    Prefix,
    /// Too long to be one.
    #[error("the token is longer than 4096 bytes")]
    TooLong,
    /// A field is missing.
    #[error("the token has no field {0}")]
    Missing(&'static str),
    /// A field stands there twice.
    #[error("the token has the field {0} twice")]
    Twice(&'static str),
    /// The expiry is not a number of seconds.
    #[error("the token's se is not a whole number of seconds")]
    Expiry,
    /// The signature cannot be one.
    #[error("the token's sig is not the base64 of 32 bytes")]
    Signature,
}

/// A token, taken apart but not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    resource: &'a str,
    expiry: &'a str,
    expires: Timestamp,
    signature: [u8; 32],
    policy: Option<Cow<'a, str>>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. The fields come in any order; unknown ones are ignored.
    ///
    /// # Errors
    /// [`SasError`] names what is missing or malformed.
    pub fn parse(text: &'a str) -> Result<Token<'a>, SasError> {
        if text.len() > TOKEN_BYTES {
            return Err(SasError::TooLong);
        }
        let fields = text.strip_prefix(PREFIX).ok_or(SasError::Prefix)?;
        let (mut resource, mut signature, mut expiry, mut policy) = (None, None, None, None);
        for field in fields.trim().split('&') {
            let (place, name, value) = match field.split_once('=') {
                Some(("sr", value)) => (&mut resource, "sr", value),
                Some(("sig", value)) => (&mut signature, "sig", value),
                Some(("se", value)) => (&mut expiry, "se", value),
                Some(("skn", value)) => (&mut policy, "skn", value),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(SasError::Twice(name));
            }
        }
        let expiry = expiry.ok_or(SasError::Missing("se"))?;
        Ok(Token {
            resource: resource.filter(|text| !text.is_empty()).ok_or(SasError::Missing("sr"))?,
            expires: parse_expiry(expiry)?,
            expiry,
            signature: parse_signature(signature.ok_or(SasError::Missing("sig"))?)?,
            policy: policy.filter(|name| !name.is_empty()).map(percent_decode),
        })
    }

    /// When it ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The policy whose key signed it; `None` for a device's own key.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Whether this key made the signature.
    pub fn is_signed_with(&self, key: &SymmetricKey) -> bool {
        let mut message = Vec::with_capacity(self.resource.len() + self.expiry.len() + 1);
        message.extend_from_slice(self.resource.as_bytes());
        message.push(b'\n');
        message.extend_from_slice(self.expiry.as_bytes());
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()), &message, &self.signature).is_ok()
    }

    /// Whether the token's resource is `target` or stands above it on a `/` boundary.
    ///
    /// `target` is `{host}` or `{host}/{path}`; `is_host` judges the host part. A scheme, a port, a
    /// query and a trailing `/` in the token's resource are overlooked. `match_case` says whether the
    /// path is compared exactly (device ids are; a service's paths are not).
    pub fn covers(&self, path: &str, is_host: impl Fn(&str) -> bool, match_case: MatchCase) -> bool {
        let decoded = percent_decode(self.resource);
        let text = decoded.split_once("://").map_or(&*decoded, |(_, rest)| rest);
        let text = text.split('?').next().unwrap_or_default().trim_end_matches('/');
        let (host, scope) = text.split_once('/').unwrap_or((text, ""));
        if !is_host(host.split(':').next().unwrap_or_default()) {
            return false;
        }
        let same = |a: &str, b: &str| match match_case {
            MatchCase::Exact => a == b,
            MatchCase::Ignore => a.eq_ignore_ascii_case(b),
        };
        let mut segments = path.split('/');
        scope.is_empty()
            || scope.split('/').all(|part| segments.next().is_some_and(|segment| same(part, segment)))
    }
}

/// How the path of a resource is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchCase {
    /// Letter for letter.
    Exact,
    /// Without regard to ASCII case.
    Ignore,
}

/// Makes a token for a resource, which is percent-encoded here (`sr`, `sig`, `se`, then `skn`).
pub fn sign(resource: &str, key: &SymmetricKey, expires: Timestamp, policy: Option<&str>) -> String {
    let resource = percent_encode(resource);
    let expiry = expires.unix_secs();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.bytes());
    let tag = hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes());
    let signature = percent_encode(&STANDARD.encode(tag.as_ref()));
    let policy = policy.map_or(String::new(), |name| format!("&skn={}", percent_encode(name)));
    format!("{PREFIX}sr={resource}&sig={signature}&se={expiry}{policy}")
}

fn parse_expiry(text: &str) -> Result<Timestamp, SasError> {
    if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SasError::Expiry);
    }
    text.parse().map(Timestamp::from_unix_secs).map_err(|_| SasError::Expiry)
}

/// Base64 has no spaces, so one that a careless decoder made of a `+` is read as that `+`.
fn parse_signature(text: &str) -> Result<[u8; 32], SasError> {
    let decoded = percent_decode(text).replace(' ', "+");
    let bytes = STANDARD.decode(decoded).map_err(|_| SasError::Signature)?;
    bytes.try_into().map_err(|_| SasError::Signature)
}

/// Decodes `%XX`; a stray `%` stays, and so does a text that would not be UTF-8.
pub fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Encodes everything but the unreserved characters of RFC 3986, upper-case hex.
pub fn percent_encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SymmetricKey {
        SymmetricKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
    }

    fn is_host(host: &str) -> bool {
        host.eq_ignore_ascii_case("hub1.example.net")
    }

    /// The vectors of device §1.3.
    #[test]
    fn vectors() {
        for (resource, signature) in [
            ("hub1.example.net%2Fdevices%2Fpump-7", "IWbQxoOwrEOpVNhkjEJ54AUs3n%2FxWwqHCWwZP2yptNA%3D"),
            ("hub1.example.net/devices/pump-7", "Hasumk%2BQupWvzC1CSduaL7IEEhJa%2FlX8oXD0YtWHrzQ%3D"),
            (
                "hub1.example.net%2fdevices%2fpump-7%2fmodules%2fvalve",
                "wAQnXX%2F%2FbFg9OhzWLibrTBTtO5ZlE9uZrBcGk530H%2BU%3D",
            ),
        ] {
            let text = format!("SharedAccessSignature sr={resource}&sig={signature}&se=1893456000");
            let token = Token::parse(&text).unwrap();
            assert!(token.is_signed_with(&key()), "{resource}");
            assert!(!token.is_signed_with(&SymmetricKey::from([0; 32])));
            assert!(token.covers("devices/pump-7/modules/valve", is_host, MatchCase::Exact));
            let shuffled = format!("SharedAccessSignature se=1893456000&skn=&sig={signature}&sr={resource}");
            assert_eq!(Token::parse(&shuffled).unwrap(), token);
        }
        let expires = Timestamp::from_unix_secs(1_893_456_000);
        assert_eq!(
            sign("hub1.example.net/devices/pump-7", &key(), expires, None),
            "SharedAccessSignature sr=hub1.example.net%2Fdevices%2Fpump-7&sig=IWbQxoOwrEOpVNhkjEJ54AUs3n%2FxWwqHCWwZP2yptNA%3D&se=1893456000"
        );
    }

    #[test]
    fn scopes() {
        let check = |resource: &str, path: &str, expected: bool| {
            let text = sign(resource, &key(), Timestamp::from_unix_secs(1), None);
            let covers = Token::parse(&text).unwrap().covers(path, is_host, MatchCase::Exact);
            assert_eq!(covers, expected, "{resource} over {path}");
        };
        check("hub1.example.net", "devices/a", true);
        check("HUB1.example.net:8443/devices", "devices/a", true);
        check("https://hub1.example.net/devices/a/?api-version=2020-09-30", "devices/a", true);
        check("hub1.example.net/devices/a", "devices/ab", false);
        check("hub1.example.net/devices/A", "devices/a", false);
        check("hub1.example.net/devices/a/modules/m", "devices/a", false);
        check("hub2.example.net", "devices/a", false);
        check("hub1.example.net.evil", "devices/a", false);
    }

    #[test]
    fn malformed() {
        let check = |text: &str, expected: SasError| assert_eq!(Token::parse(text), Err(expected), "{text}");
        check("", SasError::Prefix);
        check("Bearer x", SasError::Prefix);
        check("SharedAccessSignature sig=a&se=1", SasError::Missing("sr"));
        check("SharedAccessSignature sr=a&se=1", SasError::Missing("sig"));
        check("SharedAccessSignature sr=a&sig=b", SasError::Missing("se"));
        check("SharedAccessSignature sr=a&sig=b&se=x", SasError::Expiry);
        check("SharedAccessSignature sr=a&sig=b&se=-1", SasError::Expiry);
        check("SharedAccessSignature sr=a&sig=b&se=1", SasError::Signature);
        check("SharedAccessSignature sr=a&sr=b&sig=b&se=1", SasError::Twice("sr"));
        check(&format!("SharedAccessSignature sr={}", "a".repeat(5000)), SasError::TooLong);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), tail in "[srigekn=&%0-9a-zA-Z ]{0,80}") {
            let _ = Token::parse(&text);
            let _ = Token::parse(&format!("{PREFIX}{tail}"));
            percent_decode(&text);
        }

        #[test]
        fn signs_what_it_reads(resource in "[ -~]{1,40}", policy in proptest::option::of("[ -~]{1,20}")) {
            let text = sign(&resource, &key(), Timestamp::from_unix_secs(1_893_456_000), policy.as_deref());
            let token = Token::parse(&text).unwrap();
            prop_assert!(token.is_signed_with(&key()));
            prop_assert_eq!(token.policy(), policy.as_deref());
        }

        #[test]
        fn percent_round_trip(text in any::<String>()) {
            let encoded = percent_encode(&text);
            prop_assert_eq!(percent_decode(&encoded), text);
        }
    }
}
