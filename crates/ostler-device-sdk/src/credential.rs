//! What the device shows at sign-in: a token made of its key, a ready-made token, or nothing but its certificate
//! (device §1.3–1.5).
//!
//! Must not know: sockets, MQTT. The clock is an argument.
//!
//! Invariant: a token made here is asked to be renewed between 80 and 85 % of its life.
//! Invariant: `Debug` shows no secret.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_core::id::EntityId;
use ostler_core::identity::SymmetricKey;
use ostler_core::sas;
use ostler_core::time::Timestamp;

use crate::connection_string::{ConnectionString, Secret};

/// Every Azure client's choice (device §1.4).
pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
/// Shorter ones would be renewed all the time.
pub(crate) const SHORTEST_LIFETIME: Duration = Duration::from_secs(2);
/// A year. Longer ones are not revoked in time when a device is lost.
pub(crate) const LONGEST_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// Before this was written no clock was right: 1 January 2026.
const EARLIEST_SECS: u64 = 1_767_225_600;

/// Makes passwords.
pub(crate) struct Credential {
    proof: Proof,
    lifetime: Duration,
    /// Spreads the renewals of devices that started together; 0 to 255.
    spread: u8,
}

enum Proof {
    Key {
        key: SymmetricKey,
        policy: Option<String>,
        resource: String,
    },
    /// May be replaced on a live client.
    Token(Mutex<String>),
    Certificate,
}

/// What goes into CONNECT or `Authorization`.
pub(crate) struct Password {
    /// None for certificates.
    pub text: Option<String>,
    /// When a new one should be shown.
    pub renew_in: Option<Duration>,
}

/// A ready-made token whose time is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired;

impl Credential {
    pub(crate) fn new(connection: &ConnectionString, lifetime: Duration, spread: u8) -> Self {
        let proof = match connection.secret() {
            Secret::Certificate => Proof::Certificate,
            Secret::Token(token) => Proof::Token(Mutex::new(token.clone())),
            Secret::Key { key, policy } => {
                let resource = resource(connection.host(), connection.entity());
                Proof::Key { key: key.clone(), policy: policy.clone(), resource }
            }
        };
        Self { proof, lifetime, spread }
    }

    /// What to show at `now`.
    pub(crate) fn password(&self, now: SystemTime) -> Result<Password, Expired> {
        let now_secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match &self.proof {
            Proof::Certificate => Ok(Password { text: None, renew_in: None }),
            Proof::Token(token) => {
                let token = token.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let expires = sas::Token::parse(&token).map_or(0, |parsed| parsed.expires().unix_secs());
                if expires <= i64::try_from(now_secs).unwrap_or(i64::MAX) {
                    return Err(Expired);
                }
                Ok(Password { text: Some(token.clone()), renew_in: None })
            }
            Proof::Key { key, policy, resource } => {
                let expires = now_secs.saturating_add(self.lifetime.as_secs());
                let expires = Timestamp::from_unix_secs(i64::try_from(expires).unwrap_or(i64::MAX));
                let text = sas::sign(resource, key, expires, policy.as_deref());
                Ok(Password { text: Some(text), renew_in: Some(self.renew_in()) })
            }
        }
    }

    /// 80 % of the lifetime, and up to 5 % more.
    fn renew_in(&self) -> Duration {
        self.lifetime.mul_f64(0.8 + 0.05 * f64::from(self.spread) / 255.0)
    }

    /// Takes another ready-made token; false if the device does not sign in with one.
    pub(crate) fn replace_token(&self, text: String) -> bool {
        let Proof::Token(token) = &self.proof else { return false };
        *token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = text;
        true
    }

    /// What to look at first when the hub refuses what was shown at `now`.
    pub(crate) fn hint(&self, now: SystemTime) -> String {
        let now_secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let clock = Timestamp::from_unix_secs(i64::try_from(now_secs).unwrap_or(0));
        match &self.proof {
            Proof::Certificate => "check the certificate against what is registered for this device".to_owned(),
            _ if now_secs < EARLIEST_SECS => format!(
                "this machine's clock says {clock}, which cannot be: a token made by a wrong clock has expired before it \
                 is used. Set the clock (NTP), then try again"
            ),
            Proof::Token(_) => "the ready-made token may have been made for another device or hub".to_owned(),
            Proof::Key { .. } => format!(
                "check the key and that the device exists and is enabled; this machine's clock says {clock}, and if it is \
                 slow by more than {} the token has expired before it is used",
                readable(self.lifetime)
            ),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.proof {
            Proof::Key { .. } => "Credential(key)",
            Proof::Token(_) => "Credential(token)",
            Proof::Certificate => "Credential(certificate)",
        })
    }
}

/// What tokens of this identity are made for.
fn resource(host: &str, entity: &EntityId) -> String {
    match entity.module() {
        None => format!("{host}/devices/{}", entity.device()),
        Some(module) => format!("{host}/devices/{}/modules/{module}", entity.device()),
    }
}

fn readable(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7199 => format!("{} min", secs / 60),
        _ => format!("{} h", secs / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(tail: &str, lifetime: u64, spread: u8) -> Credential {
        let text = format!("HostName=hub1.example.net;DeviceId=pump-7{tail}");
        Credential::new(&text.parse().unwrap(), Duration::from_secs(lifetime), spread)
    }

    const KEY: &str = ";SharedAccessKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    /// The vectors of device §1.3.
    #[test]
    fn makes_the_published_token() {
        let password = credential(KEY, 3600, 0).password(at(1_893_456_000 - 3600)).unwrap();
        assert_eq!(
            password.text.unwrap(),
            "SharedAccessSignature sr=hub1.example.net%2Fdevices%2Fpump-7&sig=IWbQxoOwrEOpVNhkjEJ54AUs3n%2FxWwqHCWwZP2yptNA%3D&se=1893456000"
        );
        let module = credential(&format!(";ModuleId=valve{KEY}"), 3600, 0).password(at(0)).unwrap();
        assert!(module.text.unwrap().contains("sr=hub1.example.net%2Fdevices%2Fpump-7%2Fmodules%2Fvalve&"));
    }

    #[test]
    fn renews_between_80_and_85_percent() {
        for (spread, expected) in [(0, 2880), (255, 3060)] {
            let renew = credential(KEY, 3600, spread).password(at(0)).unwrap().renew_in.unwrap();
            assert_eq!(renew.as_secs(), expected);
        }
    }

    #[test]
    fn a_ready_made_token_is_sent_until_it_expires_and_can_be_replaced() {
        let token = "SharedAccessSignature sr=h&sig=BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA%3D&se=100";
        let credential = credential(&format!(";SharedAccessSignature={token}"), 3600, 0);
        assert_eq!(credential.password(at(99)).unwrap().text.as_deref(), Some(token));
        assert_eq!(credential.password(at(100)).err(), Some(Expired));
        assert!(credential.replace_token(token.replace("se=100", "se=200")));
        assert!(credential.password(at(100)).unwrap().text.unwrap().ends_with("se=200"));
    }

    #[test]
    fn a_certificate_needs_no_password() {
        let password = credential(";x509=true", 3600, 0).password(at(0)).unwrap();
        assert!(password.text.is_none() && password.renew_in.is_none());
    }

    #[test]
    fn the_hint_names_a_clock_that_cannot_be_right() {
        let hint = credential(KEY, 3600, 0).hint(at(1_000_000_000));
        assert!(hint.contains("clock says 2001-09-09") && hint.contains("cannot be"), "{hint}");
        assert!(credential(KEY, 3600, 0).hint(at(1_893_456_000)).contains("slow by more than 60 min"));
    }
}
