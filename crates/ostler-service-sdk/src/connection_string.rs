//! Connection strings: `Key=Value` pairs joined by `;` (service §2.4).
//!
//! Must not know: sockets, clocks.
//!
//! Invariant: a parsed string names a host and exactly one credential for the service side.
//! Invariant: `Debug` never shows a key.

use std::fmt;
use std::str::FromStr;

use ostler_core::identity::SymmetricKey;

/// Where a hub answers and how a back end proves itself to it.
///
/// ```
/// use ostler_service_sdk::ConnectionString;
///
/// let text = "HostName=localhost:8443;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
/// let parsed: ConnectionString = text.parse()?;
/// assert_eq!((parsed.host(), parsed.port(), parsed.policy()), ("localhost", Some(8443), Some("service")));
/// # Ok::<(), ostler_service_sdk::ConnectionStringError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    host: String,
    port: Option<u16>,
    credential: Credential,
}

/// What a back end signs in with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A shared access policy and one of its two keys.
    Policy { name: String, key: SymmetricKey },
    /// A token made by somebody else; it is sent as it is and cannot be renewed.
    Token(String),
}

/// Why a connection string was refused. The texts never repeat a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionStringError {
    /// A part between two `;` has no `=`.
    #[error("part {0} has no `=`; expected HostName=…;SharedAccessKeyName=…;SharedAccessKey=…")]
    NotAPair(usize),
    /// The same name occurs twice.
    #[error("`{0}` occurs twice")]
    Duplicate(String),
    /// A name that means nothing on the service side.
    #[error("unknown name `{0}` (names are case-sensitive)")]
    UnknownName(String),
    /// A required name is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// It signs in a device, which may not use the service side.
    #[error(
        "this is the connection string of a device; a back end needs one with SharedAccessKeyName \
         (see `ostler policy connection-string`)"
    )]
    OfDevice,
    /// The key cannot be one.
    #[error("SharedAccessKey is not the base64 of 16 to 64 bytes")]
    BadKey,
    /// The host part cannot be dialled.
    #[error("HostName `{0}` is not a host name with an optional port")]
    BadHost(String),
}

impl ConnectionString {
    /// The host without a port, as written.
    ///
    /// ```
    /// use ostler_service_sdk::{ConnectionString, ConnectionStringError};
    ///
    /// let parsed: ConnectionString =
    ///     "HostName=localhost:8443;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
    /// assert_eq!(parsed.host(), "localhost");
    /// # Ok::<(), ConnectionStringError>(())
    /// ```
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port written after the host, if any. Azure's own strings have none.
    ///
    /// ```
    /// use ostler_service_sdk::{ConnectionString, ConnectionStringError};
    ///
    /// let parsed: ConnectionString =
    ///     "HostName=localhost:8443;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
    /// assert_eq!(parsed.port(), Some(8443));
    /// # Ok::<(), ConnectionStringError>(())
    /// ```
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The policy that signs in; none when the string carries a ready-made token.
    ///
    /// ```
    /// use ostler_service_sdk::{ConnectionString, ConnectionStringError};
    ///
    /// let parsed: ConnectionString =
    ///     "HostName=localhost:8443;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==".parse()?;
    /// assert_eq!(parsed.policy(), Some("service"));
    /// # Ok::<(), ConnectionStringError>(())
    /// ```
    pub fn policy(&self) -> Option<&str> {
        match &self.credential {
            Credential::Policy { name, .. } => Some(name),
            Credential::Token(_) => None,
        }
    }

    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }
}

