//! Files that devices upload (device §8.1): begun, written, finished, listed, read, deleted, swept.
//!
//! ```text
//!   start ── grant ──▶ write blocks or the whole file ── commit ──▶ stored ── finish ──▶ told
//! ```
//!
//! What is known of a file is a document of the store; its bytes are in a folder beside it. A file is stored when its
//! document is durable, which is after its bytes are.
//!
//! Must not know: how a file, a grant or an error is spelled on a wire.
//!
//! Invariant: a document names a content that is whole. Contents that no document names are removed at the next start.
//! Invariant: what all files and blocks take never exceeds the limit, save what is being put together of blocks.
//! Invariant: a device has at most [`UPLOADS_PER_DEVICE`] uploads that have begun and not ended.

mod document;
mod grant;
mod uploads;
mod write;

pub use document::FileInfo;
pub use grant::UploadGrant;
pub use write::{IncomingFile, StoreAs};

use crate::error::Error;
use crate::events::{Event, EventKind};
use crate::hub::{fill_random, Hub};
use crate::stats::Stats;
use grant::Grants;
use hashbrown::HashSet;
use ostler_core::file::{FileKey, FileKeyError};
use ostler_core::id::DeviceId;
use ostler_core::limits::{FILES, FILE_BLOCKS, UPLOADS, UPLOADS_PER_DEVICE};
use ostler_core::time::Timestamp;
use ostler_store::{Change, CommitError, ContentId, FileFolder, FolderError, Shelf, Store, StoreError};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use uploads::Uploads;

/// Files written at once, each with a buffer; more wait for their turn.
const WRITERS: usize = 512;
/// Locks that keep changes of one file apart.
const NAME_LOCKS: usize = 256;
/// How often uploads that are over, and files that are too old, are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Documents read at a time.
const PAGE: usize = 1000;

/// What the hub does with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Where they are; without one in a folder for temporary files, which goes with the hub.
    pub folder: Option<PathBuf>,
    /// Bytes of all files, those that are being uploaded included.
    pub total_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of the disk that files leave free, so that the hub's own store can always write.
    pub spared_bytes: u64,
    /// Seconds from the start of an upload to its end.
    pub upload_secs: i64,
    /// Seconds after which a file is removed; `None` keeps it until somebody deletes it.
    pub keep_secs: Option<i64>,
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions {
            folder: None,
            total_bytes: 10 << 30,
            file_bytes: 1 << 30,
            spared_bytes: 512 << 20,
            upload_secs: 3600,
            keep_secs: None,
        }
    }
}

