//! Device and module identities, and their counts (service §5, §7).

use std::fmt;

use serde::{Deserialize, Serialize};

use ostler_core::id::EntityId;

use super::{words, JsonObject, KeySlot};
use crate::ops::IfMatch;

words! {
    /// Whether a device may sign in.
    Status {
        /// It may.
        Enabled = "enabled",
        /// It may not; its live connection was dropped.
        Disabled = "disabled",
    }
}

words! {
    /// Whether a device holds a connection right now.
    ConnectionState {
        /// It does.
        Connected = "Connected",
        /// It does not.
        Disconnected = "Disconnected",
    }
}

words! {
    /// How an identity proves itself.
    AuthenticationType {
        /// By tokens signed with a symmetric key.
        Sas = "sas",
        /// By a certificate whose thumbprint is registered.
        SelfSigned = "selfSigned",
        /// By a certificate that a registered authority issued to its id.
        CertificateAuthority = "certificateAuthority",
        /// Not at all; some modules managed by the edge runtime.
        None = "none",
    }
}

/// A device as the registry knows it. Written back whole on update; read-only fields are ignored by the hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// 1–128 characters, case-sensitive; cannot be changed.
    pub device_id: String,
    /// Made by the hub; differs when an id was deleted and created again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<String>,
    /// Changes with each write of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Read-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<ConnectionState>,
    /// Enabled unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Up to 128 characters for people.
    pub status_reason: Option<String>,
    /// Read-only, ISO 8601; `0001-01-01T00:00:00Z` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_state_updated_time: Option<String>,
    /// Read-only, ISO 8601; `0001-01-01T00:00:00Z` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_updated_time: Option<String>,
    /// Read-only, ISO 8601; `0001-01-01T00:00:00Z` is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<String>,
    /// Read-only; messages waiting for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_message_count: Option<u64>,
    /// Absent on creation: the hub makes two symmetric keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// What the device is allowed to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The edge gateway it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// The scopes above its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Device {
    /// A device to create: enabled, keys made by the hub.
    ///
    /// ```
    /// use ostler_service_sdk::{Device, Status};
    ///
    /// let off = Device { status: Some(Status::Disabled), ..Device::new("pump-7") };
    /// assert_eq!(off.device_id, "pump-7");
    /// ```
    pub fn new(device_id: impl Into<String>) -> Self {
        Self {
            device_id: device_id.into(),
            generation_id: None,
            etag: None,
            connection_state: None,
            status: None,
            status_reason: None,
            connection_state_updated_time: None,
            status_updated_time: None,
            last_activity_time: None,
            cloud_to_device_message_count: None,
            authentication: None,
            capabilities: None,
            device_scope: None,
            parent_scopes: Vec::new(),
            extra: JsonObject::new(),
        }
    }
}

impl Device {
    /// What the device signs in with, as its program wants to be told: [`Authentication::connection_string`] with the
    /// primary key.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::Device;
    ///
    /// let pump = hub.create_device(&Device::new("pump-7")).await?;
    /// println!("{}", pump.connection_string(hub.hostname()).unwrap_or_default());
    /// # Ok(()) }
    /// ```
    pub fn connection_string(&self, hostname: &str) -> Option<String> {
        let id = EntityId::parse(&self.device_id).ok()?;
        self.authentication.as_ref()?.connection_string(hostname, &id, KeySlot::Primary)
    }

    /// The condition that a write finds this very state of the identity.
    ///
    /// ```
    /// use ostler_service_sdk::{Device, IfMatch};
    ///
    /// let read = Device { etag: Some("MQ==".into()), ..Device::new("pump-7") };
    /// assert_eq!(read.if_match(), IfMatch::Etag("MQ==".into()));
    /// ```
    pub fn if_match(&self) -> IfMatch {
        IfMatch::from_etag(self.etag.as_deref())
    }
}

/// A module of a device.
///
/// ```no_run
/// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
/// use ostler_service_sdk::Module;
///
/// let valve = hub.create_module(&Module::new("pump-7", "valve")).await?;
/// println!("{}", valve.connection_string(hub.hostname()).unwrap_or_default());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// The device it belongs to.
    pub device_id: String,
    /// Unique within the device; the rules of device ids apply.
    pub module_id: String,
    /// Who looks after it; free text.
    pub managed_by: Option<String>,
    /// Made by the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<String>,
    /// Changes with each write of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Read-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<ConnectionState>,
    /// Read-only, ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_state_updated_time: Option<String>,
    /// Read-only, ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<String>,
    /// Read-only; messages waiting for the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_message_count: Option<u64>,
    /// Absent on creation: the hub makes two symmetric keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Module {
    /// A module to create: keys made by the hub.
    ///
    /// ```
    /// use ostler_service_sdk::Module;
    ///
    /// let valve = Module { managed_by: Some("plant".into()), ..Module::new("pump-7", "valve") };
    /// assert_eq!(valve.module_id, "valve");
    /// ```
    pub fn new(device_id: impl Into<String>, module_id: impl Into<String>) -> Self {
        Self {
            device_id: device_id.into(),
            module_id: module_id.into(),
            managed_by: None,
            generation_id: None,
            etag: None,
            connection_state: None,
            connection_state_updated_time: None,
            last_activity_time: None,
            cloud_to_device_message_count: None,
            authentication: None,
            extra: JsonObject::new(),
        }
    }
}

