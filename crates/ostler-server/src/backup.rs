//! A copy of the data folder, made while the hub serves: the store, uploaded files, and the CA that clients trust.
//!
//! Must not know: how a store is copied.
//!
//! Invariant: what it leaves is a data folder that a hub can serve from, or nothing.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_store::{FileFolder, StoreError};

use crate::app::App;
use crate::config::Data;
use crate::files::{create_private_folder, sync_folder, write_atomically, Lasting, Readable};
use crate::server::{FILES_FOLDER, STORE_FOLDER};
use crate::tls::authority::{CA_FILE, CA_KEY_FILE};

/// Copies to a folder that does not exist yet or is empty; returns how many records the copy holds.
///
/// # Errors
/// The folder holds something, cannot be written, or the store cannot be read. What was written is removed.
pub(crate) async fn copy(app: &App, to: &Path) -> Result<u64, StoreError> {
    let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", to.display()));
    let made = !to.exists();
    create_private_folder(to).map_err(failed)?;
    if fs::read_dir(to).map_err(failed)?.next().is_some() {
        let text = format!("the folder {} is not empty; a backup goes to a new folder", to.display());
        return Err(StoreError::Unavailable(text));
    }
    let copied = copy_into(app, to).await;
    if copied.is_err() {
        discard(to, made);
    }
    copied
}

/// The store comes last: a folder without a whole store is not taken for a data folder.
async fn copy_into(app: &App, to: &Path) -> Result<u64, StoreError> {
    if let Data::Folder(folder) = &app.config.data {
        for (name, readable) in [(CA_FILE, Readable::All), (CA_KEY_FILE, Readable::Owner)] {
            copy_file(&folder.join(name), &to.join(name), readable)
                .map_err(|error| StoreError::Unavailable(format!("{name}: {error}")))?;
        }
        sync_folder(to).map_err(|error| StoreError::Unavailable(format!("{}: {error}", to.display())))?;
    }
    copy_files(app, to).await?;
    let records = AtomicU64::new(0);
    let progress = |done: u64, _total: u64| records.store(done, Ordering::Relaxed);
    app.hub.store().backup(&to.join(STORE_FOLDER), &progress).await?;
    // Those that came meanwhile, which the store's copy may name.
    copy_files(app, to).await?;
    Ok(records.into_inner())
}

/// Contents never change, so what was copied before is not copied again.
async fn copy_files(app: &App, to: &Path) -> Result<(), StoreError> {
    let Data::Folder(folder) = &app.config.data else { return Ok(()) };
    let (from, to) = (folder.join(FILES_FOLDER), to.join(FILES_FOLDER));
    let copied = tokio::task::spawn_blocking(move || FileFolder::copy_contents(&from, &to)).await;
    let copied = copied.unwrap_or_else(|error| Err(io::Error::other(error)));
    copied.map_err(|error| StoreError::Unavailable(format!("uploaded files: {error}")))
}

/// A hub with a CA or certificate of its owner's has none of its own to copy.
fn copy_file(from: &Path, to: &Path, readable: Readable) -> io::Result<()> {
    match fs::read(from) {
        Ok(content) => write_atomically(to, &content, readable, Lasting::Durable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what is ours, and nothing else that may have come there meanwhile.
fn discard(folder: &Path, made: bool) {
    for name in [CA_FILE, CA_KEY_FILE] {
        let _ = fs::remove_file(folder.join(name));
    }
    let _ = fs::remove_dir_all(folder.join(STORE_FOLDER));
    let _ = fs::remove_dir_all(folder.join(FILES_FOLDER));
    if made {
        let _ = fs::remove_dir(folder);
    }
}
