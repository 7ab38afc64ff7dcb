//! Every record in memory, as the bytes that the disk holds: what all reads are answered from.
//!
//! ```text
//!        hash(id) ── six bits ──> shard 0..63, each behind its own lock
//!                                   HashTable< Box<[u8]> >   the record, its id inside
//!                                   dirty: ids whose activity times are newer than on disk
//!        devices, modules: Names    the ids in order, for listing
//! ```
//!
//! A boxed slice per entity costs 16 bytes of pointer, its allocation, and about two bytes of table.
//! Readers hold one shard's lock while they decode, which is a microsecond.
//!
//! Must not know: disks, fsync, revision checks, shapes.
//!
//! Invariant: only the writer thread adds, replaces or removes records, and only after they are
//! durable. Anyone may change a record's activity times ([`Model::touch`]).
//! Invariant: `devices` and `modules` hold the ids of all records and nothing else.

use super::names::{self, Names};
use crate::record::header::{self, Head};
use crate::{Counts, Revision, Setting};
use foldhash::fast::RandomState;
use hashbrown::{HashSet, HashTable};
use ostler_core::record::Activity;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SHARDS: usize = 64;
/// Where in the hash the shard's number is: the tables inside use the lowest and the seven highest bits.
const SHARD_SHIFT: u32 = 40;

/// See the module documentation.
pub(crate) struct Model {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
    devices: RwLock<Names>,
    modules: RwLock<Names>,
    settings: RwLock<BTreeMap<Box<str>, Setting>>,
    damaged: RwLock<BTreeMap<Box<str>, String>>,
    tally: Tally,
    any_dirty: AtomicBool,
}

#[derive(Default)]
struct Shard {
    table: HashTable<Box<[u8]>>,
    dirty: HashSet<Box<str>>,
}

#[derive(Default)]
struct Tally {
    devices: AtomicU64,
    disabled: AtomicU64,
    modules: AtomicU64,
    bytes: AtomicU64,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            devices: RwLock::default(),
            modules: RwLock::default(),
            settings: RwLock::default(),
            damaged: RwLock::default(),
            tally: Tally::default(),
            any_dirty: AtomicBool::new(false),
        }
    }

    /// Hands the record's bytes to `read` while its shard is locked.
    pub(crate) fn read<T>(&self, id: &str, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let hash = self.hasher.hash_one(id.as_bytes());
        let shard = self.shard(hash).read();
        shard.table.find(hash, |bytes| is(bytes, id)).map(|bytes| read(bytes))
    }

    pub(crate) fn revision(&self, id: &str) -> Option<Revision> {
        self.read(id, |bytes| Head::trusted(bytes).revision())
    }

    /// Why the record of `id` could not be read when the store was opened.
    pub(crate) fn damage(&self, id: &str) -> Option<String> {
        self.damaged.read().get(id).cloned()
    }

    pub(crate) fn damaged(&self) -> Vec<(Box<str>, String)> {
        self.damaged.read().iter().map(|(id, why)| (id.clone(), why.clone())).collect()
    }

    /// Up to `limit` device ids above `after`, in order.
    pub(crate) fn devices_above(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        self.devices.read().above(after, limit)
    }

    /// The ids (`device/module`) of a device's modules, in order.
    pub(crate) fn modules_of(&self, device: &str) -> Vec<String> {
        self.modules.read().with_prefix(&format!("{device}/"))
    }

    pub(crate) fn setting(&self, name: &str) -> Option<Setting> {
        self.settings.read().get(name).cloned()
    }

    pub(crate) fn settings(&self) -> Vec<(Box<str>, Setting)> {
        self.settings.read().iter().map(|(name, setting)| (name.clone(), setting.clone())).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let Tally { devices, disabled, modules, .. } = &self.tally;
        Counts { devices: load(devices), disabled: load(disabled), modules: load(modules) }
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> u64 {
        load(&self.tally.bytes)
    }

    /// A copy of every record, in no order.
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for shard in &self.shards {
            records.extend(shard.read().table.iter().map(|bytes| bytes.to_vec()));
        }
        records
    }

    /// Moves the activity times forward, in place; `false` if there is no such record.
    pub(crate) fn touch(&self, id: &str, activity: Activity) -> bool {
        let hash = self.hasher.hash_one(id.as_bytes());
        let mut shard = self.shard(hash).write();
        let Shard { table, dirty } = &mut *shard;
        let Some(bytes) = table.find_mut(hash, |bytes| is(bytes, id)) else { return false };
        let before = Head::trusted(bytes).activity();
        let after = later(before, activity);
        if after != before {
            header::set_activity(bytes, after);
            if !dirty.contains(id) {
                dirty.insert(id.into());
            }
            self.any_dirty.store(true, Ordering::Release);
        }
        true
    }

    /// `true` if some activity times are newer than on disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.any_dirty.load(Ordering::Acquire)
    }

    /// Takes up to `limit` records whose activity times are newer than on disk.
    pub(crate) fn take_dirty(&self, limit: usize) -> Vec<(Box<str>, Box<[u8]>)> {
        self.any_dirty.store(false, Ordering::Release);
        let mut taken = Vec::new();
        for shard in &self.shards {
            if shard.read().dirty.is_empty() {
                continue;
            }
            let mut shard = shard.write();
            let Shard { table, dirty } = &mut *shard;
            let left = limit - taken.len();
            taken.extend(dirty.extract_if(|_| true).take(left).filter_map(|id| {
                let hash = self.hasher.hash_one(id.as_bytes());
                let bytes = table.find(hash, |bytes| is(bytes, &id))?.clone();
                Some((id, bytes))
            }));
            if taken.len() == limit {
                self.any_dirty.store(true, Ordering::Release);
                break;
            }
        }
        taken
    }

    /// The disk did not take them.
    pub(crate) fn put_back_dirty<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        for id in ids {
            let hash = self.hasher.hash_one(id.as_bytes());
            self.shard(hash).write().dirty.insert(id.into());
        }
        self.any_dirty.store(true, Ordering::Release);
    }

    /// Adds a durable record, or puts it in place of the old one, whose later activity times it takes.
    pub(crate) fn put(&self, mut bytes: Box<[u8]>) {
        let head = Head::trusted(&bytes);
        let (is_module, is_enabled, length) = (head.is_module(), head.is_enabled(), bytes.len());
        let hash = self.hasher.hash_one(head.id_as_bytes());
        let mut shard = self.shard(hash).write();
        let Shard { table, dirty } = &mut *shard;
        if let Some(have) = table.find_mut(hash, |have| same(have, &bytes)) {
            let (old, new) = (Head::trusted(have), Head::trusted(&bytes));
            let activity = later(old.activity(), new.activity());
            self.tally.remove(is_module, old.is_enabled(), have.len());
            if activity != new.activity() {
                dirty.insert(new.id().into());
                self.any_dirty.store(true, Ordering::Release);
                header::set_activity(&mut bytes, activity);
            }
            *have = bytes;
        } else {
            let id: Box<str> = head.id().into();
            table.insert_unique(hash, bytes, |have| self.hash(have));
            drop(shard);
            let names = if is_module { &self.modules } else { &self.devices };
            names.write().insert(&id);
        }
        self.tally.add(is_module, is_enabled, length);
    }

    /// Removes a record, damaged or not.
    pub(crate) fn remove(&self, id: &str) {
        self.damaged.write().remove(id);
        let hash = self.hasher.hash_one(id.as_bytes());
        let mut shard = self.shard(hash).write();
        shard.dirty.remove(id);
        let Ok(entry) = shard.table.find_entry(hash, |bytes| is(bytes, id)) else { return };
        let (bytes, _) = entry.remove();
        drop(shard);
        let head = Head::trusted(&bytes);
        self.tally.remove(head.is_module(), head.is_enabled(), bytes.len());
        let names = if head.is_module() { &self.modules } else { &self.devices };
        names.write().remove(id);
    }

    pub(crate) fn put_setting(&self, name: &str, setting: Setting) {
        self.settings.write().insert(name.into(), setting);
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(Head::trusted(bytes).id_as_bytes())
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[shard_of(hash)]
    }
}