impl Module {
    /// What the module signs in with: [`Authentication::connection_string`] with the primary key.
    ///
    /// ```
    /// use ostler_service_sdk::{Authentication, Module};
    ///
    /// let keys = Authentication::symmetric(Some("AAE=".into()), None);
    /// let valve = Module { authentication: Some(keys), ..Module::new("pump-7", "valve") };
    /// assert_eq!(
    ///     valve.connection_string("hub.example").as_deref(),
    ///     Some("HostName=hub.example;DeviceId=pump-7;ModuleId=valve;SharedAccessKey=AAE=")
    /// );
    /// ```
    pub fn connection_string(&self, hostname: &str) -> Option<String> {
        let id = EntityId::parse(&format!("{}/{}", self.device_id, self.module_id)).ok()?;
        self.authentication.as_ref()?.connection_string(hostname, &id, KeySlot::Primary)
    }

    /// The condition that a write finds this very state of the identity.
    ///
    /// ```
    /// use ostler_service_sdk::{IfMatch, Module};
    ///
    /// assert_eq!(Module::new("pump-7", "valve").if_match(), IfMatch::Any);
    /// ```
    pub fn if_match(&self) -> IfMatch {
        IfMatch::from_etag(self.etag.as_deref())
    }
}

/// How an identity proves itself, with what that needs.
///
/// ```
/// use ostler_service_sdk::{Authentication, Device};
///
/// let by_certificate =
///     Device { authentication: Some(Authentication::certificate_authority()), ..Device::new("pump-7") };
/// # let _ = by_certificate;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// Inferred by the hub when absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuthenticationType>,
    /// For [`AuthenticationType::Sas`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
    /// For [`AuthenticationType::SelfSigned`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509_thumbprint: Option<X509Thumbprint>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Authentication {
    /// Two symmetric keys, base64 of 16 to 64 bytes; a missing one is made by the hub.
    ///
    /// ```
    /// use ostler_service_sdk::Authentication;
    ///
    /// let keys = Authentication::symmetric(Some("AAECAwQFBgcICQoLDA0ODw==".into()), None);
    /// assert!(keys.primary_key().is_some() && keys.secondary_key().is_none());
    /// ```
    pub fn symmetric(primary: Option<String>, secondary: Option<String>) -> Self {
        Self {
            kind: Some(AuthenticationType::Sas),
            symmetric_key: Some(SymmetricKey { primary_key: primary, secondary_key: secondary }),
            ..Self::default()
        }
    }

    /// Thumbprints of one or two certificates, 40 (SHA-1) or 64 (SHA-256) hex digits.
    ///
    /// ```
    /// use ostler_service_sdk::{Authentication, AuthenticationType};
    ///
    /// let certificate = Authentication::self_signed(Some("ab".repeat(32)), None);
    /// assert_eq!(certificate.kind, Some(AuthenticationType::SelfSigned));
    /// ```
    pub fn self_signed(primary: Option<String>, secondary: Option<String>) -> Self {
        Self {
            kind: Some(AuthenticationType::SelfSigned),
            x509_thumbprint: Some(X509Thumbprint {
                primary_thumbprint: primary,
                secondary_thumbprint: secondary,
            }),
            ..Self::default()
        }
    }

    /// A certificate that a registered authority issued to the device's id.
    ///
    /// ```
    /// use ostler_service_sdk::{Authentication, AuthenticationType};
    ///
    /// assert_eq!(Authentication::certificate_authority().kind, Some(AuthenticationType::CertificateAuthority));
    /// ```
    pub fn certificate_authority() -> Self {
        Self { kind: Some(AuthenticationType::CertificateAuthority), ..Self::default() }
    }

    /// `HostName=…;DeviceId=…;SharedAccessKey=…` as Azure writes it, or with `x509=true` for an identity that shows a
    /// certificate (device §1.1). `None` for an identity that has neither, or lacks this key.
    ///
    /// ```
    /// use ostler_service_sdk::{Authentication, EntityId, IdError, KeySlot};
    ///
    /// let id: EntityId = "pump-7".parse()?;
    /// assert_eq!(
    ///     Authentication::certificate_authority().connection_string("hub.example", &id, KeySlot::Primary),
    ///     Some("HostName=hub.example;DeviceId=pump-7;x509=true".to_owned())
    /// );
    /// # Ok::<(), IdError>(())
    /// ```
    pub fn connection_string(&self, hostname: &str, id: &EntityId, slot: KeySlot) -> Option<String> {
        let module = id.module().map_or_else(String::new, |module| format!(";ModuleId={module}"));
        let key = match slot {
            KeySlot::Primary => self.primary_key(),
            KeySlot::Secondary => self.secondary_key(),
        };
        let proof = match (key, &self.kind) {
            (Some(key), _) => format!("SharedAccessKey={key}"),
            (None, Some(AuthenticationType::SelfSigned | AuthenticationType::CertificateAuthority)) => {
                "x509=true".to_owned()
            }
            (None, _) => return None,
        };
        Some(format!("HostName={hostname};DeviceId={}{module};{proof}", id.device()))
    }

    /// The primary symmetric key, if the identity has one.
    ///
    /// ```
    /// use ostler_service_sdk::Authentication;
    ///
    /// assert_eq!(Authentication::certificate_authority().primary_key(), None);
    /// ```
    pub fn primary_key(&self) -> Option<&str> {
        self.symmetric_key.as_ref().and_then(|keys| keys.primary_key.as_deref())
    }

    /// The secondary symmetric key, if the identity has one.
    ///
    /// ```
    /// use ostler_service_sdk::Authentication;
    ///
    /// assert_eq!(Authentication::certificate_authority().secondary_key(), None);
    /// ```
    pub fn secondary_key(&self) -> Option<&str> {
        self.symmetric_key.as_ref().and_then(|keys| keys.secondary_key.as_deref())
    }
}

