//! Connection strings of devices and modules: `Key=Value` pairs joined by `;` (device §1.1).
//!
//! Must not know: sockets, clocks.
//!
//! Invariant: a parsed string names a host, one identity and exactly one credential.
//! Invariant: neither `Debug` nor an error ever shows a key or a token.

use std::fmt;
use std::str::FromStr;

use ostler_core::id::{DeviceId, EntityId, IdError, ModuleId};
use ostler_core::identity::SymmetricKey;
use ostler_core::sas;

const FORM: &str = "HostName=…;DeviceId=…;SharedAccessKey=…";

/// Where a hub answers, who the device is, and how it proves that.
///
/// Names of parts are case-sensitive. `HostName` may carry a port, which is that of HTTPS and of MQTT over WebSocket;
/// the MQTT port is [`Builder::mqtt_port`](crate::Builder::mqtt_port).
///
/// ```
/// use ostler_device_sdk::ConnectionString;
///
/// let text = "HostName=hub.example.net;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
/// let parsed: ConnectionString = text.parse()?;
/// assert_eq!(parsed.host(), "hub.example.net");
/// assert_eq!(parsed.entity().device(), "pump-7");
/// assert!(!format!("{parsed:?}").contains("AAECAw"));
/// # Ok::<(), ostler_device_sdk::ConnectionStringError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    host: String,
    port: Option<u16>,
    gateway: Option<String>,
    gateway_port: Option<u16>,
    entity: EntityId,
    secret: Secret,
}

/// What the device signs in with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The device's own key, or that of a shared access policy.
    Key { key: SymmetricKey, policy: Option<String> },
    /// A token made by somebody else; it is sent as it is and cannot be renewed.
    Token(String),
    /// A client certificate, which the builder is given.
    Certificate,
}