impl FromStr for ConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fields = Fields::parse(text)?;
        let Some(host) = fields.host else { return Err(ConnectionStringError::Missing("HostName")) };
        let (host, port) = split_host(host)?;
        if fields.device.is_some() {
            return Err(ConnectionStringError::OfDevice);
        }
        if let Some(token) = fields.token {
            return Ok(Self { host, port, credential: Credential::Token(token.to_owned()) });
        }
        let Some(name) = fields.policy else {
            return Err(ConnectionStringError::Missing("SharedAccessKeyName"));
        };
        let Some(key) = fields.key else { return Err(ConnectionStringError::Missing("SharedAccessKey")) };
        let key = SymmetricKey::from_base64(key).map_err(|_| ConnectionStringError::BadKey)?;
        Ok(Self { host, port, credential: Credential::Policy { name: name.to_owned(), key } })
    }
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    policy: Option<&'a str>,
    key: Option<&'a str>,
    token: Option<&'a str>,
    device: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, ConnectionStringError> {
        let mut fields = Self::default();
        for (index, part) in text.trim().split(';').enumerate() {
            if part.is_empty() {
                continue;
            }
            // Keys are base64 and end in `=`: only the first one separates.
            let Some((name, value)) = part.split_once('=') else {
                return Err(ConnectionStringError::NotAPair(index + 1));
            };
            let slot = match name {
                "HostName" => &mut fields.host,
                "SharedAccessKeyName" => &mut fields.policy,
                "SharedAccessKey" => &mut fields.key,
                "SharedAccessSignature" => &mut fields.token,
                "DeviceId" | "ModuleId" | "x509" => &mut fields.device,
                "GatewayHostName" => continue,
                other => return Err(ConnectionStringError::UnknownName(other.to_owned())),
            };
            if slot.replace(value).is_some() && name != "ModuleId" && name != "x509" {
                return Err(ConnectionStringError::Duplicate(name.to_owned()));
            }
        }
        Ok(fields)
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port`. An IPv6 address without brackets is ambiguous and refused.
fn split_host(text: &str) -> Result<(String, Option<u16>), ConnectionStringError> {
    let bad = || ConnectionStringError::BadHost(text.to_owned());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().map_err(|_| bad())?)),
        _ => (text, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let v6 = bracketed && host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok();
    if plain || v6 {
        Ok((host.to_owned(), port))
    } else {
        Err(bad())
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("policy", &self.policy())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, Option<u16>, Option<&str>), ConnectionStringError>) {
        let parsed = text.parse::<ConnectionString>();
        let seen = match &parsed {
            Ok(cs) => Ok((cs.host(), cs.port(), cs.policy())),
            Err(error) => Err(error.clone()),
        };
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn reads_what_azure_and_ostler_write() {
        check(
            "HostName=h.example;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==",
            Ok(("h.example", None, Some("service"))),
        );
        check(
            "HostName=localhost:8443;SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==",
            Ok(("localhost", Some(8443), Some("p"))),
        );
        check(
            "HostName=[::1]:8443;SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==;",
            Ok(("[::1]", Some(8443), Some("p"))),
        );
        check(
            "HostName=h;SharedAccessSignature=SharedAccessSignature sr=h&sig=x&se=1",
            Ok(("h", None, None)),
        );
    }

    #[test]
    fn refuses_with_a_reason() {
        use ConnectionStringError as E;
        check("HostName", Err(E::NotAPair(1)));
        check("", Err(E::Missing("HostName")));
        check("HostName=h", Err(E::Missing("SharedAccessKeyName")));
        check("HostName=h;SharedAccessKeyName=p", Err(E::Missing("SharedAccessKey")));
        check("HostName=h;HostName=i", Err(E::Duplicate("HostName".into())));
        check("hostname=h", Err(E::UnknownName("hostname".into())));
        check("HostName=h;DeviceId=d;SharedAccessKey=AAE=", Err(E::OfDevice));
        check("HostName=h;SharedAccessKeyName=p;SharedAccessKey=?", Err(E::BadKey));
        check(
            "HostName=h:x;SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==",
            Err(E::BadHost("h:x".into())),
        );
        check(
            "HostName=a/b;SharedAccessKeyName=p;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==",
            Err(E::BadHost("a/b".into())),
        );
    }

    #[test]
    fn debug_hides_the_key() {
        let cs: ConnectionString =
            "HostName=h;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0c2VjcmV0c2VjcmV0".parse().unwrap();
        assert!(!format!("{cs:?}").contains("c2Vj") && !format!("{cs:?}").contains("115"));
    }
}
