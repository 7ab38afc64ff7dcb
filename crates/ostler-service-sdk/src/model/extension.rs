//! Documents of Ostler's own routes under `/ostler/v1/`. Azure IoT Hub has none of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{words, JsonObject};

words! {
    /// What a live event is about.
    EventKind {
        /// A device or module came or went.
        Connection = "connection",
        /// A twin was written.
        Twin = "twin",
        /// An identity was created, changed or deleted.
        Registry = "registry",
        /// A method was called or answered.
        Method = "method",
        /// A device sent a message.
        Telemetry = "telemetry",
        /// A device uploaded a file, or gave an upload up.
        File = "file",
        /// A sign-in was refused.
        Auth = "auth",
        /// This listener was too slow and missed events.
        Lagged = "lagged",
    }
}

/// Something that happened in the hub just now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Event {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When, ISO 8601 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The device, unless the event has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The module, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// All other members, which depend on the kind.
    #[serde(flatten)]
    pub details: JsonObject,
}

/// Which events to listen to. Empty lists mean all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only these kinds.
    pub kinds: Vec<EventKind>,
    /// Only this device.
    pub device_id: Option<String>,
}

words! {
    /// How much a finding matters.
    Severity {
        /// As it should be.
        Ok = "ok",
        /// Worth knowing.
        Info = "info",
        /// May hurt.
        Warning = "warning",
        /// Hurts.
        Error = "error",
    }
}

/// What the hub knows about why a device is or is not online.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Diagnosis {
    /// The device.
    pub device_id: String,
    /// Whether the hub knows it at all.
    #[serde(default)]
    pub registered: bool,
    /// Whether it is connected now.
    #[serde(default)]
    pub connected: bool,
    /// One sentence that answers the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What was looked at and what it showed, most telling first.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// All other members.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// All other members.
    #[serde(flatten)]
    pub extra: JsonObject,
}

words! {
    /// A right of a shared access policy (service §2.1).
    Right {
        /// Reads identities.
        RegistryRead = "RegistryRead",
        /// Creates, changes and deletes identities; implies reading.
        RegistryWrite = "RegistryWrite",
        /// Uses twins, methods and the event stream.
        ServiceConnect = "ServiceConnect",
        /// Signs in as any device.
        DeviceConnect = "DeviceConnect",
    }
}

/// A shared access policy. `Debug` hides its keys.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Up to 64 characters.
    pub name: String,
    /// What it allows.
    #[serde(default)]
    pub rights: Vec<Right>,
    /// Base64; absent on creation makes the hub generate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<String>,
    /// Base64; absent on creation makes the hub generate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_key: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Policy {
    /// A policy to create; the hub makes its keys.
    ///
    /// ```
    /// use ostler_service_sdk::{Policy, Right};
    ///
    /// let reports = Policy::new("reports", vec![Right::RegistryRead, Right::ServiceConnect]);
    /// # assert!(reports.primary_key.is_none());
    /// ```
    pub fn new(name: impl Into<String>, rights: Vec<Right>) -> Self {
        Self { name: name.into(), rights, primary_key: None, secondary_key: None, extra: JsonObject::new() }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// Which of two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySlot {
    /// The first.
    Primary,
    /// The second.
    Secondary,
}

impl KeySlot {
    /// The word on the wire.
    ///
    /// ```
    /// assert_eq!(ostler_service_sdk::KeySlot::Secondary.as_str(), "secondary");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// An authority whose certificates devices may sign in with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CertificateAuthority {
    /// Chosen by the operator.
    pub name: String,
    /// The certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// All other members, such as subject and validity.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// What a backup wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackupReport {
    /// The folder on the hub's machine.
    #[serde(default)]
    pub path: String,
    /// How many records it holds.
    #[serde(default)]
    pub records: u64,
    /// All other members.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// How the hub is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HubStatus {
    /// Members as the hub sent them, in its order.
    pub members: JsonObject,
}

impl HubStatus {
    /// A member by name.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{:?}", hub.status().await?.get("version"));
    /// # Ok(()) }
    /// ```
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_what_belongs_to_its_kind() {
        let text =
            r#"{"type":"telemetry","time":"2026-01-01T00:00:00.0000000Z","deviceId":"d","body":{"t":21.50}}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.kind, EventKind::Telemetry);
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
    }

    #[test]
    fn debug_hides_policy_keys() {
        let policy: Policy =
            serde_json::from_str(r#"{"name":"p","rights":["ServiceConnect"],"primaryKey":"c2VjcmV0"}"#)
                .unwrap();
        assert!(!format!("{policy:?}").contains("c2VjcmV0"));
    }
}
