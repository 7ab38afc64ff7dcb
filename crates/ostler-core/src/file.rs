//! The names of files that devices upload (device §8.1).
//!
//! Must not know: where files are kept, how they come.
//!
//! Invariant: a [`FileKey`] is `{device}/{name}` with a device id before the first `/`, and no part of it means anything
//! to a file system or is rewritten by an HTTP client on its way.

use crate::id::{DeviceId, IdError};
use crate::limits::FILE_KEY_BYTES;
use std::fmt;

/// Why a text does not name a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileKeyError {
    /// There is no `/` after the device.
    #[error("expected the device's id, a / and the file's name")]
    Shape,
    /// The device's id breaks a rule.
    #[error("the device id of the file: {0}")]
    Device(#[from] IdError),
    /// Nothing there.
    #[error("the file's name is empty")]
    Empty,
    /// Longer than [`FILE_KEY_BYTES`], the device's id and the `/` included.
    #[error("the file's name and the device's id have {0} bytes together, the limit is {FILE_KEY_BYTES}")]
    TooLong(usize),
    /// A part that HTTP clients would fold away.
    #[error("no part of a file's name between / may be empty, . or ..")]
    Part,
    /// A character that clients rewrite or nobody can see.
    #[error("the character {0:?} is not allowed in a file's name; control characters and \\ are not")]
    Character(char),
}

/// A device's file: the device's id and the file's name, which may have folders in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(Box<str>);

impl FileKey {
    /// A file of a device.
    ///
    /// # Errors
    /// [`FileKeyError`] names the rule that the name breaks.
    pub fn new(device: &DeviceId, name: &str) -> Result<FileKey, FileKeyError> {
        if name.is_empty() {
            return Err(FileKeyError::Empty);
        }
        let length = device.as_str().len() + 1 + name.len();
        if length > FILE_KEY_BYTES {
            return Err(FileKeyError::TooLong(length));
        }
        if let Some(c) = name.chars().find(|c| c.is_control() || *c == '\\') {
            return Err(FileKeyError::Character(c));
        }
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(FileKeyError::Part);
        }
        Ok(FileKey(format!("{device}/{name}").into()))
    }

    /// Reads `{device}/{name}`.
    ///
    /// # Errors
    /// [`FileKeyError`] names the rule that is broken.
    pub fn parse(text: &str) -> Result<FileKey, FileKeyError> {
        let (device, name) = text.split_once('/').ok_or(FileKeyError::Shape)?;
        FileKey::new(&DeviceId::new(device)?, name)
    }

    /// `{device}/{name}`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose file it is.
    pub fn device(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Its name with that device.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<&str, FileKeyError>) {
        let device = DeviceId::new("pump-7").unwrap();
        let key = FileKey::new(&device, name);
        assert_eq!(key.as_ref().map(FileKey::as_str), expected.as_ref().map(|text| *text), "{name:?}");
        if let Ok(key) = key {
            assert_eq!((key.device(), key.name()), ("pump-7", name));
            assert_eq!(FileKey::parse(key.as_str()), Ok(key));
        }
    }

    #[test]
    fn names() {
        check("log.txt", Ok("pump-7/log.txt"));
        check("2026/11/a b+c%2F?#ü.bin", Ok("pump-7/2026/11/a b+c%2F?#ü.bin"));
        check("...", Ok("pump-7/..."));
        check("", Err(FileKeyError::Empty));
        for name in ["..", ".", "/a", "a/", "a//b", "a/../b", "../../etc/passwd", "./a"] {
            check(name, Err(FileKeyError::Part));
        }
        check("a\\b", Err(FileKeyError::Character('\\')));
        check("a\0", Err(FileKeyError::Character('\0')));
        let longest = "x".repeat(FILE_KEY_BYTES - 7);
        check(&longest, Ok(&format!("pump-7/{longest}")));
        check(&format!("{longest}x"), Err(FileKeyError::TooLong(FILE_KEY_BYTES + 1)));
    }

    #[test]
    fn keys() {
        assert_eq!(FileKey::parse("pump-7"), Err(FileKeyError::Shape));
        assert_eq!(FileKey::parse("/a"), Err(FileKeyError::Device(IdError::Empty)));
        assert_eq!(FileKey::parse("a b/c"), Err(FileKeyError::Device(IdError::Character(' '))));
    }
}
