//! The operations of a [`crate::Client`], grouped as the service groups its routes.
//!
//! Must not know: sockets, tokens, retry waits.
//!
//! Invariant: ids and names enter a path percent-encoded, by [`encode`] and nothing else.

use bytes::Bytes;
use ostler_core::id::EntityId;
use ostler_core::sas::percent_encode;
use serde::Serialize;

use crate::error::Error;

mod bulk;
mod configuration;
mod events;
mod extension;
mod file;
mod job;
mod lines;
mod message;
mod method;
mod query;
mod registry;
mod text;
mod twin;

pub use bulk::{BulkOptions, BulkSummary, ChunkReport, MAX_BULK_ENTRIES};
pub use events::EventStream;
pub use extension::Probe;
pub use file::Files;
pub use job::{JobFilter, JobPage, JobProgress};
pub use lines::LineStream;
pub use message::Messages;
pub use query::{Query, QueryPage};

/// Under which condition a write takes place. [`crate::Twin::if_match`], [`crate::Device::if_match`] and their like make
/// the one that what was read has not changed since.
///
/// ```
/// use ostler_service_sdk::IfMatch;
///
/// assert_eq!(IfMatch::from_etag(Some("MQ==")), IfMatch::Etag("MQ==".to_owned()));
/// assert_eq!(IfMatch::from_etag(None), IfMatch::Any);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever the current version is, as long as there is one.
    Any,
    /// Only if the etag is still this one.
    Etag(String),
}

impl IfMatch {
    /// Conditional on this etag, or unconditional without one.
    ///
    /// ```
    /// use ostler_service_sdk::IfMatch;
    ///
    /// assert_eq!(IfMatch::from_etag(Some("MQ==")), IfMatch::Etag("MQ==".to_owned()));
    /// ```
    pub fn from_etag(etag: Option<&str>) -> Self {
        etag.map_or(Self::Any, |etag| Self::Etag(etag.to_owned()))
    }

    /// Etags go out quoted, as the Azure SDKs send them (service §4).
    fn header(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Etag(etag) => format!("\"{}\"", etag.trim_matches('"')),
        }
    }

    fn is_repeatable(&self) -> bool {
        matches!(self, Self::Any)
    }
}

fn encode(segment: &str) -> String {
    percent_encode(segment)
}

/// `/{root}/{device}` or `/{root}/{device}/modules/{module}`.
fn entity_path(root: &str, id: &EntityId) -> String {
    match id.module() {
        None => format!("/{root}/{}", encode(id.device())),
        Some(module) => format!("/{root}/{}/modules/{}", encode(id.device()), encode(module)),
    }
}

fn json_body<T: Serialize + ?Sized>(value: &T) -> Result<Option<Bytes>, Error> {
    serde_json::to_vec(value)
        .map(|body| Some(body.into()))
        .map_err(|error| Error::Setup(format!("the request cannot be written as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded_segment_by_segment() {
        let path = |id: &str| entity_path("twins", &EntityId::parse(id).unwrap());
        assert_eq!(path("pump-7"), "/twins/pump-7");
        assert_eq!(path("a+b#c%d/$edgeHub"), "/twins/a%2Bb%23c%25d/modules/%24edgeHub");
        assert_eq!(path("q?u"), "/twins/q%3Fu");
    }

    #[test]
    fn etags_are_quoted_once() {
        assert_eq!(IfMatch::Etag("MQ==".into()).header(), "\"MQ==\"");
        assert_eq!(IfMatch::Etag("\"MQ==\"".into()).header(), "\"MQ==\"");
        assert_eq!(IfMatch::from_etag(None).header(), "*");
    }
}
