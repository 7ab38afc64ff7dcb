//! Why an update did not happen: a code for programs, a text for people.
//!
//! Must not know: sockets, files, the hub.
//!
//! Invariant: the name of a [`Code`] never changes its meaning; twins and scripts hold it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest text of a failure in bytes: it stands in a twin, where a value must stay below 4 KiB (device §5).
const MAX_TEXT: usize = 512;

/// What went wrong, as the twin's `firmware.error.code` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Code {
    /// The request holds neither a package nor a URI.
    BadRequest,
    /// The package or its manifest cannot be read.
    BadPackage,
    /// No trusted key signed the manifest.
    BadSignature,
    /// The image is for other hardware.
    WrongHardware,
    /// The image is not newer than what runs, and downgrades are not allowed.
    NotNewer,
    /// What runs is older than the manifest's `minimumVersion`.
    VersionTooOld,
    /// The manifest's `expires` has passed.
    Expired,
    /// The image is larger than this device takes.
    TooLarge,
    /// Another update is running.
    Busy,
    /// The disk has no room for the image.
    DiskFull,
    /// A file could not be read or written.
    Storage,
    /// The server refused the request for good.
    Refused,
    /// The URL cannot be used, or leads from HTTPS to HTTP.
    BadUrl,
    /// The server redirects without end.
    Redirects,
    /// The server could not be reached for too long.
    Unreachable,
    /// What the server sends kept changing during the download.
    Changed,
    /// The server's image is longer or shorter than the manifest says.
    SizeMismatch,
    /// The image is not the one that was signed.
    DigestMismatch,
    /// The application's install hook failed.
    InstallFailed,
    /// The health check did not confirm the new image; the old one was put back.
    Unhealthy,
    /// The new image did not start, or not often enough; the old one was put back.
    BootFailed,
    /// A hook of the application panicked.
    HookPanicked,
    /// The update was called off.
    Cancelled,
}

impl fmt::Display for Code {
    /// The name as it stands in the twin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Why an update did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: what, why, what to do; at most 512 bytes.
    pub text: String,
}

impl Failure {
    /// A failure with a text, which is cut where it is too long for a twin.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        Self { code, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_by_its_name() {
        assert_eq!(Code::DigestMismatch.to_string(), "digestMismatch");
        assert_eq!(serde_json::to_string(&Code::DiskFull).unwrap(), "\"diskFull\"");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let failure = Failure::new(Code::Storage, "é".repeat(400));
        assert!(failure.text.len() <= MAX_TEXT && failure.text.chars().all(|c| c == 'é'));
    }
}
