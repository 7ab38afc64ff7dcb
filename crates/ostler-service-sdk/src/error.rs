//! What can go wrong with a call, typed, and how the service's error bodies are read (service §3).
//!
//! Must not know: what is retried, which operation failed.
//!
//! Invariant: a `Display` never repeats its source and never shows a key or a token.
//! Invariant: any bytes a server sends as an error become a [`Fault`]; reading one cannot fail.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use ostler_core::id::IdError;
use ostler_wire::rest::error::{ErrorCode, ErrorReport, ERROR_CODE_HEADER};
use rustls::CertificateError;

use crate::connection_string::ConnectionStringError;

/// Longest part of an error body that is repeated when it is in no known form, in bytes.
const MAX_FOREIGN_TEXT: usize = 300;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The hub answered with an error.
    #[error("{0}")]
    Service(Box<Fault>),
    /// No connection to the hub came about; it has seen nothing of the request.
    #[error("cannot connect to {authority}{}", advice(.source.as_ref()))]
    Connect {
        /// `host:port` that was dialled.
        authority: String,
        /// The fault of the socket or of TLS.
        source: BoxError,
    },
    /// The connection broke before the answer was complete. A write may or may not have been executed.
    #[error("the connection to {authority} broke before the answer was complete")]
    Interrupted {
        /// `host:port` that was dialled.
        authority: String,
        /// What the connection reported.
        source: BoxError,
    },
    /// No answer in time. A write may or may not have been executed.
    #[error("no answer from {authority} within {} s", .after.as_secs_f32())]
    Timeout {
        /// `host:port` that was dialled.
        authority: String,
        /// How long the last attempt waited.
        after: Duration,
    },
    /// The answer is not what the protocol says.
    #[error("unexpected answer from the hub (HTTP {status}): {reason}")]
    UnexpectedAnswer {
        /// The HTTP status it came with.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection string is unusable.
    #[error("connection string: {0}")]
    ConnectionString(ConnectionStringError),
    /// The name of a device or module breaks the rules of such names; nothing was sent.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The client was set up in a way that cannot work.
    #[error("{0}")]
    Setup(String),
}

/// Its text is part of the error's own, so it is not the error's source as well: whoever prints the chain reads it once.
impl From<ConnectionStringError> for Error {
    fn from(error: ConnectionStringError) -> Self {
        Self::ConnectionString(error)
    }
}

/// Sorts errors by what a caller does about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The device, module, policy or other thing does not exist.
    NotFound,
    /// It exists already, or is in a state that forbids the operation (409); a queue or another place is full (some 403).
    Conflict,
    /// It was changed since the etag was read (412).
    PreconditionFailed,
    /// The policy or its key was refused, or lacks the right (401, 403).
    Unauthorized,
    /// The device is not connected, or not listening for methods.
    DeviceOffline,
    /// The device got the method call and did not answer in time.
    DeviceTimeout,
    /// The request is wrong and will stay so (other 4xx).
    Invalid,
    /// The hub is overloaded and said so (429, 503).
    Busy,
    /// The hub has a fault of its own (5xx).
    Server,
    /// The hub cannot be reached, or the connection to it broke.
    Unreachable,
    /// The hub did not answer in time.
    Timeout,
    /// The hub's answer makes no sense to this client.
    Protocol,
    /// This client was set up wrongly.
    Setup,
}