/// Two keys, so that one can be rotated while the other serves. `Debug` hides them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKey {
    /// Base64; none or empty makes the hub generate it.
    pub primary_key: Option<String>,
    /// Base64; none or empty makes the hub generate it.
    pub secondary_key: Option<String>,
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |key: &Option<String>| key.as_ref().map(|_| "…");
        f.debug_struct("SymmetricKey")
            .field("primary_key", &hidden(&self.primary_key))
            .field("secondary_key", &hidden(&self.secondary_key))
            .finish()
    }
}

/// Thumbprints of the certificates a self-signed identity may show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct X509Thumbprint {
    /// Hex digits.
    pub primary_thumbprint: Option<String>,
    /// Hex digits.
    pub secondary_thumbprint: Option<String>,
}

/// What a device is allowed to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Whether it is an edge gateway.
    #[serde(default)]
    pub iot_edge: bool,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// How many devices the registry holds. Modules do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatistics {
    /// All of them.
    pub total_device_count: u64,
    /// Those that may sign in.
    pub enabled_device_count: u64,
    /// Those that may not.
    pub disabled_device_count: u64,
}

/// How many devices hold a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatistics {
    /// Devices connected right now.
    pub connected_device_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_survives_a_round_trip_with_what_is_unknown() {
        let text = r#"{"deviceId":"d","etag":"MQ==","status":"quarantined","statusReason":null,"cloudToDeviceMessageCount":3,"authentication":{"type":"sas","symmetricKey":{"primaryKey":"AA==","secondaryKey":"BB=="},"later":1},"capabilities":{"iotEdge":false},"attributes":{"weight":1.50,"id":18446744073709551617}}"#;
        let device: Device = serde_json::from_str(text).unwrap();
        assert_eq!(device.status, Some(Status::Other("quarantined".into())));
        assert_eq!(device.cloud_to_device_message_count, Some(3));
        assert_eq!(serde_json::to_string(&device).unwrap(), text);
    }

    #[test]
    fn a_new_device_says_no_more_than_it_must() {
        assert_eq!(
            serde_json::to_string(&Device::new("d")).unwrap(),
            r#"{"deviceId":"d","statusReason":null}"#
        );
    }

    #[test]
    fn a_connection_string_as_azure_writes_it() {
        let keys = Authentication::symmetric(Some("AAE=".into()), Some("AAI=".into()));
        let write = |id: &str, authentication: &Authentication, slot| {
            authentication.connection_string("h", &EntityId::parse(id).unwrap(), slot)
        };
        assert_eq!(
            write("d", &keys, KeySlot::Primary).unwrap(),
            "HostName=h;DeviceId=d;SharedAccessKey=AAE="
        );
        assert_eq!(
            write("d/m", &keys, KeySlot::Secondary).unwrap(),
            "HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=AAI="
        );
        let certificate = Authentication::certificate_authority();
        assert_eq!(write("d", &certificate, KeySlot::Primary).unwrap(), "HostName=h;DeviceId=d;x509=true");
        assert_eq!(write("d", &Authentication::default(), KeySlot::Primary), None);
    }

    #[test]
    fn debug_hides_keys() {
        let authentication = Authentication::symmetric(Some("c2VjcmV0".into()), None);
        assert!(!format!("{authentication:?}").contains("c2VjcmV0"));
    }
}
