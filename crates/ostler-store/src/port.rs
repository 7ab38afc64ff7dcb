//! The port: what a hub asks of whatever keeps its records.
//!
//! Verbs are the domain's; a change names the revision it was decided on and is refused when the
//! record has moved on, so that "load, let core decide, commit, retry" is the one way to write.
//!
//! Invariant: what `commit` reports as done is durable, and every later read sees it.
//!
//! Invariant: a read never shows what is not durable.

use crate::query::{After, Explanation, Filter, Found, Live, Order};
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use ostler_core::query::{GroupError, Groups, Query};
use ostler_core::record::{Activity, Record};
use ostler_core::twin::Reported;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// A future of the port. Engines in memory answer at once; the box is what a dyn-safe port costs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Counts each committed change of a record; compared, never computed with.
pub type Revision = u64;

/// Why an engine cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine cannot do it now: no space, no connection. Reads may still work.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("the stored record of {id} is corrupt: {reason}")]
    Corrupt {
        /// Whose record.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too much waits to be written, or too many queries wait for their turn.
    #[error("the store has more waiting than it may hold; try again later")]
    Overloaded,
    /// It was closed.
    #[error("the store is closed")]
    Closed,
    /// A query gathers more than an answer may hold.
    #[error("{0}")]
    Groups(GroupError),
}

/// Why one change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The record is not at the revision on which the change was decided. Load again and decide again.
    #[error("the record has changed meanwhile")]
    Conflict,
    /// It should not exist, but does.
    #[error("the record exists")]
    Exists,
    /// It should exist, but does not.
    #[error("the record does not exist")]
    Missing,
    /// A module whose device does not exist.
    #[error("the module's device does not exist")]
    NoDevice,
    /// The engine could not do it; nothing of this change is kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// The record at this revision.
    Revision(Revision),
}

/// Where documents stand: one ordered set of keys each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Shelf {
    /// Jobs, by id.
    Jobs = 1,
    /// What became of a job on each of its devices, by `job/device`.
    DeviceJobs = 2,
    /// Automatic device configurations, by id.
    Configurations = 3,
    /// Cloud-to-device messages that wait, by `device/sequence`: all but what they say.
    Messages = 4,
    /// What those messages say, under the same keys.
    MessageBodies = 5,
    /// What became of messages and was not told yet, by sequence.
    Feedback = 6,
    /// What is known of uploaded files, by `device/name`; the bytes are in a [`FileFolder`](crate::FileFolder).
    Files = 7,
    /// Uploads that have not ended, by id.
    Uploads = 8,
}

/// What stands on a shelf: bytes that the engine does not look into.
///
/// Documents are for what there may be more of than memory should hold. Their durable copy is the only
/// one, so reading them costs a look into the engine's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The bytes.
    pub value: Vec<u8>,
    /// Compared when it is written again.
    pub revision: Revision,
}

/// Documents with their keys.
pub type Documents = Vec<(Box<str>, Document)>;

/// One change. Changes given together share a durable commit, but each stands or falls alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Write a record; its `revision` field is ignored and set by the engine.
    Put {
        /// The whole record.
        record: Box<Record>,
        /// What must be there before.
        expect: Expect,
    },
    /// Write what a device reported, and leave the rest of its record as it is.
    PutReported {
        /// Whose.
        id: EntityId,
        /// What it reported.
        reported: Reported,
        /// The revision on which it was decided.
        expect: Revision,
    },
    /// Delete a device and all its modules, atomically.
    DeleteDevice {
        /// Which device.
        id: DeviceId,
        /// Its revision when that matters; whatever is there otherwise.
        expect: Option<Revision>,
    },
    /// Delete a module.
    DeleteModule {
        /// Of which device.
        device: DeviceId,
        /// Which module.
        module: ModuleId,
        /// Its revision when that matters; whatever is there otherwise.
        expect: Option<Revision>,
    },
    /// Write a document.
    PutDocument {
        /// Where.
        shelf: Shelf,
        /// Under which key; at most [`DOCUMENT_KEY_BYTES`].
        key: Box<str>,
        /// The bytes.
        value: Vec<u8>,
        /// What must be there before, when that matters; whatever is there otherwise.
        expect: Option<Expect>,
    },
    /// Delete a document, if it is there.
    DeleteDocument {
        /// Where.
        shelf: Shelf,
        /// Under which key.
        key: Box<str>,
    },
    /// Changes that stand or fall together. The outcome is that of the first that cannot be made, or
    /// the last revision.
    Together(Vec<Change>),
}

