//! The durable copy: a fjall database with one keyspace.
//!
//! ```text
//!   01 number:u32 (big-endian)   -> a shape
//!   02 name                      -> a setting
//!   03 id                        -> a record
//!   04 shelf, key                -> a document
//! ```
//!
//! One keyspace, because fjall deletes a journal only when every keyspace that has entries in it was
//! flushed: a keyspace of a few kilobytes would hold on to journals of 64 MiB.
//!
//! What fjall 3.1 promises, and where we do not rely on it, is in `docs/store-format.md`.
//!
//! Must not know: records' contents, revisions, who waits.
//!
//! Invariant: [`Disk::write`] returns `Ok` only after fdatasync; all of the batch is there or none.
//! Invariant: a batch has at most one entry per key (entries of one batch have no order in fjall).

use super::journal;
use crate::OpenError;
use fjall::config::{BlockSizePolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const KEYSPACE: &str = "ostler";
/// Blocks are only ever read in long scans.
const BLOCK_BYTES: u32 = 32 * 1024;
/// Least bytes of journals that fjall accepts.
pub(crate) const LEAST_JOURNALS: u64 = 64 * 1024 * 1024;
/// fjall's cache: nothing is read twice.
const CACHE_BYTES: u64 = 1024 * 1024;

/// Full tables in memory that wait to be written; fjall stops at 4.
const MOST_SEALED: usize = 3;
/// Files that wait to be merged; fjall stops at 30.
const MOST_YOUNG: usize = 24;
/// How often to look whether fjall has caught up.
const CATCH_UP: Duration = Duration::from_millis(1);

/// First byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Shape = 1,
    Setting = 2,
    Record = 3,
    Document = 4,
}

/// How large the engine's parts may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bytes of the table in memory that gathers writes before they go to a sorted file.
    pub(crate) memtable: u64,
    /// Bytes of all journals before the oldest is forced out.
    pub(crate) journals: u64,
    /// Threads that flush and compact.
    pub(crate) workers: usize,
}

/// See the module documentation.
pub(crate) struct Disk {
    open: Option<Open>,
    folder: PathBuf,
    sizes: Sizes,
    /// Sequence number from which on nothing was acknowledged.
    acknowledged_below: u64,
    /// Held by every snapshot.
    using: Arc<()>,
}

struct Open {
    db: Database,
    keyspace: Keyspace,
}

impl Open {
    /// Waits while fjall is behind with writing and merging its files.
    ///
    /// fjall waits by itself, a little later; but if its worker has failed meanwhile, on a full disk
    /// say, it waits for ever.
    fn keep_up(&self) -> Result<(), WriteError> {
        while self.keyspace.sealed_memtable_count() >= MOST_SEALED
            || self.keyspace.l0_table_count() >= MOST_YOUNG
        {
            self.db.persist(PersistMode::Buffer).map_err(|error| WriteError(describe(&error)))?;
            std::thread::sleep(CATCH_UP);
        }
        Ok(())
    }
}

/// What is stored under one key.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    key: fjall::Slice,
    pub(crate) value: fjall::Slice,
}

impl Entry {
    /// The key without its kind.
    pub(crate) fn name(&self) -> &[u8] {
        &self.key[1..]
    }
}

/// One atomic batch in the making.
pub(crate) struct Batch(Vec<(fjall::Slice, Option<fjall::Slice>)>);

/// Why a batch is not durable. It may have reached the disk or not; see [`Disk::reopen`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WriteError(String);

impl Disk {
    /// Opens the database in `folder`, or makes one, after a look at its journals.
    pub(crate) fn open(folder: &Path, sizes: Sizes) -> Result<Disk, OpenError> {
        let mut disk = Disk {
            open: None,
            folder: folder.into(),
            sizes,
            acknowledged_below: u64::MAX,
            using: Arc::default(),
        };
        disk.start(None)?;
        Ok(disk)
    }

    /// Writes the batch and waits until it is durable.
    pub(crate) fn write(&mut self, batch: Batch) -> Result<(), WriteError> {
        let open = self.open.as_ref().ok_or_else(closed)?;
        open.keep_up()?;
        let mut write = open.db.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in batch.0 {
            match value {
                Some(value) => write.insert(&open.keyspace, key, value),
                None => write.remove(&open.keyspace, key),
            }
        }
        write.commit().map_err(|error| WriteError(describe(&error)))?;
        self.acknowledged_below = open.db.seqno();
        Ok(())
    }

    /// After a failed write: closes the database, cuts what was never acknowledged off its journal,
    /// and opens it again. The disk then holds exactly what was acknowledged.
    pub(crate) fn reopen(&mut self) -> Result<(), OpenError> {
        self.open = None;
        if Arc::strong_count(&self.using) > 1 {
            // Its journal would be written to once more, behind our back, when the backup ends.
            return Err(self.unreadable_because("a backup still reads from before the failure"));
        }
        self.start(Some(self.acknowledged_below))
    }

    /// The keyspace, for whoever reads documents; to be let go of before [`Disk::reopen`].
    pub(crate) fn keyspace(&self) -> Option<Keyspace> {
        self.open.as_ref().map(|open| open.keyspace.clone())
    }

