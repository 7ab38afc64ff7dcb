//! Every record in memory, as the bytes that the disk holds: what all reads are answered from.
//!
//! ```text
//!   devices, modules: a table each
//!        hash(id) ── six bits ──> shard 0..63, each behind its own lock: the records in slots
//!        names: the ids in order, for listing
//! ```
//!
//! A boxed slice per entity costs 16 bytes of pointer, its allocation, and about ten bytes of tables.
//! Readers hold one shard's lock while they decode, which is a microsecond.
//!
//! Must not know: disks, fsync, revision checks; what a query asks.
//!
//! Invariant: only the writer thread adds, replaces or removes records, and only after they are
//! durable. Anyone may change a record's activity times ([`Model::touch`]).
//! Invariant: a table's names are the ids of all its records and nothing else.

use super::epoch::{Epoch, Epochs, Publishing};
use super::names::{self, Names, Stretch};
use super::query::{Indexing, Judge, Skimmed, Tracked};
use super::shard::Shard;
use crate::record::header::{self, Head};
use crate::record::shapes::{Known, Shapes};
use crate::{Counts, Revision, Setting};
use foldhash::fast::RandomState;
use ostler_core::record::Activity;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const SHARDS: usize = 64;
/// Where in the hash the shard's number is: the tables inside use the lowest and the seven highest bits.
const SHARD_SHIFT: u32 = 40;
/// Bytes kept for open snapshots before the writer waits for them.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// How long it waits for them before who looks at them gives up.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module documentation.
pub(crate) struct Model {
    hasher: RandomState,
    devices: Table,
    modules: Table,
    epochs: Epochs,
    settings: RwLock<BTreeMap<Box<str>, Setting>>,
    damaged: RwLock<BTreeMap<Box<str>, String>>,
    tally: Tally,
    any_dirty: AtomicBool,
    /// Whether any shard may have a column.
    any_columns: AtomicBool,
}

/// All devices, or all modules.
pub(crate) struct Table {
    pub(crate) shards: Box<[RwLock<Shard>]>,
    pub(crate) names: RwLock<Names>,
    /// Names removed by these batches, while a snapshot is open.
    gone: Mutex<Vec<(Epoch, Box<str>)>>,
    /// A bit for each shard that keeps something for a snapshot.
    keeping: AtomicU64,
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
            devices: Table::new(),
            modules: Table::new(),
            epochs: Epochs::new(KEPT_BYTES, PATIENCE),
            settings: RwLock::default(),
            damaged: RwLock::default(),
            tally: Tally::default(),
            any_dirty: AtomicBool::new(false),
            any_columns: AtomicBool::new(false),
        }
    }

    /// Hands the record's bytes to `read` while its shard is locked.
    pub(crate) fn read<T>(&self, id: &str, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let hash = self.hash(id);
        let shard = self.table_of(id).shard(hash).read();
        let slot = shard.find(hash, id)?;
        shard.get(slot).map(read)
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
        self.devices.names.read().above(after, limit)
    }

    /// The ids (`device/module`) of a device's modules, in order.
    pub(crate) fn modules_of(&self, device: &str) -> Vec<String> {
        self.modules.names.read().with_prefix(&format!("{device}/"))
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
        for shard in self.devices.shards.iter().chain(&self.modules.shards) {
            records.extend(shard.read().iter().map(<[u8]>::to_vec));
        }
        records
    }

    /// Devices, or modules.
    pub(crate) fn table(&self, modules: bool) -> &Table {
        if modules {
            &self.modules
        } else {
            &self.devices
        }
    }

    /// The hash by which a table finds an id.
    pub(crate) fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id.as_bytes())
    }

    /// Moves the activity times forward, in place; `false` if there is no such record.
    pub(crate) fn touch(&self, id: &str, activity: Activity) -> bool {
        let hash = self.hash(id);
        let mut shard = self.table_of(id).shard(hash).write();
        let Some(slot) = shard.find(hash, id) else { return false };
        let Some(bytes) = shard.get_mut(slot) else { return false };
        let before = Head::trusted(bytes).activity();
        let after = later(before, activity);
        if after != before {
            header::set_activity(bytes, after);
            if !shard.dirty.contains(id) {
                shard.dirty.insert(id.into());
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
        for shard in self.devices.shards.iter().chain(&self.modules.shards) {
            if shard.read().dirty.is_empty() {
                continue;
            }
            let mut shard = shard.write();
            let left = limit - taken.len();
            let ids: Vec<Box<str>> = shard.dirty.extract_if(|_| true).take(left).collect();
            taken.extend(ids.into_iter().filter_map(|id| {
                let slot = shard.find(self.hash(&id), &id)?;
                let bytes = shard.get(slot)?.into();
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
            self.table_of(id).shard(self.hash(id)).write().dirty.insert(id.into());
        }
        self.any_dirty.store(true, Ordering::Release);
    }

    /// Begins a batch: what it changes is seen by no snapshot before it is dropped, and then whole.
    pub(crate) fn publish<'a>(&'a self, shapes: &'a Shapes, indexing: &'a mut Indexing) -> Publish<'a> {
        Publish { model: self, shapes, indexing, publishing: self.epochs.publish() }
    }

    /// A shard is about to have a column: its lock is held.
    pub(crate) fn has_columns(&self) {
        self.any_columns.store(true, Ordering::Release);
    }

    /// Drops a column, which is not built any more, from every shard.
    pub(crate) fn drop_column(&self, column: &Tracked) {
        for shard in &self.table(column.modules).shards {
            if shard.read().column(column.number).is_some() {
                let mut shard = shard.write();
                let place = shard.columns.iter().position(|have| have.tracked.number == column.number);
                let dropped = place.map(|place| shard.columns.swap_remove(place));
                drop(shard);
                drop(dropped);
            }
        }
    }

    /// A point between two batches, to look at everything as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { model: self, at: self.epochs.open() }
    }

    /// Whether whoever looks at the snapshot after this batch must give up, as changes wait for it.
    pub(crate) fn is_called_in(&self, at: Epoch) -> bool {
        self.epochs.is_called_in(at)
    }

    pub(crate) fn put_setting(&self, name: &str, setting: Setting) {
        self.settings.write().insert(name.into(), setting);
    }

    fn table_of(&self, id: &str) -> &Table {
        self.table(is_module(id))
    }
}

#[cfg(test)]
impl Model {
    /// Bytes kept for open snapshots.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.epochs.kept_bytes()
    }
}

