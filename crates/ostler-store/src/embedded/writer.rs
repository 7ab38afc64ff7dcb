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
use super::model::Model;
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
                Write::Refused(_) => 0,
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
                activity_due = Instant::now() + if more { Duration::ZERO } else { self.activity_every };
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
                    if commits.writes + writes.len() > BATCH_WRITES {
                        self.commit(std::mem::take(&mut commits));
                    }
                    commits.writes += writes.len();
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
            records: HashMap::new(),
            settings: HashMap::new(),
            last: self.revision,
        };
        let mut answers = Vec::with_capacity(commits.requests.len());
        for (writes, answer, room) in commits.requests {
            let outcomes: Outcomes = writes.into_iter().map(|write| batch.stage(write)).collect();
            answers.push((answer, outcomes, room));
        }
        let Batch { records, settings, last, .. } = batch;
        match self.make_durable(&records, &settings) {
            Ok(()) => {
                self.revision = last;
                publish(&self.model, records, settings);
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

    /// Writes a batch of activity times; `true` if there are more to write.
    fn write_activity(&mut self) -> bool {
        if !self.model.is_dirty() {
            return false;
        }
        let dirty = self.model.take_dirty(BATCH_ACTIVITY);
        let records: Records =
            dirty.into_iter().map(|(id, bytes)| (id, Staged::Put(bytes.into_vec(), false))).collect();
        if self.make_durable(&records, &HashMap::new()).is_err() {
            self.model.put_back_dirty(records.keys().map(|id| &**id));
            return false;
        }
        self.model.is_dirty()
    }

    fn make_durable(&mut self, records: &Records, settings: &Settings) -> Result<(), StoreError> {
        if records.is_empty() && settings.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let outcome = self.write_to_disk(records, settings);
        match &outcome {
            Ok(()) => self.status.committed((records.len() + settings.len()) as u64, began.elapsed()),
            Err(error) => self.status.refused(error),
        }
        outcome
    }

    fn write_to_disk(&mut self, records: &Records, settings: &Settings) -> Result<(), StoreError> {
        let Some(disk) = &mut self.disk else {
            // As durable as they will ever be.
            self.shapes.take_new();
            return Ok(());
        };
        if let Some(broken) = &mut self.broken {
            mend(broken, disk, self.mend_every)?;
            self.broken = None;
        }
        check_space(disk, self.reserve)?;
        let shapes = self.shapes.take_new();
        let batch = disk_batch(&shapes, records, settings);
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
            None => Ok(View::Memory(super::entries(&self.model, &self.shapes))),
        }
    }
}

fn disk_batch(shapes: &[NewShape], records: &Records, settings: &Settings) -> disk::Batch {
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
        batch.put(Kind::Setting, name.as_bytes(), &super::settings::encode(setting));
    }
    batch
}

fn mend(broken: &mut Broken, disk: &mut Disk, every: Duration) -> Result<(), StoreError> {
    if Instant::now() < broken.retry_at {
        return Err(StoreError::Unavailable(broken.reason.clone()));
    }
    disk.reopen().map_err(|error| {
        broken.reason = error.to_string();
        broken.retry_at = Instant::now() + every;
        StoreError::Unavailable(broken.reason.clone())
    })
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

/// What a batch leaves an entity as.
enum Staged {
    /// `true`: it has nothing to do with what memory holds under its id.
    Put(Vec<u8>, bool),
    Gone,
}

/// The open batch: what memory will be after it.
struct Batch<'a> {
    model: &'a Model,
    records: Records,
    settings: Settings,
    last: Revision,
}

impl Batch<'_> {
    fn stage(&mut self, write: Write) -> Result<Revision, CommitError> {
        match write {
            Write::Put { id, device, bytes, expect } => self.put(id, device.as_deref(), bytes, expect),
            Write::Delete { id, is_device, expect } => self.delete(id, is_device, expect),
            Write::Setting { name, value, expect } => self.set(name, value, expect),
            Write::Refused(error) => Err(error),
        }
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
        let is_new = !matches!(self.records.get(&id), None | Some(Staged::Put(_, false)));
        self.records.insert(id, Staged::Put(bytes, is_new));
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
                self.records.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
            let known = self.model.modules_of(&id).into_iter().map(Box::from);
            for module in staged.into_iter().chain(known) {
                self.records.insert(module, Staged::Gone);
            }
        }
        self.records.insert(id, Staged::Gone);
        Ok(self.next())
    }

    fn set(&mut self, name: Box<str>, value: Vec<u8>, expect: Expect) -> Result<Revision, CommitError> {
        let staged = self.settings.get(&name).map(|setting| setting.revision);
        check(expect, staged.or_else(|| self.model.setting(&name).map(|setting| setting.revision)))?;
        let revision = self.next();
        self.settings.insert(name, Setting { value, revision });
        Ok(revision)
    }

    /// Revision of the entity after what the batch holds so far.
    fn current(&self, id: &str) -> Option<Revision> {
        match self.records.get(id) {
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

fn publish(model: &Model, records: Records, settings: Settings) {
    // Modules go before their device: a reader may see a device without them, never the reverse.
    let (gone, put): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|(_, staged)| matches!(staged, Staged::Gone));
    let is_module = |id: &str| id.contains('/');
    for (id, _) in
        gone.iter().filter(|(id, _)| is_module(id)).chain(gone.iter().filter(|(id, _)| !is_module(id)))
    {
        model.remove(id);
    }
    for (id, staged) in put {
        if let Staged::Put(bytes, is_new) = staged {
            if is_new {
                model.remove(&id);
            }
            model.put(bytes.into());
        }
    }
    for (name, setting) in settings {
        model.put_setting(&name, setting);
    }
}
