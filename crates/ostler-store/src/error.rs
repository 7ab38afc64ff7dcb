//! What can go wrong when a data folder is opened or copied.
//!
//! Must not know: how an error looks on a wire.

use std::io;
use std::path::PathBuf;

/// Why a data folder cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder {} is in use{}; stop that process or choose another folder", .path.display(), by(.pid))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// A newer version wrote it.
    #[error("the data folder {} has format {found}, this version knows formats up to {known}; use a newer version of Ostler", .path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// It holds files, but not ours.
    #[error("the folder {} holds files that are not a store of Ostler; choose an empty or new folder", .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A copy is asked for in a folder that holds something.
    #[error("the folder {} is not empty; a backup goes to a new folder", .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {what} at {}{}", .path.display(), hint(.source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A journal is damaged in a place where acknowledged changes lie behind the damage.
    #[error("{reason}; restore a backup, or move the journal away to give up what is in it")]
    Journal {
        /// Which journal, and where.
        reason: String,
    },
    /// The engine cannot read its files.
    #[error("cannot read the store in {}: {reason}; restore a backup", .path.display())]
    Engine {
        /// The engine's folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A shape or setting is damaged; unlike a record, it cannot be left out.
    #[error("the store in {} is damaged: {what}: {reason}; restore a backup", .path.display())]
    Damaged {
        /// The engine's folder.
        path: PathBuf,
        /// Which entry.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn by(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": this user may not write there",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is mounted read-only",
        io::ErrorKind::StorageFull => ": the disk is full",
        _ => "",
    }
}
