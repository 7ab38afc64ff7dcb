//! The `Store` port, its contract suite and its engines.
//!
//! Lives here: the trait with domain verbs and compare-and-set, the embedded engine, record formats.
//!
//! Must not know: the hub, the wire, the server; how twins merge.

mod port;

pub use port::{
    BoxFuture, Change, CommitError, Counts, Expect, Revision, Setting, Store, StoreError, StoreStatus,
};