/// Bytes of a document's key.
pub const DOCUMENT_KEY_BYTES: usize = 1024;

/// How many identities there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices, enabled or not.
    pub devices: u64,
    /// Devices that may not connect.
    pub disabled: u64,
    /// Modules of all devices.
    pub modules: u64,
}

/// A small named value: policies, certificate authorities, the hub's own identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The bytes.
    pub value: Vec<u8>,
    /// Compared when it is written again.
    pub revision: Revision,
}

/// How a store fares, for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Why writes are refused, when they are.
    pub refusing_writes: Option<String>,
    /// Durable commits so far (each one sync of the disk).
    pub commits: u64,
    /// Changes in those commits.
    pub changes: u64,
    /// Time spent in syncs, in microseconds.
    pub sync_micros: u64,
    /// Changes that wait now.
    pub waiting: u64,
    /// Bytes of records held in memory.
    pub memory_bytes: u64,
}

/// Keeps records. Every engine passes the contract suite.
pub trait Store: Send + Sync + 'static {
    /// A record, or nothing.
    fn load<'a>(&'a self, id: &'a EntityId) -> BoxFuture<'a, Result<Option<Record>, StoreError>>;

    /// The part of a record that a report changes, and the record's revision: cheaper than
    /// [`Store::load`] on the hub's busiest path.
    fn load_reported<'a>(
        &'a self,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<(Revision, Reported)>, StoreError>>;

    /// Makes changes durable; the outcomes come in the order of the changes.
    ///
    /// A conflict with a change that is itself not durable yet is reported only once that one is, so
    /// that loading again sees it.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Vec<Result<Revision, CommitError>>>;

    /// Notes when an entity was last seen: soon durable, never waited for, no new revision.
    fn touch(&self, id: &EntityId, activity: Activity);

    /// Devices in the order of their ids, after `after`, at most `limit`.
    fn list_devices<'a>(
        &'a self,
        after: Option<&'a DeviceId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>>;

    /// The modules of a device, in the order of their ids.
    fn list_modules<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, Result<Vec<Record>, StoreError>>;

    /// How many identities there are.
    fn counts(&self) -> Counts;

    /// A setting, or nothing.
    fn setting<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Setting>, StoreError>>;

    /// Writes a setting durably; `expect` as for a record.
    fn put_setting<'a>(
        &'a self,
        name: &'a str,
        value: Vec<u8>,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Revision, CommitError>>;

    /// A document, or nothing.
    fn document<'a>(
        &'a self,
        shelf: Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>>;

    /// The documents whose keys start with `prefix` and come after `after`, in the order of their keys
    /// as bytes, at most `limit`. An engine may read them in the calling thread: a thousand take about
    /// a millisecond.
    fn documents<'a>(
        &'a self,
        shelf: Shelf,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Documents, StoreError>>;

    /// The records that a filter means, in order, after `after`, at most `limit`: all as they were at one
    /// point, which no earlier acknowledged change comes after. What is known of connections is as of the
    /// moment at which a record is looked at. Dropping the future ends the search.
    fn find(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        order: Order,
        after: Option<After>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Found, StoreError>>;

    /// The ids of all records that a filter means, in order, at one point.
    fn find_ids(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>>;

    /// What a query gathers of the records that a filter means, at one point.
    fn fold(
        &self,
        filter: Arc<Filter>,
        live: Arc<dyn Live>,
        query: Arc<Query>,
    ) -> BoxFuture<'_, Result<Groups, StoreError>>;

    /// How the engine would find what a filter means.
    fn explain(&self, filter: &Filter) -> Explanation;

    /// Writes a consistent copy into a folder that does not exist yet, while serving. `progress`
    /// hears of records written and their total.
    fn backup<'a>(
        &'a self,
        to: &'a Path,
        progress: &'a (dyn Fn(u64, u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How the store fares.
    fn status(&self) -> StoreStatus;

    /// Writes what waits and lets go of the data folder. Later calls fail with [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}
