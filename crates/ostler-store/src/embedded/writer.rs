//! The writer thread: the only place where records change.
//!
//! ```text
//!   commit() ──encode──> queue ──┐ everything that waits
//!                                v
//!                   check expectations: memory, then this batch so far
//!                                v
//!                   one atomic batch, one fdatasync      (the next batch fills the queue meanwhile)
//!                                v
//!                   publish to memory ──> answer every request of the batch
//! ```
//!
//! A conflict with a change of the same batch is answered with the rest of the batch, so that whoever
//! reloads after a conflict sees the record that won.
//!
//! Must not know: what a record holds beyond its head; async runtimes.
//!
//! Invariant: memory changes only after the sync, and before anyone is answered.
//! Invariant: after a failed write the disk is brought back to what memory holds before the next one.

use super::disk::{self, Disk, Kind, Snapshot};
use super::documents::Documents;
use super::model::Model;
use super::query::{Indexing, Registry};
use super::queue::{Drained, Queue, Room};
use super::status::Status;

use crate::record::header;
use crate::record::shapes::{NewShape, Shapes};
use crate::{CommitError, Expect, Revision, Setting, StoreError};
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Changes in one batch before the rest waits for the next.
const BATCH_WRITES: usize = 16 * 1024;
/// Activity times written in one batch.
const BATCH_ACTIVITY: usize = 4 * 1024;

/// One change, encoded.
pub(crate) enum Write {
    Put {
        id: Box<str>,
        device: Option<Box<str>>,
        bytes: Vec<u8>,
        expect: Expect,
    },
    /// A device goes with its modules.
    Delete {
        id: Box<str>,
        is_device: bool,
        expect: Option<Revision>,
    },
    Setting {
        name: Box<str>,
        value: Vec<u8>,
        expect: Expect,
    },
    /// `value`: the document's bytes, or `None` to delete it.
    Document {
        key: Box<[u8]>,
        value: Option<Vec<u8>>,
        expect: Option<Expect>,
    },
    /// All or none.
    Together(Vec<Write>),
    /// It met something newer before it came here.
    Refused(CommitError),
}

impl Write {
    /// Bytes that this takes in the queue.
    pub(crate) fn bytes(&self) -> usize {
        std::mem::size_of::<Write>()
            + match self {
                Write::Put { id, bytes, .. } => id.len() + bytes.len(),
                Write::Delete { id, .. } => id.len(),
                Write::Setting { name, value, .. } => name.len() + value.len(),
                Write::Document { key, value, .. } => key.len() + value.as_ref().map_or(0, Vec::len),
                Write::Together(writes) => writes.iter().map(Write::bytes).sum(),
                Write::Refused(_) => 0,
            }
    }

    /// How many entries of the disk's batch this makes.
    fn entries(&self) -> usize {
        match self {
            Write::Together(writes) => writes.iter().map(Write::entries).sum(),
            _ => 1,
        }
    }
}

/// Revision of a record that exists but cannot be read: no caller can expect it.
const UNREADABLE: Revision = u64::MAX;

/// What happened to each write, in order.
pub(crate) type Outcomes = Vec<Result<Revision, CommitError>>;

/// What the writer thread is asked.
pub(crate) enum Request {
    Commit {
        writes: Vec<Write>,
        answer: oneshot::Sender<Outcomes>,
        room: Room,
    },
    /// A consistent view of everything durable, activity times included.
    Snapshot {
        answer: oneshot::Sender<Result<View, StoreError>>,
    },
}

/// A consistent view: of the disk, or of the memory if there is none.
pub(crate) enum View {
    Disk(Snapshot),
    Memory(Vec<(Vec<u8>, Vec<u8>)>),
}

/// See the module documentation.
pub(crate) struct Writer {
    pub(crate) model: Arc<Model>,
    pub(crate) shapes: Arc<Shapes>,
    pub(crate) documents: Arc<Documents>,
    pub(crate) columns: Arc<Registry>,
    pub(crate) indexing: Indexing,
    pub(crate) queue: Arc<Queue<Request>>,
    /// `None`: everything stays in memory.
    pub(crate) disk: Option<Disk>,
    /// Revision of the last change.
    pub(crate) revision: Revision,
    /// How long activity times may stay in memory only.
    pub(crate) activity_every: Duration,
    /// Free bytes on the disk below which nothing is written.
    pub(crate) reserve: u64,
    /// Pause between attempts to bring a failed disk back.
    pub(crate) mend_every: Duration,
    pub(crate) broken: Option<Broken>,
    pub(crate) status: Arc<Status>,
}