/// Why a connection string was refused. The texts never repeat a key or a token.
///
/// ```
/// use ostler_device_sdk::{ConnectionString, ConnectionStringError};
///
/// let refused = "HostName=hub.example.net;DeviceId=pump-7".parse::<ConnectionString>();
/// assert_eq!(refused.unwrap_err(), ConnectionStringError::Missing("SharedAccessKey"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionStringError {
    /// A part between two `;` has no `=`, or there is nothing.
    #[error("part {0} of the connection string is not Name=Value; expected {FORM}")]
    NotAPair(usize),
    /// White space where none belongs; often a line break at the end or a space behind a `;`.
    #[error("there is white space in or around `{0}` of the connection string; take it out")]
    WhiteSpace(String),
    /// The same name occurs twice.
    #[error("`{0}` occurs twice in the connection string")]
    Duplicate(String),
    /// A name that means nothing for devices.
    #[error(
        "`{0}` is not a part of a device's connection string (names are case-sensitive); expected {FORM}"
    )]
    Unknown(String),
    /// A part without which nothing works.
    #[error("`{0}` is missing in the connection string, or empty; expected {FORM}")]
    Missing(&'static str),
    /// Two credentials that exclude each other.
    #[error(
        "the connection string has both `{0}` and `{1}`; keep the one that the device shall sign in with"
    )]
    Both(&'static str, &'static str),
    /// It signs in a back end, which is no device.
    #[error(
        "this is the connection string of a back end (it has SharedAccessKeyName and no DeviceId); take the \
         device's own, for example from `ostler device connection-string <id>`"
    )]
    OfService,
    /// The host cannot be dialled.
    #[error("`{0}` of the connection string is not a host name with an optional port")]
    Host(&'static str),
    /// The device's or module's name breaks a rule.
    #[error("`{0}` of the connection string: {1}")]
    Id(&'static str, IdError),
    /// The key is not base64, or of a length that no key has.
    #[error("SharedAccessKey of the connection string is not the base64 of 16 to 64 bytes; was it cut when copied?")]
    Key,
    /// The ready-made token cannot be read.
    #[error("SharedAccessSignature of the connection string: {0}")]
    Token(sas::SasError),
    /// `x509` with another value.
    #[error("x509 of the connection string can only be `true`")]
    X509,
}

impl ConnectionString {
    /// The hub's name without a port, as written. It stands in user names and tokens.
    ///
    /// ```
    /// # use ostler_device_sdk::ConnectionString;
    /// let text = "HostName=localhost:8443;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    /// assert_eq!(text.parse::<ConnectionString>()?.host(), "localhost");
    /// # Ok::<(), ostler_device_sdk::ConnectionStringError>(())
    /// ```
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port written after the host, if any: that of HTTPS and of MQTT over WebSocket.
    ///
    /// ```
    /// # use ostler_device_sdk::ConnectionString;
    /// let text = "HostName=localhost:8443;DeviceId=pump-7;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    /// assert_eq!(text.parse::<ConnectionString>()?.port(), Some(8443));
    /// # Ok::<(), ostler_device_sdk::ConnectionStringError>(())
    /// ```
    pub fn port(&self) -> Option<u16> {
        match self.gateway {
            Some(_) => self.gateway_port,
            None => self.port,
        }
    }

    /// The host that is dialled instead of the hub, if one is named (`GatewayHostName`).
    ///
    /// ```
    /// # use ostler_device_sdk::ConnectionString;
    /// let text = "HostName=hub.example.net;DeviceId=d;GatewayHostName=edge;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
    /// assert_eq!(text.parse::<ConnectionString>()?.gateway(), Some("edge"));
    /// # Ok::<(), ostler_device_sdk::ConnectionStringError>(())
    /// ```
    pub fn gateway(&self) -> Option<&str> {
        self.gateway.as_deref()
    }

    /// The device, or the module of a device.
    ///
    /// ```
    /// # use ostler_device_sdk::ConnectionString;
    /// let text = "HostName=h.example;DeviceId=pump-7;ModuleId=valve;x509=true";
    /// let parsed: ConnectionString = text.parse()?;
    /// assert_eq!((parsed.entity().device(), parsed.entity().module()), ("pump-7", Some("valve")));
    /// # Ok::<(), ostler_device_sdk::ConnectionStringError>(())
    /// ```
    pub fn entity(&self) -> &EntityId {
        &self.entity
    }

    /// Whether the device signs in with a certificate.
    ///
    /// ```
    /// # use ostler_device_sdk::ConnectionString;
    /// assert!("HostName=h.example;DeviceId=d;x509=true".parse::<ConnectionString>()?.is_x509());
    /// # Ok::<(), ostler_device_sdk::ConnectionStringError>(())
    /// ```
    pub fn is_x509(&self) -> bool {
        self.secret == Secret::Certificate
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The host to dial, without brackets around an IPv6 address.
    pub(crate) fn dial_host(&self) -> &str {
        let host = self.gateway.as_deref().unwrap_or(&self.host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for ConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use ConnectionStringError as E;
        let mut fields = Fields::parse(text)?;
        let host = fields.take("HostName").ok_or(E::Missing("HostName"))?;
        let (host, port) = split_host(host, "HostName")?;
        let Some(device) = fields.take("DeviceId") else {
            let of_service = fields.take("SharedAccessKeyName").is_some();
            return Err(if of_service { E::OfService } else { E::Missing("DeviceId") });
        };
        let device = DeviceId::new(device).map_err(|error| E::Id("DeviceId", error))?;
        let entity = match fields.take("ModuleId") {
            None => EntityId::from(device),
            Some(module) => {
                let module = ModuleId::new(module).map_err(|error| E::Id("ModuleId", error))?;
                EntityId::of_module(&device, &module)
            }
        };
        let (gateway, gateway_port) = match fields.take("GatewayHostName") {
            None => (None, None),
            Some(gateway) => {
                let (gateway, port) = split_host(gateway, "GatewayHostName")?;
                (Some(gateway), port)
            }
        };
        let secret = fields.secret()?;
        Ok(Self { host, port, gateway, gateway_port, entity, secret })
    }
}

/// The names there are, in the order in which they are looked up.
const NAMES: [&str; 8] = [
    "HostName",
    "DeviceId",
    "ModuleId",
    "GatewayHostName",
    "SharedAccessKey",
    "SharedAccessKeyName",
    "SharedAccessSignature",
    "x509",
];

#[derive(Default)]
struct Fields<'a>([Option<&'a str>; NAMES.len()]);

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, ConnectionStringError> {
        use ConnectionStringError as E;
        let mut fields = Self::default();
        // One `;` at the end is common and harmless.
        let text = text.strip_suffix(';').unwrap_or(text);
        for (index, part) in text.split(';').enumerate() {
            // Keys are base64 and end in `=`: only the first one separates.
            let (name, value) = part.split_once('=').ok_or(E::NotAPair(index + 1))?;
            if name != name.trim() {
                return Err(E::WhiteSpace(name.trim().to_owned()));
            }
            let at = NAMES.iter().position(|known| *known == name).ok_or_else(|| E::Unknown(shown(name)))?;
            // A token has one space inside.
            let inside = if name == "SharedAccessSignature" { value.trim() } else { "" };
            if value.chars().any(char::is_whitespace) && inside != value {
                return Err(E::WhiteSpace(name.to_owned()));
            }
            if value.is_empty() {
                return Err(E::Missing(NAMES[at]));
            }
            if fields.0[at].replace(value).is_some() {
                return Err(E::Duplicate(name.to_owned()));
            }
        }
        Ok(fields)
    }

    fn take(&mut self, name: &'static str) -> Option<&'a str> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.0[at].take()
    }

    fn secret(&mut self) -> Result<Secret, ConnectionStringError> {
        use ConnectionStringError as E;
        let policy = self.take("SharedAccessKeyName");
        let given = (self.take("SharedAccessKey"), self.take("SharedAccessSignature"), self.take("x509"));
        match given {
            (Some(_), Some(_), _) => Err(E::Both("SharedAccessKey", "SharedAccessSignature")),
            (Some(_), _, Some(_)) => Err(E::Both("SharedAccessKey", "x509")),
            (_, Some(_), Some(_)) => Err(E::Both("SharedAccessSignature", "x509")),
            (None, None, None) => Err(E::Missing("SharedAccessKey")),
            (None, None, Some("true")) => Ok(Secret::Certificate),
            (None, None, Some(_)) => Err(E::X509),
            (None, Some(token), None) => {
                sas::Token::parse(token).map_err(E::Token)?;
                Ok(Secret::Token(token.to_owned()))
            }
            (Some(key), None, None) => {
                let key = SymmetricKey::from_base64(key).map_err(|_| E::Key)?;
                Ok(Secret::Key { key, policy: policy.map(str::to_owned) })
            }
        }
    }
}