/// Why something with a file was not done. The texts may be shown to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A name that no file may have.
    #[error("blobName: {0}")]
    Name(#[from] FileKeyError),
    /// The device has begun as many uploads as it may.
    #[error("the device has {UPLOADS_PER_DEVICE} file uploads in progress; finish one with a notification, or wait until one expires")]
    TooManyUploads,
    /// All devices together have.
    #[error("{UPLOADS} file uploads are in progress, which is as many as the hub takes; try again later")]
    HubBusy,
    /// No upload of this id, or one of another device.
    #[error("there is no file upload with this correlation id for this device")]
    UnknownUpload,
    /// The upload's time is over.
    #[error("the file upload has expired; begin it again")]
    ExpiredUpload,
    /// An upload that is said to have succeeded brought nothing.
    #[error("nothing was stored by this upload; send the file before the notification, or notify a failure")]
    NothingStored,
    /// The grant is not for this, or over.
    #[error("{0}")]
    Denied(&'static str),
    /// More bytes than a file may have.
    #[error("a file may have {0} bytes")]
    TooLarge(u64),
    /// More blocks than a file may have.
    #[error("a file may have {FILE_BLOCKS} blocks")]
    TooManyBlocks,
    /// A block of the list was not sent.
    #[error("the block at place {0} of the list was not sent in this upload")]
    MissingBlock(usize),
    /// Files take as much as they may, or the disk is full.
    #[error("the hub has no room for more files: {0}")]
    NoRoom(&'static str),
    /// A file is there where none was expected.
    #[error("there is a file {0:?} already, and the request asks not to replace one")]
    Exists(String),
    /// No such file.
    #[error("there is no file {0:?}")]
    NotFound(String),
    /// The disk failed; the operator's log says how.
    #[error("the hub cannot read or write its files now; the operator's log says why")]
    Disk,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FolderError> for FileError {
    fn from(error: FolderError) -> FileError {
        match error {
            FolderError::MissingBlock(place) => FileError::MissingBlock(place),
            FolderError::Full(cause) => {
                tracing::warn!(%cause, "no room on the disk for an uploaded file");
                FileError::NoRoom("its disk is full")
            }
            FolderError::Io(error) => error.into(),
        }
    }
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> FileError {
        tracing::error!(%error, "the folder of uploaded files cannot be read or written");
        FileError::Disk
    }
}

impl From<CommitError> for FileError {
    fn from(error: CommitError) -> FileError {
        match error {
            CommitError::Store(error) => FileError::Store(error),
            // Nothing is expected of these documents, so nothing of it can differ.
            _ => FileError::Store(StoreError::Overloaded),
        }
    }
}

/// How a device says its upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOutcome {
    /// Whether it succeeded.
    pub success: bool,
    /// The storage's status, as the device saw it.
    pub status: Option<i64>,
    /// The device's words.
    pub description: Option<String>,
}

/// Whether a file takes the place of one with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It does.
    Always,
    /// It is refused then.
    Never,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Files.
    pub files: u64,
    /// Bytes of files and of blocks.
    pub bytes: u64,
    /// Uploads that have begun and not ended.
    pub uploads: u64,
}

/// The files of a hub.
pub(crate) struct Files {
    store: Arc<dyn Store>,
    stats: Arc<Stats>,
    options: FileOptions,
    folder: Mutex<Option<Arc<FileFolder>>>,
    grants: Grants,
    uploads: Uploads,
    names: Box<[tokio::sync::Mutex<()>]>,
    writers: Arc<Semaphore>,
    files: AtomicU64,
    bytes: AtomicU64,
    random: SystemRandom,
}

/// Bytes set aside; given back when dropped, unless kept.
pub(super) struct Reservation {
    files: Arc<Files>,
    bytes: u64,
}

impl Reservation {
    /// The bytes are stored now, and counted until they are removed.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.files.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Files {
    /// Reads what is stored and removes what a crash left.
    pub(crate) async fn load(
        store: &Arc<dyn Store>,
        stats: &Arc<Stats>,
        options: &FileOptions,
        now: Timestamp,
    ) -> Result<Arc<Files>, Error> {
        let random = SystemRandom::new();
        let files = Arc::new(Files {
            store: store.clone(),
            stats: stats.clone(),
            options: options.clone(),
            folder: Mutex::default(),
            grants: Grants::load(store.as_ref(), &random).await?,
            uploads: Uploads::default(),
            names: (0..NAME_LOCKS).map(|_| tokio::sync::Mutex::default()).collect(),
            writers: Arc::new(Semaphore::new(WRITERS)),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            random,
        });
        files.take_up(now).await?;
        Ok(files)
    }

    /// Looks now and then for what is over; ends with the hub.
    pub(crate) fn start(hub: &Arc<Hub>) {
        let hub: Weak<Hub> = Arc::downgrade(hub);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(hub) = hub.upgrade() else { return };
                if let Err(error) = hub.sweep_files().await {
                    tracing::warn!(%error, "uploads that are over, or old files, were not removed");
                }
            }
        });
    }

    async fn take_up(self: &Arc<Files>, now: Timestamp) -> Result<(), Error> {
        let mut uploads = std::collections::HashSet::new();
        for (id, document) in all(self.store.as_ref(), Shelf::Uploads).await? {
            let Some(id) = ContentId::parse(&id) else { continue };
            let Some(upload) = document::UploadDocument::read(&document) else { continue };
            uploads.insert(id);
            self.uploads.take_up(id, upload);
        }
        let (mut contents, mut sizes, mut readable) = (std::collections::HashSet::new(), 0, true);
        for (key, document) in all(self.store.as_ref(), Shelf::Files).await? {
            let Some(info) = FileInfo::read(&key, &document) else {
                tracing::error!(key = &*key, "what is stored of a file cannot be read; it is left out");
                readable = false;
                continue;
            };
            contents.insert(info.content);
            sizes += info.size;
            self.files.fetch_add(1, Relaxed);
        }
        self.bytes.fetch_add(sizes, Relaxed);
        let Some(path) = self.options.folder.as_ref().filter(|path| path.exists()) else { return Ok(()) };
        tracing::debug!(files = contents.len(), uploads = uploads.len(), path = %path.display(), %now, "files");
        let files = self.clone();
        let tidied = blocking(move || {
            let folder = files.folder()?;
            // What an unreadable document names may be any of the contents.
            let (removed, missing) = match readable {
                true => folder.tidy(&contents, &uploads)?,
                false => Default::default(),
            };
            for id in uploads {
                let (blocks, bytes) = folder.measure_blocks(id)?;
                files.bytes.fetch_add(bytes, Relaxed);
                files.uploads.measured(id, blocks, bytes);
            }
            Ok((removed, missing.len()))
        });
        let (removed, missing) = tidied.await?;
        if removed > 0 {
            tracing::info!(removed, "removed what a crash left of uploads");
        }
        if missing > 0 {
            tracing::error!(missing, "contents of uploaded files are not in the folder; reading them fails");
        }
        Ok(())
    }

    /// The folder, made at the first need.
    fn folder(&self) -> Result<Arc<FileFolder>, FileError> {
        let mut place = self.folder.lock();
        if let Some(folder) = &*place {
            return Ok(folder.clone());
        }
        let folder = Arc::new(match &self.options.folder {
            Some(path) => FileFolder::open(path)?,
            None => FileFolder::temporary(self.fresh_id()?)?,
        });
        *place = Some(folder.clone());
        Ok(folder)
    }

    fn fresh_id(&self) -> Result<ContentId, FileError> {
        let mut bytes = [0; 16];
        fill_random(&self.random, &mut bytes).map_err(|_| FileError::Disk)?;
        Ok(ContentId::new(bytes))
    }

    /// Sets bytes aside.
    fn reserve(self: &Arc<Files>, bytes: u64) -> Result<Reservation, FileError> {
        let limit = self.options.total_bytes;
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        if self.bytes.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return Err(FileError::NoRoom("files take as many bytes as they may; delete some"));
        }
        Ok(Reservation { files: self.clone(), bytes })
    }

    /// Whether the disk has room beyond what is spared.
    fn check_disk(&self, folder: &FileFolder) -> Result<(), FileError> {
        if folder.free_bytes()? < self.options.spared_bytes {
            return Err(FileError::NoRoom("its disk is nearly full"));
        }
        Ok(())
    }

    async fn file(&self, key: &FileKey) -> Result<Option<FileInfo>, FileError> {
        let document = self.store.document(Shelf::Files, key.as_str()).await?;
        Ok(document.and_then(|document| FileInfo::read(key.as_str(), &document.value)))
    }

    /// Holds back other changes of this file.
    async fn lock_name(&self, key: &FileKey) -> tokio::sync::MutexGuard<'_, ()> {
        let sum =
            key.as_str().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.names[sum % NAME_LOCKS].lock().await
    }

    /// Makes a content that is in the folder the file's own. What was there before is removed.
    async fn publish(
        self: &Arc<Files>,
        info: FileInfo,
        replace: Replace,
        reserved: Reservation,
    ) -> Result<FileInfo, FileError> {
        let _turn = self.lock_name(&info.key).await;
        let before = self.file(&info.key).await?;
        if before.is_some() && replace == Replace::Never {
            self.forget_content(info.content).await;
            return Err(FileError::Exists(info.key.to_string()));
        }
        if before.is_none() && self.files.load(Relaxed) >= FILES {
            self.forget_content(info.content).await;
            return Err(FileError::NoRoom("there are as many files as there may be; delete some"));
        }
        let key = info.key.as_str().into();
        let change = Change::PutDocument { shelf: Shelf::Files, key, value: info.write(), expect: None };
        if let Err(error) = self.commit(change).await {
            self.forget_content(info.content).await;
            return Err(error);
        }
        reserved.keep();
        self.stats.files_stored.add(1);
        self.stats.file_bytes.add(info.size);
        match before {
            None => {
                self.files.fetch_add(1, Relaxed);
            }
            Some(before) => {
                self.bytes.fetch_sub(before.size, Relaxed);
                self.forget_content(before.content).await;
            }
        }
        Ok(info)
    }

    async fn remove(self: &Arc<Files>, key: &FileKey) -> Result<bool, FileError> {
        let _turn = self.lock_name(key).await;
        let Some(info) = self.file(key).await? else { return Ok(false) };
        self.commit(Change::DeleteDocument { shelf: Shelf::Files, key: key.as_str().into() }).await?;
        self.files.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(info.size, Relaxed);
        self.forget_content(info.content).await;
        Ok(true)
    }

    /// A content that no document names; if it cannot be removed now, the next start does it.
    async fn forget_content(self: &Arc<Files>, content: ContentId) {
        let files = self.clone();
        let _ = blocking(move || Ok(files.folder()?.remove_content(content)?)).await;
    }

    async fn commit(&self, change: Change) -> Result<(), FileError> {
        let outcome = self.store.commit(vec![change]).await.pop();
        outcome.unwrap_or(Err(CommitError::Store(StoreError::Closed)))?;
        Ok(())
    }
}