/// A batch that is becoming visible.
pub(crate) struct Publish<'a> {
    model: &'a Model,
    shapes: &'a Shapes,
    indexing: &'a mut Indexing,
    publishing: Publishing<'a>,
}

impl Publish<'_> {
    /// Adds a durable record, or puts it in place of the old one, whose later activity times it takes.
    pub(crate) fn put(&mut self, mut bytes: Box<[u8]>) {
        let Model { hasher, tally, any_dirty, any_columns, .. } = self.model;
        let head = Head::trusted(&bytes);
        let (is_module, is_enabled, length) = (head.is_module(), head.is_enabled(), bytes.len());
        let table = self.model.table(is_module);
        let hash = hasher.hash_one(head.id_as_bytes());
        let mut shapes = any_columns.load(Ordering::Acquire).then(|| self.shapes.read());
        let mut locked = table.shard(hash).write();
        if shapes.is_none() && !locked.columns.is_empty() {
            // The shard's first column came just now; the shapes are locked before a shard.
            drop(locked);
            shapes = Some(self.shapes.read());
            locked = table.shard(hash).write();
        }
        let shard = &mut *locked;
        let mut kept = 0;
        let keep = self.publishing.keeping(&mut kept);
        let found = shard.find(hash, head.id());
        if let Some(have) = found.and_then(|slot| shard.get(slot)) {
            let old = Head::trusted(have);
            let activity = later(old.activity(), head.activity());
            tally.remove(is_module, old.is_enabled(), have.len());
            if activity != head.activity() {
                shard.dirty.insert(head.id().into());
                any_dirty.store(true, Ordering::Release);
                header::set_activity(&mut bytes, activity);
            }
        }
        let slot = match found {
            Some(slot) => {
                shard.replace(slot, bytes, keep);
                slot
            }
            None => shard.insert(hasher, hash, bytes, keep),
        };
        if kept > 0 {
            table.note_keeping(hash);
        }
        if let Some(shapes) = &shapes {
            self.indexing.note(shard, slot, shapes);
        }
        if found.is_none() {
            let id: Box<str> = shard.get(slot).map_or("", |bytes| Head::trusted(bytes).id()).into();
            drop(locked);
            table.names.write().insert(&id, slot);
        }
        self.publishing.kept(kept);
        tally.add(is_module, is_enabled, length);
    }

    /// Removes a record, damaged or not.
    pub(crate) fn remove(&mut self, id: &str) {
        self.model.damaged.write().remove(id);
        let hash = self.model.hash(id);
        let table = self.model.table_of(id);
        let mut shard = table.shard(hash).write();
        shard.dirty.remove(id);
        let Some(slot) = shard.find(hash, id) else { return };
        let Some(bytes) = shard.get(slot) else { return };
        let head = Head::trusted(bytes);
        self.model.tally.remove(head.is_module(), head.is_enabled(), bytes.len());
        let mut kept = 0;
        let keep = self.publishing.keeping(&mut kept);
        let batch = keep.as_ref().map(|(batch, ..)| *batch);
        shard.remove(hash, slot, keep);
        drop(shard);
        if let Some(batch) = batch {
            table.note_keeping(hash);
            // Before the name goes, so that whoever misses it there finds it here.
            table.gone.lock().push((batch, id.into()));
        }
        table.names.write().remove(id);
        self.publishing.kept(kept);
    }
}

/// Everything as it was after some batch; see [`Model::snapshot`]. Activity times are those of the
/// moment at which a record is looked at.
pub(crate) struct Snapshot<'a> {
    model: &'a Model,
    at: Epoch,
}