    /// Shapes, settings and records in key order; documents stay where they are.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<Entry, OpenError>> + '_ {
        let entries = self.open.iter().flat_map(|open| open.keyspace.range(..[Kind::Document as u8]));
        entries.filter_map(|entry| match entry.into_inner() {
            Ok((key, value)) => Some(Ok(Entry { kind: kind_of(&key)?, key, value })),
            Err(error) => Some(Err(self.unreadable(&error))),
        })
    }

    /// A consistent view of all that is durable now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, WriteError> {
        let open = self.open.as_ref().ok_or_else(closed)?;
        Ok(Snapshot {
            snapshot: open.db.snapshot(),
            keyspace: open.keyspace.clone(),
            _using: self.using.clone(),
        })
    }

    /// Bytes that this process may still write to the disk, if the system tells.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Where the database is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn start(&mut self, keep_below: Option<u64>) -> Result<(), OpenError> {
        if self.folder.exists() {
            let checked = journal::check(&self.folder, keep_below)
                .map_err(|error| OpenError::Journal { reason: error.to_string() })?;
            if checked.cut > 0 {
                tracing::warn!(bytes = checked.cut, "cut a torn write, never acknowledged, off the journal");
            }
        }
        let unreadable = |error: fjall::Error| self.unreadable(&error);
        let db = Database::builder(&self.folder)
            .manual_journal_persist(true)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(self.sizes.journals)
            .worker_threads(self.sizes.workers)
            .open()
            .map_err(unreadable)?;
        let memtable = self.sizes.memtable;
        let options = move || {
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(memtable)
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::None))
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        };
        let keyspace = db.keyspace(KEYSPACE, options).map_err(unreadable)?;
        self.acknowledged_below = db.seqno();
        self.open = Some(Open { db, keyspace });
        Ok(())
    }

    fn unreadable(&self, error: &fjall::Error) -> OpenError {
        self.unreadable_because(&describe(error))
    }

    /// The database cannot be used, for a reason of ours.
    pub(crate) fn unreadable_because(&self, reason: &str) -> OpenError {
        OpenError::Engine { path: self.folder.clone(), reason: reason.into() }
    }
}

/// Told how many entries are written; answers whether to go on.
pub(crate) type Progress<'a> = &'a dyn Fn(u64) -> bool;

/// See [`Disk::snapshot`].
pub(crate) struct Snapshot {
    snapshot: fjall::Snapshot,
    keyspace: Keyspace,
    _using: Arc<()>,
}

impl Snapshot {
    /// Writes all entries into a new database in `folder`, which must not hold one.
    pub(crate) fn copy_to(
        &self,
        folder: &Path,
        sizes: Sizes,
        progress: Progress<'_>,
    ) -> Result<(), OpenError> {
        let entries = self.snapshot.iter(&self.keyspace).map(|entry| {
            let (key, value) = entry.into_inner()?;
            Ok((key.to_vec(), value.to_vec()))
        });
        write_new(folder, sizes, entries, progress)
    }
}

/// Writes entries, in key order, into a new database in `folder`, durably.
pub(crate) fn write_new(
    folder: &Path,
    sizes: Sizes,
    entries: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), fjall::Error>>,
    progress: Progress<'_>,
) -> Result<(), OpenError> {
    let unreadable =
        |error: fjall::Error| OpenError::Engine { path: folder.into(), reason: describe(&error) };
    let disk = Disk::open(folder, sizes)?;
    let Some(Open { db, keyspace }) = &disk.open else { return Ok(()) };
    let mut ingestion = keyspace.start_ingestion().map_err(unreadable)?;
    let mut count = 0u64;
    for entry in entries {
        let (key, value) = entry.map_err(unreadable)?;
        ingestion.write(key, value).map_err(unreadable)?;
        count += 1;
        if count % 1024 == 0 && !progress(count) {
            return Err(disk.unreadable_because("nobody waits for the copy any more"));
        }
    }
    ingestion.finish().map_err(unreadable)?;
    db.persist(PersistMode::SyncAll).map_err(unreadable)?;
    progress(count);
    Ok(())
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch(Vec::new())
    }

    pub(crate) fn put(&mut self, kind: Kind, name: &[u8], value: &[u8]) {
        self.0.push((key(kind, name).into(), Some(value.into())));
    }

    pub(crate) fn remove(&mut self, kind: Kind, name: &[u8]) {
        self.0.push((key(kind, name).into(), None));
    }
}

fn closed() -> WriteError {
    WriteError("the database is closed".into())
}

/// The key of an entry.
pub(crate) fn key(kind: Kind, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind as u8);
    key.extend_from_slice(name);
    key
}

fn kind_of(key: &[u8]) -> Option<Kind> {
    let kind = key.first()?;
    [Kind::Shape, Kind::Setting, Kind::Record, Kind::Document].into_iter().find(|known| *known as u8 == *kind)
}

/// fjall's own text says only `FjallError: Io(...)`.
fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(io) => io.to_string(),
        fjall::Error::Storage(storage) => format!("storage: {storage}"),
        fjall::Error::Locked => "another process has the database open".into(),
        fjall::Error::Poisoned => "an earlier write or flush failed".into(),
        other => format!("{other:?}"),
    }
}
