//! The data folder: its format number, its lock, and whether it can be written at all.
//!
//! ```text
//!   FORMAT   "ostler-store 1\n": written last when a folder is made, so a half-made one has none
//!   LOCK     held by flock while the folder is open; holds the owner's process id as text
//!   db/      the engine's files
//! ```
//!
//! Must not know: what the engine keeps in `db/`.
//!
//! Invariant: nothing is written to a folder of a newer format, or to one that another process holds.

use crate::OpenError;
use rustix::fs::{flock, FlockOperation};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The number of the folder format that this version reads and writes.
pub(crate) const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "ostler-store";
const LOCK_FILE: &str = "LOCK";
const ENGINE_FOLDER: &str = "db";

/// A data folder that this process holds.
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock lives as long as this file is open.
    _lock: File,
}

impl Folder {
    /// Takes an existing folder, or makes one.
    pub(crate) fn open(path: &Path) -> Result<Folder, OpenError> {
        let io = |what: &'static str| move |source| OpenError::Io { what, path: path.into(), source };
        // It will hold keys: nobody else may look into it.
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(path).map_err(io("make the data folder"))?;
        let format = read_format(path)?;
        if let Some(found) = format.filter(|found| *found > FORMAT) {
            return Err(OpenError::NewerFormat { path: path.into(), found, known: FORMAT });
        }
        let lock = take_lock(path)?;
        if format.is_none() {
            refuse_foreign(path)?;
        }
        Ok(Folder { path: path.into(), _lock: lock })
    }

    /// Makes a folder for a copy: it must not exist, or be empty.
    pub(crate) fn create(path: &Path) -> Result<Folder, OpenError> {
        if std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(OpenError::NotEmpty { path: path.into() });
        }
        Folder::open(path)
    }

    /// Where the engine's files are.
    pub(crate) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE_FOLDER)
    }

    /// Marks the folder as whole.
    pub(crate) fn mark(&self) -> Result<(), OpenError> {
        let (target, draft) = (self.path.join(FORMAT_FILE), self.path.join("FORMAT.new"));
        if target.exists() {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let mut file = File::create(&draft)?;
            writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
            file.sync_all()?;
            std::fs::rename(&draft, &target)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| OpenError::Io {
            what: "write the format file",
            path: target.clone(),
            source,
        })
    }
}

fn read_format(path: &Path) -> Result<Option<u32>, OpenError> {
    let file = path.join(FORMAT_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let number = text.trim_end().strip_prefix(FORMAT_NAME).and_then(|rest| rest.trim().parse().ok());
            number.map(Some).ok_or(OpenError::Foreign { path: path.into() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { what: "read the format file", path: file, source }),
    }
}

/// A folder without a format file may hold a start that was interrupted, but nothing else's files.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { what: "read the data folder", path: path.into(), source };
    let engine = path.join(ENGINE_FOLDER);
    for entry in std::fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if ![LOCK_FILE, "FORMAT.new", ENGINE_FOLDER].iter().any(|ours| name == *ours) {
            return Err(OpenError::Foreign { path: path.into() });
        }
    }
    // Nothing was acknowledged before the format file was there: start afresh.
    match std::fs::remove_dir_all(&engine) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
        _ => Ok(()),
    }
}

fn take_lock(path: &Path) -> Result<File, OpenError> {
    let file = path.join(LOCK_FILE);
    let io = |what: &'static str| {
        let path = file.clone();
        move |source| OpenError::Io { what, path, source }
    };
    let mut options = OpenOptions::new();
    let mut lock = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(io("open the lock file"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            let _ = lock.take(32).read_to_string(&mut owner);
            return Err(OpenError::InUse { path: path.into(), pid: owner.trim().parse().ok() });
        }
        Err(error) => return Err(io("lock the data folder")(error.into())),
    }
    let mut write_owner = || -> io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write_owner().map_err(io("write the lock file"))?;
    Ok(lock)
}
