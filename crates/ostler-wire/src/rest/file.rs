//! Shapes of file upload (device §8.1) and of the routes that show uploaded files.
//!
//! Must not know where files are kept.

use super::fields::{Fields, InvalidBody};
use ostler_core::json::ObjectWriter;
use ostler_core::time::Timestamp;

/// How a device says its upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadEnd {
    /// The upload.
    pub correlation_id: String,
    /// Whether it succeeded.
    pub success: bool,
    /// The storage's status, as the device saw it.
    pub status: Option<i64>,
    /// The device's words, shortened to [`DESCRIPTION_CHARS`].
    pub description: Option<String>,
}

/// Characters of a description that are kept.
pub const DESCRIPTION_CHARS: usize = 1024;

/// Reads the body of an upload's start, `{"blobName": …}`.
///
/// # Errors
/// [`InvalidBody`] names the member.
pub fn read_upload_start(body: &[u8]) -> Result<String, InvalidBody> {
    let name = Fields::of_body(body)?.text("blobName")?;
    Ok(name.ok_or_else(|| InvalidBody::missing("blobName"))?.into_owned())
}

/// Reads the body of an upload's end. The correlation id may stand in the path instead (device §8.1).
///
/// # Errors
/// [`InvalidBody`] names the member.
pub fn read_upload_end(body: &[u8], in_path: Option<&str>) -> Result<UploadEnd, InvalidBody> {
    let fields = Fields::of_body(body)?;
    let in_body = fields.text("correlationId")?;
    let correlation_id = match (in_path, in_body.as_deref()) {
        (Some(path), Some(body)) if path != body => {
            return Err(InvalidBody::argument("the correlationId of the body is not that of the path"));
        }
        (Some(id), _) | (None, Some(id)) => id.to_owned(),
        (None, None) => return Err(InvalidBody::missing("correlationId")),
    };
    let cut = |text: &str| text.chars().take(DESCRIPTION_CHARS).collect();
    Ok(UploadEnd {
        correlation_id,
        success: fields.boolean("isSuccess")?.ok_or_else(|| InvalidBody::missing("isSuccess"))?,
        status: fields.integer("statusCode")?,
        description: fields.text("statusDescription")?.as_deref().map(cut),
    })
}

/// Where a device sends its file.
#[derive(Clone, Copy, Debug)]
pub struct UploadPlace<'a> {
    /// The upload.
    pub correlation_id: &'a str,
    /// Name, and port unless it is 443.
    pub host: &'a str,
    /// The first part of the path.
    pub container: &'a str,
    /// The rest of the path: `{device}/{name}`.
    pub blob: &'a str,
    /// The query string, with its `?`.
    pub sas: &'a str,
}

/// Appends the answer to an upload's start.
pub fn write_upload_place(place: &UploadPlace<'_>, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("correlationId", place.correlation_id).string("hostName", place.host);
    object.string("containerName", place.container).string("blobName", place.blob);
    object.string("sasToken", place.sas);
    object.end();
}

/// A file in a list.
#[derive(Clone, Copy, Debug)]
pub struct FileRow<'a> {
    /// Whose.
    pub device: &'a str,
    /// Its name with that device.
    pub name: &'a str,
    /// Bytes.
    pub size: u64,
    /// When it was stored.
    pub modified: Timestamp,
    /// Changes with the content; without quotes.
    pub etag: &'a str,
    /// Of the content.
    pub sha256: &'a [u8; 32],
    /// The media type that the device named.
    pub content_type: Option<&'a str>,
}

/// Appends a file.
pub fn write_file(file: &FileRow<'_>, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    object.string("deviceId", file.device).string("name", file.name).count("size", file.size);
    object.time("lastModified", file.modified).string("etag", file.etag);
    let sha256: String = file.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    object.string("sha256", &sha256).string_or_null("contentType", file.content_type);
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::error::ErrorCode;

    #[test]
    fn starts() {
        assert_eq!(read_upload_start(br#"{"blobName":"a/b.bin"}"#).unwrap(), "a/b.bin");
        for (body, code) in [
            (&b"{}"[..], ErrorCode::ArgumentNull),
            (br#"{"blobName":""}"#, ErrorCode::ArgumentNull),
            (br#"{"blobName":5}"#, ErrorCode::DeserializationError),
            (b"", ErrorCode::ArgumentNull),
            (b"a", ErrorCode::DeserializationError),
        ] {
            assert_eq!(read_upload_start(body).unwrap_err().code, code);
        }
    }

    #[test]
    fn ends() {
        let body = br#"{"correlationId":"c","isSuccess":true,"statusCode":200,"statusDescription":"ok"}"#;
        let end = read_upload_end(body, None).unwrap();
        assert_eq!((end.correlation_id.as_str(), end.success, end.status), ("c", true, Some(200)));
        assert_eq!(end.description.as_deref(), Some("ok"));
        assert_eq!(read_upload_end(br#"{"isSuccess":false}"#, Some("p")).unwrap().correlation_id, "p");
        assert_eq!(read_upload_end(body, Some("c")).unwrap(), end);
        for (body, path, code) in [
            (&br#"{"isSuccess":true}"#[..], None, ErrorCode::ArgumentNull),
            (br#"{"correlationId":"c"}"#, None, ErrorCode::ArgumentNull),
            (body, Some("other"), ErrorCode::ArgumentInvalid),
            (br#"{"isSuccess":"yes"}"#, Some("c"), ErrorCode::DeserializationError),
        ] {
            assert_eq!(read_upload_end(body, path).unwrap_err().code, code);
        }
    }
}