/// The disk failed, and what it holds may be ahead of memory.
pub(crate) struct Broken {
    reason: String,
    retry_at: Instant,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut activity_due = Instant::now() + self.activity_every;
        loop {
            let Drained { requests, closed } = self.queue.drain(Some(activity_due));
            let nothing = requests.is_empty();
            self.serve(requests);
            if closed || Instant::now() >= activity_due {
                // One batch at a time, so that commits wait for one at most.
                let more = self.write_activity();
                self.mend_idle();
                activity_due = Instant::now() + if more { Duration::ZERO } else { self.activity_every };
                for column in self.columns.tidy(Instant::now()) {
                    self.model.drop_column(&column);
                }
                if closed && nothing && !more {
                    return;
                }
            }
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let mut commits = Commits::default();
        for request in requests {
            match request {
                Request::Commit { writes, answer, room } => {
                    let entries = writes.iter().map(Write::entries).sum::<usize>();
                    if commits.writes + entries > BATCH_WRITES {
                        self.commit(std::mem::take(&mut commits));
                    }
                    commits.writes += entries;
                    commits.requests.push((writes, answer, room));
                }
                Request::Snapshot { answer } => {
                    self.commit(std::mem::take(&mut commits));
                    while self.write_activity() {}
                    let _ = answer.send(self.view());
                }
            }
        }
        self.commit(commits);
    }

    fn commit(&mut self, commits: Commits) {
        if commits.requests.is_empty() {
            return;
        }
        let mut batch = Batch {
            model: &self.model,
            documents: &self.documents,
            changed: Changed::default(),
            last: self.revision,
            undo: None,
        };
        let mut answers = Vec::with_capacity(commits.requests.len());
        for (writes, answer, room) in commits.requests {
            let outcomes: Outcomes = writes.into_iter().map(|write| batch.stage(write)).collect();
            answers.push((answer, outcomes, room));
        }
        let Batch { changed, last, .. } = batch;
        match self.make_durable(&changed) {
            Ok(()) => {
                self.revision = last;
                self.documents.publish(changed.documents);
                publish(self, changed.records, changed.settings);
            }
            Err(error) => {
                for (_, outcomes, _) in &mut answers {
                    outcomes.fill_with(|| Err(CommitError::Store(error.clone())));
                }
            }
        }
        for (answer, outcomes, room) in answers {
            drop(room);
            // Nobody listens any more: the change stands all the same.
            let _ = answer.send(outcomes);
        }
    }

    /// Brings a disk that failed back even if nobody writes: until then documents may not be readable.
    fn mend_idle(&mut self) {
        if let (Some(broken), Some(disk)) = (&mut self.broken, &mut self.disk) {
            if mend(broken, disk, &self.documents, self.mend_every).is_ok() {
                self.broken = None;
            }
        }
    }

    /// Writes a batch of activity times; `true` if there are more to write.
    fn write_activity(&mut self) -> bool {
        if !self.model.is_dirty() {
            return false;
        }
        let dirty = self.model.take_dirty(BATCH_ACTIVITY);
        let records: Records =
            dirty.into_iter().map(|(id, bytes)| (id, Staged::Put(bytes.into_vec(), false))).collect();
        let changed = Changed { records, ..Changed::default() };
        if self.make_durable(&changed).is_err() {
            self.model.put_back_dirty(changed.records.keys().map(|id| &**id));
            return false;
        }
        self.model.is_dirty()
    }

    fn make_durable(&mut self, changed: &Changed) -> Result<(), StoreError> {
        let entries = changed.records.len() + changed.settings.len() + changed.documents.len();
        if entries == 0 {
            return Ok(());
        }
        let began = Instant::now();
        let outcome = self.write_to_disk(changed);
        match &outcome {
            Ok(()) => self.status.committed(entries as u64, began.elapsed()),
            Err(error) => self.status.refused(error),
        }
        outcome
    }

    fn write_to_disk(&mut self, changed: &Changed) -> Result<(), StoreError> {
        let Some(disk) = &mut self.disk else {
            // As durable as they will ever be.
            self.shapes.take_new();
            return Ok(());
        };
        if let Some(broken) = &mut self.broken {
            mend(broken, disk, &self.documents, self.mend_every)?;
            self.broken = None;
        }
        check_space(disk, self.reserve)?;
        let shapes = self.shapes.take_new();
        let batch = disk_batch(&shapes, changed);
        disk.write(batch).map_err(|error| {
            self.shapes.put_back(shapes);
            let reason = error.to_string();
            self.broken = Some(Broken { reason: reason.clone(), retry_at: Instant::now() + self.mend_every });
            StoreError::Unavailable(reason)
        })
    }

    fn view(&self) -> Result<View, StoreError> {
        match &self.disk {
            Some(disk) => {
                disk.snapshot().map(View::Disk).map_err(|error| StoreError::Unavailable(error.to_string()))
            }
            None => Ok(View::Memory(super::entries(&self.model, &self.shapes, &self.documents))),
        }
    }
}

