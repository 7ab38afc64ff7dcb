//! Bytes of a file on their way in: as a whole, or as blocks and then the list of them.
//!
//! Must not know: how they come.
//!
//! Invariant: at most [`BUFFER`] bytes of a file that is being written are in memory.
//! Invariant: what is returned as kept is synced; a file shows under its name only when all of it is.

use super::document::FileInfo;
use super::grant::UploadGrant;
use super::uploads::Upload;
use super::{blocking, to_the_end, FileError, Files, Replace, Reservation};
use crate::hub::Hub;
use ostler_core::file::FileKey;
use ostler_core::limits::{FILE_BLOCKS, FILE_BLOCK_ID_BYTES};
use ostler_core::time::Timestamp;
use ostler_store::{FileFolder, Writing};
use ring::digest::{Context, Digest, SHA256};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes gathered before they are written.
const BUFFER: usize = 64 * 1024;

/// A file or a block that is being written; dropped, it is as if it had never come.
pub struct IncomingFile {
    files: Arc<Files>,
    upload: Arc<Upload>,
    /// Away while the disk is busy with it.
    pen: Option<Pen>,
    buffer: Vec<u8>,
    size: u64,
    _turn: OwnedSemaphorePermit,
}

/// As what a file is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoreAs<'a> {
    /// The media type.
    pub content_type: Option<&'a str>,
    /// Whether it takes the place of one with its name.
    pub replace: Replace,
}

/// What writes, off the runtime's threads.
struct Pen {
    folder: Arc<FileFolder>,
    writing: Writing,
    hash: Context,
    reserved: Reservation,
}

impl Pen {
    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let more = self.reserved.files.reserve(bytes.len() as u64)?;
        self.reserved.files.check_disk(&self.folder)?;
        self.writing.write(bytes)?;
        self.hash.update(bytes);
        self.reserved.bytes += more.bytes;
        more.keep();
        Ok(())
    }
}

impl Hub {
    /// Begins to write a file, or a block of it, with a grant that [`Hub::start_upload`] gave. Waits for its turn
    /// when many are being written.
    ///
    /// # Errors
    /// [`FileError::Denied`], [`FileError::NoRoom`], or the disk's.
    pub async fn receive_file(&self, key: &FileKey, grant: &UploadGrant) -> Result<IncomingFile, FileError> {
        let upload = self.granted(key, grant)?;
        let files = self.files.clone();
        let turn = files.writers.clone().acquire_owned().await.map_err(|_| FileError::Disk)?;
        let begin = files.clone();
        let pen = blocking(move || {
            let folder = begin.folder()?;
            begin.check_disk(&folder)?;
            let writing = folder.begin()?;
            Ok(Pen { folder, writing, hash: Context::new(&SHA256), reserved: begin.reserve(0)? })
        });
        let pen = Some(pen.await?);
        Ok(IncomingFile { files, upload, pen, buffer: Vec::new(), size: 0, _turn: turn })
    }

    /// Puts the blocks of an upload together, in this order, and stores them as the file. The same list sent again,
    /// because its answer was lost, is the same file.
    ///
    /// # Errors
    /// [`FileError::Denied`], [`FileError::MissingBlock`], [`FileError::TooLarge`], [`FileError::NoRoom`], or the disk's.
    pub async fn commit_blocks(
        &self,
        key: &FileKey,
        grant: &UploadGrant,
        list: Vec<Vec<u8>>,
        store_as: StoreAs<'_>,
    ) -> Result<FileInfo, FileError> {
        let (upload, files, now) = (self.granted(key, grant)?, self.files.clone(), self.now());
        if list.len() > FILE_BLOCKS {
            return Err(FileError::TooManyBlocks);
        }
        let (content_type, replace) = (store_as.content_type.map(Into::into), store_as.replace);
        to_the_end(async move { files.commit_list(&upload, list, content_type, replace, now).await }).await
    }

    /// Whether a grant is good for a file now.
    ///
    /// # Errors
    /// [`FileError::Denied`].
    pub fn check_upload(&self, key: &FileKey, grant: &UploadGrant) -> Result<(), FileError> {
        self.granted(key, grant).map(|_| ())
    }

    fn granted(&self, key: &FileKey, grant: &UploadGrant) -> Result<Arc<Upload>, FileError> {
        if !self.files.grants.is_genuine(key, grant) {
            return Err(FileError::Denied("the signature does not fit this file"));
        }
        if grant.expires <= self.now() {
            return Err(FileError::Denied("the signature has expired; begin the upload again"));
        }
        let upload = self.files.uploads.get(grant.upload);
        upload.ok_or(FileError::Denied("the upload has ended; begin it again"))
    }
}

impl IncomingFile {
    /// Appends.
    ///
    /// # Errors
    /// [`FileError::TooLarge`], [`FileError::NoRoom`], or the disk's.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        self.size += bytes.len() as u64;
        let limit = self.files.options.file_bytes;
        if self.size > limit {
            return Err(FileError::TooLarge(limit));
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), FileError> {
        let mut pen = self.pen.take().ok_or(FileError::Disk)?;
        let buffer = std::mem::take(&mut self.buffer);
        let (pen, mut buffer) = blocking(move || {
            pen.write(&buffer)?;
            Ok((pen, buffer))
        })
        .await?;
        buffer.clear();
        (self.pen, self.buffer) = (Some(pen), buffer);
        Ok(())
    }

