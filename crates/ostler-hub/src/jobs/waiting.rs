//! Devices that jobs wait for: those that were not connected when their turn came.
//!
//! One entry a device, no task and no timer. When a device subscribes to methods, its entry goes and the
//! jobs hear of it.
//!
//! Invariant: it holds at most [`WAITING_DEVICES`] devices; a job that finds it full looks at its stored
//! devices again from time to time.

use super::table::Live;
use ostler_core::id::EntityId;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Devices that jobs wait for.
const WAITING_DEVICES: usize = 4_000_000;
/// Jobs that wait for one device.
const JOBS_PER_DEVICE: usize = 1000;

/// See the module documentation.
#[derive(Default)]
pub(super) struct Waiting {
    jobs: Mutex<HashMap<EntityId, Vec<Arc<Live>>, foldhash::fast::RandomState>>,
    /// As many as there are devices; lets the many arrivals that nobody waits for pass without the lock.
    count: AtomicUsize,
}

impl Waiting {
    /// Waits for a device; `false` when there is no room.
    pub(super) fn insert(&self, id: &EntityId, job: &Arc<Live>) -> bool {
        let mut all = self.jobs.lock();
        let count = all.len();
        let inserted = match all.entry(id.clone()) {
            Entry::Vacant(_) if count >= WAITING_DEVICES => false,
            Entry::Vacant(vacant) => {
                vacant.insert(vec![job.clone()]);
                true
            }
            Entry::Occupied(mut jobs) => {
                let jobs = jobs.get_mut();
                if !jobs.iter().any(|other| Arc::ptr_eq(other, job)) && jobs.len() < JOBS_PER_DEVICE {
                    jobs.push(job.clone());
                    true
                } else {
                    jobs.iter().any(|other| Arc::ptr_eq(other, job))
                }
            }
        };
        self.count.store(all.len(), Ordering::SeqCst);
        inserted
    }

    /// Waits no longer; `false` when the job did not wait, or was told of the arrival.
    pub(super) fn remove(&self, id: &EntityId, job: &Arc<Live>) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut all = self.jobs.lock();
        let Some(jobs) = all.get_mut(id) else { return false };
        let before = jobs.len();
        jobs.retain(|other| !Arc::ptr_eq(other, job));
        let removed = jobs.len() < before;
        if jobs.is_empty() {
            all.remove(id);
        }
        self.count.store(all.len(), Ordering::SeqCst);
        removed
    }

    /// Whether a job waits for a device.
    pub(super) fn contains(&self, id: &EntityId, job: &Arc<Live>) -> bool {
        self.jobs.lock().get(id).is_some_and(|jobs| jobs.iter().any(|other| Arc::ptr_eq(other, job)))
    }

    /// Tells the jobs that a device takes method calls now.
    pub(super) fn arrived(&self, id: &EntityId) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let jobs = {
            let mut all = self.jobs.lock();
            let jobs = all.remove(id);
            self.count.store(all.len(), Ordering::SeqCst);
            jobs
        };
        for job in jobs.into_iter().flatten() {
            job.arrived(id.clone());
        }
    }
}
