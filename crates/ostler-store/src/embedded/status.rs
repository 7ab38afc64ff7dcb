//! Figures for health and metrics: how the writer fares.
//!
//! Must not know: who reads them.
//!
//! Invariant: refusing changes, and taking them again, is logged once each.

use crate::{StoreError, StoreStatus};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Status {
    commits: AtomicU64,
    changes: AtomicU64,
    sync_micros: AtomicU64,
    refusing: Mutex<Option<String>>,
}

impl Status {
    /// A batch is durable; `took` is what it took to make it so.
    pub(crate) fn committed(&self, changes: u64, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
        self.sync_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.refusing.lock().take().is_some() {
            tracing::info!("the store takes changes again");
        }
    }

    /// A batch was refused.
    pub(crate) fn refused(&self, error: &StoreError) {
        let reason = error.to_string();
        if self.refusing.lock().replace(reason.clone()).is_none() {
            tracing::error!(reason, "the store refuses changes; reads go on");
        }
    }

    /// The figures that this keeps.
    pub(crate) fn now(&self) -> StoreStatus {
        StoreStatus {
            refusing_writes: self.refusing.lock().clone(),
            commits: self.commits.load(Ordering::Relaxed),
            changes: self.changes.load(Ordering::Relaxed),
            sync_micros: self.sync_micros.load(Ordering::Relaxed),
            ..StoreStatus::default()
        }
    }
}
