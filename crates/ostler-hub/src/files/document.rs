//! What is stored of files and of uploads that have not ended: documents on their shelves, as JSON.
//!
//! Invariant: a member that a later version adds is ignored by this one.

use ostler_core::file::FileKey;
use ostler_core::json::{Object, ObjectWriter, Value};
use ostler_core::time::Timestamp;
use ostler_store::ContentId;

/// A stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Whose it is, and its name.
    pub key: FileKey,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// When it was stored.
    pub modified: Timestamp,
    /// Changes with the content; without quotes.
    pub etag: Box<str>,
    /// The media type that the device named.
    pub content_type: Option<Box<str>>,
    /// The upload that brought it.
    pub upload: ContentId,
    pub(crate) content: ContentId,
    /// The list of blocks that it was made of, as a hash: the same list sent again is the same file.
    pub(crate) list: Option<[u8; 32]>,
}

impl FileInfo {
    pub(crate) fn etag_of(content: ContentId) -> Box<str> {
        format!("0x{}", content.to_string()[..16].to_ascii_uppercase()).into()
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(320);
        let mut object = ObjectWriter::new(&mut out);
        object.string("content", &self.content.to_string()).count("size", self.size);
        object.string("sha256", &hex(&self.sha256)).time("modified", self.modified);
        object.string("upload", &self.upload.to_string());
        if let Some(media_type) = &self.content_type {
            object.string("type", media_type);
        }
        if let Some(list) = &self.list {
            object.string("list", &hex(list));
        }
        object.end();
        out
    }

    /// `None` when the document is not one.
    pub(crate) fn read(key: &str, document: &[u8]) -> Option<FileInfo> {
        let object = Object::parse(document).ok()?;
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let content = ContentId::parse(text("content")?)?;
        Some(FileInfo {
            key: FileKey::parse(key).ok()?,
            size: u64::try_from(object.get("size")?.as_i64()?).ok()?,
            sha256: unhex(text("sha256")?)?,
            modified: Timestamp::parse(text("modified")?)?,
            etag: FileInfo::etag_of(content),
            content_type: text("type").map(Into::into),
            upload: ContentId::parse(text("upload")?)?,
            content,
            list: text("list").and_then(unhex),
        })
    }
}

/// An upload as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadDocument {
    pub(crate) key: FileKey,
    pub(crate) expires: Timestamp,
}

impl UploadDocument {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut object = ObjectWriter::new(&mut out);
        object.string("file", self.key.as_str()).time("expires", self.expires);
        object.end();
        out
    }

    pub(crate) fn read(document: &[u8]) -> Option<UploadDocument> {
        let object = Object::parse(document).ok()?;
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        Some(UploadDocument {
            key: FileKey::parse(text("file")?).ok()?,
            expires: Timestamp::parse(text("expires")?)?,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back() {
        let content = ContentId::new([3; 16]);
        let file = FileInfo {
            key: FileKey::parse("pump-7/a/b \"c\".bin").unwrap(),
            size: 7,
            sha256: [0xa0; 32],
            modified: Timestamp::from_unix_secs(1_800_000_000),
            etag: FileInfo::etag_of(content),
            content_type: Some("text/plain".into()),
            upload: ContentId::new([4; 16]),
            content,
            list: Some([5; 32]),
        };
        assert_eq!(FileInfo::read(file.key.as_str(), &file.write()), Some(file.clone()));
        let plain = FileInfo { content_type: None, list: None, ..file };
        assert_eq!(FileInfo::read(plain.key.as_str(), &plain.write()), Some(plain));
        let upload = UploadDocument {
            key: FileKey::parse("pump-7/a").unwrap(),
            expires: Timestamp::from_unix_secs(1_800_000_000),
        };
        assert_eq!(UploadDocument::read(&upload.write()), Some(upload));
        assert_eq!(UploadDocument::read(b"{}"), None);
    }
}