/// Fills a model from an ordered source while nobody else looks at it.
pub(crate) struct Loader {
    model: Model,
    devices: names::Builder,
    modules: names::Builder,
}

impl Loader {
    pub(crate) fn new() -> Loader {
        Loader { model: Model::new(), devices: names::Builder::default(), modules: names::Builder::default() }
    }

    /// Adds a record; ids come in ascending order, each once.
    pub(crate) fn add(&mut self, bytes: Box<[u8]>) {
        let head = Head::trusted(&bytes);
        self.model.tally.add(head.is_module(), head.is_enabled(), bytes.len());
        let names = if head.is_module() { &mut self.modules } else { &mut self.devices };
        names.push(head.id());
        let hasher = self.model.hasher.clone();
        let hash = hasher.hash_one(head.id_as_bytes());
        let shard = self.model.shards[shard_of(hash)].get_mut();
        shard.table.insert_unique(hash, bytes, |have| hasher.hash_one(Head::trusted(have).id_as_bytes()));
    }

    /// Notes a record that cannot be read.
    pub(crate) fn add_damaged(&mut self, id: &str, why: String) {
        self.model.damaged.get_mut().insert(id.into(), why);
    }

    pub(crate) fn add_setting(&mut self, name: &str, setting: Setting) {
        self.model.settings.get_mut().insert(name.into(), setting);
    }

    pub(crate) fn build(mut self) -> Model {
        *self.model.devices.get_mut() = self.devices.build();
        *self.model.modules.get_mut() = self.modules.build();
        self.model
    }
}

/// Times never run backwards.
fn later(a: Activity, b: Activity) -> Activity {
    Activity {
        last_activity: a.last_activity.max(b.last_activity),
        connection_updated: a.connection_updated.max(b.connection_updated),
    }
}

impl Tally {
    fn add(&self, is_module: bool, is_enabled: bool, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        match (is_module, is_enabled) {
            (true, _) => self.modules.fetch_add(1, Ordering::Relaxed),
            (false, true) => self.devices.fetch_add(1, Ordering::Relaxed),
            (false, false) => {
                self.disabled.fetch_add(1, Ordering::Relaxed);
                self.devices.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    fn remove(&self, is_module: bool, is_enabled: bool, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        match (is_module, is_enabled) {
            (true, _) => self.modules.fetch_sub(1, Ordering::Relaxed),
            (false, true) => self.devices.fetch_sub(1, Ordering::Relaxed),
            (false, false) => {
                self.disabled.fetch_sub(1, Ordering::Relaxed);
                self.devices.fetch_sub(1, Ordering::Relaxed)
            }
        };
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn is(bytes: &[u8], id: &str) -> bool {
    Head::trusted(bytes).id_as_bytes() == id.as_bytes()
}

fn same(a: &[u8], b: &[u8]) -> bool {
    Head::trusted(a).id_as_bytes() == Head::trusted(b).id_as_bytes()
}
