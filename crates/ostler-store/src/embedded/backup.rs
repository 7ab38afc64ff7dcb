//! Copies of a store, made while it serves.
//!
//! A thread of its own reads a consistent view and writes a new folder; the future that waits for it
//! only hands on how far it is, so that no executor is held up by a disk.
//!
//! Must not know: how a view is taken.
//!
//! Invariant: a copy has its format file only when it is whole, so a part of one is never opened.

use super::disk::{self, Progress, Sizes};
use super::folder::Folder;
use super::writer::View;
use crate::{OpenError, StoreError};
use std::path::{Path, PathBuf};
use tokio::sync::{oneshot, watch};

/// A copy in the making. Dropping it ends the work.
pub(crate) struct Copying {
    written: watch::Receiver<u64>,
    outcome: oneshot::Receiver<Result<(), OpenError>>,
}

/// Starts copying to a folder that must be new or empty.
pub(crate) fn start(view: View, to: PathBuf, sizes: Sizes) -> Result<Copying, StoreError> {
    let (tell, written) = watch::channel(0);
    let (done, outcome) = oneshot::channel();
    let work = move || {
        let progress = |count| tell.send(count).is_ok();
        let outcome = copy(view, &to, sizes, &progress);
        // Whoever hears the outcome has heard all progress before.
        drop(tell);
        let _ = done.send(outcome);
    };
    let thread = std::thread::Builder::new().name("ostler-backup".into()).spawn(work);
    thread
        .map_err(|error| StoreError::Unavailable(format!("cannot start a thread for the copy: {error}")))?;
    Ok(Copying { written, outcome })
}

impl Copying {
    /// Waits for more entries to be written; `None` when there will be no more.
    pub(crate) async fn written(&mut self) -> Option<u64> {
        self.written.changed().await.ok()?;
        Some(*self.written.borrow_and_update())
    }

    /// Waits for the end.
    pub(crate) async fn outcome(self) -> Result<(), StoreError> {
        let outcome =
            self.outcome.await.map_err(|_| StoreError::Unavailable("the copy was given up".into()))?;
        outcome.map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

fn copy(view: View, to: &Path, sizes: Sizes, progress: Progress<'_>) -> Result<(), OpenError> {
    let folder = Folder::create(to)?;
    let written = match view {
        View::Disk(snapshot) => snapshot.copy_to(&folder.engine(), sizes, progress),
        View::Memory(entries) => {
            disk::write_new(&folder.engine(), sizes, entries.into_iter().map(Ok), progress)
        }
    };
    if let Err(error) = written.and_then(|()| folder.mark()) {
        // Ours since it was empty; what cannot be removed is no store without its format file.
        let _ = std::fs::remove_dir_all(to);
        return Err(error);
    }
    Ok(())
}