/// An error the hub answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// HTTP status.
    pub status: u16,
    /// The service's error code, if the answer named one that is known.
    pub code: Option<ErrorCode>,
    /// The service's number for the error, such as 404103, known to this version or not (service §3.3).
    pub number: Option<u32>,
    /// The service's error name, such as `DeviceNotOnline`, if the answer carried one, known or not.
    pub name: Option<String>,
    /// What the hub says, for people.
    pub message: String,
    /// What to quote when asking the operator about this very failure.
    pub tracking_id: Option<String>,
    /// How long the hub asks to stay away.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// The class of this error.
    ///
    /// ```no_run
    /// # fn example(error: ostler_service_sdk::Error) {
    /// use ostler_service_sdk::ErrorKind;
    ///
    /// match error.kind() {
    ///     ErrorKind::NotFound => println!("nobody of that name"),
    ///     ErrorKind::PreconditionFailed => println!("somebody was faster; read it again"),
    ///     ErrorKind::DeviceOffline | ErrorKind::DeviceTimeout => println!("the device does not answer"),
    ///     _ => println!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Service(fault) => fault.kind(),
            Self::Connect { .. } | Self::Interrupted { .. } => ErrorKind::Unreachable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::UnexpectedAnswer { .. } => ErrorKind::Protocol,
            Self::Id(_) => ErrorKind::Invalid,
            Self::ConnectionString(_) | Self::Setup(_) => ErrorKind::Setup,
        }
    }

    /// The hub's own words, when it was the hub that refused.
    ///
    /// ```no_run
    /// # fn example(error: ostler_service_sdk::Error) {
    /// if let Some(fault) = error.fault() {
    ///     println!("{:?} {:?}: {} (quote {:?})", fault.number, fault.name, fault.message, fault.tracking_id);
    /// }
    /// # }
    /// ```
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Service(fault) => Some(fault),
            _ => None,
        }
    }

    /// The service's error code (service §3.3), when the hub named one that is known.
    ///
    /// ```
    /// # fn example(error: ostler_service_sdk::Error) {
    /// use ostler_service_sdk::ErrorCode;
    ///
    /// if error.code() == Some(ErrorCode::DeviceNotOnline) {
    ///     println!("it sleeps; try again when it has woken up");
    /// }
    /// # }
    /// ```
    pub fn code(&self) -> Option<ErrorCode> {
        self.fault().and_then(|fault| fault.code)
    }

    /// Whether the same call may succeed later without anybody changing anything: the hub was busy, away, or out of
    /// reach. The client has tried again already, as [`crate::RetryPolicy`] says, unless the call may have been
    /// executed; see [`ErrorKind`] for what to do about the others.
    ///
    /// ```no_run
    /// # fn example(error: ostler_service_sdk::Error) {
    /// if error.is_transient() {
    ///     println!("{error}; trying again in a minute");
    /// }
    /// # }
    /// ```
    pub fn is_transient(&self) -> bool {
        let passes = matches!(
            self.kind(),
            ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Busy | ErrorKind::Server
        );
        passes && !self.is_untrusted_certificate()
    }

    /// Whether the hub does not know the route at all: one of Ostler's own was asked of Azure IoT Hub, or of a hub
    /// that runs with `--compat strict`.
    ///
    /// ```no_run
    /// # fn example(error: ostler_service_sdk::Error) {
    /// if error.is_unknown_route() {
    ///     println!("this hub is no Ostler, or runs with --compat strict");
    /// }
    /// # }
    /// ```
    pub fn is_unknown_route(&self) -> bool {
        self.fault().is_some_and(|fault| match fault.code {
            Some(code) => matches!(code, ErrorCode::GenericNotFound | ErrorCode::FeatureNotSupported),
            None => matches!(fault.status, 404 | 405 | 501),
        })
    }

    /// Whether the hub's certificate, rather than the network, is what stopped the connection.
    ///
    /// ```no_run
    /// # fn example(error: ostler_service_sdk::Error) {
    /// if error.is_untrusted_certificate() {
    ///     println!("name the hub's ca.pem in OSTLER_CA_FILE");
    /// }
    /// # }
    /// ```
    pub fn is_untrusted_certificate(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if certificate_error(source.as_ref()).is_some())
    }
}

/// What is wrong with the certificate, if that is the cause. TLS errors hide inside `io::Error`, whose `source` skips the
/// error it wraps.
fn certificate_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(why);
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.and_then(|inner| certificate_error(inner)).or_else(|| certificate_error(error.source()?))
}