/// Whoever reads documents must let go of the engine's files before the folder is free.
impl Drop for Writer {
    fn drop(&mut self) {
        self.documents.close("it is closed");
    }
}

fn disk_batch(shapes: &[NewShape], changed: &Changed) -> disk::Batch {
    let Changed { records, settings, documents } = changed;
    let mut batch = disk::Batch::new();
    for shape in shapes {
        batch.put(Kind::Shape, &shape.number.to_be_bytes(), &shape.bytes);
    }
    for (id, staged) in records {
        match staged {
            Staged::Put(bytes, _) => batch.put(Kind::Record, id.as_bytes(), bytes),
            Staged::Gone => batch.remove(Kind::Record, id.as_bytes()),
        }
    }
    for (name, setting) in settings {
        let bytes = super::settings::encode(&setting.value, setting.revision);
        batch.put(Kind::Setting, name.as_bytes(), &bytes);
    }
    for (key, bytes) in documents {
        match bytes {
            Some(bytes) => batch.put(Kind::Document, key, bytes),
            None => batch.remove(Kind::Document, key),
        }
    }
    batch
}

fn mend(
    broken: &mut Broken,
    disk: &mut Disk,
    documents: &Documents,
    every: Duration,
) -> Result<(), StoreError> {
    if Instant::now() < broken.retry_at {
        return Err(StoreError::Unavailable(broken.reason.clone()));
    }
    documents.close(&broken.reason);
    disk.reopen().map_err(|error| {
        broken.reason = error.to_string();
        broken.retry_at = Instant::now() + every;
        StoreError::Unavailable(broken.reason.clone())
    })?;
    documents.open(disk);
    Ok(())
}

