//! The embedded engine: every record in memory, a log-structured store below it, or nothing below it.
//!
//! ```text
//!   load, list, counts  ──────────────>  model (memory)
//!   find, fold  ──plan──> ids, columns or all shards of the model, as they were after one batch
//!   touch  ───────────────────────────>  model, written some seconds later
//!   commit ──encode──> queue ──> writer ──> disk, one fdatasync a batch ──> model ──> answer
//! ```
//!
//! Must not know: hub, wire; what a change means.
//!
//! Invariant: locks are taken in the order epochs, shapes, shard of the model, names; nobody waits for
//! an earlier one while holding a later one, and nobody takes one twice, nor a second shard.
//! Invariant: the engine needs no async runtime; its futures can be polled by any.

mod backup;
mod disk;
mod documents;
mod epoch;
mod folder;
mod journal;
mod load;
mod model;
mod names;
mod query;
mod queue;
mod settings;
mod shard;
mod status;
#[cfg(test)]
mod tests;
mod writer;

use crate::record::header::{Damage, Head};
use crate::record::shapes::{Known, Shapes};
use crate::record::{decode, decode_reported, encode, EncodedReported};
use crate::{
    After, BoxFuture, Change, CommitError, Counts, Document, Expect, Explanation, Filter, Found, Live,
    OpenError, Order, Revision, Setting, Shelf, Store, StoreError, StoreStatus, DOCUMENT_KEY_BYTES,
};
use disk::{Disk, Kind};
use documents::Documents;
use folder::Folder;
use model::Model;
use ostler_core::id::{DeviceId, EntityId};
use ostler_core::query::{Groups, Query};
use ostler_core::record::{Activity, Record};
use ostler_core::twin::Reported;
use parking_lot::Mutex;
use query::{Bounds, Indexing, Queries, Registry, Tuning};
use queue::Queue;
use status::Status;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use writer::{Outcomes, Request, View, Write, Writer};

/// How long a column stays that no query uses.
const COLUMN_IDLE: Duration = Duration::from_secs(3600);

/// How an embedded store behaves; the defaults suit a hub of a million devices on two cores.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of changes that may wait for the writer before `commit` waits itself.
    pub queue_bytes: u32,
    /// How long activity times may stay in memory only.
    pub activity_every: Duration,
    /// Free bytes of the disk below which changes are refused. The engine needs some room to merge
    /// its files even when nothing is added.
    pub reserve_bytes: u64,
    /// Pause between attempts to bring the engine back after the disk failed.
    pub mend_every: Duration,
    /// Bytes of the engine's table in memory before it becomes a file.
    pub memtable_bytes: u64,
    /// Bytes of the engine's journals; bounds how long opening takes after a crash. At least 64 MiB.
    pub journal_bytes: u64,
    /// Threads that write and merge the engine's files.
    pub workers: usize,
    /// Bytes of columns kept in memory for the paths that queries ask for; 0 for none.
    pub column_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            queue_bytes: 32 * 1024 * 1024,
            activity_every: Duration::from_secs(2),
            reserve_bytes: 256 * 1024 * 1024,
            mend_every: Duration::from_secs(1),
            memtable_bytes: 16 * 1024 * 1024,
            journal_bytes: 128 * 1024 * 1024,
            workers: 1,
            column_bytes: 128 * 1024 * 1024,
        }
    }
}

/// See the module documentation.
pub struct Embedded {
    model: Arc<Model>,
    shapes: Arc<Shapes>,
    documents: Arc<Documents>,
    queries: Queries,
    queue: Arc<Queue<Request>>,
    status: Arc<Status>,
    sizes: disk::Sizes,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Ends when the writer thread has let go of everything.
    ended: watch::Receiver<()>,
}

impl Embedded {
    /// Opens the store in a folder, or makes one.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the folder and what to do.
    pub fn open(path: &Path, options: &Options) -> Result<Embedded, OpenError> {
        let folder = Folder::open(path)?;
        let sizes = options.sizes();
        let disk = Disk::open(&folder.engine(), sizes)?;
        folder.mark()?;
        let shapes = Shapes::default();
        let (model, last) = load::load(&disk, &shapes)?;
        let last = last.max(documents::last_revision(&disk)?);
        Ok(Embedded::start(model, shapes, Some((folder, disk)), last, options, Bounds::default()))
    }

    /// A store without a disk: the same engine, gone with the process.
    pub fn in_memory() -> Embedded {
        Embedded::in_memory_with(&Options::default())
    }

    /// A store without a disk that behaves as told.
    pub fn in_memory_with(options: &Options) -> Embedded {
        Embedded::in_memory_bounded(options, Bounds::default())
    }

    fn in_memory_bounded(options: &Options, bounds: Bounds) -> Embedded {
        Embedded::start(Model::new(), Shapes::default(), None, 0, options, bounds)
    }

