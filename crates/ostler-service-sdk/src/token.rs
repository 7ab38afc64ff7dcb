//! Shared access signatures for the service side (service §2.3), made from a policy key and renewed in time.
//!
//! Must not know: sockets. The clock is an argument, so that renewal is testable.
//!
//! Invariant: a token handed out is valid for at least [`RENEWAL_MARGIN`] more, unless it was ready-made.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_core::identity::SymmetricKey;
use ostler_core::sas;
use ostler_core::time::Timestamp;

use crate::connection_string::Credential;

/// How long a token is good for. The value every Azure client picks (service §2.3).
const LIFETIME: Duration = Duration::from_secs(3600);

/// A token with less than this left is replaced before it is used, so that it outlives the request and some clock skew.
const RENEWAL_MARGIN: Duration = Duration::from_secs(600);

/// Hands out the value of the `Authorization` header.
pub(crate) struct TokenSource {
    signer: Signer,
    current: Mutex<Option<Issued>>,
}

enum Signer {
    Policy { name: String, key: SymmetricKey, host: String },
    Fixed(String),
}

struct Issued {
    token: String,
    expires: SystemTime,
}

impl TokenSource {
    pub(crate) fn new(credential: &Credential, host: &str) -> Self {
        let signer = match credential {
            Credential::Token(token) => Signer::Fixed(token.clone()),
            Credential::Policy { name, key } => {
                Signer::Policy { name: name.clone(), key: key.clone(), host: host.to_ascii_lowercase() }
            }
        };
        Self { signer, current: Mutex::new(None) }
    }

    /// The token to send at `now`; signs a new one when the last is about to expire.
    pub(crate) fn token(&self, now: SystemTime) -> String {
        let (name, key, host) = match &self.signer {
            Signer::Fixed(token) => return token.clone(),
            Signer::Policy { name, key, host } => (name, key, host),
        };
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(issued) = current.as_ref().filter(|issued| is_fresh(issued, now)) {
            return issued.token.clone();
        }
        let expires = now + LIFETIME;
        let expiry_secs = expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let expiry = Timestamp::from_unix_secs(i64::try_from(expiry_secs).unwrap_or(i64::MAX));
        let token = sas::sign(host, key, expiry, Some(name));
        *current = Some(Issued { token: token.clone(), expires });
        token
    }
}

/// False also when the clock went back by more than a lifetime: such a token would look like one from the future.
fn is_fresh(issued: &Issued, now: SystemTime) -> bool {
    issued.expires.duration_since(now).is_ok_and(|left| left > RENEWAL_MARGIN && left <= LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SymmetricKey {
        SymmetricKey::new(&(0..32).collect::<Vec<u8>>()).unwrap()
    }

    /// Core signs; this holds that what it signs is what the published vectors say (device §1.3).
    #[test]
    fn signs_like_the_published_vector() {
        assert_eq!(
            sas::sign("hub1.example.net/devices/pump-7", &key(), Timestamp::from_unix_secs(1_893_456_000), None),
            "SharedAccessSignature sr=hub1.example.net%2Fdevices%2Fpump-7&sig=IWbQxoOwrEOpVNhkjEJ54AUs3n%2FxWwqHCWwZP2yptNA%3D&se=1893456000"
        );
    }

    #[test]
    fn renews_before_expiry_and_not_earlier() {
        let source = TokenSource::new(&Credential::Policy { name: "a b".into(), key: key() }, "Hub.Example");
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let first = source.token(start);
        assert!(first.starts_with("SharedAccessSignature sr=hub.example&sig="), "{first}");
        assert!(first.ends_with("&se=1003600&skn=a%20b"), "{first}");
        assert_eq!(source.token(start + Duration::from_secs(2_999)), first);
        assert_ne!(source.token(start + Duration::from_secs(3_000)), first);
        assert_ne!(source.token(start - Duration::from_secs(7_200)), first, "the clock went back");
    }

    #[test]
    fn sends_a_ready_made_token_as_it_is() {
        let source = TokenSource::new(&Credential::Token("SharedAccessSignature sr=x".into()), "h");
        assert_eq!(source.token(SystemTime::now()), "SharedAccessSignature sr=x");
    }
}
