//! Where the hub's truth lies: the [`Store`] port, the suite every engine passes, and the embedded
//! engine.
//!
//! - [`Store`]: domain verbs and compare-and-set; what the hub is written against.
//! - [`Embedded`]: every record in memory in a compact form, fjall as the durable copy; or no disk.
//! - [`FileFolder`]: the bytes of uploaded files, beside the store.
//! - `contract` (feature `testing`): the port's meaning as callable tests.
//!
//! Must not know: hub, wire, server; merge rules; what an allowed change is.
//!
//! Invariant: what is read is durable, and what is acknowledged stays (an engine without a disk keeps
//! both promises until the process ends).

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod embedded;
mod error;
mod files;
mod port;
mod query;
mod record;

pub use embedded::{Embedded, Options};
pub use error::OpenError;
pub use files::{ContentId, FileFolder, FolderError, Writing};
pub use port::{
    BoxFuture, Change, CommitError, Counts, Document, Documents, Expect, Revision, Setting, Shelf, Store,
    StoreError, StoreStatus, DOCUMENT_KEY_BYTES,
};
pub use query::{After, ColumnUse, Explanation, Filter, Found, Live, NobodyConnected, Order, Plan};
