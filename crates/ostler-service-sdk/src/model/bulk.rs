//! Entries of bulk writes and of export files, and what came of them (service §6).

use serde::{Deserialize, Serialize};

use super::{words, Authentication, Capabilities, Device, JsonObject, Module, Status};

words! {
    /// What a bulk entry does.
    ImportMode {
        /// Creates, or overwrites what is there.
        CreateOrUpdate = "createOrUpdate",
        /// Creates; fails if present.
        Create = "create",
        /// Overwrites; fails if absent.
        Update = "update",
        /// Overwrites if the identity's etag matches.
        UpdateIfMatchEtag = "updateIfMatchETag",
        /// Creates, or overwrites if the identity's etag matches.
        CreateOrUpdateIfMatchEtag = "createOrUpdateIfMatchETag",
        /// Deletes.
        Delete = "delete",
        /// Deletes if the identity's etag matches.
        DeleteIfMatchEtag = "deleteIfMatchETag",
        /// Writes the twin only.
        UpdateTwin = "updateTwin",
        /// Writes the twin only, if its etag matches.
        UpdateTwinIfMatchEtag = "updateTwinIfMatchETag",
    }
}

impl ImportMode {
    /// Whether a second execution does no harm.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self, Self::CreateOrUpdate | Self::Update | Self::UpdateTwin)
    }
}

/// One device or module of a bulk write; also one line of an export file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BulkEntry {
    /// The device.
    pub id: String,
    /// The module, if the entry is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    /// Etag of the identity, for the conditional modes. Spelt with a capital T.
    #[serde(rename = "eTag", skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// What to do; `createOrUpdate` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_mode: Option<ImportMode>,
    /// Whether the device may sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How it proves itself; the hub makes keys when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Etag of the twin, for the conditional mode.
    #[serde(rename = "twinETag", skip_serializing_if = "Option::is_none")]
    pub twin_etag: Option<String>,
    /// Initial or new tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<JsonObject>,
    /// Initial or new desired properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<TwinSections>,
    /// What the device is allowed to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The edge gateway it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// The scopes above its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
    /// Who looks after the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

/// Properties of a bulk entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TwinSections {
    /// Written by back ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<JsonObject>,
    /// Written by the device; a hub may ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<JsonObject>,
}

impl BulkEntry {
    /// An entry about a device.
    ///
    /// ```
    /// use ostler_service_sdk::{BulkEntry, ImportMode, JsonObject};
    ///
    /// let tags = JsonObject::from_iter([("site".to_owned(), "A".into())]);
    /// let entry = BulkEntry { tags: Some(tags), ..BulkEntry::new(ImportMode::Create, "pump-7") };
    /// # assert_eq!(entry.id, "pump-7");
    /// ```
    pub fn new(mode: ImportMode, device_id: impl Into<String>) -> Self {
        Self { id: device_id.into(), import_mode: Some(mode), ..Self::default() }
    }

    pub(crate) fn is_repeatable(&self) -> bool {
        self.import_mode.as_ref().unwrap_or(&ImportMode::CreateOrUpdate).is_repeatable()
    }
}

impl From<Device> for BulkEntry {
    fn from(device: Device) -> Self {
        Self {
            id: device.device_id,
            status: device.status,
            status_reason: device.status_reason,
            authentication: device.authentication,
            capabilities: device.capabilities,
            device_scope: device.device_scope,
            parent_scopes: device.parent_scopes,
            ..Self::default()
        }
    }
}

impl From<Module> for BulkEntry {
    fn from(module: Module) -> Self {
        Self {
            id: module.device_id,
            module_id: Some(module.module_id),
            managed_by: module.managed_by,
            authentication: module.authentication,
            ..Self::default()
        }
    }
}

/// What came of one bulk request. Entries are independent: the others took effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct BulkResult {
    /// Whether every entry succeeded.
    pub is_successful: bool,
    /// The entries that failed.
    #[serde(deserialize_with = "null_is_empty")]
    pub errors: Vec<BulkError>,
    /// The entries that succeeded in part.
    #[serde(deserialize_with = "null_is_empty")]
    pub warnings: Vec<BulkWarning>,
}

/// An entry that failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct BulkError {
    /// The device.
    pub device_id: String,
    /// The module, if the entry was about one.
    pub module_id: Option<String>,
    /// The service's error name; some servers send the number instead.
    #[serde(deserialize_with = "name_or_number")]
    pub error_code: String,
    /// For people.
    pub error_status: Option<String>,
    /// The import mode of the entry.
    pub operation: Option<String>,
}

/// An entry that succeeded in part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct BulkWarning {
    /// The device.
    pub device_id: String,
    /// The service's name for it.
    #[serde(deserialize_with = "name_or_number")]
    pub warning_code: String,
    /// For people.
    pub warning_status: Option<String>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

fn name_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(name) => name,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_uses_the_services_spelling() {
        let mut entry = BulkEntry::new(ImportMode::UpdateIfMatchEtag, "d");
        entry.etag = Some("MQ==".into());
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"id":"d","eTag":"MQ==","importMode":"updateIfMatchETag"}"#
        );
    }

    #[test]
    fn a_result_is_read_in_every_spelling_seen() {
        let result: BulkResult = serde_json::from_str(
            r#"{"isSuccessful":false,"errors":[{"deviceId":"d","moduleId":null,"errorCode":409001,"errorStatus":"x","operation":"create"},{"deviceId":"e","errorCode":"DeviceNotFound"}],"warnings":null}"#,
        )
        .unwrap();
        assert_eq!(result.errors[0].error_code, "409001");
        assert_eq!(result.errors[1].error_code, "DeviceNotFound");
        assert!(result.warnings.is_empty());
    }
}
