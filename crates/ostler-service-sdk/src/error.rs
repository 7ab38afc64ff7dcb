//! What can go wrong with a call, typed, and how the service's error bodies are read (service §3).
//!
//! Must not know: what is retried, which operation failed.
//!
//! Invariant: a `Display` never repeats its source and never shows a key or a token.
//! Invariant: any bytes a server sends as an error become a [`Fault`]; reading one cannot fail.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

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
    #[error("cannot connect to {authority}")]
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
    ConnectionString(#[from] ConnectionStringError),
    /// The client was set up in a way that cannot work.
    #[error("{0}")]
    Setup(String),
}

/// Sorts errors by what a caller does about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The device, module, policy or other thing does not exist.
    NotFound,
    /// It exists already, or is in a state that forbids the operation (409).
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
    /// The service's error number, such as 404103, if the answer carried one.
    pub code: Option<u32>,
    /// The service's error name, such as `DeviceNotOnline`, if the answer carried one.
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
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Service(fault) => fault.kind(),
            Self::Connect { .. } | Self::Interrupted { .. } => ErrorKind::Unreachable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::UnexpectedAnswer { .. } => ErrorKind::Protocol,
            Self::ConnectionString(_) | Self::Setup(_) => ErrorKind::Setup,
        }
    }

    /// The hub's own words, when it was the hub that refused.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Service(fault) => Some(fault),
            _ => None,
        }
    }

    /// Whether the hub's certificate, rather than the network, is what stopped the connection.
    pub fn is_untrusted_certificate(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = match self {
            Self::Connect { source, .. } => Some(source.as_ref()),
            _ => None,
        };
        while let Some(error) = source {
            if certificate_error(error) {
                return true;
            }
            source = error.source();
        }
        false
    }
}

/// TLS errors hide inside `io::Error`, whose `source` skips the error it wraps.
fn certificate_error(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
        .is_some_and(|inner| certificate_error(inner))
}

impl Fault {
    /// The class of this error. The number decides where there is one: 404103 is no missing device.
    pub fn kind(&self) -> ErrorKind {
        match (self.code, self.name.as_deref()) {
            (Some(404_103 | 404_104), _) | (None, Some("DeviceNotOnline")) => {
                return ErrorKind::DeviceOffline
            }
            (Some(504_101), _) | (None, Some("GatewayTimeout")) => return ErrorKind::DeviceTimeout,
            _ => {}
        }
        match self.status {
            401 | 403 => ErrorKind::Unauthorized,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            412 => ErrorKind::PreconditionFailed,
            408 | 504 => ErrorKind::Timeout,
            429 | 503 => ErrorKind::Busy,
            500..=599 => ErrorKind::Server,
            _ => ErrorKind::Invalid,
        }
    }

    /// Reads Form A, Form B, or anything else (service §3.1).
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let mut fault = Self {
            status: status.as_u16(),
            code: None,
            name: header_text(headers, "iothub-errorcode"),
            message: String::new(),
            tracking_id: None,
            retry_after: retry_after(headers),
        };
        let document: Option<Value> = serde_json::from_slice(body).ok();
        match document.as_ref().and_then(|document| document["Message"].as_str()) {
            Some(message) => {
                fault.read_message(message);
                let exception = document.as_ref().and_then(|document| document["ExceptionMessage"].as_str());
                fault.tracking_id = fault.tracking_id.take().or_else(|| exception.and_then(tracking_id));
            }
            None => fault.message = foreign_text(body),
        }
        if fault.code.is_none() {
            fault.code = header_text(headers, "iothub-statuscode").and_then(|code| code.parse().ok());
        }
        if fault.message.is_empty() {
            fault.message = status.canonical_reason().unwrap_or("no further text").to_owned();
        }
        fault
    }

    fn read_message(&mut self, message: &str) {
        if let Ok(Value::Object(form_b)) = serde_json::from_str(message) {
            let text = |key: &str| form_b.get(key).and_then(Value::as_str).map(str::to_owned);
            self.code =
                form_b.get("errorCode").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
            self.tracking_id = text("trackingId");
            self.message = text("message").unwrap_or_default();
            return;
        }
        let Some(rest) = message.strip_prefix("ErrorCode:") else {
            self.message = message.to_owned();
            return;
        };
        let (name, text) = rest.split_once(';').unwrap_or((rest, ""));
        self.name = Some(name.to_owned());
        self.message = text.to_owned();
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.code) {
            (Some(name), Some(code)) => write!(f, "{name} ({code})")?,
            (Some(name), None) => write!(f, "{name} (HTTP {})", self.status)?,
            (None, Some(code)) => write!(f, "error {code}")?,
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

fn tracking_id(text: &str) -> Option<String> {
    let id = text.strip_prefix("Tracking ID:")?;
    let id = id.split("-TimeStamp:").next().unwrap_or(id);
    (!id.is_empty()).then(|| id.to_owned())
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
        assert_eq!(fault.to_string(), "DeviceNotFound (HTTP 404): dev-1");
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
                code: Some(404_103),
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
        assert_eq!(read(400, &[], r#"{"Message":"ErrorCode:ArgumentNull"}"#).message, "Bad Request");
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