fn check_space(disk: &Disk, reserve: u64) -> Result<(), StoreError> {
    match disk.free_bytes() {
        Some(free) if free < reserve => Err(StoreError::Unavailable(format!(
            "the disk has {free} bytes left, and changes are refused below {reserve}; free some space"
        ))),
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Commits {
    requests: Vec<(Vec<Write>, oneshot::Sender<Outcomes>, Room)>,
    writes: usize,
}

type Records = HashMap<Box<str>, Staged>;
type Settings = HashMap<Box<str>, Setting>;

/// What a batch changes.
#[derive(Default)]
struct Changed {
    records: Records,
    settings: Settings,
    documents: super::documents::Changed,
}

/// What a batch leaves an entity as.
enum Staged {
    /// `true`: it has nothing to do with what memory holds under its id.
    Put(Vec<u8>, bool),
    Gone,
}

/// What a change within [`Write::Together`] took the place of.
enum Replaced {
    Record(Box<str>, Option<Staged>),
    Setting(Box<str>, Option<Setting>),
    Document(Box<[u8]>, Option<Option<Vec<u8>>>),
}

/// The open batch: what memory will be after it.
struct Batch<'a> {
    model: &'a Model,
    documents: &'a Documents,
    changed: Changed,
    last: Revision,
    /// What to put back if a later change of the same [`Write::Together`] cannot be made.
    undo: Option<Vec<Replaced>>,
}

impl Batch<'_> {
    fn stage(&mut self, write: Write) -> Result<Revision, CommitError> {
        match write {
            Write::Put { id, device, bytes, expect } => self.put(id, device.as_deref(), bytes, expect),
            Write::Delete { id, is_device, expect } => self.delete(id, is_device, expect),
            Write::Setting { name, value, expect } => self.set(name, value, expect),
            Write::Document { key, value, expect } => self.document(key, value, expect),
            Write::Together(writes) => self.together(writes),
            Write::Refused(error) => Err(error),
        }
    }

    fn together(&mut self, writes: Vec<Write>) -> Result<Revision, CommitError> {
        let before = self.last;
        // A group within a group stands or falls with the outer one.
        let is_outermost = self.undo.is_none();
        self.undo.get_or_insert_default();
        let outcome = writes.into_iter().try_fold(before, |_, write| self.stage(write));
        if is_outermost {
            let undo = self.undo.take().unwrap_or_default();
            if outcome.is_err() {
                self.last = before;
                undo.into_iter().rev().for_each(|replaced| self.put_back(replaced));
            }
        }
        outcome
    }

    fn put_back(&mut self, replaced: Replaced) {
        fn restore<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        match replaced {
            Replaced::Record(id, staged) => restore(&mut self.changed.records, id, staged),
            Replaced::Setting(name, setting) => restore(&mut self.changed.settings, name, setting),
            Replaced::Document(key, bytes) => restore(&mut self.changed.documents, key, bytes),
        }
    }

    fn stage_record(&mut self, id: Box<str>, staged: Staged) {
        let Some(undo) = &mut self.undo else {
            self.changed.records.insert(id, staged);
            return;
        };
        let old = self.changed.records.insert(id.clone(), staged);
        undo.push(Replaced::Record(id, old));
    }

    fn put(
        &mut self,
        id: Box<str>,
        device: Option<&str>,
        mut bytes: Vec<u8>,
        expect: Expect,
    ) -> Result<Revision, CommitError> {
        check(expect, self.current(&id))?;
        if let Some(device) = device {
            self.current(device).ok_or(CommitError::NoDevice)?;
        }
        let revision = self.next();
        header::seal(&mut bytes, revision);
        let is_new = !matches!(self.changed.records.get(&id), None | Some(Staged::Put(_, false)));
        self.stage_record(id, Staged::Put(bytes, is_new));
        Ok(revision)
    }

    fn delete(
        &mut self,
        id: Box<str>,
        is_device: bool,
        expect: Option<Revision>,
    ) -> Result<Revision, CommitError> {
        let current = self.current(&id).ok_or(CommitError::Missing)?;
        if expect.is_some_and(|expect| expect != current) {
            return Err(CommitError::Conflict);
        }
        if is_device {
            let prefix = format!("{id}/");
            let staged: Vec<Box<str>> =
                self.changed.records.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
            let known = self.model.modules_of(&id).into_iter().map(Box::from);
            for module in staged.into_iter().chain(known) {
                self.stage_record(module, Staged::Gone);
            }
        }
        self.stage_record(id, Staged::Gone);
        Ok(self.next())
    }

    fn set(&mut self, name: Box<str>, value: Vec<u8>, expect: Expect) -> Result<Revision, CommitError> {
        let staged = self.changed.settings.get(&name).map(|setting| setting.revision);
        check(expect, staged.or_else(|| self.model.setting(&name).map(|setting| setting.revision)))?;
        let revision = self.next();
        let old = self.changed.settings.insert(name.clone(), Setting { value, revision });
        if let Some(undo) = &mut self.undo {
            undo.push(Replaced::Setting(name, old));
        }
        Ok(revision)
    }

    fn document(
        &mut self,
        key: Box<[u8]>,
        value: Option<Vec<u8>>,
        expect: Option<Expect>,
    ) -> Result<Revision, CommitError> {
        if let Some(expect) = expect {
            let current = match self.changed.documents.get(&key) {
                Some(Some(bytes)) => super::documents::revision_of(bytes).ok(),
                Some(None) => None,
                None => self.documents.revision(&key)?,
            };
            check(expect, current)?;
        }
        let revision = self.next();
        let bytes = value.map(|value| super::settings::encode(&value, revision));
        if let Some(undo) = &mut self.undo {
            let old = self.changed.documents.insert(key.clone(), bytes);
            undo.push(Replaced::Document(key, old));
        } else {
            self.changed.documents.insert(key, bytes);
        }
        Ok(revision)
    }

    /// Revision of the entity after what the batch holds so far.
    fn current(&self, id: &str) -> Option<Revision> {
        match self.changed.records.get(id) {
            Some(Staged::Put(bytes, _)) => Some(header::Head::trusted(bytes).revision()),
            Some(Staged::Gone) => None,
            None => self.model.revision(id).or_else(|| self.model.damage(id).map(|_| UNREADABLE)),
        }
    }

    fn next(&mut self) -> Revision {
        self.last += 1;
        self.last
    }
}

fn check(expect: Expect, current: Option<Revision>) -> Result<(), CommitError> {
    match (expect, current) {
        (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(CommitError::Exists),
        (Expect::Revision(_), None) => Err(CommitError::Missing),
        (Expect::Revision(expected), Some(current)) if expected == current => Ok(()),
        (Expect::Revision(_), Some(_)) => Err(CommitError::Conflict),
    }
}

fn publish(writer: &mut Writer, records: Records, settings: Settings) {
    let Writer { model, shapes, indexing, .. } = writer;
    let mut batch = model.publish(shapes, indexing);
    // Modules go before their device: a reader may see a device without them, never the reverse.
    let (gone, put): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|(_, staged)| matches!(staged, Staged::Gone));
    let is_module = |id: &str| id.contains('/');
    for (id, _) in
        gone.iter().filter(|(id, _)| is_module(id)).chain(gone.iter().filter(|(id, _)| !is_module(id)))
    {
        batch.remove(id);
    }
    for (id, staged) in put {
        if let Staged::Put(bytes, is_new) = staged {
            if is_new {
                batch.remove(&id);
            }
            batch.put(bytes.into());
        }
    }
    for (name, setting) in settings {
        model.put_setting(&name, setting);
    }
}