    async fn finish(mut self) -> Result<(Arc<Files>, Arc<Upload>, Pen, u64), FileError> {
        self.flush().await?;
        let pen = self.pen.take().ok_or(FileError::Disk)?;
        Ok((self.files, self.upload, pen, self.size))
    }

    /// Keeps what was written as a block of the upload, instead of an earlier one of the same id.
    ///
    /// # Errors
    /// [`FileError::TooLarge`] and [`FileError::TooManyBlocks`] for all blocks together, [`FileError::Denied`] when the
    /// upload has ended meanwhile, or the disk's.
    pub async fn keep_block(self, block: &[u8]) -> Result<(), FileError> {
        if block.is_empty() || block.len() > FILE_BLOCK_ID_BYTES {
            return Err(FileError::Denied("a block's id has 1 to 64 bytes"));
        }
        let (files, upload, pen, size) = self.finish().await?;
        let block = block.to_vec();
        let mut blocks = upload.blocks.clone().lock_owned().await;
        if blocks.closed {
            return Err(FileError::Denied("the upload has ended; begin it again"));
        }
        if blocks.count >= FILE_BLOCKS {
            return Err(FileError::TooManyBlocks);
        }
        let limit = files.options.file_bytes;
        // A block may be sent again, so the limit of all of them is kept when they are put together.
        if blocks.bytes > limit {
            return Err(FileError::TooLarge(limit));
        }
        blocking(move || {
            let Pen { folder, writing, reserved, .. } = pen;
            let before = folder.keep_block(writing, upload.id, &block)?;
            reserved.keep();
            blocks.count += usize::from(before.is_none());
            blocks.bytes = (blocks.bytes + size).saturating_sub(before.unwrap_or(0));
            files.bytes.fetch_sub(before.unwrap_or(0), Relaxed);
            Ok(())
        })
        .await
    }

    /// Keeps what was written as the file.
    ///
    /// # Errors
    /// [`FileError::NoRoom`], or the disk's or the store's.
    pub async fn keep_file(self, store_as: StoreAs<'_>, now: Timestamp) -> Result<FileInfo, FileError> {
        let (files, upload, pen, size) = self.finish().await?;
        let (content_type, replace) = (store_as.content_type.map(Into::into), store_as.replace);
        to_the_end(async move {
            let blocks = upload.blocks.clone().lock_owned().await;
            if blocks.closed {
                return Err(FileError::Denied("the upload has ended; begin it again"));
            }
            let content = files.fresh_id()?;
            let Pen { folder, writing, hash, reserved } = pen;
            blocking(move || Ok(folder.keep_content(writing, content)?)).await?;
            let info = FileInfo {
                key: upload.key.clone(),
                size,
                sha256: bytes_of(&hash.finish()),
                modified: now,
                etag: FileInfo::etag_of(content),
                content_type,
                upload: upload.id,
                content,
                list: None,
            };
            files.publish(info, replace, reserved).await
        })
        .await
    }
}

impl Files {
    async fn commit_list(
        self: &Arc<Files>,
        upload: &Upload,
        list: Vec<Vec<u8>>,
        content_type: Option<Box<str>>,
        replace: Replace,
        now: Timestamp,
    ) -> Result<FileInfo, FileError> {
        let blocks = upload.blocks.clone().lock_owned().await;
        if blocks.closed {
            return Err(FileError::Denied("the upload has ended; begin it again"));
        }
        let hash = list_hash(&list);
        let (content, files, id) = (self.fresh_id()?, self.clone(), upload.id);
        let measured = blocking(move || Ok((files.folder()?.measure_list(id, &list)?, list)));
        let (size, list) = match measured.await {
            Ok(measured) => measured,
            Err(error @ FileError::MissingBlock(_)) => {
                let stored = self.file(&upload.key).await?;
                let same = stored.filter(|info| info.upload == upload.id && info.list == Some(hash));
                return same.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        // A list may name a block more than once: what would be too much is not even begun.
        let limit = self.options.file_bytes;
        if size > limit {
            return Err(FileError::TooLarge(limit));
        }
        let (reserved, files) = (self.reserve_instead(size, blocks.bytes)?, self.clone());
        let sha256 = blocking(move || {
            let folder = files.folder()?;
            let mut sum = Context::new(&SHA256);
            folder.assemble(id, &list, content, &mut |part| {
                sum.update(part);
                files.check_disk(&folder)
            })?;
            Ok(bytes_of(&sum.finish()))
        });
        let sha256 = sha256.await?;
        let info = FileInfo {
            key: upload.key.clone(),
            size,
            sha256,
            modified: now,
            etag: FileInfo::etag_of(content),
            content_type,
            upload: upload.id,
            content,
            list: Some(hash),
        };
        let info = self.publish(info, replace, reserved).await?;
        self.drop_blocks(upload.id, blocks).await;
        Ok(info)
    }

    /// Sets bytes aside that take the place of others, which are given back soon.
    fn reserve_instead(self: &Arc<Files>, bytes: u64, others: u64) -> Result<Reservation, FileError> {
        let mut reserved = self.reserve(bytes.saturating_sub(others))?;
        self.bytes.fetch_add(bytes - reserved.bytes, Relaxed);
        reserved.bytes = bytes;
        Ok(reserved)
    }
}

fn list_hash(list: &[Vec<u8>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for block in list {
        context.update(&[u8::try_from(block.len()).unwrap_or(u8::MAX)]);
        context.update(block);
    }
    bytes_of(&context.finish())
}

fn bytes_of(digest: &Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