/// What helps against a fault that the way to the hub has.
fn advice(source: &(dyn std::error::Error + 'static)) -> &'static str {
    match certificate_error(source) {
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "; in HostName, use the name that the hub's certificate has"
        }
        Some(CertificateError::UnknownIssuer) => {
            "; name the hub's certificate authority by OSTLER_CA_FILE or root_ca_pem (`ostler ca` prints it)"
        }
        _ => "",
    }
}

impl Fault {
    /// The class of this error. The code decides where there is one: 404103 is no missing device.
    ///
    /// ```no_run
    /// # fn example(fault: ostler_service_sdk::Fault) {
    /// use ostler_service_sdk::ErrorKind;
    ///
    /// println!("{}", fault.kind() == ErrorKind::DeviceOffline);
    /// # }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match (self.code, self.status) {
            (Some(ErrorCode::DeviceNotOnline | ErrorCode::DeviceConnectionClosedRemotely), _) => {
                ErrorKind::DeviceOffline
            }
            (Some(ErrorCode::GatewayTimeout), _) => ErrorKind::DeviceTimeout,
            // Not every 403 is about rights.
            (Some(ErrorCode::InvalidMessageExpiryTime), _) => ErrorKind::Invalid,
            (
                Some(
                    ErrorCode::DeviceMaximumQueueDepthExceeded
                    | ErrorCode::DeviceMaximumInflightMethodExceeded
                    | ErrorCode::DeviceMaximumActiveFileUploadLimitExceeded
                    | ErrorCode::IotHubQuotaExceeded,
                ),
                _,
            ) => ErrorKind::Conflict,
            (_, 401 | 403) => ErrorKind::Unauthorized,
            (_, 404) => ErrorKind::NotFound,
            (_, 409) => ErrorKind::Conflict,
            (_, 412) => ErrorKind::PreconditionFailed,
            (_, 408 | 504) => ErrorKind::Timeout,
            (_, 429 | 503) => ErrorKind::Busy,
            (_, 500..=599) => ErrorKind::Server,
            _ => ErrorKind::Invalid,
        }
    }

    /// Reads either of the service's forms, or anything else (service §3.1).
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let report = ErrorReport::parse(body);
        let header = header_text(headers, ERROR_CODE_HEADER);
        let (body_code, number, mut message, tracking_id) = match report {
            Some(report) => (report.code, report.number, report.message, report.tracking_id),
            None => (None, None, foreign_text(body), None),
        };
        let code = body_code.or_else(|| ErrorCode::try_from(header.as_deref()?).ok());
        if message.is_empty() {
            message = status.canonical_reason().unwrap_or("no further text").to_owned();
        }
        Self {
            status: status.as_u16(),
            code,
            number: code.map(ErrorCode::number).or(number),
            name: code.map(|code| code.name().to_owned()).or(header),
            message,
            tracking_id,
            retry_after: retry_after(headers),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.number) {
            (Some(name), Some(number)) => write!(f, "{name} ({number})")?,
            (None, Some(number)) => write!(f, "error {number}")?,
            (Some(name), None) => write!(f, "{name} (HTTP {})", self.status)?,
            (None, None) => write!(f, "HTTP {}", self.status)?,
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Fault {}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Only the delay in seconds; the date form is used by none of the servers spoken to.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    header_text(headers, "retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs)
}

fn foreign_text(body: &[u8]) -> String {
    let shown = &body[..body.len().min(MAX_FOREIGN_TEXT)];
    let text: String =
        String::from_utf8_lossy(shown).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Fault {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Fault::read(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes())
    }

    #[test]
    fn form_a() {
        let fault = read(
            404,
            &[("iothub-errorcode", "DeviceNotFound")],
            r#"{"Message":"ErrorCode:DeviceNotFound;dev-1","ExceptionMessage":"Tracking ID:0a1b-G:3-TimeStamp:05/14/2021 10:02:33"}"#,
        );
        assert_eq!(fault.name.as_deref(), Some("DeviceNotFound"));
        assert_eq!(fault.message, "dev-1");
        assert_eq!(fault.tracking_id.as_deref(), Some("0a1b-G:3"));
        assert_eq!(fault.kind(), ErrorKind::NotFound);
        assert_eq!(fault.to_string(), "DeviceNotFound (404001): dev-1");
    }

    #[test]
    fn form_b() {
        let fault = read(
            404,
            &[("iothub-errorcode", "DeviceNotOnline"), ("retry-after", "7")],
            r#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"0a1b-G:0\",\"message\":\"Timed out.\",\"info\":{},\"timestampUtc\":\"2021-05-14T10:02:33Z\"}","ExceptionMessage":""}"#,
        );
        assert_eq!(
            fault,
            Fault {
                status: 404,
                code: Some(ErrorCode::DeviceNotOnline),
                number: Some(404_103),
                name: Some("DeviceNotOnline".into()),
                message: "Timed out.".into(),
                tracking_id: Some("0a1b-G:0".into()),
                retry_after: Some(Duration::from_secs(7)),
            }
        );
        assert_eq!(fault.kind(), ErrorKind::DeviceOffline);
    }

    #[test]
    fn anything_else_is_shown_in_part() {
        let fault = read(502, &[], "<html>\r\nBad Gateway</html>");
        assert_eq!(fault.to_string(), "HTTP 502: <html>  Bad Gateway</html>");
        assert_eq!(read(503, &[], "").to_string(), "HTTP 503: Service Unavailable");
        assert_eq!(read(400, &[], r#"{"Message":"just text"}"#).message, "just text");
        assert_eq!(read(400, &[], &"x".repeat(9000)).message.len(), MAX_FOREIGN_TEXT);
        assert_eq!(read(400, &[], r#"{"Message":"ErrorCode:ArgumentNull;"}"#).message, "Bad Request");
        let novel = read(400, &[("iothub-errorcode", "Novel")], r#"{"Message":"ErrorCode:Novel;x"}"#);
        assert_eq!(novel.to_string(), "Novel (HTTP 400): x");
        let numbered = read(404, &[], r#"{"Message":"{\"errorCode\":404999,\"message\":\"x\"}"}"#);
        assert_eq!((numbered.code, numbered.number), (None, Some(404_999)));
        assert_eq!(numbered.to_string(), "error 404999: x");
    }

    #[test]
    fn nothing_is_said_twice() {
        let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let errors = [
            Error::from("x".parse::<crate::ConnectionString>().unwrap_err()),
            Error::from("a b".parse::<crate::DeviceId>().unwrap_err()),
            Error::Connect { authority: "h:1".into(), source: timeout.into() },
            Error::Service(Box::new(read(404, &[], ""))),
        ];
        for error in errors {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            assert!(source.is_none_or(|source| !error.to_string().contains(&source)), "{error}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_accepted_is_told_with_what_helps() {
        let connect = |why| {
            let tls = std::io::Error::other(rustls::Error::InvalidCertificate(why));
            Error::Connect { authority: "h:1".into(), source: std::io::Error::other(tls).into() }
        };
        for (why, helps) in [
            (CertificateError::UnknownIssuer, "OSTLER_CA_FILE"),
            (CertificateError::NotValidForName, "HostName"),
            (CertificateError::Expired, "h:1"),
        ] {
            let error = connect(why);
            assert!(error.is_untrusted_certificate());
            assert!(error.to_string().contains(helps), "{error}");
        }
        let network = Error::Connect { authority: "h:1".into(), source: std::io::Error::other("net").into() };
        assert!(!network.is_untrusted_certificate());
        assert_eq!(network.to_string(), "cannot connect to h:1");
    }

    #[test]
    fn a_missing_route_is_no_missing_job() {
        let unknown = |fault: Fault| Error::Service(Box::new(fault)).is_unknown_route();
        assert!(unknown(read(404, &[], "")));
        assert!(unknown(read(404, &[], r#"{"Message":"ErrorCode:GenericNotFound;x"}"#)));
        assert!(!unknown(read(404, &[], r#"{"Message":"ErrorCode:JobNotFound;j"}"#)));
        assert!(!unknown(read(401, &[], "")));
    }

    #[test]
    fn statuses_fall_into_kinds() {
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (401, ErrorKind::Unauthorized),
            (403, ErrorKind::Unauthorized),
            (404, ErrorKind::NotFound),
            (408, ErrorKind::Timeout),
            (409, ErrorKind::Conflict),
            (412, ErrorKind::PreconditionFailed),
            (413, ErrorKind::Invalid),
            (429, ErrorKind::Busy),
            (500, ErrorKind::Server),
            (503, ErrorKind::Busy),
            (504, ErrorKind::Timeout),
        ] {
            assert_eq!(read(status, &[], "").kind(), kind, "{status}");
        }
    }
}
