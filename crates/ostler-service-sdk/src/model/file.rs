//! Files that devices uploaded to the hub.

use serde::{Deserialize, Serialize};

use super::JsonObject;

/// A file that a device uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UploadedFile {
    /// Whose.
    pub device_id: String,
    /// Its name with that device; may have folders in it.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was stored, ISO 8601.
    pub last_modified: String,
    /// Changes with the content.
    pub etag: String,
    /// Of the content, in hex.
    pub sha256: String,
    /// The media type that the device named.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: JsonObject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_the_hub_writes_it() {
        let text = r#"{"deviceId":"d","name":"a/b","size":3,"lastModified":"2030-01-02T03:04:05Z","etag":"0x1","sha256":"00","contentType":null,"later":1}"#;
        let file: UploadedFile = serde_json::from_str(text).unwrap();
        assert_eq!((file.size, file.content_type.as_deref()), (3, None));
        assert_eq!(serde_json::to_string(&file).unwrap(), text);
    }
}
