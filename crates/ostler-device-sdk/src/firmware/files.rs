//! The few things the store asks of a file system, and the real one.
//!
//! Must not know: slots, updates.
//!
//! Invariant: nothing is durable before `sync` (what a file holds) or `sync_dir` (which names a folder has) returned.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file system, one operation at a time. The second implementation, in the tests, loses power.
pub(crate) trait Files: Send + Sync + std::fmt::Debug {
    /// At most `max` bytes of a file.
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>>;
    /// Fills `buffer` from `offset` on as far as the file goes.
    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// The file's length, if there is one.
    fn len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Makes the file hold exactly `bytes`.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Adds `bytes` at the end.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Makes durable what the file holds.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Makes durable which names the folder has.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes durable all that was written below the folder, by whomever.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder, if it is not there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames within one folder, in place of what was there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link, if it is there.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a symbolic link.
    fn symlink(&self, target: &str, path: &Path) -> io::Result<()>;
    /// Where a symbolic link leads, if it is there.
    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// Bytes that may still be written.
    fn available(&self, path: &Path) -> io::Result<u64>;
}

/// The operating system's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        if_there(fs::symlink_metadata(path)).map(|metadata| metadata.map(|metadata| metadata.len()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(File::open(path)?)?;
        #[cfg(not(target_os = "linux"))]
        {
            File::open(path)?;
            rustix::fs::sync();
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if_there(fs::remove_file(path)).map(drop)
    }

    fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        if_there(fs::read_link(path))
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
