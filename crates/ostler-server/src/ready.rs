//! What a running hub says about itself to tools on the same machine: the ready-file and
//! `hub.json` in the data folder, one content.
//!
//! Invariant: both are readable by their owner alone; they hold the owner's key.
//! Invariant: they exist only while all listeners accept; a clean stop removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files::{write_atomically, Lasting, Readable};

/// Name of the file in the data folder.
pub const HUB_FILE: &str = "hub.json";

/// What the ready-file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The hub's name.
    pub hostname: String,
    /// Port of MQTT over TLS.
    pub mqtt_port: u16,
    /// Port of HTTPS.
    pub https_port: u16,
    /// Port of plain MQTT, if it is on.
    pub plain_mqtt_port: Option<u16>,
    /// Port of plain HTTP, if it is on.
    pub plain_http_port: Option<u16>,
    /// The CA that clients must be told to trust, PEM; absent if they know it.
    pub ca_file: Option<PathBuf>,
    /// The data folder; absent if nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// This process.
    pub pid: u32,
    /// Of the policy `iothubowner`.
    pub connection_string: String,
}

/// The files that were written, removed when dropped.
#[derive(Debug, Default)]
pub(crate) struct ReadyFiles(Vec<PathBuf>);

impl ReadyFiles {
    /// Writes the content to each path, in this order.
    pub(crate) fn write<'a>(
        ready: &Ready,
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let mut text = serde_json::to_vec_pretty(ready).expect("a struct of texts and numbers is JSON");
        text.push(b'\n');
        let mut files = Self::default();
        for path in paths {
            write_atomically(path, &text, Readable::Owner, Lasting::WithTheProcess)
                .map_err(|error| (path.to_owned(), error))?;
            files.0.push(path.to_owned());
        }
        Ok(files)
    }
}

impl Drop for ReadyFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // Another hub may have been started on the same ready-file meanwhile.
            let ours = fs::read(path).is_ok_and(|text| {
                serde_json::from_slice::<serde_json::Value>(&text)
                    .is_ok_and(|ready| ready["pid"].as_u64() == Some(u64::from(std::process::id())))
            });
            if ours {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// A file in the system's folder for temporary ones, removed when dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Writes a file of this name in a new folder of its own.
    pub(crate) fn write(name: &str, content: &[u8]) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        use std::time::{SystemTime, UNIX_EPOCH};
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let folder = std::env::temp_dir().join(format!("ostler-{}-{nanos:x}", std::process::id()));
        // Made new, so that nobody else's folder is ever used.
        fs::DirBuilder::new().mode(0o755).create(&folder)?;
        let path = folder.join(name);
        let file = Self(path);
        write_atomically(&file.0, content, Readable::All, Lasting::WithTheProcess)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        if let Some(folder) = self.0.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn ready() -> Ready {
        Ready {
            hostname: "localhost".into(),
            mqtt_port: 8883,
            https_port: 8443,
            plain_mqtt_port: None,
            plain_http_port: Some(8080),
            ca_file: Some("/data/ca.pem".into()),
            data_dir: None,
            pid: std::process::id(),
            connection_string: "HostName=localhost;SharedAccessKeyName=iothubowner;SharedAccessKey=AA=="
                .into(),
        }
    }

    #[test]
    fn is_secret_and_goes_with_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let files = ReadyFiles::write(&ready(), [path.as_path()]).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["httpsPort"], 8443);
        assert_eq!(json["plainMqttPort"], serde_json::Value::Null);
        assert_eq!(json["caFile"], "/data/ca.pem");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(files);
        assert!(!path.exists());
    }

    #[test]
    fn another_hubs_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let files = ReadyFiles::write(&ready(), [path.as_path()]).unwrap();
        let _other = std::mem::ManuallyDrop::new(
            ReadyFiles::write(&Ready { pid: 1, ..ready() }, [path.as_path()]).unwrap(),
        );
        drop(files);
        assert!(path.exists());
    }

    #[test]
    fn a_temporary_file_leaves_nothing() {
        let file = TemporaryFile::write("ca.pem", b"x").unwrap();
        let path = file.path().to_owned();
        assert!(path.exists());
        drop(file);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }
}