/// All documents of a shelf.
async fn all(store: &dyn Store, shelf: Shelf) -> Result<Vec<(Box<str>, Vec<u8>)>, StoreError> {
    let mut documents = Vec::new();
    let mut after: Option<Box<str>> = None;
    loop {
        let page = store.documents(shelf, "", after.as_deref(), PAGE).await?;
        let whole = page.len() == PAGE;
        after = page.last().map(|(key, _)| key.clone());
        documents.extend(page.into_iter().map(|(key, document)| (key, document.value)));
        if !whole {
            return Ok(documents);
        }
    }
}

/// Runs what waits for the disk where it holds nobody up. It goes on when the caller leaves.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(FileError::Disk))
}

/// Runs to its end even when the caller leaves, so that what is stored and what is counted agree.
async fn to_the_end<T: Send + 'static>(
    work: impl std::future::Future<Output = Result<T, FileError>> + Send + 'static,
) -> Result<T, FileError> {
    tokio::spawn(work).await.unwrap_or(Err(FileError::Disk))
}

impl Hub {
    /// What the hub does with files.
    pub fn file_options(&self) -> &FileOptions {
        &self.files.options
    }

    /// How much there is.
    pub fn file_counts(&self) -> FileCounts {
        FileCounts {
            files: self.files.files.load(Relaxed),
            bytes: self.files.bytes.load(Relaxed),
            uploads: self.files.uploads.count() as u64,
        }
    }