    fn start(
        model: Model,
        shapes: Shapes,
        disk: Option<(Folder, Disk)>,
        last: Revision,
        options: &Options,
        bounds: Bounds,
    ) -> Embedded {
        let (model, shapes) = (Arc::new(model), Arc::new(shapes));
        let queue = Arc::new(Queue::new(options.queue_bytes));
        let status = Arc::new(Status::default());
        let (folder, disk) = disk.unzip();
        let documents = Arc::new(Documents::new(disk.as_ref()));
        let (running, ended) = watch::channel(());
        let tuning = Tuning {
            most_bytes: options.column_bytes,
            after_scans: bounds.after_scans,
            few_values: bounds.few_distinct,
            idle: COLUMN_IDLE,
        };
        let columns = Arc::new(Registry::new(tuning));
        let queries = Queries::new(model.clone(), shapes.clone(), columns.clone(), bounds);
        let writer = Writer {
            model: model.clone(),
            shapes: shapes.clone(),
            documents: documents.clone(),
            columns,
            indexing: Indexing::default(),
            queue: queue.clone(),
            disk,
            revision: last,
            activity_every: options.activity_every,
            reserve: options.reserve_bytes,
            mend_every: options.mend_every,
            broken: None,
            status: status.clone(),
        };
        let abandon = Abandon(queue.clone());
        let run = move || {
            // Dropped from the first to the last, even if the writer panics, and after the writer has
            // let go of the engine's files: no request waits for ever, then the folder is free, then
            // whoever waits for the end hears of it.
            let _held = (abandon, folder, running);
            writer.run();
        };
        let thread = std::thread::Builder::new().name("ostler-store".into()).spawn(run);
        let thread = thread.expect("a process that is starting can make one more thread");
        let writer = Mutex::new(Some(thread));
        Embedded { model, shapes, documents, queries, queue, status, sizes: options.sizes(), writer, ended }
    }

    /// What `read` makes of the record of `id`.
    fn get<T>(
        &self,
        id: &str,
        read: impl FnOnce(&[u8], &Known) -> Result<T, Damage>,
    ) -> Result<Option<T>, StoreError> {
        let shapes = self.shapes.read();
        match self.model.read(id, |bytes| read(bytes, &shapes)) {
            Some(read) => read.map(Some).map_err(|damage| self.corrupt(id, damage)),
            None => self.model.damage(id).map_or(Ok(None), |reason| Err(self.corrupt(id, reason))),
        }
    }

    fn corrupt(&self, id: &str, reason: impl ToString) -> StoreError {
        StoreError::Corrupt { id: id.into(), reason: reason.to_string() }
    }

    /// The records of these ids; those deleted meanwhile are left out.
    fn get_all(&self, ids: &[String]) -> Result<Vec<Record>, StoreError> {
        ids.iter().filter_map(|id| self.get(id, decode).transpose()).collect()
    }

    async fn write(&self, writes: Vec<Write>) -> Outcomes {
        let count = writes.len();
        let closed = || vec![Err(CommitError::Store(StoreError::Closed)); count];
        let bytes = writes.iter().map(Write::bytes).sum();
        let Ok(room) = self.queue.reserve(bytes).await else { return closed() };
        let (answer, outcome) = oneshot::channel();
        if self.queue.push(Request::Commit { writes, answer, room }).is_err() {
            return closed();
        }
        outcome.await.unwrap_or_else(|_| closed())
    }

    async fn view(&self) -> Result<View, StoreError> {
        let (answer, view) = oneshot::channel();
        self.queue.push(Request::Snapshot { answer }).map_err(|_| StoreError::Closed)?;
        view.await.map_err(|_| StoreError::Closed)?
    }

    /// Takes the rest of the record from memory. If that is at another revision, the conflict is with
    /// something that can be read already.
    fn encode_reported(&self, id: &EntityId, reported: &Reported, expect: Revision) -> Write {
        // Before the record's lock is taken: encoding may wait for the shapes' lock.
        let reported = EncodedReported::new(reported, &self.shapes);
        let encoded = self.model.read(id.as_str(), |bytes| match Head::trusted(bytes).revision() {
            revision if revision != expect => Err(CommitError::Conflict),
            _ => reported.replace_in(bytes).map_err(|damage| self.corrupt(id.as_str(), damage).into()),
        });
        match encoded.unwrap_or(Err(CommitError::Missing)) {
            Ok(bytes) => Write::Put {
                bytes,
                id: id.as_str().into(),
                device: id.is_module().then(|| id.device().into()),
                expect: Expect::Revision(expect),
            },
            Err(error) => Write::Refused(error),
        }
    }

    fn encode(&self, change: Change) -> Write {
        match change {
            Change::Put { record, expect } => Write::Put {
                bytes: encode(&record, &self.shapes),
                id: record.id.as_str().into(),
                device: record.id.is_module().then(|| record.id.device().into()),
                expect,
            },
            Change::PutReported { id, reported, expect } => self.encode_reported(&id, &reported, expect),
            Change::DeleteDevice { id, expect } => {
                Write::Delete { id: id.as_str().into(), is_device: true, expect }
            }
            Change::DeleteModule { device, module, expect } => {
                Write::Delete { id: format!("{device}/{module}").into(), is_device: false, expect }
            }
            Change::PutDocument { key, .. } if key.len() > DOCUMENT_KEY_BYTES => Write::Refused(
                StoreError::Unavailable(format!("a document's key has {} bytes", key.len())).into(),
            ),
            Change::PutDocument { shelf, key, value, expect } => {
                Write::Document { key: documents::key(shelf, &key), value: Some(value), expect }
            }
            Change::DeleteDocument { shelf, key } => {
                Write::Document { key: documents::key(shelf, &key), value: None, expect: None }
            }
            Change::Together(changes) => {
                Write::Together(changes.into_iter().map(|change| self.encode(change)).collect())
            }
        }
    }
}

