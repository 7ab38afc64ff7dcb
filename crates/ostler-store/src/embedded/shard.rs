//! One part of a table: its records in slots, the way from an id to a slot, and what open snapshots
//! still need of what was replaced.
//!
//! ```text
//!   table: hash(id) ──> slot          slots:  [ record | record | free | record | ... ]
//!                                     undo:   slot ──> (since batch 8: these bytes before it), ...
//! ```
//!
//! A record keeps its slot while it lives, so that whoever looks at all of them can let go of the lock
//! in between, and so that a column can be a plain array beside the slots.
//!
//! Must not know: disks, names, other shards; what a record holds beyond its head.
//!
//! Invariant: `table` leads to exactly the slots that hold a record; `free` lists the others.
//! Invariant: a column knows what each slot holds now.
//! Invariant: a slot's older versions are in the order of the batches that replaced them.

use super::epoch::{Epoch, Keeping};
use super::query::Kept;
use crate::record::header::Head;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet, HashTable};
use std::hash::BuildHasher;

/// Bytes that one older version takes beside its record.
const OLD_BYTES: u64 = 96;
/// Slots added at once when none is free, as a part of those there are.
const GROWTH: usize = 4;
const LEAST_GROWTH: usize = 16;

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Shard {
    table: HashTable<u32>,
    slots: Vec<Option<Box<[u8]>>>,
    free: Vec<u32>,
    undo: HashMap<u32, Vec<Old>, RandomState>,
    /// Ids whose activity times are newer than on disk.
    pub(crate) dirty: HashSet<Box<str>>,
    /// What queries ask for often, beside the slots.
    pub(crate) columns: Vec<Kept>,
}

/// What a slot held before a batch; `None`: nothing.
struct Old {
    replaced_by: Epoch,
    bytes: Option<Box<[u8]>>,
}

impl Shard {
    /// The slot of a record.
    pub(crate) fn find(&self, hash: u64, id: &str) -> Option<u32> {
        let Shard { table, slots, .. } = self;
        table.find(hash, |slot| is(slots, *slot, id)).copied()
    }

    /// What a slot holds now.
    pub(crate) fn get(&self, slot: u32) -> Option<&[u8]> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// What a slot holds now, to change its activity times.
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Box<[u8]>> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Slots there are, with or without a record.
    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Records there are now.
    pub(crate) fn records(&self) -> usize {
        self.table.len()
    }

    /// The column of this number, if it is built here.
    pub(crate) fn column(&self, number: u32) -> Option<&Kept> {
        self.columns.iter().find(|column| column.tracked.number == number)
    }

    /// The records there are now.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    /// What a slot held after the batch `at`; `at` must be open as a snapshot.
    pub(crate) fn version(&self, slot: u32, at: Epoch) -> Option<&[u8]> {
        match self.older(slot, at) {
            Some(old) => old,
            None => self.get(slot),
        }
    }

    /// Whether any slot has changed since the oldest open snapshot.
    pub(crate) fn has_older(&self) -> bool {
        !self.undo.is_empty()
    }

    /// What a slot held after the batch `at`, if it has changed since.
    #[allow(clippy::option_option)] // "not changed" and "changed, and there was nothing" differ
    pub(crate) fn older(&self, slot: u32, at: Epoch) -> Option<Option<&[u8]>> {
        if self.undo.is_empty() {
            return None;
        }
        let old = self.undo.get(&slot)?.iter().find(|old| old.replaced_by > at)?;
        Some(old.bytes.as_deref())
    }

    /// The slots that have changed since the batch `at`.
    pub(crate) fn changed_since(&self, at: Epoch) -> impl Iterator<Item = (u32, Option<&[u8]>)> {
        self.undo.iter().filter_map(move |(slot, versions)| {
            let old = versions.iter().find(|old| old.replaced_by > at)?;
            Some((*slot, old.bytes.as_deref()))
        })
    }

    /// The record of an id as it was after the batch `at`.
    pub(crate) fn at(&self, hash: u64, id: &str, at: Epoch) -> Option<&[u8]> {
        let is_it = |bytes: &&[u8]| Head::trusted(bytes).id_as_bytes() == id.as_bytes();
        let here = self.find(hash, id).and_then(|slot| self.version(slot, at)).filter(is_it);
        // Deleted, or created again elsewhere, since then.
        here.or_else(|| self.changed_since(at).filter_map(|(_, bytes)| bytes).find(is_it))
    }

    /// Puts a record in place of the one in its slot.
    pub(crate) fn replace(&mut self, slot: u32, bytes: Box<[u8]>, keep: Keeping<'_>) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            let old = place.replace(bytes);
            self.keep(slot, old, keep);
        }
    }

    /// Adds a record whose id has none yet; gives its slot.
    pub(crate) fn insert(
        &mut self,
        hasher: &RandomState,
        hash: u64,
        bytes: Box<[u8]>,
        keep: Keeping<'_>,
    ) -> u32 {
        let slot = self.take_slot();
        self.slots[slot as usize] = Some(bytes);
        let Shard { table, slots, .. } = self;
        table.insert_unique(hash, slot, |slot| hasher.hash_one(id_in(slots, *slot)));
        self.keep(slot, None, keep);
        slot
    }

    /// Empties a slot, which holds the record of this hash.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, keep: Keeping<'_>) {
        if let Ok(entry) = self.table.find_entry(hash, |have| *have == slot) {
            entry.remove();
            let old = self.slots[slot as usize].take();
            self.free.push(slot);
            self.columns.iter_mut().for_each(|column| column.clear(slot));
            self.keep(slot, old, keep);
        }
    }

    /// Drops the versions that were replaced by the batch `upto` or an earlier one, which no snapshot
    /// needs any more. Tells how many bytes they took, and whether some are left.
    pub(crate) fn forget(&mut self, upto: Epoch) -> (u64, bool) {
        let mut bytes = 0;
        self.undo.retain(|_, versions| {
            let needless = versions.iter().take_while(|old| old.replaced_by <= upto).count();
            bytes += versions.drain(..needless).map(|old| old.size()).sum::<u64>();
            !versions.is_empty()
        });
        if self.undo.is_empty() {
            self.undo = HashMap::default();
        }
        (bytes, !self.undo.is_empty())
    }

    fn keep(&mut self, slot: u32, bytes: Option<Box<[u8]>>, keep: Keeping<'_>) {
        let Some((epoch, newest, size)) = keep else { return };
        let versions = self.undo.entry(slot).or_default();
        // A version that came and went between two snapshots is seen by none.
        if versions.last().is_some_and(|last| last.replaced_by > newest) {
            return;
        }
        let old = Old { replaced_by: epoch, bytes };
        *size += old.size();
        versions.push(old);
    }

    fn take_slot(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / GROWTH).max(LEAST_GROWTH));
        }
        self.slots.push(None);
        u32::try_from(self.slots.len() - 1).expect("a shard of 2^32 records exceeds any memory")
    }
}

impl Old {
    fn size(&self) -> u64 {
        OLD_BYTES + self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

fn is(slots: &[Option<Box<[u8]>>], slot: u32, id: &str) -> bool {
    id_in(slots, slot) == id.as_bytes()
}

fn id_in(slots: &[Option<Box<[u8]>>], slot: u32) -> &[u8] {
    slots[slot as usize].as_deref().map_or(&[], |bytes| Head::trusted(bytes).id_as_bytes())
}