    /// Begins an upload of a device that signed in.
    ///
    /// # Errors
    /// [`FileError::Name`], [`FileError::TooManyUploads`], [`FileError::HubBusy`], [`FileError::NoRoom`], or the store's.
    pub async fn start_upload(&self, device: &DeviceId, name: &str) -> Result<(FileKey, UploadGrant), Error> {
        let (files, now) = (&self.files, self.now());
        let key = FileKey::new(device, name).map_err(FileError::Name)?;
        drop(files.reserve(1)?);
        let id = files.fresh_id()?;
        // Whole seconds, as the grant says it.
        let expires = Timestamp::from_unix_secs(now.plus_secs(files.options.upload_secs).unix_secs());
        let document = document::UploadDocument { key: key.clone(), expires };
        let value = document.write();
        files.uploads.add(id, document, now)?;
        let put =
            Change::PutDocument { shelf: Shelf::Uploads, key: id.to_string().into(), value, expect: None };
        if let Err(error) = files.commit(put).await {
            files.uploads.remove(id);
            return Err(error.into());
        }
        files.stats.uploads_started.add(1);
        Ok((key.clone(), files.grants.give(&key, id, expires)))
    }

    /// Ends an upload as its device says it went. Said again, it is as if said once.
    ///
    /// `host` is the name, and the port if any, under which the device knows the files; watchers are told it.
    ///
    /// # Errors
    /// [`FileError::UnknownUpload`], [`FileError::ExpiredUpload`], [`FileError::NothingStored`] for a success without a
    /// file, or the store's.
    pub async fn finish_upload(
        &self,
        device: &DeviceId,
        correlation: &str,
        outcome: UploadOutcome,
        host: &str,
    ) -> Result<(), Error> {
        let (files, now) = (self.files.clone(), self.now());
        let id = ContentId::parse(correlation).ok_or(FileError::UnknownUpload)?;
        if files.uploads.was_finished(id, device) {
            return Ok(());
        }
        let upload = files.uploads.get(id).filter(|upload| upload.key.device() == device.as_str());
        let upload = upload.ok_or(FileError::UnknownUpload)?;
        if upload.expires <= now {
            return Err(FileError::ExpiredUpload.into());
        }
        let stored = files.file(&upload.key).await?.filter(|info| info.upload == id);
        if outcome.success && stored.is_none() {
            return Err(FileError::NothingStored.into());
        }
        let (ending, key) = (files.clone(), upload.key.clone());
        let first =
            to_the_end(async move { ending.end_upload(&upload, uploads::Ending::Told).await }).await?;
        if first {
            let counter =
                if outcome.success { &files.stats.uploads_succeeded } else { &files.stats.uploads_failed };
            counter.add(1);
            self.events().emit(|| {
                let (name, host) = (key.name().to_owned(), host.to_owned());
                let kind = match stored.filter(|_| outcome.success) {
                    Some(info) => {
                        EventKind::FileUploaded { name, host, size: info.size, modified: info.modified }
                    }
                    None => EventKind::FileUploadFailed {
                        name,
                        status: outcome.status,
                        description: outcome.description,
                    },
                };
                Event { at: now, id: device.to_string(), kind }
            });
        }
        Ok(())
    }