/// A name that may be anything, a key in the wrong place included: only its beginning is shown.
fn shown(name: &str) -> String {
    if name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return name.to_owned();
    }
    let start: String = name.chars().take(2).collect();
    format!("{start}…")
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port`. An IPv6 address without brackets is ambiguous and refused.
fn split_host(text: &str, name: &'static str) -> Result<(String, Option<u16>), ConnectionStringError> {
    let bad = || ConnectionStringError::Host(name);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(bad)?;
            (host, Some(port))
        }
        _ => (text, None),
    };
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if plain || bracketed.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
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
            .field("gateway", &self.gateway)
            .field("entity", &self.entity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionStringError as E;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

    fn check(text: &str, expected: Result<(&str, Option<u16>, &str), ConnectionStringError>) {
        let text = text.replace("KEY", KEY);
        let parsed = text.parse::<ConnectionString>();
        let seen = match &parsed {
            Ok(parsed) => Ok((parsed.host(), parsed.port(), parsed.entity().as_str())),
            Err(error) => Err(error.clone()),
        };
        assert_eq!(seen, expected, "{text}");
        if let Err(error) = parsed {
            assert!(!error.to_string().contains("AAEC"), "{error}");
        }
    }

    #[test]
    fn reads_what_azure_and_ostler_write() {
        check("HostName=h.example;DeviceId=d;SharedAccessKey=KEY", Ok(("h.example", None, "d")));
        check("DeviceId=d;SharedAccessKey=KEY;HostName=localhost:8443;", Ok(("localhost", Some(8443), "d")));
        check("HostName=[::1]:8443;DeviceId=d;ModuleId=m;x509=true", Ok(("[::1]", Some(8443), "d/m")));
        check("HostName=h;DeviceId=d;SharedAccessKeyName=device;SharedAccessKey=KEY", Ok(("h", None, "d")));
        check(
            "HostName=h;DeviceId=d;SharedAccessSignature=SharedAccessSignature sr=h&sig=BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA%3D&se=1",
            Ok(("h", None, "d")),
        );
        check("HostName=h:1;DeviceId=d;GatewayHostName=e:2;SharedAccessKey=KEY", Ok(("h", Some(2), "d")));
    }

    #[test]
    fn refuses_and_says_which_part() {
        check("", Err(E::NotAPair(1)));
        check("HostName=h;;DeviceId=d;SharedAccessKey=KEY", Err(E::NotAPair(2)));
        check("HostName=h;DeviceId", Err(E::NotAPair(2)));
        check("HostName=h; DeviceId=d;SharedAccessKey=KEY", Err(E::WhiteSpace("DeviceId".into())));
        check("HostName=h;DeviceId=d;SharedAccessKey=KEY\n", Err(E::WhiteSpace("SharedAccessKey".into())));
        check("HostName=h ;DeviceId=d;SharedAccessKey=KEY", Err(E::WhiteSpace("HostName".into())));
        check("HostName=h;DeviceId=a b;SharedAccessKey=KEY", Err(E::WhiteSpace("DeviceId".into())));
        check("DeviceId=d;SharedAccessKey=KEY", Err(E::Missing("HostName")));
        check("HostName=;DeviceId=d;SharedAccessKey=KEY", Err(E::Missing("HostName")));
        check("HostName=h;SharedAccessKey=KEY", Err(E::Missing("DeviceId")));
        check("HostName=h;DeviceId=d", Err(E::Missing("SharedAccessKey")));
        check("HostName=h;SharedAccessKeyName=p;SharedAccessKey=KEY", Err(E::OfService));
        check("HostName=h;HostName=i;DeviceId=d;SharedAccessKey=KEY", Err(E::Duplicate("HostName".into())));
        check("hostname=h;DeviceId=d;SharedAccessKey=KEY", Err(E::Unknown("hostname".into())));
        check("HostName=h;DeviceId=d;AAECAwQFBgcICQoLDA0ODw==", Err(E::Unknown("AA…".into())));
        check("HostName=h:0;DeviceId=d;SharedAccessKey=KEY", Err(E::Host("HostName")));
        check("HostName=h:x;DeviceId=d;SharedAccessKey=KEY", Err(E::Host("HostName")));
        check("HostName=https://h;DeviceId=d;SharedAccessKey=KEY", Err(E::Host("HostName")));
        check("HostName=::1;DeviceId=d;SharedAccessKey=KEY", Err(E::Host("HostName")));
        check("HostName=h;DeviceId=a/b;SharedAccessKey=KEY", Err(E::Id("DeviceId", IdError::Character('/'))));
        check("HostName=h;DeviceId=d;SharedAccessKey=not-base64", Err(E::Key));
        check("HostName=h;DeviceId=d;SharedAccessKey=AAE=", Err(E::Key));
        check("HostName=h;DeviceId=d;x509=yes", Err(E::X509));
        check("HostName=h;DeviceId=d;x509=true;SharedAccessKey=KEY", Err(E::Both("SharedAccessKey", "x509")));
        check("HostName=h;DeviceId=d;SharedAccessSignature=Bearer x", Err(E::Token(sas::SasError::Prefix)));
    }

    #[test]
    fn debug_hides_the_secret() {
        for secret in ["SharedAccessKey=c2VjcmV0c2VjcmV0c2VjcmV0", "x509=true"] {
            let parsed: ConnectionString = format!("HostName=h;DeviceId=d;{secret}").parse().unwrap();
            let shown = format!("{parsed:?}");
            assert!(!shown.contains("c2Vj") && !shown.contains("115"), "{shown}");
        }
    }
}
