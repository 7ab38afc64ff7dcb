//! Answers: status, headers and body, made in one place so that every door looks the same.
//!
//! Invariant: every body is JSON with the service's media type, unless a route is for people or for Prometheus.
//! Invariant: every error carries its code's name in a header, which some clients compare with the body (service §3.2).

use super::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use ostler_core::time::Timestamp;
use ostler_wire::rest::error::{ErrorBody, ErrorCode, ErrorForm, TrackingId, ERROR_CODE_HEADER};
use ostler_wire::rest::{etag, InvalidBody};
use std::borrow::Cow;
use std::time::Duration;

/// An answer on its way out.
pub(crate) type Answer = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// JSON with a status.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    content(status, JSON, body)
}

/// 200 and what `write` appends.
pub(crate) fn ok(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Answer {
    let mut body = Vec::with_capacity(capacity);
    write(&mut body);
    json(StatusCode::OK, body)
}

/// A body of any media type.
pub(crate) fn content(status: StatusCode, media_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::Whole(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, media_type);
    answer
}

/// 200 and lines of JSON as they come.
pub(crate) fn ndjson(lines: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    let mut answer = Response::new(Body::Stream(Box::pin(lines), None));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A status alone.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::EMPTY);
    *answer.status_mut() = status;
    answer
}

/// Adds the `ETag` header.
pub(crate) fn with_etag(mut answer: Answer, bare_etag: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(&etag::header_value(bare_etag)) {
        answer.headers_mut().insert(header::ETAG, value);
    }
    answer
}

/// A request that fails, as the client will see it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) text: Cow<'static, str>,
    /// The cause, when it is ours and for the log only.
    pub(crate) detail: Option<String>,
    /// Instead of the code's own status.
    pub(crate) status: Option<StatusCode>,
    /// How long the hub waited in vain.
    pub(crate) waited: Option<Duration>,
    /// A header that belongs to the failure.
    pub(crate) header: Option<Box<(HeaderName, HeaderValue)>>,
    /// The request was not read to its end, so nothing can follow it on this connection.
    pub(crate) closes: bool,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Failure {
        Failure {
            code,
            text: text.into(),
            detail: None,
            status: None,
            waited: None,
            header: None,
            closes: false,
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Failure {
        self.status = Some(status);
        self
    }

    pub(crate) fn with_detail(mut self, detail: String) -> Failure {
        self.detail = Some(detail);
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Failure {
        self.header = Some(Box::new((name, value)));
        self
    }

    pub(crate) fn closing(mut self) -> Failure {
        self.closes = true;
        self
    }

    /// The HTTP status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        let own = || StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.status.unwrap_or_else(own)
    }

    pub(crate) fn into_answer(self, form: ErrorForm, tracking: TrackingId) -> Answer {
        let status = self.status();
        let mut body = Vec::with_capacity(384);
        let text = match (form, self.code) {
            // One client wants the bare id in Form A; in Form B nobody does, and a sentence says more.
            (ErrorForm::B, ErrorCode::DeviceNotFound) => {
                format!("The device {} is not registered.", self.text).into()
            }
            (ErrorForm::B, ErrorCode::ModuleNotFound) => {
                format!("The module {} is not registered.", self.text).into()
            }
            _ => self.text,
        };
        ErrorBody { code: self.code, text, waited: self.waited }.write(form, tracking, &mut body);
        let mut answer = json(status, body);
        let headers = answer.headers_mut();
        headers
            .insert(HeaderName::from_static(ERROR_CODE_HEADER), HeaderValue::from_static(self.code.name()));
        if let Some(header) = self.header {
            let (name, value) = *header;
            headers.insert(name, value);
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

impl From<InvalidBody> for Failure {
    fn from(error: InvalidBody) -> Failure {
        Failure::new(error.code, error.text)
    }
}

/// A tracking id for an error that happens now.
pub(crate) fn tracking(now: Timestamp) -> TrackingId {
    let mut id = [0; 16];
    // Without randomness the id is of no use, but the error is still told.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id);
    TrackingId { id: u128::from_be_bytes(id), at: now }
}