    /// Files in the order of `device/name`, of one device or of all, behind `after`.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_files(
        &self,
        device: Option<&DeviceId>,
        after: Option<&FileKey>,
        limit: usize,
    ) -> Result<Vec<FileInfo>, Error> {
        let prefix = device.map_or(String::new(), |device| format!("{device}/"));
        let after = after.map(FileKey::as_str);
        let page = self.store.documents(Shelf::Files, &prefix, after, limit).await?;
        Ok(page.iter().filter_map(|(key, document)| FileInfo::read(key, &document.value)).collect())
    }

    /// A file, and its bytes to be read off the runtime's threads. What is open stays whole, whatever happens to the
    /// name meanwhile.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or the disk's.
    pub async fn open_file(&self, key: &FileKey) -> Result<(FileInfo, std::fs::File), Error> {
        let files = self.files.clone();
        let not_found = || FileError::NotFound(key.to_string());
        // A name may get another content between the look at it and the opening.
        for _ in 0..3 {
            let info = files.file(key).await?.ok_or_else(not_found)?;
            let (folder, content) = (files.clone(), info.content);
            let opened = blocking(move || match folder.folder()?.read(content) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            });
            if let Some(file) = opened.await? {
                return Ok((info, file));
            }
        }
        tracing::error!(file = %key, "the content of an uploaded file is not in the folder");
        Err(FileError::Disk.into())
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or the store's.
    pub async fn delete_file(&self, key: &FileKey) -> Result<(), Error> {
        let (files, owned) = (self.files.clone(), key.clone());
        match to_the_end(async move { files.remove(&owned).await }).await? {
            true => Ok(()),
            false => Err(FileError::NotFound(key.to_string()).into()),
        }
    }

    /// Removes uploads whose time is over and files that are too old; returns how many.
    ///
    /// # Errors
    /// The store's or the disk's; what was removed before stays removed.
    pub async fn sweep_files(&self) -> Result<usize, Error> {
        let (files, now) = (&self.files, self.now());
        let mut removed = 0;
        for upload in files.uploads.expired(now) {
            let ending = files.clone();
            let first =
                to_the_end(async move { ending.end_upload(&upload, uploads::Ending::Over).await }).await?;
            files.stats.uploads_expired.add(first.into());
            removed += usize::from(first);
        }
        let Some(keep_secs) = files.options.keep_secs else { return Ok(removed) };
        let mut after: Option<FileKey> = None;
        loop {
            let page = self.list_files(None, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(removed) };
            after = Some(last.key.clone());
            let old: HashSet<FileKey> = page
                .into_iter()
                .filter(|info| info.modified.plus_secs(keep_secs) <= now)
                .map(|info| info.key)
                .collect();
            for key in old {
                let files = files.clone();
                removed += usize::from(to_the_end(async move { files.remove(&key).await }).await?);
            }
        }
    }
}
