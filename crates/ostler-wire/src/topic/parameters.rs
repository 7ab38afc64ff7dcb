//! The `?$rid=…&$version=…` at the end of twin and method topics.

use super::TopicError;

/// The last segment of a twin or method topic. `$rid` and `$version` may stand anywhere in it and whatever
/// else it holds is ignored (device §4.1); of two with the same name the first counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Parameters<'a> {
    pub rid: Option<&'a str>,
    pub version: Option<u64>,
}

impl<'a> Parameters<'a> {
    /// Reads `?key=value&…`, or nothing at all.
    #[inline]
    pub fn parse(segment: &'a str) -> Result<Self, TopicError> {
        let mut found = Parameters::default();
        if segment.is_empty() {
            return Ok(found);
        }
        let text = segment.strip_prefix('?').ok_or(TopicError::Unknown)?;
        // Almost always `$rid` stands alone.
        match text.strip_prefix("$rid=") {
            Some(rid) if !rid.is_empty() && memchr::memchr2(b'&', b'/', rid.as_bytes()).is_none() => {
                found.rid = Some(rid);
                return Ok(found);
            }
            _ => {}
        }
        for parameter in text.split('&') {
            match parameter.split_once('=') {
                Some(("$rid", rid)) if found.rid.is_none() => found.rid = Some(request_id(rid)?),
                Some(("$version", version)) if found.version.is_none() => {
                    found.version = Some(decimal(version).ok_or(TopicError::Version)?);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// A request id is opaque and echoed as it is; a `/` in it could not be told from the end of a topic segment.
#[inline]
pub(super) fn request_id(text: &str) -> Result<&str, TopicError> {
    if text.is_empty() || text.contains('/') {
        Err(TopicError::RequestId)
    } else {
        Ok(text)
    }
}

/// A number written in digits alone (`FromStr` would take a `+` as well).
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}
