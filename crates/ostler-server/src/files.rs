//! Small files written so that a reader sees all of one or nothing, and secrets only their owner.
//!
//! Invariant: a file written here is never visible half-written, whatever happens to the process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    /// Its owner alone (mode 0600).
    Owner,
    /// Everybody (mode 0644).
    All,
}

/// Whether a file outlives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It does, once [`sync_folder`] has returned for its folder.
    Durable,
    /// It speaks of this process only.
    WithTheProcess,
}

/// Replaces `path` by `content` in one step.
pub(crate) fn write_atomically(
    path: &Path,
    content: &[u8],
    readable: Readable,
    lasting: Lasting,
) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mode = match readable {
        Readable::Owner => 0o600,
        Readable::All => 0o644,
    };
    // A leftover of a process with the same id would keep its own mode.
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        if lasting == Lasting::Durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a folder that its owner alone may enter, with its parents. One that exists is left as it is.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_whole_and_keeps_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write_atomically(&path, b"one", Readable::All, Lasting::Durable).unwrap();
        write_atomically(&path, b"two", Readable::Owner, Lasting::WithTheProcess).unwrap();
        sync_folder(folder.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no leftovers");
    }
}
