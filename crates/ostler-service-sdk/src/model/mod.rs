//! The service's JSON documents as types (service §5–10).
//!
//! Must not know: HTTP, routes.
//!
//! Invariant: what a newer hub adds is kept in `extra` and sent back; a word nobody knew yet is kept in `Other`.
//! Invariant: numbers keep their text and objects their order (`serde_json` with `arbitrary_precision` and
//! `preserve_order`).

mod bulk;
mod configuration;
mod extension;
mod file;
mod identity;
mod job;
mod message;
mod method;
mod query;
mod twin;

pub use bulk::{BulkEntry, BulkError, BulkResult, BulkWarning, ImportMode, TwinSections};
pub use configuration::{
    Configuration, ConfigurationContent, ConfigurationMetrics, ConfigurationQueries, ConfigurationQueryErrors,
};
pub use extension::{
    BackupReport, CertificateAuthority, Diagnosis, Event, EventFilter, EventKind, Finding, HubStatus,
    KeySlot, Policy, Right, Severity,
};
pub use file::UploadedFile;
pub use identity::{
    Authentication, AuthenticationType, Capabilities, ConnectionState, Device, DeviceStatistics, Module,
    ServiceStatistics, Status, SymmetricKey, X509Thumbprint,
};
pub use job::{
    DeviceJob, DeviceJobError, DeviceJobOutcome, DeviceJobStatus, DryRun, DryRunWave, Gate, Job,
    JobStatistics, JobStatus, JobType, JobWork, NewJob, Offline, Rollout, WaveProgress, Waves,
};
pub use message::{Ack, CloudMessage, FeedbackBatch, FeedbackRecord, FeedbackStatus, Purged, SentMessage};
pub use method::{MethodCall, MethodResult};
pub use query::ItemType;
pub use twin::{Properties, Twin, TwinPatch};

/// A JSON object with exact numbers and its keys in order.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// Declares an enum of wire words that keeps words it does not know.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            /// A word this version does not know.
            Other(String),
        }

        impl $name {
            /// The word on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                $(if word.eq_ignore_ascii_case($word) { return Self::$variant; })+
                Self::Other(word.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Ok(Self::from(word.as_ref()))
            }
        }
    };
}
use words;
