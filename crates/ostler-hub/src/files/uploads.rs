//! Uploads that have begun and not ended.
//!
//! Must not know: where bytes go.
//!
//! Invariant: what is here is on its shelf, save for the moment in which it begins or ends.

use super::document::UploadDocument;
use super::{blocking, FileError, Files};
use crate::recent::Recent;
use hashbrown::HashMap;
use ostler_core::file::FileKey;
use ostler_core::id::DeviceId;
use ostler_core::limits::{UPLOADS, UPLOADS_PER_DEVICE};
use ostler_core::time::Timestamp;
use ostler_store::{Change, ContentId, Shelf};
use parking_lot::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

/// Ends of uploads that are remembered, so that a notification whose answer was lost may be sent again.
const REMEMBERED: usize = 10_000;

/// One upload.
pub(super) struct Upload {
    pub(super) id: ContentId,
    pub(super) key: FileKey,
    pub(super) expires: Timestamp,
    /// Whoever changes blocks, puts them together or removes them has it.
    pub(super) blocks: Arc<tokio::sync::Mutex<Blocks>>,
}

/// What the blocks of an upload have.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) count: usize,
    pub(super) bytes: u64,
    /// The upload is over: nothing is added any more.
    pub(super) closed: bool,
}

/// How an upload ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its device said so.
    Told,
    /// Its time is over.
    Over,
}

#[derive(Default)]
struct Table {
    all: HashMap<ContentId, Arc<Upload>>,
    by_device: HashMap<Box<str>, Vec<ContentId>>,
}

impl Table {
    fn insert(&mut self, upload: Upload) {
        self.by_device.entry(upload.key.device().into()).or_default().push(upload.id);
        self.all.insert(upload.id, Arc::new(upload));
    }

    fn remove(&mut self, id: ContentId) -> Option<Arc<Upload>> {
        let upload = self.all.remove(&id)?;
        if let Some(ids) = self.by_device.get_mut(upload.key.device()) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.by_device.remove(upload.key.device());
            }
        }
        Some(upload)
    }
}

pub(super) struct Uploads {
    table: Mutex<Table>,
    finished: Mutex<Recent<ContentId, Box<str>>>,
}

impl Default for Uploads {
    fn default() -> Uploads {
        Uploads { table: Mutex::default(), finished: Mutex::new(Recent::new(REMEMBERED)) }
    }
}

impl Uploads {
    /// One that was stored before the start.
    pub(super) fn take_up(&self, id: ContentId, document: UploadDocument) {
        let UploadDocument { key, expires } = document;
        self.table.lock().insert(Upload { id, key, expires, blocks: Arc::default() });
    }

    /// What was found of the blocks of an upload that was taken up; nobody writes yet.
    pub(super) fn measured(&self, id: ContentId, count: usize, bytes: u64) {
        if let Some(upload) = self.get(id) {
            if let Ok(mut blocks) = upload.blocks.try_lock() {
                *blocks = Blocks { count, bytes, closed: false };
            }
        }
    }

    /// A new one; those whose time is over do not count against the device.
    pub(super) fn add(
        &self,
        id: ContentId,
        document: UploadDocument,
        now: Timestamp,
    ) -> Result<(), FileError> {
        let mut table = self.table.lock();
        let ids = table.by_device.get(document.key.device()).map_or(&[][..], Vec::as_slice);
        let live = |id: &&ContentId| table.all.get(*id).is_some_and(|upload| upload.expires > now);
        if ids.iter().filter(live).count() >= UPLOADS_PER_DEVICE {
            return Err(FileError::TooManyUploads);
        }
        if table.all.len() >= UPLOADS {
            return Err(FileError::HubBusy);
        }
        let UploadDocument { key, expires } = document;
        table.insert(Upload { id, key, expires, blocks: Arc::default() });
        Ok(())
    }

    pub(super) fn get(&self, id: ContentId) -> Option<Arc<Upload>> {
        self.table.lock().all.get(&id).cloned()
    }

    pub(super) fn remove(&self, id: ContentId) -> Option<Arc<Upload>> {
        self.table.lock().remove(id)
    }

    pub(super) fn count(&self) -> usize {
        self.table.lock().all.len()
    }

    pub(super) fn expired(&self, now: Timestamp) -> Vec<Arc<Upload>> {
        let table = self.table.lock();
        table.all.values().filter(|upload| upload.expires <= now).cloned().collect()
    }

    pub(super) fn was_finished(&self, id: ContentId, device: &DeviceId) -> bool {
        self.finished.lock().get(&id).is_some_and(|owner| **owner == *device.as_str())
    }
}

impl Files {
    /// Ends an upload and forgets its blocks; `false` when somebody else did.
    pub(super) async fn end_upload(
        self: &Arc<Files>,
        upload: &Upload,
        ending: Ending,
    ) -> Result<bool, FileError> {
        let mut blocks = upload.blocks.clone().lock_owned().await;
        if blocks.closed {
            return Ok(false);
        }
        let id = upload.id;
        self.commit(Change::DeleteDocument { shelf: Shelf::Uploads, key: id.to_string().into() }).await?;
        blocks.closed = true;
        self.uploads.remove(id);
        if ending == Ending::Told {
            self.uploads.finished.lock().note(id, upload.key.device().into());
        }
        self.drop_blocks(id, blocks).await;
        Ok(true)
    }

    /// Removes the blocks of an upload and gives their bytes back.
    pub(super) async fn drop_blocks(
        self: &Arc<Files>,
        id: ContentId,
        mut blocks: tokio::sync::OwnedMutexGuard<Blocks>,
    ) {
        let bytes = std::mem::take(&mut blocks.bytes);
        let any = std::mem::take(&mut blocks.count) > 0;
        self.bytes.fetch_sub(bytes, Relaxed);
        if any {
            let files = self.clone();
            // What cannot be removed now is removed at the next start.
            let _ = blocking(move || Ok(files.folder()?.remove_blocks(id)?)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_so_many_at_a_time() {
        let uploads = Uploads::default();
        let now = Timestamp::from_unix_secs(1_800_000_000);
        let add = |number: u8, device: &str, now: Timestamp| {
            let key = FileKey::parse(&format!("{device}/f")).unwrap();
            uploads.add(ContentId::new([number; 16]), UploadDocument { key, expires: now.plus_secs(60) }, now)
        };
        for number in 0..10 {
            add(number, "a", now.plus_secs(i64::from(number))).unwrap();
        }
        assert_eq!(add(10, "a", now.plus_secs(9)), Err(FileError::TooManyUploads));
        assert_eq!(add(11, "b", now), Ok(()));
        assert_eq!(uploads.expired(now.plus_secs(61)).len(), 3, "two of a, one of b");
        assert_eq!(add(12, "a", now.plus_secs(60)), Ok(()), "one is over");
        uploads.remove(ContentId::new([5; 16]));
        assert_eq!(add(13, "a", now.plus_secs(60)), Ok(()));
        assert_eq!(add(14, "a", now.plus_secs(60)), Err(FileError::TooManyUploads));
    }
}