impl Snapshot<'_> {
    /// The batch it stands after.
    pub(crate) fn at(&self) -> Epoch {
        self.at
    }

    /// Hands a record's bytes to `read` while its shard is locked.
    pub(crate) fn read<T>(&self, id: &str, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let hash = self.model.hash(id);
        let shard = self.model.table_of(id).shard(hash).read();
        shard.at(hash, id, self.at).map(read)
    }

    /// Up to `limit` ids with their slots, as [`Snapshot::ids`]; `None` if some that belong there are
    /// gone from the names.
    pub(crate) fn stretch(
        &self,
        modules: bool,
        after: Option<&str>,
        limit: usize,
        stretch: &mut Stretch,
    ) -> Option<bool> {
        let table = self.model.table(modules);
        table.names.read().stretch_above(after, limit, stretch);
        // Looked at after the names: what leaves them is here before.
        table.gone.lock().is_empty().then_some(stretch.len() == limit)
    }

    /// Which of these ids a look at their records may find kept, to judge by columns; in order.
    pub(crate) fn skim(
        &self,
        modules: bool,
        stretch: &Stretch,
        judges: &[Judge<'_>],
        known: &Known,
        kept: &mut Vec<usize>,
    ) {
        let table = self.model.table(modules);
        let mut places: [Vec<usize>; SHARDS] = std::array::from_fn(|_| Vec::new());
        for place in 0..stretch.len() {
            let hash = self.model.hasher.hash_one(stretch.get(place).0);
            places[shard_of(hash)].push(place);
        }
        // One shard at a time: who holds one and waits for another stops writers and is stopped by them.
        for (shard, places) in table.shards.iter().zip(&places).filter(|(_, places)| !places.is_empty()) {
            let shard = Skimmed::of(shard.read(), judges, known);
            kept.extend(places.iter().filter(|place| shard.may_keep(stretch.get(**place).1)));
        }
        kept.sort_unstable();
    }

    /// Up to `limit` ids, in order, and `true` if there may be more above them. Some may have been
    /// created after the snapshot: reading them finds nothing.
    pub(crate) fn ids(&self, modules: bool, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
        let table = self.model.table(modules);
        let mut ids = table.names.read().above(after, limit);
        let is_cut = ids.len() == limit;
        let last = is_cut.then(|| ids.last().cloned()).flatten();
        let gone = table.gone.lock();
        let before = ids.len();
        let is_within =
            |id: &str| after.is_none_or(|after| id > after) && last.as_deref().is_none_or(|last| id <= last);
        let removed = gone.iter().filter(|(batch, id)| *batch > self.at && is_within(id));
        ids.extend(removed.map(|(_, id)| String::from(&**id)));
        drop(gone);
        if ids.len() > before {
            ids.sort_unstable();
            ids.dedup();
        }
        (ids, is_cut)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let Model { epochs, devices, modules, .. } = self.model;
        if let Some(upto) = epochs.close(self.at) {
            epochs.forgot(devices.forget(upto) + modules.forget(upto));
        }
    }
}

impl Table {
    fn new() -> Table {
        Table {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            names: RwLock::default(),
            gone: Mutex::default(),
            keeping: AtomicU64::new(0),
        }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[shard_of(hash)]
    }

    fn note_keeping(&self, hash: u64) {
        self.keeping.fetch_or(1 << shard_of(hash), Ordering::Release);
    }

    fn forget(&self, upto: Epoch) -> u64 {
        self.gone.lock().retain(|(batch, _)| *batch > upto);
        let keeping = self.keeping.load(Ordering::Acquire);
        let mut bytes = 0;
        for place in (0..SHARDS).filter(|place| keeping & (1 << place) != 0) {
            let mut shard = self.shards[place].write();
            let (forgot, some_left) = shard.forget(upto);
            bytes += forgot;
            if !some_left {
                // Within the lock: the writer sets the bit within it too.
                self.keeping.fetch_and(!(1 << place), Ordering::Release);
            }
        }
        bytes
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
        let Loader { model, devices, modules } = self;
        model.tally.add(head.is_module(), head.is_enabled(), bytes.len());
        let (table, names) =
            if head.is_module() { (&mut model.modules, modules) } else { (&mut model.devices, devices) };
        let id = String::from(head.id());
        let hash = model.hasher.hash_one(head.id_as_bytes());
        let slot = table.shards[shard_of(hash)].get_mut().insert(&model.hasher, hash, bytes, None);
        names.push(&id, slot);
    }

    /// Notes a record that cannot be read.
    pub(crate) fn add_damaged(&mut self, id: &str, why: String) {
        self.model.damaged.get_mut().insert(id.into(), why);
    }

    pub(crate) fn add_setting(&mut self, name: &str, setting: Setting) {
        self.model.settings.get_mut().insert(name.into(), setting);
    }

    pub(crate) fn build(mut self) -> Model {
        *self.model.devices.names.get_mut() = self.devices.build();
        *self.model.modules.names.get_mut() = self.modules.build();
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

fn is_module(id: &str) -> bool {
    id.contains('/')
}

fn shard_of(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
