//! Documents: what stays on the disk until somebody reads it.
//!
//! Without a disk they stand in a tree in memory instead.
//!
//! Must not know: what a document says; who writes it.
//!
//! Invariant: what is read here is durable: fjall shows a batch to readers after its sync.
//! Invariant: nobody holds on to the engine's files after [`Documents::close`] has returned.

use super::disk::{self, Disk, Kind};
use super::settings;
use crate::record::header::Damage;
use crate::{Document, OpenError, Revision, Shelf, StoreError};
use fjall::Keyspace;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Documents of a batch by key; `None` when it deletes one.
pub(crate) type Changed = HashMap<Box<[u8]>, Option<Vec<u8>>>;

/// See the module documentation.
pub(crate) struct Documents(RwLock<Place>);

enum Place {
    Disk(Keyspace),
    Memory(BTreeMap<Box<[u8]>, Vec<u8>>),
    /// Not to be read now, and why.
    Closed(String),
}

impl Documents {
    /// On a disk, or in memory if there is none.
    pub(crate) fn new(disk: Option<&Disk>) -> Documents {
        let documents = Documents(RwLock::new(Place::Memory(BTreeMap::new())));
        if let Some(disk) = disk {
            documents.open(disk);
        }
        documents
    }

    /// Reads from this disk from now on.
    pub(crate) fn open(&self, disk: &Disk) {
        *self.0.write() = match disk.keyspace() {
            Some(keyspace) => Place::Disk(keyspace),
            None => Place::Closed("the database is closed".into()),
        };
    }

    /// Lets go of the disk.
    pub(crate) fn close(&self, why: &str) {
        *self.0.write() = Place::Closed(why.into());
    }

    /// Takes what is durable now; a disk has it already.
    pub(crate) fn publish(&self, changed: Changed) {
        // Whoever reads a page from the disk holds this lock meanwhile; the writer must not wait for that.
        if changed.is_empty() || !matches!(*self.0.read(), Place::Memory(_)) {
            return;
        }
        if let Place::Memory(tree) = &mut *self.0.write() {
            for (key, bytes) in changed {
                match bytes {
                    Some(bytes) => tree.insert(key, bytes),
                    None => tree.remove(&key),
                };
            }
        }
    }

    pub(crate) fn get(&self, shelf: Shelf, key: &str) -> Result<Option<Document>, StoreError> {
        let stored = self.bytes(&self::key(shelf, key))?;
        stored.map(|bytes| read(key, &bytes)).transpose()
    }

    /// The revision of the document under a whole key.
    pub(crate) fn revision(&self, key: &[u8]) -> Result<Option<Revision>, StoreError> {
        let Some(bytes) = self.bytes(key)? else { return Ok(None) };
        revision_of(&bytes).map(Some).map_err(|damage| corrupt(&String::from_utf8_lossy(key), &damage))
    }

    /// See [`crate::Store::documents`].
    pub(crate) fn page(
        &self,
        shelf: Shelf,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<crate::Documents, StoreError> {
        let first = key(shelf, prefix);
        let from = match after.map(|after| key(shelf, after)) {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first.clone()),
        };
        let mut page = Vec::new();
        let mut add = |key: &[u8], bytes: &[u8]| {
            let name = String::from_utf8_lossy(&key[1..]);
            let document = read(&name, bytes)?;
            page.push((name.into(), document));
            Ok(())
        };
        match &*self.0.read() {
            Place::Memory(tree) => {
                let entries = tree.range::<Box<[u8]>, _>((from, Bound::Unbounded));
                for (key, bytes) in entries.take_while(|(key, _)| key.starts_with(&first)).take(limit) {
                    add(key, bytes)?;
                }
            }
            Place::Disk(keyspace) => {
                let from = from.map(|key| disk::key(Kind::Document, &key));
                for entry in keyspace.range((from, Bound::Unbounded)).take(limit) {
                    let (key, bytes) = entry.into_inner().map_err(|error| unreadable(&error))?;
                    if key[0] != Kind::Document as u8 || !key[1..].starts_with(&first) {
                        break;
                    }
                    add(&key[1..], &bytes)?;
                }
            }
            Place::Closed(why) => return Err(StoreError::Unavailable(why.clone())),
        }
        Ok(page)
    }

    /// Every document of a store without a disk, as the disk would hold it.
    pub(crate) fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        match &*self.0.read() {
            Place::Memory(tree) => {
                tree.iter().map(|(key, bytes)| (disk::key(Kind::Document, key), bytes.clone())).collect()
            }
            Place::Disk(_) | Place::Closed(_) => Vec::new(),
        }
    }

    fn bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &*self.0.read() {
            Place::Memory(tree) => Ok(tree.get(key).cloned()),
            Place::Disk(keyspace) => {
                let stored = keyspace.get(disk::key(Kind::Document, key));
                stored.map(|bytes| bytes.map(|bytes| bytes.to_vec())).map_err(|error| unreadable(&error))
            }
            Place::Closed(why) => Err(StoreError::Unavailable(why.clone())),
        }
    }
}

/// A document's key among all documents.
pub(crate) fn key(shelf: Shelf, key: &str) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(shelf as u8);
    bytes.extend_from_slice(key.as_bytes());
    bytes.into()
}

pub(crate) fn revision_of(bytes: &[u8]) -> Result<Revision, Damage> {
    settings::decode(bytes).map(|document| document.revision)
}

/// The highest revision of the documents that are compared when they are written: what became of jobs
/// on devices is not, and there may be a lot of it.
pub(crate) fn last_revision(disk: &Disk) -> Result<Revision, OpenError> {
    let Some(keyspace) = disk.keyspace() else { return Ok(0) };
    let mut last = 0;
    for shelf in [Shelf::Jobs, Shelf::Configurations] {
        for entry in keyspace.prefix(disk::key(Kind::Document, &[shelf as u8])) {
            let bytes = entry.value().map_err(|error| disk.unreadable_because(&error.to_string()))?;
            // A damaged one is told when it is read.
            last = last.max(revision_of(&bytes).unwrap_or(0));
        }
    }
    Ok(last)
}

fn read(key: &str, bytes: &[u8]) -> Result<Document, StoreError> {
    let stored = settings::decode(bytes).map_err(|damage| corrupt(key, &damage))?;
    Ok(Document { value: stored.value, revision: stored.revision })
}

fn corrupt(key: &str, damage: &Damage) -> StoreError {
    StoreError::Corrupt { id: key.into(), reason: damage.to_string() }
}

fn unreadable(error: &fjall::Error) -> StoreError {
    StoreError::Unavailable(format!("a document cannot be read: {error}"))
}