impl Store for Embedded {
    fn load<'a>(&'a self, id: &'a EntityId) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(std::future::ready(self.get(id.as_str(), decode)))
    }

    fn load_reported<'a>(
        &'a self,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<(Revision, Reported)>, StoreError>> {
        let read = |bytes: &[u8], shapes: &Known| {
            Ok((Head::trusted(bytes).revision(), decode_reported(bytes, shapes)?))
        };
        Box::pin(std::future::ready(self.get(id.as_str(), read)))
    }

    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Vec<Result<Revision, CommitError>>> {
        let writes = changes.into_iter().map(|change| self.encode(change)).collect();
        Box::pin(self.write(writes))
    }

    fn list_devices<'a>(
        &'a self,
        after: Option<&'a DeviceId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let ids = self.model.devices_above(after.map(DeviceId::as_str), limit);
        Box::pin(std::future::ready(self.get_all(&ids)))
    }

    fn list_modules<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let ids = self.model.modules_of(device.as_str());
        Box::pin(std::future::ready(self.get_all(&ids)))
    }

    fn counts(&self) -> Counts {
        self.model.counts()
    }

    fn touch(&self, id: &EntityId, activity: Activity) {
        self.model.touch(id.as_str(), activity);
    }

    fn setting<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Setting>, StoreError>> {
        Box::pin(std::future::ready(Ok(self.model.setting(name))))
    }

    fn put_setting<'a>(
        &'a self,
        name: &'a str,
        value: Vec<u8>,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Revision, CommitError>> {
        Box::pin(async move {
            let outcomes = self.write(vec![Write::Setting { name: name.into(), value, expect }]).await;
            outcomes.into_iter().next().unwrap_or(Err(CommitError::Store(StoreError::Closed)))
        })
    }

    fn document<'a>(
        &'a self,
        shelf: Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        Box::pin(async move { self.documents.get(shelf, key) })
    }

    fn documents<'a>(
        &'a self,
        shelf: Shelf,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<crate::Documents, StoreError>> {
        Box::pin(async move { self.documents.page(shelf, prefix, after, limit) })
    }

    fn find(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        order: Order,
        after: Option<After>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Found, StoreError>> {
        Box::pin(async move { self.queries.find(filter, live, order, after, limit).await })
    }

    fn find_ids(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>> {
        Box::pin(async move { self.queries.find_ids(filter, live).await })
    }

    fn fold(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        query: Arc<Query>,
    ) -> BoxFuture<'_, Result<Groups, StoreError>> {
        Box::pin(async move { self.queries.fold(filter, live, query).await })
    }

    fn explain(&self, filter: &Filter) -> Explanation {
        self.queries.explain(filter)
    }

    fn backup<'a>(
        &'a self,
        to: &'a Path,
        progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let view = self.view().await?;
            let Counts { devices, modules, .. } = self.counts();
            let mut copying = backup::start(view, to.into(), self.sizes)?;
            while let Some(done) = copying.written().await {
                progress(done, done.max(devices + modules));
            }
            copying.outcome().await
        })
    }

    fn status(&self) -> StoreStatus {
        StoreStatus {
            waiting: self.queue.len() as u64,
            memory_bytes: self.model.bytes(),
            ..self.status.now()
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.queue.close();
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // Nothing is ever sent: this returns when the writer is gone.
            let _ = ended.changed().await;
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.writer.lock().take() {
            if thread.join().is_err() {
                tracing::error!("the store's writer thread panicked");
            }
        }
    }
}

/// Ends the queue when the writer is gone.
struct Abandon(Arc<Queue<Request>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Options {
    fn sizes(&self) -> disk::Sizes {
        disk::Sizes {
            memtable: self.memtable_bytes,
            journals: self.journal_bytes.max(disk::LEAST_JOURNALS),
            workers: self.workers.max(1),
        }
    }
}

/// Every entry of a store without a disk, in key order.
fn entries(model: &Model, shapes: &Shapes, documents: &Documents) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = documents.entries();
    for (number, bytes) in shapes.entries() {
        entries.push((disk::key(Kind::Shape, &number.to_be_bytes()), bytes));
    }
    for (name, setting) in model.settings() {
        entries.push((
            disk::key(Kind::Setting, name.as_bytes()),
            settings::encode(&setting.value, setting.revision),
        ));
    }
    let records = model.records().into_iter();
    entries
        .extend(records.map(|bytes| (disk::key(Kind::Record, Head::trusted(&bytes).id_as_bytes()), bytes)));
    entries.sort();
    entries
}
