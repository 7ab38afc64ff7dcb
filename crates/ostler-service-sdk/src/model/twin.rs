//! Twins and what may be written of them (service §8).

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::identity::X509Thumbprint;
use crate::ops::IfMatch;

use super::{AuthenticationType, Capabilities, ConnectionState, JsonObject, Status};

/// The whole twin of a device or module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Twin {
    /// The device.
    pub device_id: String,
    /// The module, for a module's twin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// Changes with each write of the twin, the device's reports included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The etag of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_etag: Option<String>,
    /// Counts the writes of the twin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether the device may sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// ISO 8601. A twin spells it so; an identity says `statusUpdatedTime` (service §8.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_update_time: Option<String>,
    /// Whether the device holds a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<ConnectionState>,
    /// ISO 8601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<String>,
    /// Messages waiting for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_message_count: Option<u64>,
    /// How the identity proves itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_type: Option<AuthenticationType>,
    /// The thumbprints of a self-signed identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509_thumbprint: Option<X509Thumbprint>,
    /// What the device is allowed to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Seen by back ends only. Null and absent are the same as empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<JsonObject>,
    /// What the device should be and what it says it is.
    #[serde(default)]
    pub properties: Properties,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Twin {
    /// The condition that a write finds this very state of the twin.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// # use ostler_service_sdk::{ErrorKind, TwinPatch};
    /// let pump = "pump-7".parse()?;
    /// let twin = hub.twin(&pump).await?;
    /// let patch = TwinPatch::desired(serde_json::json!({ "interval": 30 }));
    /// match hub.patch_twin(&pump, &patch, twin.if_match()).await {
    ///     Err(error) if error.kind() == ErrorKind::PreconditionFailed => println!("somebody was faster"),
    ///     result => println!("now at version {:?}", result?.version),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn if_match(&self) -> IfMatch {
        IfMatch::from_etag(self.etag.as_deref())
    }

    /// What the device reported, as a type of the caller's. `$metadata` and `$version` are members like all others.
    ///
    /// ```
    /// # fn example(twin: ostler_service_sdk::Twin) -> Result<(), serde_json::Error> {
    /// #[derive(serde::Deserialize)]
    /// #[serde(rename_all = "camelCase")]
    /// struct Reported {
    ///     last_reboot: Option<String>,
    /// }
    /// println!("last reboot: {:?}", twin.reported_as::<Reported>()?.last_reboot);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the properties are not of the type.
    pub fn reported_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.properties.reported)
    }

    /// What back ends desire, as a type of the caller's; see [`Twin::reported_as`].
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// #[derive(serde::Deserialize)]
    /// struct Desired {
    ///     interval: Option<u64>,
    /// }
    /// let twin = hub.twin(&"pump-7".parse()?).await?;
    /// println!("{:?}", twin.desired_as::<Desired>().map(|desired| desired.interval).unwrap_or_default());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the properties are not of the type.
    pub fn desired_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.properties.desired)
    }
}

/// The two property sections, each with `$metadata` and `$version`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// Written by back ends.
    #[serde(default)]
    pub desired: JsonObject,
    /// Written by the device.
    #[serde(default)]
    pub reported: JsonObject,
}

/// What a back end may write of a twin. In a patch `null` deletes; in a replacement an absent section becomes empty.
///
/// ```
/// use ostler_service_sdk::TwinPatch;
/// use serde_json::json;
///
/// let both = TwinPatch { tags: Some(json!({ "site": "A" })), desired: Some(json!({ "floor": null })) };
/// assert_eq!(
///     serde_json::to_string(&both).unwrap(),
///     r#"{"tags":{"site":"A"},"properties":{"desired":{"floor":null}}}"#
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TwinPatch {
    /// An object to merge, or null to clear all tags.
    pub tags: Option<Value>,
    /// An object to merge, or null to clear all desired properties.
    pub desired: Option<Value>,
}

impl TwinPatch {
    /// Writes tags only.
    ///
    /// ```
    /// let patch = ostler_service_sdk::TwinPatch::tags(serde_json::json!({ "site": "A", "old": null }));
    /// assert!(patch.desired.is_none());
    /// ```
    pub fn tags(tags: impl Into<Value>) -> Self {
        Self { tags: Some(tags.into()), desired: None }
    }

    /// Writes desired properties only.
    ///
    /// ```
    /// let patch = ostler_service_sdk::TwinPatch::desired(serde_json::json!({ "interval": 30 }));
    /// assert!(patch.tags.is_none());
    /// ```
    pub fn desired(desired: impl Into<Value>) -> Self {
        Self { tags: None, desired: Some(desired.into()) }
    }
}

impl Serialize for TwinPatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Desired<'a> {
            desired: &'a Value,
        }
        let mut map = serializer.serialize_map(None)?;
        if let Some(tags) = &self.tags {
            map.serialize_entry("tags", tags)?;
        }
        if let Some(desired) = &self.desired {
            map.serialize_entry("properties", &Desired { desired })?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_says_only_what_it_changes() {
        let text = |patch: TwinPatch| serde_json::to_string(&patch).unwrap();
        assert_eq!(text(TwinPatch::default()), "{}");
        assert_eq!(text(TwinPatch::tags(Value::Null)), r#"{"tags":null}"#);
        assert_eq!(
            text(TwinPatch::desired(json!({"interval": 30}))),
            r#"{"properties":{"desired":{"interval":30}}}"#
        );
    }

    #[test]
    fn a_twin_keeps_numbers_and_order() {
        let text = r#"{"deviceId":"d","version":2,"tags":{"z":1.0,"a":9007199254740993},"properties":{"desired":{"b":1e3,"$version":1},"reported":{}},"modelId":""}"#;
        let twin: Twin = serde_json::from_str(text).unwrap();
        let written = serde_json::to_string(&twin).unwrap();
        assert!(written.contains(r#""tags":{"z":1.0,"a":9007199254740993}"#), "{written}");
        assert_eq!(twin.extra["modelId"], "");
    }
}
